"""Where the fits end: exact posteriors, and the optima of ``pm.fit``.

A stochastic optimisation ends near its optimum, not at it. With a step size that falls to zero
over T steps of n draws, the last third averages about T n / 3 draws of a gradient whose noise is
about one posterior standard deviation, so means are off by about sqrt(3 / (T n)) of it; the
tolerances below are at least four times that.
"""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi import SVI, Trace_ELBO, constraints, optim, param
from pymc_svi.guides import AutoMultivariateNormal, AutoNormal
from tests.checks import assert_covariance, assert_mean, loss_draws
from tests.models import Regression, eight_schools, gaussian_kl, wedge, wedge_guide

SETTINGS = {"random_seed": 5, "progressbar": False}


def fitted(model, guide, *args, steps=3_000, particles=16, rate=0.05, **settings):
    schedule = optim.linear_decay(rate, steps)
    svi = SVI(model, guide, optim.Adam(schedule), Trace_ELBO(num_particles=particles), **settings)
    return svi.run(steps, *args, **SETTINGS)


# --- a regression with an exact posterior -----------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return Regression.simulated()


@pytest.fixture(scope="module")
def full_rank(data):
    return fitted(data, AutoMultivariateNormal(data), data.X, data.y)


@pytest.fixture(scope="module")
def mean_field(data):
    model = data.built()
    return fitted(model, AutoNormal(model))


def conditional_guide(data):
    """The exact posterior by hand: the weights, then the intercept given the weights."""
    cov, mean = data.cov, data.mean
    slope = cov[0, 1:] @ np.linalg.inv(cov[1:, 1:])
    sd = np.sqrt(cov[0, 0] - slope @ cov[1:, 0])
    factor = np.linalg.cholesky(cov[1:, 1:])

    def guide(X, y=None):
        tril = param("tril", factor, constraint=constraints.lower_cholesky)
        loc = param("loc", mean[1:])
        weights = pm.MvNormal("weights", loc, chol=tril)
        centre = param("centre", mean[0]) + (param("slope", slope) * (weights - loc)).sum()
        pm.Normal("intercept", centre, param("sd", sd, constraint=constraints.positive))

    return guide


def test_elbo_of_a_hand_written_exact_posterior_is_the_log_evidence_at_each_draw(data):
    losses = loss_draws(data, conditional_guide(data), data.X, data.y, n=50)
    np.testing.assert_allclose(losses, -data.log_evidence, rtol=0, atol=1e-6)


def test_hand_written_guide_learns_the_exact_posterior(data):
    guide = conditional_guide(data)
    start = {
        "tril": 0.5 * np.eye(2),
        "loc": np.zeros(2),
        "centre": 0.0,
        "slope": np.zeros(2),
        "sd": 1.0,
    }
    rate = optim.linear_decay(0.05, 3_000)
    svi = SVI(data, guide, optim.Adam(rate), Trace_ELBO(num_particles=16))
    result = svi.run(3_000, data.X, data.y, init_params=start, **SETTINGS)
    factor = result.params["tril"]
    assert_close_to_posterior(data, result, *joint(result.params, factor @ factor.T))


def joint(params, cov_weights):
    """Mean and covariance of (intercept, weights) under the conditional guide."""
    cross = cov_weights @ params["slope"]
    cov = np.empty((3, 3))
    cov[1:, 1:] = cov_weights
    cov[0, 1:] = cov[1:, 0] = cross
    cov[0, 0] = params["sd"] ** 2 + params["slope"] @ cross
    return np.concatenate([[params["centre"]], params["loc"]]), cov


def assert_close_to_posterior(data, result, mean, cov):
    """ELBO within 0.01 nats of the log evidence: their difference is the divergence of q."""
    divergence = gaussian_kl(mean, cov, data.mean, data.cov)
    assert divergence < 0.01
    # The losses at the end are draws of minus the ELBO, to within what the last steps moved.
    last = result.losses[-300:]
    assert_mean(last, -data.log_evidence + divergence, 5)
    sds = np.sqrt(np.diag(data.cov))
    np.testing.assert_array_less(np.abs(mean - data.mean) / sds, 0.06)
    np.testing.assert_allclose(cov, data.cov, atol=0.08 * np.outer(sds, sds).max())


def test_full_rank_elbo_is_the_log_evidence(data, full_rank):
    params = full_rank.params
    cov = params["auto_scale_tril"] @ params["auto_scale_tril"].T
    assert_close_to_posterior(data, full_rank, params["auto_loc"], cov)


def test_full_rank_draws_have_the_fitted_mean_and_covariance(full_rank):
    posterior = full_rank.sample_posterior(20_000, random_seed=1).posterior
    draws = np.column_stack([posterior["intercept"].values[0], posterior["weights"].values[0]])
    tril = full_rank.params["auto_scale_tril"]
    assert_mean(draws, full_rank.params["auto_loc"])
    assert_covariance(draws, tril @ tril.T)


def test_mean_field_optimum_has_the_diagonal_of_the_precision(data, mean_field):
    params = mean_field.params
    mean = np.concatenate([[params["intercept_auto_loc"]], params["weights_auto_loc"]])
    sd = np.concatenate([[params["intercept_auto_scale"]], params["weights_auto_scale"]])
    best = 1 / np.sqrt(np.diag(data.precision))
    assert np.all(best[1:] < 0.75 * np.sqrt(np.diag(data.cov))[1:]), "not the marginals"
    np.testing.assert_array_less(np.abs(mean - data.mean) / best, 0.15)
    np.testing.assert_allclose(sd, best, rtol=0.05)
    divergence = gaussian_kl(mean, np.diag(sd**2), data.mean, data.cov)
    assert data.log_evidence - divergence == pytest.approx(data.mean_field_elbo, abs=0.01)


