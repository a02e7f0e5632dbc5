"""Score-function gradients: unbiased, and limited to what a draw can change."""

from __future__ import annotations

import warnings

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy.special import expit
from scipy.stats import norm

from pymc_svi import SVI, Trace_ELBO, constraints, optim, param, sample
from pymc_svi.config import validation
from pymc_svi.gradients import NoPathwiseDraw
from pymc_svi.gradients.independence import follow_axes
from pymc_svi.gradients.score_function import downstream_cost, pathwise_or_score
from pymc_svi.handlers import replay, trace
from tests.checks import (
    as_built,
    assert_mean,
    assert_variance,
    built_loss,
    gradient_draws,
    loss_draws,
)

FRONT_ENDS = pytest.mark.parametrize("built", [False, True], ids=["function", "built"])

# --- one binary latent: two values to sum over ------------------------------------------------

PRIOR, MEANS, Y = 0.3, np.array([-0.5, 1.0]), 0.8


def switch_model():
    z = pm.Bernoulli("z", PRIOR)
    pm.Normal("y", pt.constant(MEANS)[z], 1.0, observed=Y)


def switch_guide():
    pm.Bernoulli("z", logit_p=param("a", 0.4))


def switch_loss(a: float) -> float:
    """The expected loss: a sum over the two values of ``z``."""
    q = np.array([1 - expit(a), expit(a)])
    log_joint = np.log([1 - PRIOR, PRIOR]) + norm.logpdf(Y, MEANS)
    return float(np.sum(q * (np.log(q) - log_joint)))


def slope(function, x: float, step: float = 1e-5) -> float:
    return (function(x + step) - function(x - step)) / (2 * step)


@pytest.mark.parametrize(
    "loss",
    [
        Trace_ELBO(),
        Trace_ELBO(num_particles=4),
        Trace_ELBO(num_particles=3, vectorize_particles=False),
        Trace_ELBO(sticking_the_landing=True),
    ],
    ids=["one", "batch", "sequence", "stl"],
)
@FRONT_ENDS
def test_gradient_of_a_discrete_site_averages_to_exact_enumeration(built, loss):
    programs = [as_built(p) if built else p for p in (switch_model, switch_guide)]
    assert_mean(loss_draws(*programs, n=20_000, loss=loss), switch_loss(0.4))
    draws = gradient_draws(*programs, n=40_000, loss=loss)
    assert_mean(draws["a"], slope(switch_loss, 0.4))


# --- pathwise and score function together -----------------------------------------------------


def mixed_model():
    u = pm.Normal("u", 0.0, 1.0)
    z = pm.Bernoulli("z", logit_p=0.5 * u)
    v = pm.Normal("v", 1.0 * z, 1.0)
    pm.Normal("y", u + v, 0.8, observed=1.2)


def mixed_guide():
    """Each site depends on the one before: continuous, discrete, continuous."""
    u = pm.Normal("u", param("m", 0.3), 0.7)
    z = pm.Bernoulli("z", logit_p=param("a", -0.2) + u)
    pm.Normal("v", param("b", 0.5) + param("c", 0.4) * z, 0.9)


