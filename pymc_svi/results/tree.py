"""Draws as an ArviZ ``DataTree``, with the dims and coords of the program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable

from pymc_svi.errors import sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.handlers import Site, Trace
from pymc_svi.handlers.log_prob import as_plain_tensor

__all__ = ["as_tree", "check_draws", "data_of_predictions", "given_data", "site_dataset"]


def check_draws(draws: int) -> None:
    """Check a number of draws."""
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 1:
        raise ValueError(sentence("draws must be a whole number of at least 1", found=repr(draws)))


def site_dataset(
    values: Mapping[str, np.ndarray],
    traced: Trace,
    sample_dims: Sequence[str] = (),
    sample_shape: tuple[int, ...] = (1, -1),
    axes: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> xr.Dataset:
    """Return values of sites as a dataset.

    Parameters
    ----------
    values : dict of str to numpy.ndarray
        Values by site name, with the draws as leading axis if there are sample dims. What has
        fewer axes than the site, as its log-probability, has the first of its dims.
    traced : Trace
        The sites, for dims, and the model they ran in, for coords.
    sample_dims : sequence of str
        ("chain", "draw") for draws; empty for single values.
    sample_shape : tuple of int, default (1, -1)
        Numbers of chains and draws; one chain by default.
    axes : dict of str to sequence of int, optional
        Which axes of its site a value has, where these are not the first.
    """
    n_leading = 1 if sample_dims else 0
    dims: dict[Any, Any] = {}
    for name, value in values.items():
        if own := traced[name].dims:
            which = axes.get(name, range(min(len(own), value.ndim - n_leading)))
            dims[name] = [own[axis] or f"{name}_dim_{axis}" for axis in which]
    known = traced.model.coords if traced.model is not None else {}
    coords: dict[Any, Any] = {
        dim: np.asarray(known[dim])
        for names in dims.values()
        for dim in names
        if known.get(dim) is not None
    }
    if sample_dims:
        # numpy cannot infer the -1 of an array without elements.
        chains = sample_shape[0]
        values = {n: v.reshape(chains, len(v) // chains, *v.shape[1:]) for n, v in values.items()}
    # Here, since ArviZ imports JAX where that is installed, which takes a second.
    from arviz_base import dict_to_dataset

    return dict_to_dataset(
        dict(values),
        coords=coords,
        dims=dims,
        sample_dims=list(sample_dims),
    )


def as_tree(groups: Mapping[str, xr.Dataset]) -> xr.DataTree:
    """Return datasets as the groups of a tree, leaving out empty ones."""
    return xr.DataTree.from_dict(
        {f"/{name}": group for name, group in groups.items() if group.data_vars}
    )


def given_data(traced: Trace, leave_out: frozenset[str] = frozenset()) -> dict[str, xr.Dataset]:
    """Return the groups ``observed_data`` and ``constant_data`` of a trace.

    Data that are still those of the fit, while ``pm.set_data`` has changed the rows of the others,
    are left out.
    """
    sites = [site for site in traced.values() if site.name not in leave_out]
    observed = {
        site.name: _numbers(site.value) for site in sites if site.type == "sample" and site.observed
    }
    constant = {site.name: _numbers(site.value) for site in sites if site.type == "data"}
    groups = {"observed_data": observed, "constant_data": constant}
    return {group: _labelled(values, traced) for group, values in groups.items()}


def data_of_predictions(
    traced: Trace,
    observed: Mapping[str, Variable],
    drawn: Mapping[str, np.ndarray],
    predictions: bool,
    leave_out: frozenset[str] = frozenset(),
) -> dict[str, xr.Dataset]:
    """Return the data beside draws of them, as ``pm.sample_posterior_predictive`` does.

    Data are left out that have other rows than what was drawn: those of the fit, beside predictions
    for others.
    """
    constant = {
        site.name: _numbers(site.value)
        for site in traced.values()
        if site.type == "data" and site.name not in leave_out
    }
    values = {n: _numbers(v) for n, v in observed.items() if n in drawn and n not in leave_out}
    same = {n: v for n, v in values.items() if v.shape == drawn[n].shape[1:]}
    if predictions:
        return {"predictions_constant_data": _labelled(constant, traced)}
    return {
        "observed_data": _labelled(same, traced),
        "constant_data": _labelled(constant, traced),
    }


def _labelled(values: Mapping[str, np.ndarray], traced: Trace) -> xr.Dataset:
    known = {n: v for n, v in values.items() if _fits_labels(v, traced[n], traced)}
    return site_dataset(known, traced)


def _fits_labels(value: np.ndarray, site: Site, traced: Trace) -> bool:
    """Whether values have as many elements along each dim of their site as it has labels."""
    known = traced.model.coords if traced.model is not None else {}
    labels = [known.get(dim) for dim in site.dims or ()]
    return all(
        labelled is None or n == len(labelled)
        for n, labelled in zip(np.shape(value), labels, strict=False)
    )


def _numbers(value: Variable) -> np.ndarray:
    """Return the numbers of a variable that depends on nothing random."""
    value = as_plain_tensor(value)
    if isinstance(value, Constant):
        return np.asarray(value.data)
    if isinstance(value, SharedVariable):
        return np.asarray(value.get_value())
    return evaluate(value)
