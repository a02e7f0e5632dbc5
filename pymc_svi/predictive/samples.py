"""Posterior samples as values of latent sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pytensor.graph.basic import Variable

from pymc_svi.errors import SiteError, did_you_mean, quoted, sentence
from pymc_svi.handlers import Handler, Site, Trace
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.values import as_site_value, describe_shape

__all__ = ["Placeholders", "stacked"]


class Placeholders(Handler):
    """Give latent sites that have posterior samples a variable to put the draws in.

    Parameters
    ----------
    samples : dict of str to numpy.ndarray
        Draws by site, along the first axis.
    named : dict of str to xarray.DataArray, optional
        The same draws of sites with dims. They go by name: the order of the dims, and that of
        their labels, become the model's.

    Attributes
    ----------
    samples : dict of str to numpy.ndarray
        The draws, in the order of the model's dims once their sites have been met.
    variables : dict of str to Variable
        The variables given so far.
    """

    def __init__(
        self, samples: Mapping[str, np.ndarray], named: Mapping[str, xr.DataArray] | None = None
    ):
        super().__init__()
        self.samples = dict(samples)
        self.named = named or {}
        self.variables: dict[str, Variable] = {}

    def process_message(self, site: Site) -> None:
        """Give a site that has samples its variable."""
        if site.type != "sample" or site.value is not None or site.name not in self.samples:
            return
        if site.name in self.named and site.dims:
            self.samples[site.name] = _in_order_of(site, self.named[site.name])
        plain = as_plain_tensor(site.dist)
        shape = self.samples[site.name].shape[1:]
        expected = plain.type.shape
        if len(shape) != len(expected) or any(
            n is not None and n != m for n, m in zip(expected, shape, strict=True)
        ):
            raise SiteError(
                sentence(
                    f"Site {site.name!r}: the posterior samples have the wrong shape",
                    found=f"{describe_shape(shape)} for each draw",
                    expected=describe_shape(expected, site.dims),
                )
            )
        variable = pt.tensor(site.name, dtype=plain.type.dtype, shape=shape)
        self.variables[site.name] = variable
        site.value = as_site_value(variable, site.dist, site.name, site.dims)

    def check_used(self, traced: Trace) -> None:
        """Check that some of the samples are of sites of the program."""
        unknown = [name for name in self.samples if name not in traced]
        if self.samples and not self.variables:
            raise SiteError(
                sentence(
                    "None of the posterior samples is of a latent site of the model",
                    found=f"samples of {quoted(self.samples)}",
                    expected=f"some of {quoted(traced.latent)}",
                )
                + (did_you_mean(unknown[0], traced.latent) if unknown else "")
            )


def stacked(
    samples: Any,
) -> tuple[dict[str, np.ndarray], tuple[int, int], dict[str, xr.DataArray]]:
    """Return samples as arrays with one leading axis of draws, and the (chain, draw) shape.

    The third are those that came with dims.
    """
    if samples is None:
        return {}, (1, 0), {}
    if isinstance(samples, xr.DataTree):
        samples = samples["posterior"] if "posterior" in samples else samples
        samples = samples.to_dataset()
    if not isinstance(samples, Mapping):
        raise TypeError(_not_samples(samples))
    if not isinstance(samples, xr.Dataset) and any(
        isinstance(values, xr.DataArray) for values in samples.values()
    ):
        samples = _as_dataset(samples)
    if isinstance(samples, xr.Dataset):
        samples = _with_chains(samples)
        shape = (samples.sizes["chain"], samples.sizes["draw"])
        named = {
            str(name): values.transpose("chain", "draw", ...)
            for name, values in samples.data_vars.items()
        }
        return {name: _flat(values) for name, values in named.items()}, shape, named
    arrays = {name: np.asarray(values) for name, values in samples.items()}
    lengths = {name: len(values) for name, values in arrays.items()}
    if not arrays or len(set(lengths.values())) != 1:
        raise ValueError(
            sentence(
                "posterior_samples need the same number of draws at every site",
                found=str(lengths),
            )
        )
    return arrays, (1, next(iter(lengths.values()))), {}


def _as_dataset(samples: Mapping[str, Any]) -> xr.Dataset:
    """Return samples of which some have dims as a dataset."""
    if without := [n for n, values in samples.items() if not isinstance(values, xr.DataArray)]:
        raise TypeError(
            sentence(
                "posterior_samples: some have dims and some do not",
                found=f"{quoted(without)} without",
                fix="Pass all of them as DataArrays, or none: values.to_numpy()",
            )
        )
    return xr.merge([values.rename(name) for name, values in samples.items()], join="exact")


def _with_chains(samples: xr.Dataset) -> xr.Dataset:
    """Return draws with the dims chain and draw, also those of one chain or of ``az.extract``."""
    if "sample" in samples.dims and "draw" not in samples.dims:
        stacked_by = [name for name in ("sample", "chain", "draw") if name in samples.coords]
        samples = samples.drop_vars(stacked_by).rename(sample="draw")
    if "draw" not in samples.dims:
        raise ValueError(
            sentence(
                "posterior_samples: there is no dim of draws",
                found=f"the dims {quoted(map(str, samples.dims))}",
                expected="'chain' and 'draw', or 'sample'",
            )
        )
    return samples if "chain" in samples.dims else samples.expand_dims("chain")


def _not_samples(found: Any) -> str:
    fix = "The model comes first, then the samples" if callable(found) else ""
    if isinstance(found, pm.Model):
        fix = "The model comes first, then the samples"
    elif hasattr(found, "sample_posterior"):
        fix = "Draw them first: result.sample_posterior(1_000)"
    return sentence(
        "posterior_samples are not draws",
        found=type(found).__name__,
        expected="a dict of arrays, an xarray.Dataset, or a DataTree with a posterior",
        fix=fix,
    )


def _flat(values: xr.DataArray) -> np.ndarray:
    return values.values.reshape(-1, *values.shape[2:])


def _in_order_of(site: Site, values: xr.DataArray) -> np.ndarray:
    """Return draws with their dims, and the labels along them, in the order of the model's."""
    dims = site.dims or ()
    if sorted(map(str, values.dims[2:])) != sorted(map(str, dims)):
        return _flat(values)  # other names, such as w_dim_0: by position
    values = values.transpose("chain", "draw", *dims)
    model = pm.modelcontext(None)
    for dim in dims:
        labels, own = model.coords.get(dim), values.coords.get(dim)
        if labels is None or own is None or list(labels) == list(own.values):
            continue
        if len(set(labels)) == len(labels) and set(labels) == set(own.values):
            values = values.sel({dim: list(labels)})
    return _flat(values)
