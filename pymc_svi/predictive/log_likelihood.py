"""``log_likelihood``: how probable each observation is at each posterior draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.enumeration import has_finite_support
from pymc_svi.enumeration.marking import is_enumerated, summed
from pymc_svi.errors import SiteError, did_you_mean, quoted, sentence
from pymc_svi.handlers import Site, Trace, trace
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.handlers.log_prob import log_prob_without_total_size, scaled_and_masked
from pymc_svi.handlers.walk import scratch_model
from pymc_svi.objectives.trace_enum import Sums
from pymc_svi.predictive.samples import Placeholders, stacked
from pymc_svi.results.sampling import FixedParams, as_arguments, draw_function
from pymc_svi.results.tree import as_tree, given_data, site_dataset

__all__ = ["log_likelihood"]


def log_likelihood(
    model: Program,
    posterior_samples: Mapping[str, Any] | xr.Dataset | xr.DataTree,
    *args,
    sum_out: Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    coords: Mapping[str, Any] | None = None,
    **kwargs,
) -> xr.DataTree:
    """Return the log-likelihood of each observation at each posterior draw.

    What ``arviz.loo`` and ``arviz.compare`` need. Scales and minibatch weights are left out,
    masked observations are zero.

    Leaving an observation out says little about a model while the label of that observation is
    given: name the labels in ``sum_out``, and each observation has the log-likelihood of the
    mixture. Discrete sites without samples are summed out in any case. Observations that share a
    label, as the elements of a row, have one log-likelihood together.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    posterior_samples : dict, xarray.Dataset or xarray.DataTree
        A value for each draw of every latent site that the observed sites depend on, as
        ``result.sample_posterior()`` gives them.
    *args, **kwargs
        Arguments of the model, with the data.
    sum_out : sequence of str, optional
        Discrete latent sites that are summed out, instead of being given their samples.
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
        If a latent site has no samples and cannot be summed out, the model has no observed site, or
        what is summed out is shared by all observations, as the states of a chain.
    PairingError
        If a sum has too many terms.

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

    A mixture, whose labels are summed out:

    >>> def mixture(y):
    ...     mu = pm.Normal("mu", 0.0, 1.0, shape=2)
    ...     z = pm.Bernoulli("z", 0.5, shape=len(y))
    ...     pm.Normal("y", mu[z], 1.0, observed=y)
    >>> draws = {"mu": np.array([[0.0, 1.0]]), "z": np.array([[0, 0, 1]])}
    >>> tree = log_likelihood(mixture, draws, np.array([0.0, 1.0, 2.0]), sum_out=["z"])
    >>> tree.log_likelihood["y"].values.round(2)
    array([[[-1.14, -1.14, -1.91]]])
    """
    samples, sample_shape, named = stacked(posterior_samples)
    sum_out = [sum_out] if isinstance(sum_out, str) else list(sum_out)
    samples = {name: values for name, values in samples.items() if name not in sum_out}
    arguments, keywords = as_arguments(model, args, kwargs)
    around = pm.Model.get_context(error_if_none=False)
    given = Placeholders(samples, named)
    with scratch_model(built_model(model), around, coords=coords):
        with FixedParams(params or {}), given:
            traced = trace(summed(model, unless=samples)).get_trace(*arguments, **keywords)
    _check_summed(sum_out, traced)
    given.check_used(traced)
    observed = [site for site in traced.sites("sample") if site.observed]
    if not observed:
        raise SiteError(
            sentence(
                "log_likelihood: the model has no observed site",
                fix="Pass the data: log_likelihood(model, samples, X, y)",
            )
        )
    sums = Sums(traced, Trace()).by_element() if _some_summed(traced) else {}
    log_probs = {
        site.name: sums[site.name].value if site.name in sums else _log_prob(site)
        for site in observed
    }
    # Others, such as predictions that a model got after the fit, are not asked for.
    needed = set(ancestors(log_probs.values()))
    missing = [
        name
        for name, site in traced.latent.items()
        if name not in given.variables and not is_enumerated(site) and site.value in needed
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
    axes = {name: each.axes for name, each in sums.items()}
    dataset = site_dataset(values, traced, ("chain", "draw"), sample_shape, axes)
    tree = as_tree({"log_likelihood": dataset, **given_data(traced)})
    if not isinstance(posterior_samples, xr.DataTree):
        return tree
    groups = {name: node.to_dataset() for name, node in posterior_samples.children.items()}
    return as_tree({**groups, **{n: node.to_dataset() for n, node in tree.children.items()}})


def _some_summed(traced: Trace) -> bool:
    return any(is_enumerated(site) for site in traced.latent.values())


def _check_summed(names: Sequence[str], traced: Trace) -> None:
    """Check that the sites that are to be summed out can be."""
    can_be = [
        name
        for name, site in traced.latent.items()
        if is_enumerated(site) or has_finite_support(site.dist)
    ]
    for name in names:
        if name not in can_be:
            raise SiteError(
                sentence(
                    f"log_likelihood: sum_out names {name!r}, which is no discrete latent site of "
                    "the model with finitely many values",
                    expected=f"some of {quoted(can_be)}"
                    if can_be
                    else "none: the model has no such",
                )
                + did_you_mean(name, can_be)
            )


def _log_prob(site: Site) -> Variable:
    """Return the log-probability of a site's elements, each counted once."""
    log_prob, _ = log_prob_without_total_size(site)
    return scaled_and_masked(site.per_element(log_prob), 1.0, site.mask)
