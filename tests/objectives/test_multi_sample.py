"""Objectives that weigh several draws: Renyi's bounds, tail-adaptive weights, wake-sleep."""

from __future__ import annotations

import warnings

import numpy as np
import pymc as pm
import pytensor
import pytest
from scipy.special import expit, logsumexp
from scipy.stats import norm

from pymc_svi import (
    SVI,
    DataLoader,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceTailAdaptive_ELBO,
    Trainer,
    constraints,
    handlers,
    optim,
    param,
    plate,
    subsample,
)
from pymc_svi.errors import PairingError
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.gradients import NoPathwiseDraw
from pymc_svi.guides import AutoNormal
from tests.checks import assert_mean, gradient_draws, loss_draws
from tests.models import (
    MEASUREMENTS,
    normal_mean,
    normal_mean_guide,
    normal_mean_log_evidence,
    normal_mean_posterior,
)

# --- a model with a param, and K = 2 draws: quadrature in two dimensions ----------------------

Y = 1.3


def shifted():
    x = pm.Normal("x", param("prior", 0.2), 1.0)
    pm.Normal("y", x, 0.8, observed=Y)


def shifted_guide():
    pm.Normal("x", param("loc", 0.1), param("scale", 0.9, constraint=constraints.positive))


LOG_SCALE = np.log(0.9)


def bound_of_two(alpha: float, prior=0.2, loc=0.1, log_scale=LOG_SCALE) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    x = loc + np.exp(log_scale) * nodes
    log_w = norm.logpdf(x, prior) + norm.logpdf(Y, x, 0.8) - norm.logpdf(x, loc, np.exp(log_scale))
    pair = (1 - alpha) * np.stack(np.broadcast_arrays(log_w[:, None], log_w[None, :]))
    bound = -(logsumexp(pair, axis=0) - np.log(2)) / (1 - alpha)
    return float(weights @ bound @ weights)


@pytest.mark.parametrize("doubly", [True, False], ids=["doubly", "plain"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0, -1.0])
def test_gradient_of_a_bound_averages_to_quadrature(alpha, doubly):
    loss = RenyiELBO(alpha, doubly_reparameterized=doubly)
    assert_mean(loss_draws(shifted, shifted_guide, n=20_000, loss=loss), bound_of_two(alpha))
    draws = gradient_draws(shifted, shifted_guide, n=40_000, loss=loss, compiled=not doubly)
    start = {"prior": 0.2, "loc": 0.1, "log_scale": np.log(0.9)}
    for param_name, argument in (("prior", "prior"), ("loc", "loc"), ("scale", "log_scale")):
        sides = [
            bound_of_two(alpha, **{**start, argument: start[argument] + step})
            for step in (1e-5, -1e-5)
        ]
        assert_mean(draws[param_name], (sides[0] - sides[1]) / 2e-5)


def test_particles_one_after_the_other_have_the_same_expectation():
    loss = RenyiELBO(0, vectorize_particles=False)
    assert_mean(loss_draws(shifted, shifted_guide, n=20_000, loss=loss), bound_of_two(0.0))


def test_importance_weighted_bound_rises_with_the_draws_to_the_log_evidence():
    means = []
    for k in (2, 8, 32, 128):
        draws = loss_draws(
            normal_mean, normal_mean_guide, MEASUREMENTS, n=4_000, loss=RenyiELBO(0, k)
        )
        means.append(-draws.mean())
    assert means == sorted(means)
    assert means[-1] < normal_mean_log_evidence() + 0.005
    assert normal_mean_log_evidence() - means[-1] < 0.05


def test_doubly_reparameterized_gradient_is_zero_at_the_exact_posterior():
    mean, sd = normal_mean_posterior()

    def guide(y=None):
        pm.Normal("mu", param("loc", mean), param("scale", sd, constraint=constraints.positive))

    draws = gradient_draws(normal_mean, guide, MEASUREMENTS, n=50, loss=RenyiELBO(0, 5))
    assert max(np.abs(g).max() for g in draws.values()) < 1e-12


def test_automatic_guides_work_doubly_reparameterized():
    def model():
        s = pm.HalfNormal("s", 1.0)
        pm.Normal("y", 0.0, s, observed=[0.5, -0.3])

    guide = AutoNormal(model, init_scale=0.5)
    doubly = gradient_draws(model, guide, n=20_000, loss=RenyiELBO(0, 3))
    plain = gradient_draws(
        model, guide, n=20_000, seed=1, loss=RenyiELBO(0, 3, doubly_reparameterized=False)
    )
    for name in plain:
        error = np.sqrt((plain[name].var() + doubly[name].var()) / 20_000)
        assert abs(plain[name].mean() - doubly[name].mean()) < 3.5 * error


# --- discrete draws ---------------------------------------------------------------------------

MEANS = np.array([-0.5, 1.0])


