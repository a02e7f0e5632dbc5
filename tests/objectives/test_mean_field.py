"""Divergences in closed form: right, used where they may be, and open to others."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy import integrate, stats

from pymc_svi import SVI, Trace_ELBO, TraceMeanField_ELBO, constraints, param, sample
from pymc_svi.evaluation import evaluate
from pymc_svi.objectives import has_kl, kl_divergence, register_kl
from tests.checks import as_built, assert_mean, gradient_draws, loss_draws
from tests.models import (
    MEASUREMENTS,
    gaussian_kl,
    normal_mean,
    normal_mean_guide,
    normal_mean_log_evidence,
    normal_mean_posterior,
)

LOSS = TraceMeanField_ELBO()

CONTINUOUS = {
    "Normal": (
        (pm.Normal.dist(0.3, 0.7), stats.norm(0.3, 0.7)),
        (pm.Normal.dist(-0.5, 1.4), stats.norm(-0.5, 1.4)),
    ),
    "LogNormal": (
        (pm.LogNormal.dist(0.3, 0.4), stats.lognorm(0.4, scale=np.exp(0.3))),
        (pm.LogNormal.dist(-0.2, 0.9), stats.lognorm(0.9, scale=np.exp(-0.2))),
    ),
    "HalfNormal": (
        (pm.HalfNormal.dist(0.8), stats.halfnorm(scale=0.8)),
        (pm.HalfNormal.dist(2.0), stats.halfnorm(scale=2.0)),
    ),
    "Gamma": (
        (pm.Gamma.dist(2.5, 1.3), stats.gamma(2.5, scale=1 / 1.3)),
        (pm.Gamma.dist(1.7, 0.6), stats.gamma(1.7, scale=1 / 0.6)),
    ),
    "InverseGamma": (
        (pm.InverseGamma.dist(4.0, 2.0), stats.invgamma(4.0, scale=2.0)),
        (pm.InverseGamma.dist(3.0, 1.5), stats.invgamma(3.0, scale=1.5)),
    ),
    "Exponential": (
        (pm.Exponential.dist(1.5), stats.expon(scale=1 / 1.5)),
        (pm.Exponential.dist(0.4), stats.expon(scale=1 / 0.4)),
    ),
    "Gamma, Exponential": (
        (pm.Gamma.dist(2.5, 1.3), stats.gamma(2.5, scale=1 / 1.3)),
        (pm.Exponential.dist(0.4), stats.expon(scale=1 / 0.4)),
    ),
    "Exponential, Gamma": (
        (pm.Exponential.dist(0.4), stats.expon(scale=1 / 0.4)),
        (pm.Gamma.dist(2.5, 1.3), stats.gamma(2.5, scale=1 / 1.3)),
    ),
    "Beta": (
        (pm.Beta.dist(2.5, 4.0), stats.beta(2.5, 4.0)),
        (pm.Beta.dist(1.5, 2.0), stats.beta(1.5, 2.0)),
    ),
    "Laplace": (
        (pm.Laplace.dist(0.3, 0.7), stats.laplace(0.3, 0.7)),
        (pm.Laplace.dist(-0.5, 1.4), stats.laplace(-0.5, 1.4)),
    ),
    "Uniform": (
        (pm.Uniform.dist(-0.5, 1.0), stats.uniform(-0.5, 1.5)),
        (pm.Uniform.dist(-1.0, 3.0), stats.uniform(-1.0, 4.0)),
    ),
}
W, V = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.3, 0.1])
DISCRETE = {
    "Bernoulli": (pm.Bernoulli.dist(0.2), pm.Bernoulli.dist(0.7), [0.8, 0.2], [0.3, 0.7]),
    "Categorical": (pm.Categorical.dist(W), pm.Categorical.dist(V), W, V),
    "Poisson": (
        pm.Poisson.dist(2.0),
        pm.Poisson.dist(3.5),
        stats.poisson(2.0).pmf(np.arange(80)),
        stats.poisson(3.5).pmf(np.arange(80)),
    ),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_divergence_of_continuous_families_equals_quadrature(name):
    (q_rv, q), (p_rv, p) = CONTINUOUS[name]
    low, high = q.support()
    median = q.median()
    exact = sum(
        integrate.quad(lambda x: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), a, b, limit=200)[0]
        for a, b in ((max(low, q.ppf(1e-13)), median), (median, min(high, q.isf(1e-13))))
    )
    assert evaluate(kl_divergence(q_rv, p_rv)) == pytest.approx(exact, rel=1e-6)
    assert evaluate(kl_divergence(q_rv, q_rv)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", DISCRETE)
def test_divergence_of_discrete_families_equals_the_sum(name):
    q_rv, p_rv, q, p = DISCRETE[name]
    exact = np.sum(stats.entropy(q, p))
    assert evaluate(kl_divergence(q_rv, p_rv)) == pytest.approx(exact, rel=1e-8)


def test_divergence_of_vectors_equals_the_closed_form_and_an_average():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 3))
    a, b = a @ a.T + np.eye(3), b @ b.T + np.eye(3)
    m, loc = rng.normal(size=(2, 3))
    kl = kl_divergence(pm.MvNormal.dist(m, a), pm.MvNormal.dist(loc, b))
    assert evaluate(kl) == pytest.approx(gaussian_kl(m, a, loc, b))

    q, p = stats.dirichlet([2.0, 1.5, 3.0]), stats.dirichlet([1.0, 4.0, 2.0])
    x = q.rvs(200_000, random_state=1)
    kl = kl_divergence(pm.Dirichlet.dist([2.0, 1.5, 3.0]), pm.Dirichlet.dist([1.0, 4.0, 2.0]))
    assert_mean(q.logpdf(x.T) - p.logpdf(x.T), evaluate(kl))


def test_a_value_that_never_occurs_costs_nothing():
    kl = kl_divergence(pm.Categorical.dist([0.0, 1.0]), pm.Categorical.dist([0.5, 0.5]))
    assert evaluate(kl) == pytest.approx(np.log(2))


@pytest.mark.parametrize("built", [False, True], ids=["function", "built"])
def test_a_conjugate_model_has_less_noise_and_the_same_expectation(built):
    mean, sd = normal_mean_posterior()
    programs = (normal_mean, normal_mean_guide)
    args = () if built else (MEASUREMENTS,)
    programs = [as_built(p, MEASUREMENTS) if built else p for p in programs]
    kl = np.log(sd) + (1 + mean**2) / (2 * sd**2) - 0.5
    draws = loss_draws(*programs, *args, n=20_000, loss=LOSS)
    assert_mean(draws, kl - normal_mean_log_evidence())
    gradients = gradient_draws(*programs, *args, n=20_000, loss=LOSS)
    assert_mean(gradients["loc"], (0.0 - mean) / sd**2)
    assert_mean(gradients["scale"], 1.0 / sd**2 - 1)


def test_without_data_there_is_no_noise_at_all():
    def model():
        s = pm.HalfNormal("s", 1.0)
        pm.Normal("x", 0.0, s, shape=3)

    def guide():
        pm.HalfNormal("s", param("a", 0.7, constraint=constraints.positive))
        pm.Normal("x", param("loc", np.array([0.1, 0.2, 0.3])), 0.5)

    def narrow():
        pm.HalfNormal("s", param("sigma", 0.7, constraint=constraints.positive))

    one = loss_draws(lambda: pm.HalfNormal("s", 1.0), narrow, n=5, loss=LOSS)
    assert np.ptp(one) == 0
    # p(x | s) depends on a draw upstream, which is allowed: the divergence given it.
    mine = loss_draws(model, guide, n=40_000, loss=LOSS)
    plain = loss_draws(model, guide, n=40_000, seed=1, loss=Trace_ELBO())
    error = np.sqrt((mine.var() + plain.var()) / 40_000)
    assert abs(np.median(mine) - np.median(plain)) < 1.0 and np.isfinite(error)


def test_scale_and_mask_apply_to_a_divergence():
    from pymc_svi import handlers

    def model():
        pm.Normal("x", 0.0, 1.0, shape=2)

    def guide():
        pm.Normal("x", param("loc", np.ones(2)), 1.0)

    both = [handlers.scale(p, scale=10.0) for p in (model, guide)]
    assert loss_draws(*both, n=1, loss=LOSS) == pytest.approx([10.0])
    both = [handlers.mask(p, mask=np.array([True, False])) for p in (model, guide)]
    assert loss_draws(*both, n=1, loss=LOSS) == pytest.approx([0.5])


def reversed_pair():
    def model():
        a = pm.Normal("a", 0.0, 1.0)
        pm.Normal("b", a, 1.0)

    def guide():
        b = pm.Normal("b", param("m", 0.2), 0.8)
        pm.Normal("a", 0.4 * b, 0.6)

    return model, guide


def test_a_violation_of_the_order_is_told_and_leaves_the_loss_unbiased():
    """``b`` follows ``a`` in the model and ``a`` follows ``b`` in the guide."""
    model, guide = reversed_pair()
    with pytest.warns(UserWarning, match="'b' depends on sites that the guide draws after it"):
        loss, _ = SVI(model, guide, loss=LOSS).build_loss()
    with pytest.warns(UserWarning):
        draws = loss_draws(model, guide, n=40_000, loss=LOSS)
    # E log q - E log p with b ~ N(.2, .64), a = .4 b + .6 e.
    square_a = 0.16 * (0.04 + 0.64) + 0.36
    square_gap = 0.36 * (0.04 + 0.64) + 0.36
    exact = 0.5 * (square_a + square_gap) - 1 - np.log(0.8 * 0.6)
    assert_mean(draws, exact)


def test_score_function_sites_have_their_divergence_in_closed_form_too():
    def model():
        z = pm.Bernoulli("z", 0.3)
        pm.Normal("y", 1.0 * z, 1.0, observed=0.8)

    def guide():
        sample("z", pm.Bernoulli.dist(logit_p=param("a", 0.4)))

    q = 1 / (1 + np.exp(-0.4))
    gap = np.log(q / 0.3) - np.log((1 - q) / 0.7) + 0.5 * (0.2**2 - 0.8**2)
    draws = gradient_draws(model, guide, n=40_000, loss=LOSS)
    assert_mean(draws["a"], q * (1 - q) * gap)


def test_a_formula_of_ones_own_is_used():
    geometric = pm.Geometric.dist(0.5)
    if not has_kl(geometric, geometric):

        @register_kl(pm.Geometric)
        def formula(q, p):
            (a,), (b,) = q, p
            return np.log(a / b) + (1 - a) / a * np.log((1 - a) / (1 - b))

    def guide():
        pm.Geometric("k", param("p", 0.2, constraint=constraints.unit_interval))

    draws = loss_draws(lambda: pm.Geometric("k", 0.5), guide, n=3, loss=LOSS)
    k = np.arange(1, 200)
    exact = stats.entropy(stats.geom(0.2).pmf(k), stats.geom(0.5).pmf(k))
    assert np.ptp(draws) == 0 and draws[0] == pytest.approx(exact, rel=1e-6)


def test_what_has_no_formula_is_named():
    with pytest.raises(NotImplementedError, match="no formula.*register_kl"):
        kl_divergence(pm.Cauchy.dist(0, 1), pm.Normal.dist(0, 1))
    with pytest.raises(TypeError, match="not a family"):
        register_kl("Normal")
