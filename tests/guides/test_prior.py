"""A fitted guide as the prior of what comes next."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from pymc_svi.guides import AutoDelta, AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal
from pymc_svi.handlers import trace
from tests.guides.checks import elbo_draws
from tests.models import (
    MEASUREMENTS,
    NOISE,
    PRIOR_SD,
    gaussian_log_density,
)

FIRST, SECOND = MEASUREMENTS[:2], MEASUREMENTS[2:]


def model(y):
    mu = pm.Normal("mu", 1.0, PRIOR_SD)
    pm.Normal("y", mu, NOISE, observed=y)


def posterior(y):
    precision = 1 / PRIOR_SD**2 + len(y) / NOISE**2
    return (1.0 / PRIOR_SD**2 + np.sum(y) / NOISE**2) / precision, precision**-0.5


def log_evidence(y):
    cov = NOISE**2 * np.eye(len(y)) + PRIOR_SD**2
    return gaussian_log_density(y, np.full(len(y), 1.0), cov)


PARAMS = {
    AutoNormal: lambda m, s: {"mu_auto_loc": m, "mu_auto_scale": s},
    AutoDiagonalNormal: lambda m, s: {"auto_loc": np.array([m]), "auto_scale": np.array([s])},
    AutoMultivariateNormal: lambda m, s: {
        "auto_loc": np.array([m]),
        "auto_scale_tril": np.array([[s]]),
    },
}


@pytest.mark.parametrize("family", PARAMS, ids=lambda family: family.__name__)
def test_updating_twice_is_updating_with_all_data(family):
    guide = family(model)
    updated = guide.as_prior(model, PARAMS[family](*posterior(FIRST)), FIRST)
    second = AutoDiagonalNormal(updated)
    mean, sd = posterior(MEASUREMENTS)
    params = {"auto_loc": np.array([mean]), "auto_scale": np.array([sd])}
    elbos = elbo_draws(updated, second, params, SECOND, n=50)
    expected = log_evidence(MEASUREMENTS) - log_evidence(FIRST)
    np.testing.assert_allclose(elbos, expected, atol=1e-6)


def test_built_models_and_bounds_that_follow_other_sites():
    def bounded():
        u = pm.HalfNormal("u")
        x = pm.Uniform("x", 0.0, u)
        pm.Normal("y", x, 1.0, observed=0.3)

    with pm.Model() as built:
        bounded()
    params = {"auto_loc": np.array([0.2, 0.4]), "auto_scale": np.array([0.5, 1.0])}
    draws = {}
    for program in (bounded, built):
        traced = trace(AutoDiagonalNormal(program).as_prior(program, params)).get_trace()
        assert list(traced.latent) == ["auto_latent"]
        assert traced["y"].observed
        draws = pm.draw([traced["u"].value, traced["x"].value], 500, random_seed=1)
        assert (draws[1] < draws[0]).all()
        assert np.isfinite(traced.log_prob_sum().eval())


def test_a_model_with_a_fitted_prior_can_be_built_and_sampled():
    updated = AutoDiagonalNormal(model).as_prior(
        model, PARAMS[AutoDiagonalNormal](*posterior(FIRST)), FIRST
    )
    with pm.Model() as built:
        updated(SECOND)
    mean, sd = posterior(MEASUREMENTS)
    log_density = built.compile_logp()
    points = [{"auto_latent": np.array([mean + z * sd])} for z in (0.0, 1.0)]
    np.testing.assert_allclose(log_density(points[0]) - log_density(points[1]), 0.5, atol=1e-6)


def test_a_point_is_no_prior():
    with pytest.raises(NotImplementedError, match="AutoDelta has no law in unconstrained space"):
        AutoDelta(model).as_prior(model, {"mu_auto_loc": 1.0}, FIRST)