def mixed_loss(m: float, a: float, b: float, c: float) -> float:
    """The expected loss: quadrature over u, a sum over z, and moments of v."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    u, weights = m + 0.7 * nodes, weights / weights.sum()
    total = np.zeros_like(u)
    for z in (0, 1):
        q_z = expit((2 * z - 1) * (a + u))
        p_z = expit((2 * z - 1) * 0.5 * u)
        mean = b + c * z

        def expected_normal(centre, sd, mean=mean):
            return -0.5 * ((mean - centre) ** 2 + 0.9**2) / sd**2 - np.log(sd * np.sqrt(2 * np.pi))

        entropy = 0.5 * np.log(2 * np.pi * np.e * 0.9**2)
        log_joint = np.log(p_z) + expected_normal(z, 1.0) + expected_normal(1.2 - u, 0.8)
        total += q_z * (np.log(q_z) - entropy - log_joint)
    return float(np.sum(weights * (total + norm.logpdf(u, m, 0.7) - norm.logpdf(u))))


@pytest.mark.parametrize("stl", [False, True])
@FRONT_ENDS
def test_gradient_of_a_chain_of_both_kinds_averages_to_quadrature(built, stl):
    programs = [as_built(p) if built else p for p in (mixed_model, mixed_guide)]
    loss = Trace_ELBO(sticking_the_landing=stl)
    start = {"m": 0.3, "a": -0.2, "b": 0.5, "c": 0.4}
    assert_mean(loss_draws(*programs, n=40_000, loss=loss), mixed_loss(**start))
    draws = gradient_draws(*programs, n=60_000, loss=loss)
    for name, value in start.items():
        exact = slope(lambda x, name=name: mixed_loss(**{**start, name: x}), value)
        assert_mean(draws[name], exact)


# --- the coin ---------------------------------------------------------------------------------


def coin():
    p = pm.Beta("p", 10, 10)
    pm.Bernoulli("y", p, observed=[1] * 6 + [0] * 4)


def coin_guide():
    alpha = param("alpha", 15.0, constraint=constraints.positive)
    beta = param("beta", 15.0, constraint=constraints.positive)
    sample("p", pm.Beta.dist(alpha, beta), infer={"score_function": True})


def test_score_function_of_the_coin_has_its_exact_mean_and_variance():
    """By quadrature: gradients -1.03407 and 1.03407 with variances 419.340 and 388.819."""
    draws = gradient_draws(coin, coin_guide, n=100_000)
    assert_mean(draws["alpha"], -1.0340734)
    assert_mean(draws["beta"], 1.0340734)
    assert_variance(draws["alpha"], 419.33957)
    assert_variance(draws["beta"], 388.81918)


def test_pathwise_gradient_of_the_coin_has_the_same_mean_and_a_fortieth_of_the_variance():
    def guide():
        alpha = param("alpha", 15.0, constraint=constraints.positive)
        pm.Beta("p", alpha, param("beta", 15.0, constraint=constraints.positive))

    draws = gradient_draws(coin, guide, n=20_000, compiled=True)
    assert_mean(draws["alpha"], -1.0340734)
    assert draws["alpha"].var() < 419.3 / 40


# --- the cost of a draw -----------------------------------------------------------------------

LABELS = np.array([0.2, 1.4, -0.3, 0.9])


def labels_model():
    mu = pm.Normal("mu", 0.0, 2.0, shape=2)
    z = pm.Bernoulli("z", 0.4, shape=4)
    pm.Normal("y", mu[z], 1.0, observed=LABELS)


def labels_guide():
    pm.Normal("mu", param("loc", np.array([-0.5, 0.5])), 0.3, shape=2)
    pm.Bernoulli("z", logit_p=param("logits", np.zeros(4)))


def traces(model, guide):
    guide_trace = trace(pathwise_or_score(guide)).get_trace()
    return trace(replay(model, trace=guide_trace)).get_trace(), guide_trace


def test_the_cost_of_each_label_is_that_of_its_own_observation():
    """The prior of mu is no part of it; the four labels do not share their costs."""
    model_trace, guide_trace = traces(labels_model, labels_guide)
    z, mu = guide_trace["z"], guide_trace["mu"]
    costs = [z.log_prob, mu.log_prob, *(-s.log_prob for s in model_trace.sites("sample"))]
    cost = downstream_cost(z, costs)
    assert cost.type.ndim == 1
    values, labels, found = pm.draw([mu.value, z.value, cost], random_seed=1)
    own = np.log(0.5) - np.log(np.where(labels == 1, 0.4, 0.6))
    expected = own - norm.logpdf(LABELS, values[labels])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_gradient_of_each_label_has_the_mean_and_variance_of_its_own_cost_alone():
    """d/d logit is (z - 1/2) c_z, with c_k = log q_k - log p_k - log p(y | mu_k)."""
    draws = gradient_draws(labels_model, labels_guide, n=20_000)["logits"]
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    mu = np.array([-0.5, 0.5])[:, None] + 0.3 * nodes
    cost = np.log(0.5 / np.array([0.6, 0.4]))[:, None] - norm.logpdf(LABELS[:, None, None], mu)
    first, second = (cost @ weights, cost**2 @ weights)  # by label and value
    mean = 0.25 * (first[:, 1] - first[:, 0])
    assert_mean(draws, mean)
    assert_variance(draws, 0.125 * second.sum(axis=1) - mean**2)


def test_a_site_that_changes_nothing_but_its_own_density_costs_its_own_density():
    def model():
        pm.Poisson("k", 2.0)
        pm.Normal("x", 0.0, 1.0)

    def guide():
        pm.Poisson("k", param("rate", 3.0, constraint=constraints.positive))
        pm.Normal("x", param("loc", 0.0), 1.0)

    model_trace, guide_trace = traces(model, guide)
    terms = [s.log_prob for t in (model_trace, guide_trace) for s in t.sites("sample")]
    assert follow_axes(guide_trace["k"].value, terms[1]) is None
    draws = gradient_draws(model, guide, n=60_000)
    # KL(Poisson(r) || Poisson(2)) = r log(r / 2) - r + 2, by log r.
    assert_mean(draws["rate"], 3.0 * np.log(1.5))
    assert_mean(draws["loc"], 0.0)


def test_scaled_sites_keep_an_unbiased_gradient():
    def model():
        z = pm.Bernoulli("z", PRIOR, total_size=None)
        pm.Normal("y", pt.constant(MEANS)[z], 1.0, observed=[Y], total_size=5)

    def loss(a):
        q = np.array([1 - expit(a), expit(a)])
        log_joint = np.log([1 - PRIOR, PRIOR]) + 5 * norm.logpdf(Y, MEANS)
        return float(np.sum(q * (np.log(q) - log_joint)))

    draws = gradient_draws(model, switch_guide, n=40_000)
    assert_mean(draws["a"], slope(loss, 0.4))


# --- fitting ----------------------------------------------------------------------------------


def test_a_discrete_guide_is_fitted_to_the_exact_posterior():
    svi = SVI(switch_model, switch_guide, optim.Adam(0.02), Trace_ELBO(num_particles=20))
    result = svi.run(1_500, random_seed=0, progressbar=False)
    joint = np.array([1 - PRIOR, PRIOR]) * norm.pdf(Y, MEANS)
    assert expit(result.params["a"]) == pytest.approx(joint[1] / joint.sum(), abs=0.03)
    assert result.losses[-200:].mean() == pytest.approx(-np.log(joint.sum()), abs=0.01)


def test_an_objective_without_score_sites_has_no_surrogate_of_its_own():
    """Nothing is added to the graph of a fit that does not need it."""

    def guide():
        pm.Normal("x", param("loc", 0.0), 1.0)

    def model():
        pm.Normal("x")

    loss, _ = SVI(model, guide).build_loss()
    assert loss.surrogate is loss.value and not loss.updates


def test_a_continuous_site_without_a_differentiable_draw_warns_unless_it_was_meant():
    def model():
        pm.PolyaGamma("x", 1.0, 0.0)

    def guide(**options):
        tilt = param("tilt", 1.0)
        sample("x", pm.PolyaGamma.dist(1.0, tilt), **options)

    with pytest.warns(UserWarning, match="'x' is continuous but has no diff.*register_rsample"):
        built_loss(model, guide)
    with pytest.raises(NoPathwiseDraw, match="'x' is continuous"), validation("error"):
        Trace_ELBO().loss(model, guide)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        built_loss(model, lambda: guide(infer={"score_function": True}))
