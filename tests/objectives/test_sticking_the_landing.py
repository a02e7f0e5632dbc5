"""Sticking the landing: no variance at the exact posterior, no bias anywhere."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from pymc_svi import SVI, Trace_ELBO, constraints, param
from pymc_svi.guides import (
    AutoBatchedMultivariateNormal,
    AutoDiagonalNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from pymc_svi.handlers import Site
from pymc_svi.handlers.stack import apply_stack
from tests.checks import as_built, assert_mean, gradient_draws, loss_draws
from tests.models import (
    MEASUREMENTS,
    Regression,
    normal_mean,
    normal_mean_guide,
    normal_mean_log_evidence,
    normal_mean_posterior,
)

STL = Trace_ELBO(sticking_the_landing=True)


def posterior_guide(y=None):
    mean, sd = normal_mean_posterior()
    pm.Normal("mu", param("loc", mean), param("scale", sd, constraint=constraints.positive))


@pytest.mark.parametrize("built", [False, True], ids=["function", "built"])
def test_at_the_exact_posterior_the_gradient_is_zero_sample_by_sample(built):
    programs = [as_built(p, MEASUREMENTS) for p in (normal_mean, posterior_guide)]
    args = () if built else (MEASUREMENTS,)
    programs = programs if built else [normal_mean, posterior_guide]
    for name, draws in gradient_draws(*programs, *args, n=50, loss=STL).items():
        assert np.abs(draws).max() < 1e-12, name
    plain = gradient_draws(*programs, *args, n=50)
    assert plain["loc"].std() > 0.1


def test_at_the_exact_posterior_a_full_rank_guide_has_no_gradient_noise():
    """The density of the joint draw as a function of its value, with the params held."""
    data = Regression.simulated()
    guide = AutoMultivariateNormal(data)
    svi = SVI(data, guide, loss=STL)
    state = svi.init(
        data.X,
        data.y,
        init_params={"auto_loc": data.mean, "auto_scale_tril": np.linalg.cholesky(data.cov)},
    )
    training, _ = next(iter(svi._trainings.values()))
    training.load(state)
    for _ in range(20):
        gradients = training.inspect()[len(training.terms) :]
        assert max(np.abs(g).max() for g in gradients) < 1e-8


@pytest.mark.parametrize("stl", [False, True])
def test_the_value_of_the_loss_does_not_change(stl):
    loss = Trace_ELBO(sticking_the_landing=stl)
    draws = loss_draws(normal_mean, posterior_guide, MEASUREMENTS, n=20, loss=loss)
    np.testing.assert_allclose(draws, -normal_mean_log_evidence(), atol=1e-7)


@pytest.mark.parametrize("particles", [1, 4])
def test_away_from_the_posterior_the_gradient_is_unbiased(particles):
    mean, sd = normal_mean_posterior()
    loss = Trace_ELBO(num_particles=particles, sticking_the_landing=True)
    draws = gradient_draws(normal_mean, normal_mean_guide, MEASUREMENTS, n=20_000, loss=loss)
    assert_mean(draws["loc"], (0.0 - mean) / sd**2)
    assert_mean(draws["scale"], 1.0 / sd**2 - 1)


def constrained_model():
    m = pm.Normal("m", 0.0, 1.0, shape=2)
    s = pm.HalfNormal("s", 1.0, shape=2)
    pm.Normal("y", m, s, observed=[0.3, -0.8])


@pytest.mark.parametrize(
    "family",
    [
        AutoNormal,
        AutoDiagonalNormal,
        AutoMultivariateNormal,
        AutoLowRankMultivariateNormal,
        AutoBatchedMultivariateNormal,
    ],
)
def test_automatic_guides_have_the_same_mean_gradient_with_and_without(family):
    """Both estimators have one expectation, here with a site on the positive half line."""
    guide = family(constrained_model, init_scale=0.4)
    n = 20_000
    plain = gradient_draws(constrained_model, guide, n=n)
    stl = gradient_draws(constrained_model, guide, n=n, seed=2, loss=STL)
    for name in plain:
        gap = plain[name].mean(axis=0) - stl[name].mean(axis=0)
        error = np.sqrt((plain[name].var(axis=0) + stl[name].var(axis=0)) / n)
        assert np.all(np.abs(gap) < 4 * np.maximum(error, 1e-10)), name


def test_a_param_that_model_and_guide_share_keeps_the_gradient_of_the_model():
    """Only the density of the guide holds its params: d/dm of -log N(y; m, 1) remains."""

    def model():
        m = param("m", 0.5)
        pm.Normal("x", m, 1.0)

    def guide():
        pm.Normal("x", param("m", 0.5), 1.0)

    draws = gradient_draws(model, guide, n=20_000, loss=STL)
    assert_mean(draws["m"], 0.0)


def test_a_guide_without_a_density_at_given_values_is_told():
    def guide():
        loc = param("loc", 0.0)
        apply_stack(Site("sample", "x", value=loc, log_density=loc**2))

    with pytest.raises(NotImplementedError, match="'x'.*sticking_the_landing"):
        SVI(lambda: pm.Normal("x"), guide, loss=STL).build_loss()
