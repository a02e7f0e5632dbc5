"""Posterior samples as values of latent sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
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

    Attributes
    ----------
    variables : dict of str to Variable
        The variables given so far.
    """

    def __init__(self, samples: Mapping[str, np.ndarray]):
        super().__init__()
        self.samples = samples
        self.variables: dict[str, Variable] = {}

    def process_message(self, site: Site) -> None:
        """Give a site that has samples its variable."""
        if site.type != "sample" or site.value is not None or site.name not in self.samples:
            return
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


def stacked(samples: Any) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    """Return samples as arrays with one leading axis of draws, and the (chain, draw) shape."""
    if samples is None:
        return {}, (1, 0)
    if isinstance(samples, xr.DataTree):
        samples = samples["posterior"] if "posterior" in samples else samples
        samples = samples.to_dataset()
    if isinstance(samples, xr.Dataset):
        shape = (samples.sizes["chain"], samples.sizes["draw"])
        arrays = {
            str(name): values.transpose("chain", "draw", ...).values
            for name, values in samples.data_vars.items()
        }
        return {n: a.reshape(-1, *a.shape[2:]) for n, a in arrays.items()}, shape
    arrays = {name: np.asarray(values) for name, values in samples.items()}
    lengths = {name: len(values) for name, values in arrays.items()}
    if not arrays or len(set(lengths.values())) != 1:
        raise ValueError(
            sentence(
                "posterior_samples need the same number of draws at every site",
                found=str(lengths),
            )
        )
    return arrays, (1, next(iter(lengths.values())))
