"""``log_likelihood``: how probable each observation is at each posterior draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.handlers import Site, trace
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.handlers.log_prob import rv_log_prob, scaled_and_masked
from pymc_svi.handlers.walk import scratch_model
from pymc_svi.predictive.samples import Placeholders, stacked
from pymc_svi.results.sampling import FixedParams, as_arguments, draw_function
from pymc_svi.results.tree import as_tree, given_data, site_dataset

__all__ = ["log_likelihood"]


def log_likelihood(
    model: Program,
    posterior_samples: Mapping[str, Any] | xr.Dataset | xr.DataTree,
    *args,
    params: Mapping[str, Any] | None = None,
    coords: Mapping[str, Any] | None = None,
    **kwargs,
) -> xr.DataTree:
    """Return the log-likelihood of each observation at each posterior draw.

    What ``arviz.loo`` and ``arviz.compare`` need. Scales and minibatch weights are left out,
    masked observations are zero.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    posterior_samples : dict, xarray.Dataset or xarray.DataTree
        A value for each draw of every latent site that the observed sites depend on, as
        ``result.sample_posterior()`` gives them.
    *args, **kwargs
        Arguments of the model, with the data.
    params : dict of str to array_like, optional
        Constrained values of the model's params.
    coords : dict, optional
        Coords for the dims that function programs use.

    Returns
    -------
    xarray.DataTree
        ``log_likelihood`` with dims (chain, draw, ...) and ``observed_data``; beside the groups
        of the samples, if these are a tree.

    Raises
    ------
    SiteError
        If a latent site has no samples, or the model no observed site.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import log_likelihood
    >>> def model(y):
    ...     mu = pm.Normal("mu", 0.0, 1.0)
    ...     pm.Normal("y", mu, 1.0, observed=y)
    >>> draws = {"mu": np.array([0.0, 1.0])}
    >>> tree = log_likelihood(model, draws, np.array([0.0, 1.0, 2.0]))
    >>> tree.log_likelihood["y"].shape
    (1, 2, 3)
    """
    samples, sample_shape, named = stacked(posterior_samples)
    arguments, keywords = as_arguments(model, args, kwargs)
    around = pm.Model.get_context(error_if_none=False)
    given = Placeholders(samples, named)
    with scratch_model(built_model(model), around, coords=coords):
        with FixedParams(params or {}), given:
            traced = trace(model).get_trace(*arguments, **keywords)
    given.check_used(traced)
    observed = [site for site in traced.sites("sample") if site.observed]
    if not observed:
        raise SiteError(
            sentence(
                "log_likelihood: the model has no observed site",
                fix="Pass the data: log_likelihood(model, samples, X, y)",
            )
        )
    log_probs = {site.name: _log_prob(site) for site in observed}
    # Others, such as predictions that a model got after the fit, are not asked for.
    needed = set(ancestors(log_probs.values()))
    missing = [
        name
        for name, site in traced.latent.items()
        if name not in given.variables and site.value in needed
    ]
    if missing:
        raise SiteError(
            sentence(
                f"log_likelihood: there are no posterior samples of {quoted(missing)}",
                found=f"samples of {quoted(samples)}",
                fix="Give every latent site that the data depend on a value, or fix it with "
                "handlers.condition",
            )
        )
    draw = draw_function(log_probs, given.variables)
    values = draw(int(np.prod(sample_shape)), 0, {n: given.samples[n] for n in given.variables})
    dataset = site_dataset(values, traced, ("chain", "draw"), sample_shape)
    tree = as_tree({"log_likelihood": dataset, **given_data(traced)})
    if not isinstance(posterior_samples, xr.DataTree):
        return tree
    groups = {name: node.to_dataset() for name, node in posterior_samples.children.items()}
    return as_tree({**groups, **{n: node.to_dataset() for n, node in tree.children.items()}})


def _log_prob(site: Site) -> Variable:
    """Return the log-probability of a site's elements, each counted once."""
    node = getattr(site.dist, "owner", None)
    if node is not None and isinstance(node.op, MinibatchRandomVariable):  # total_size=
        log_prob = site.per_element(rv_log_prob(node.inputs[0], site.value))
    else:
        log_prob = site.unscaled_log_prob
    return scaled_and_masked(log_prob, 1.0, site.mask)