def switch():
    z = pm.Bernoulli("z", param("prior", 0.3, constraint=constraints.unit_interval))
    pm.Normal("y", MEANS[0] + (MEANS[1] - MEANS[0]) * z, 1.0, observed=0.8)


def switch_guide():
    pm.Bernoulli("z", logit_p=param("a", 0.4))


def switch_log_weights(a: float) -> tuple[np.ndarray, np.ndarray]:
    q = np.array([1 - expit(a), expit(a)])
    return q, np.log([0.7, 0.3]) + norm.logpdf(0.8, MEANS) - np.log(q)


def test_discrete_draws_have_the_gradient_of_the_exact_sum_over_pairs():
    def exact(a):
        q, log_w = switch_log_weights(a)
        pairs = np.logaddexp(log_w[:, None], log_w[None, :]) - np.log(2)
        return -float(q @ pairs @ q)

    loss = RenyiELBO(0)
    assert_mean(loss_draws(switch, switch_guide, n=20_000, loss=loss), exact(0.4))
    draws = gradient_draws(switch, switch_guide, n=40_000, loss=loss)
    assert_mean(draws["a"], (exact(0.4 + 1e-5) - exact(0.4 - 1e-5)) / 2e-5)


def test_wake_gradients_are_those_of_the_definition():
    """Both sums over pairs of draws are exact: weights, then slopes of log p and log q."""
    q, log_w = switch_log_weights(0.4)
    weight = np.exp(log_w)
    score_q = np.array([-expit(0.4), 1 - expit(0.4)])  # d log q / d a
    score_p = np.array([-0.3, 0.7])  # d log p / d logit of the prior
    expected = {"a": 0.0, "prior": 0.0}
    for i in range(2):
        for j in range(2):
            share = weight[[i, j]] / weight[[i, j]].sum()
            expected["a"] -= q[i] * q[j] * share @ score_q[[i, j]]
            expected["prior"] -= q[i] * q[j] * share @ score_p[[i, j]]
    draws = gradient_draws(switch, switch_guide, n=40_000, loss=ReweightedWakeSleep())
    assert_mean(draws["a"], expected["a"])
    assert_mean(draws["prior"], expected["prior"])


# --- sleep ------------------------------------------------------------------------------------


def dreamer(x):
    z = pm.Normal("z", 0.0, 1.0)
    pm.Normal("x", z, 1.0, observed=x)


def dream_reader(x):
    pm.Normal("z", param("a", 0.1) * x + param("b", 0.3), param("s", 0.8, constraint=EXP))


EXP = constraints.positive


def test_the_gradient_of_sleep_is_that_of_the_divergence_over_dreams():
    """``-E[log q(z | x)]`` with ``z ~ N(0, 1)``, ``x ~ N(z, 1)``: ``Var(x) = 2``, ``Cov = 1``."""
    a, b, s = 0.1, 0.3, 0.8
    loss = ReweightedWakeSleep(2, insomnia=0.0)
    data = pytensor.shared(np.array(5.0))
    draws = gradient_draws(dreamer, dream_reader, data, n=20_000, loss=loss)
    assert_mean(draws["a"], -(1 - 2 * a) / s**2)
    assert_mean(draws["b"], b / s**2)
    squared = (1 - 2 * a) + 2 * a**2 + b**2
    assert_mean(draws["s"], 1 - squared / s**2)  # by log s


def test_insomnia_mixes_wake_and_sleep():
    data = pytensor.shared(np.array(1.0))
    parts = {
        w: gradient_draws(
            dreamer,
            dream_reader,
            data,
            n=20_000,
            seed=i,
            loss=ReweightedWakeSleep(2, insomnia=w),
        )
        for i, w in enumerate((0.0, 0.3, 1.0))
    }
    for name in ("a", "b", "s"):
        assert_mean(parts[0.3][name] - 0.7 * parts[0.0][name] - 0.3 * parts[1.0][name], 0.0)


def test_sleep_finds_the_posterior_of_any_data():
    loss = ReweightedWakeSleep(2, insomnia=0.0, num_sleep_particles=100)
    svi = SVI(dreamer, dream_reader, optim.Adam(0.01), loss)
    params = svi.run(3_000, np.array(0.5), random_seed=0, progressbar=False).params
    assert params["a"] == pytest.approx(0.5, abs=0.05)
    assert params["b"] == pytest.approx(0.0, abs=0.05)
    assert params["s"] == pytest.approx(np.sqrt(0.5), abs=0.05)


def test_sleep_needs_a_guide_of_the_data():
    def guide(x):
        pm.Normal("z", param("b", 0.3), 1.0)

    with pytest.raises(PairingError, match="not computed from the data.*insomnia=1.0"):
        SVI(dreamer, guide, loss=ReweightedWakeSleep(insomnia=0.5)).build_loss(np.array(1.0))
    with pytest.raises(ValueError, match="insomnia is a weight"):
        ReweightedWakeSleep(insomnia=1.5)