def test_mean_field_draws_have_the_fitted_means_and_are_independent(mean_field):
    posterior = mean_field.sample_posterior(20_000, random_seed=1).posterior
    draws = np.column_stack([posterior["intercept"].values[0], posterior["weights"].values[0]])
    params = mean_field.params
    sd = np.concatenate([[params["intercept_auto_scale"]], params["weights_auto_scale"]])
    mean = np.concatenate([[params["intercept_auto_loc"]], params["weights_auto_loc"]])
    assert_mean(draws, mean)
    assert_covariance(draws, np.diag(sd**2))


# --- the optima of pm.fit ---------------------------------------------------------------------


def pm_fit(model, method, steps=20_000):
    """Mean and standard deviation of ``pm.fit``, averaged over its second half."""
    inference = {"advi": pm.ADVI, "fullrank_advi": pm.FullRankADVI}[method](
        model=model, random_seed=1
    )
    approx = inference.approx
    moments = pytensor.function([], [approx.mean, approx.std])
    recorded = []

    def record(_, __, i):
        if i > steps // 2 and i % 50 == 0:
            recorded.append(moments())

    inference.fit(
        steps, obj_optimizer=pm.adam(learning_rate=0.01), callbacks=[record], progressbar=False
    )
    return tuple(np.mean(recorded, axis=0))


def our_fit(model, guide):
    result = fitted(model, guide(model), steps=6_000, particles=8, rate=0.03)
    if guide is AutoMultivariateNormal:
        factor = result.params["auto_scale_tril"]
        return result.params["auto_loc"], np.sqrt((factor**2).sum(axis=1))
    names = [rv.name for rv in model.free_RVs]
    return tuple(
        np.concatenate([np.ravel(result.params[f"{name}_auto_{part}"]) for name in names])
        for part in ("loc", "scale")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guide", "method"), [(AutoNormal, "advi"), (AutoMultivariateNormal, "fullrank_advi")]
)
@pytest.mark.parametrize("which", ["eight schools", "regression"])
def test_the_optimum_is_that_of_pm_fit(which, guide, method, data):
    """Means within 0.15 standard deviations and standard deviations within 10 per cent.

    ``pm.fit`` has one draw a step and a constant step size, so that its average over 10,000
    correlated steps still moves by several per cent of a standard deviation.
    """
    model = eight_schools() if which == "eight schools" else data.built()
    mean, sd = our_fit(model, guide)
    their_mean, their_sd = pm_fit(model, method)
    np.testing.assert_array_less(np.abs(mean - their_mean) / their_sd, 0.15)
    np.testing.assert_allclose(sd, their_sd, rtol=0.1)
    if which == "regression":
        cov = data.cov if guide is AutoMultivariateNormal else np.diag(1 / np.diag(data.precision))
        exact = np.sqrt(np.diag(cov))
        np.testing.assert_array_less(np.abs(mean - data.mean) / exact, 0.1)
        np.testing.assert_allclose(sd, exact, rtol=0.05)


# --- a bound that depends on another site -----------------------------------------------------


@pytest.mark.parametrize("built", [False, True], ids=["function", "built"])
@pytest.mark.parametrize("guide", [AutoNormal, AutoMultivariateNormal, None])
def test_no_posterior_draw_is_beyond_its_own_bound(guide, built):
    model, by_hand = wedge, wedge_guide
    if built:
        with pm.Model() as model:
            wedge()
        with pm.Model() as by_hand:
            wedge_guide()
    guide = by_hand if guide is None else guide(model)
    svi = SVI(model, guide, optim.Adam(0.02), compile_kwargs={"mode": "FAST_COMPILE"})
    result = svi.run(200, **SETTINGS)
    posterior = result.sample_posterior(20_000, random_seed=1).posterior
    assert np.all(posterior["x"] > 0)
    assert np.all(posterior["x"] < posterior["u"])
    assert posterior["u"].std() > 0.1
    predicted = result.sample_posterior_predictive(draws=2_000, random_seed=2)
    assert np.all(predicted.posterior["x"] < predicted.posterior["u"])


def test_a_composed_law_sees_the_draws_of_its_parents():
    """A random walk around a drawn start: the loss has the walk's law at the same draw."""

    def model():
        start = pm.Normal("start", 0.0, 1.0, shape=2)
        pm.GaussianRandomWalk(
            "walk", mu=start[1], sigma=0.5, init_dist=pm.Normal.dist(start[0], 1.0), steps=2
        )

    def guide():
        start = pm.Normal("start", param("loc", [2.0, -3.0]), 0.01)
        centre = pt.stack([start[0], start[0] + start[1], start[0] + 2 * start[1]])
        pm.Normal("walk", centre, 0.01)

    draws = loss_draws(model, guide, n=4_000)

    def expected_normal(mean_square, sd):
        return -0.5 * mean_square / sd**2 - np.log(sd) - 0.5 * np.log(2 * np.pi)

    log_joint = (
        expected_normal(4.0 + 1e-4, 1.0)
        + expected_normal(9.0 + 1e-4, 1.0)
        + expected_normal(1e-4, 1.0)
        + 2 * expected_normal(2e-4, 0.5)
    )
    entropy = 5 * (0.5 * np.log(2 * np.pi * np.e) + np.log(0.01))
    assert_mean(draws, -log_joint - entropy)
