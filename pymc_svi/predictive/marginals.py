"""``compute_marginals``: posterior probabilities of discrete sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.handlers.walk import scratch_model
from pymc_svi.objectives.trace_enum import summed_out
from pymc_svi.results.sampling import FixedParams, as_arguments, draw_function, fitted_guide
from pymc_svi.results.tree import check_draws, site_dataset

__all__ = ["compute_marginals"]


def compute_marginals(
    model: Program,
    guide: Program,
    *args,
    params: Mapping[str, Any] | None = None,
    num_samples: int = 100,
    random_seed: Any = None,
    coords: Mapping[str, Any] | None = None,
    **kwargs,
) -> xr.Dataset:
    """Return the posterior probabilities of the discrete sites that a guide leaves out.

    Exact given a draw of the guide, and averaged over draws.

    Parameters
    ----------
    model, guide : callable or pymc.Model
        The programs.
    *args, **kwargs
        Their arguments.
    params : dict of str to array_like, optional
        Constrained values of the params, as in ``result.params``.
    num_samples : int, default 100
        Number of draws of the guide.
    random_seed : int, optional
        Seed.
    coords : dict, optional
        Coords for the dims that function programs use.

    Returns
    -------
    xarray.Dataset
        For each site its probabilities, with the dims of the site and a last one, ``z_value``
        for a site ``z``, whose coords are the values.

    Raises
    ------
    SiteError
        If there is no such site.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import compute_marginals
    >>> def model(y):
    ...     z = pm.Bernoulli("z", 0.5, shape=len(y))
    ...     pm.Normal("y", 2.0 * z, 1.0, observed=y)
    >>> def guide(y):
    ...     pass
    >>> found = compute_marginals(model, guide, np.array([0.0, 1.0, 2.0]), num_samples=1)
    >>> found["z"].sel(z_value=1).values.round(2)
    array([0.12, 0.5 , 0.88])
    """
    check_draws(num_samples)
    arguments, keywords = as_arguments(model, args, kwargs)
    around = pm.Model.get_context(error_if_none=False)
    models = map(built_model, (model, guide))
    with scratch_model(*models, around, coords=coords), FixedParams(params or {}):
        fitted = fitted_guide(guide, params or {}, None)
        sums = summed_out(model, fitted, *arguments, **keywords)
        probabilities = sums.marginals()
    if not probabilities:
        raise SiteError(
            sentence(
                "compute_marginals: the model has no discrete site that the guide leaves out",
                fix="Leave the site out of the guide",
            )
        )
    draws = draw_function(probabilities)(num_samples, random_seed)
    found = {}
    for name, values in draws.items():
        [array] = site_dataset({name: values.mean(axis=0)[..., 0]}, sums.model_trace).values()
        found[name] = xr.DataArray(
            values.mean(axis=0),
            dims=(*array.dims, f"{name}_value"),
            coords={**array.coords, f"{name}_value": np.asarray(sums.support_of(name))},
        )
    return xr.Dataset(found)