# --- tail-adaptive weights --------------------------------------------------------------------


def test_tail_adaptive_gradient_at_power_zero_is_that_of_the_elbo():
    mean, sd = normal_mean_posterior()
    loss = TraceTailAdaptive_ELBO(4, tail_adaptive_beta=0.0)
    draws = gradient_draws(normal_mean, normal_mean_guide, MEASUREMENTS, n=20_000, loss=loss)
    assert_mean(draws["loc"], (0.0 - mean) / sd**2)
    assert_mean(draws["scale"], 1.0 / sd**2 - 1)


def test_tail_adaptive_gradient_weighs_draws_by_rank():
    """Two draws: the better one has weight 2/3, the other 1/3."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    x = 0.1 + 0.9 * nodes
    log_w = norm.logpdf(x, 0.2) + norm.logpdf(Y, x, 0.8) - norm.logpdf(x, 0.1, 0.9)
    slope = (0.2 - x) + (Y - x) / 0.64 + (x - 0.1) / 0.81
    # Each draw against all others: the share of draws it beats decides between 2/3 and 1/3.
    better = (log_w[:, None] > log_w[None, :]) + 0.5 * (log_w[:, None] == log_w[None, :])
    gamma = 1 / 3 + (better @ weights) / 3
    draws = gradient_draws(shifted, shifted_guide, n=40_000, loss=TraceTailAdaptive_ELBO(2))
    error = 4e-3  # of the quadrature across the jump
    assert abs(draws["loc"].mean() + 2 * np.sum(weights * gamma * slope)) < (
        3.5 * draws["loc"].std() / 200 + error
    )


def test_tail_adaptive_value_is_the_elbo():
    draws = loss_draws(shifted, shifted_guide, n=20_000, loss=TraceTailAdaptive_ELBO(3))
    plain = loss_draws(shifted, shifted_guide, n=60_000, seed=1, loss=Trace_ELBO())
    assert_mean(draws, plain.mean(), 4.0)


# --- fitting and refusals ---------------------------------------------------------------------


@pytest.mark.parametrize("loss", [RenyiELBO(0, 5), RenyiELBO(0.5, 5), TraceTailAdaptive_ELBO(5)])
def test_a_conjugate_posterior_is_found(loss):
    mean, sd = normal_mean_posterior()
    svi = SVI(normal_mean, normal_mean_guide, optim.Adam(0.02), loss)
    result = svi.run(1_500, MEASUREMENTS, random_seed=0, progressbar=False)
    assert result.params["loc"] == pytest.approx(mean, abs=0.05)
    assert result.params["scale"] == pytest.approx(sd, rel=0.05)


@pytest.mark.parametrize("loss", [RenyiELBO(), ReweightedWakeSleep(), TraceTailAdaptive_ELBO()])
def test_minibatches_of_draws_that_are_weighed_are_told(loss):
    """The weights are of a random part of the data; their nonlinear mean is biased."""

    def model(y, batch=None):
        mu = pm.Normal("mu")
        with plate("row", 8, subsample_size=batch):
            pm.Normal("y", mu, 1.0, observed=subsample(y))

    def guide(y, batch=None):
        pm.Normal("mu", param("loc", 0.0), 1.0)

    y = np.arange(8.0)
    with pytest.warns(
        UserWarning, match=f"{type(loss).__name__} weighs.*site 'y' has that of a min"
    ):
        loss.loss(model, guide, y, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loss.loss(model, guide, y)
        loss.loss(handlers.scale(model, scale=0.5), guide, y)


def test_batches_of_a_loader_are_minibatches_too():
    def model(y):
        mu = pm.Normal("mu")
        pm.Normal("y", mu, 1.0, observed=y)

    def guide(y):
        pm.Normal("mu", param("loc", 0.0), 1.0)

    svi = SVI(model, guide, loss=RenyiELBO(), compile_kwargs={"mode": evaluation_mode()})
    with pytest.warns(UserWarning, match="RenyiELBO weighs.*site 'y' has that of a minibatch"):
        Trainer(svi, DataLoader({"y": np.arange(8.0)}, batch_size=4)).fit(n=1)


def test_alpha_one_is_refused():
    with pytest.raises(ValueError, match="alpha = 1.*Trace_ELBO"):
        RenyiELBO(alpha=1)


@pytest.mark.parametrize("family", [RenyiELBO, TraceTailAdaptive_ELBO, ReweightedWakeSleep])
def test_one_particle_is_refused(family):
    with pytest.raises(ValueError, match="at least 2"):
        family(num_particles=1)


def test_a_discrete_draw_under_tail_adaptive_weights_is_refused():
    with pytest.raises(NoPathwiseDraw, match="'z'"):
        SVI(switch, switch_guide, loss=TraceTailAdaptive_ELBO()).build_loss()
