"""Every guide's draws and log-densities belong together, on all kinds of sites at once.

For any density ``h`` in unconstrained space, the mean of ``h(u) / p(u) * exp(-loss)`` over the draws
of a guide is one, where ``p`` is PyMC's density of the model: a wrong Jacobian, a missing term or a
density of something else than what is drawn changes it.
"""

from __future__ import annotations

import functools

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.distributions.transforms import ordered
from pytensor.graph.replace import vectorize_graph
from scipy.stats import multivariate_normal

from pymc_svi import handlers
from pymc_svi.evaluation import evaluate, evaluation_mode
from pymc_svi.guides import (
    AutoBNAFNormal,
    AutoDAIS,
    AutoDiagonalNormal,
    AutoGaussian,
    AutoHierarchicalNormal,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoNormalizingFlow,
    AutoRegressive,
    AutoStructured,
    AutoSurrogateLikelihoodDAIS,
)
from pymc_svi.guides.flows import AffineCoupling, Reverse, SplineCoupling
from pymc_svi.results.sampling import draw_function
from tests.checks import as_built, assert_mean


def natural():
    """Sites with transforms of their own: bounds of another site, simplex, Cholesky, zero sum."""
    u = pm.HalfNormal("u", 1.0)
    pm.Uniform("x", 0.0, u)
    pm.Dirichlet("w", np.array([2.0, 3.0, 4.0]))
    pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=pm.Gamma.dist(3.0, 3.0), compute_corr=False)
    pm.ZeroSumNormal("z", sigma=0.5 + u, shape=3)


def many():
    natural()
    pm.Normal("o", [0.0, 1.0], 1.0, transform=ordered, initval=[0.0, 1.0])


@functools.cache
def built(program):
    return as_built(program)


@functools.cache
def log_density(program):
    """PyMC's log-density at unconstrained vectors, in the order of the sites."""
    model = built(program)
    points, at = pt.dmatrix("points"), 0
    replace = {}
    for rv in model.free_RVs:
        value = model.rvs_to_values[rv]
        shape = model.initial_point()[value.name].shape
        size = int(np.prod(shape))
        replace[value] = points[:, at : at + size].reshape((-1, *shape))
        at += size
    logp = vectorize_graph(model.logp(jacobian=True), replace=replace)
    return pytensor.function([points], logp, mode=evaluation_mode())


GUIDES = {
    "AutoNormal": AutoNormal,
    "AutoDiagonalNormal": AutoDiagonalNormal,
    "AutoMultivariateNormal": AutoMultivariateNormal,
    "AutoLowRankMultivariateNormal": functools.partial(AutoLowRankMultivariateNormal, rank=2),
    "AutoStructured": AutoStructured,
    "AutoGaussian": AutoGaussian,
    "AutoHierarchicalNormal": AutoHierarchicalNormal,
    "AutoIAFNormal": AutoIAFNormal,
    "AutoBNAFNormal": AutoBNAFNormal,
    "AutoNormalizingFlow": lambda model, **settings: AutoNormalizingFlow(
        model, [AffineCoupling([8]), Reverse(), SplineCoupling([8], bins=4)], **settings
    ),
    "AutoDAIS": functools.partial(AutoDAIS, K=2),
    "AutoSurrogateLikelihoodDAIS": lambda model, **settings: AutoSurrogateLikelihoodDAIS(
        model, natural, K=2, **settings
    ),
    "AutoRegressive": AutoRegressive,
}


@pytest.mark.parametrize("name", GUIDES)
def test_the_density_is_that_of_the_draws(name):
    program = natural if name in ("AutoRegressive", "AutoSurrogateLikelihoodDAIS") else many
    guide = GUIDES[name](built(program), init_scale=0.7)
    rng = np.random.default_rng(5)
    params = {}
    for site in handlers.trace(guide).get_trace().sites("param"):
        start = site.constraint.unconstrain(evaluate(site.value))
        moved = evaluate(start) + 0.1 * rng.normal(size=np.shape(evaluate(start)))
        params[site.name] = evaluate(site.constraint.constrain(pt.as_tensor(moved)))
    guide_trace, model_trace, unconstrained = guide.at(params).traces()
    loss = guide_trace.log_prob_sum() - model_trace.log_prob_sum()
    order = [rv.name for rv in built(program).free_RVs]
    vector = pt.concatenate([pt.as_tensor(unconstrained[n]).ravel() for n in order])
    draws = draw_function({"loss": loss, "u": vector})(8_000, 3)
    first, u = draws["u"][:4_000], draws["u"][4_000:]
    # Narrower than the guide, so that the weights have a small variance.
    h = multivariate_normal(first.mean(axis=0), 0.5 * np.cov(first.T))
    log_weight = h.logpdf(u) - log_density(program)(u) - draws["loss"][4_000:]
    assert_mean(np.exp(log_weight), 1.0)
    assert np.exp(log_weight).std() < 10, "too few draws count for the mean to tell"
