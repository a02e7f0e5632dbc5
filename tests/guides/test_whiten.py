"""The mode by Newton's method, and coordinates by the curvature there."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

from pymc_svi import SVI
from pymc_svi.guides import (
    AutoDiagonalNormal,
    AutoLaplaceApproximation,
    AutoNormal,
    init_to_value,
    whiten,
)
from tests.guides.checks import GaussianTarget, elbo_draws

TARGET = GaussianTarget.simulated()
YEAR = np.arange(2_000.0, 2_012.0)
SALES = 3e6 * (YEAR - 1_990.0) + 2e5 * np.sin(YEAR)
SIGMA = 2e5


def line(sales=SALES):
    """A regression in raw units: its intercept is near -6e9 and its slope near 3e6."""
    beta = pm.Flat("beta", shape=2)
    pm.Normal("sales", beta[0] + beta[1] * YEAR, SIGMA, observed=sales)


def line_posterior():
    X = np.column_stack([np.ones_like(YEAR), YEAR])
    Q, R = np.linalg.qr(X)
    inverse = np.linalg.inv(R)
    mean = inverse @ (Q.T @ SALES)
    residual = SALES - X @ mean
    log_evidence = (
        -0.5 * np.sum((residual / SIGMA) ** 2)
        - (len(YEAR) - 2) * np.log(SIGMA * np.sqrt(2 * np.pi))
        - np.log(np.abs(np.diagonal(R))).sum()
    )
    return mean, SIGMA**2 * inverse @ inverse.T, log_evidence


def test_the_mode_is_found_in_one_go():
    np.testing.assert_allclose(
        AutoLaplaceApproximation(TARGET).find_mode()["auto_loc"], TARGET.mean, atol=1e-8
    )


def test_the_mode_is_found_whatever_the_units():
    guide = AutoLaplaceApproximation(line)
    mode = guide.find_mode(SALES)
    mean, cov, _ = line_posterior()
    np.testing.assert_allclose(mode["auto_loc"], mean, atol=1e-3 * np.sqrt(np.diagonal(cov)).min())
    np.testing.assert_allclose(guide.find_mode(2 * SALES)["auto_loc"], 2 * mean, rtol=1e-9)


def test_the_mode_is_that_of_unconstrained_space():
    def model():
        """A Gamma: the density of its logarithm is largest at shape / rate."""
        pm.Gamma("rate", 3.0, 0.01, initval=1e-3)

    mode = AutoLaplaceApproximation(model).find_mode()["auto_loc"]
    np.testing.assert_allclose(mode, np.log(300.0), atol=1e-4)


def test_the_nearest_of_two_modes_depends_on_the_start():
    def model():
        x = pm.Flat("x", initval=0.4)
        pm.Potential("two", pt.logaddexp(-((x - 2) ** 2), -((x + 2) ** 2)))

    right = AutoLaplaceApproximation(model)
    left = AutoLaplaceApproximation(model, init_loc_fn=init_to_value(values={"x": -0.4}))
    np.testing.assert_allclose(right.find_mode()["auto_loc"], 2.0, atol=1e-2)
    np.testing.assert_allclose(left.find_mode()["auto_loc"], -2.0, atol=1e-2)


def test_a_posterior_without_mode_is_told():
    def centred():
        tau = pm.HalfCauchy("tau", 5.0)
        mu = pm.Normal("mu", 0.0, 5.0)
        theta = pm.Normal("theta", mu, tau, shape=4)
        pm.Normal("y", theta, 10.0, observed=[3.0, -2.0, 8.0, 1.0])

    with pytest.raises(ValueError, match="no mode was found.* still rises along 'tau'") as error:
        whiten(centred)
    assert "handlers.reparam" in str(error.value)


def test_discrete_sites_are_refused():
    def mixture():
        mu = pm.Normal("mu", shape=2)
        z = pm.Bernoulli("z", 0.5)
        pm.Normal("y", mu[z], 1.0, observed=1.0)

    with pytest.raises(ValueError, match="Site 'z' is discrete; AutoLaplaceApproximation is for"):
        whiten(mixture)


def built_line():
    with pm.Model(coords={"term": ["intercept", "slope"]}) as model:
        beta = pm.Flat("beta", dims="term")
        pm.Deterministic("in_2020", beta[0] + 2_020.0 * beta[1])
        pm.Normal("sales", beta[0] + beta[1] * YEAR, SIGMA, observed=SALES)
    return model


@pytest.mark.parametrize("built", [False, True])
def test_a_normal_posterior_becomes_standard_normal(built):
    """So that the evidence is the loss of a guide that has not learned anything yet."""
    white = whiten(built_line() if built else line)
    start = {"auto_loc": np.zeros(2), "auto_scale": np.ones(2)}
    draws = elbo_draws(white, AutoDiagonalNormal(white), start, n=5)
    np.testing.assert_allclose(draws, line_posterior()[2], rtol=1e-7)


def test_results_have_the_sites_with_their_dims():
    white = whiten(built_line())
    svi = SVI(white, AutoNormal(white, init_scale=1.0), lambda loss_or_grads, params: {})
    result = svi.run(1, random_seed=0, progressbar=False)
    posterior = result.sample_posterior(4_000, random_seed=1).posterior
    mean, cov, _ = line_posterior()
    slope = posterior["beta"].sel(term="slope").values[0]
    sd = np.sqrt(cov[1, 1])
    assert abs(slope.mean() - mean[1]) < 4 * sd / np.sqrt(4_000)
    assert abs(slope.std() / sd - 1) < 4 / np.sqrt(2 * 4_000)
    in_2020 = mean @ [1.0, 2_020.0]
    assert abs(posterior["in_2020"].values.mean() / in_2020 - 1) < 0.01


def test_arguments_reach_the_model():
    white = whiten(line, 2 * SALES)
    guide = AutoDiagonalNormal(white, init_scale=1e-9)
    svi = SVI(white, guide, lambda loss_or_grads, params: {})
    result = svi.run(1, 2 * SALES, random_seed=0, progressbar=False)
    draws = result.sample_posterior(2, random_seed=1).posterior["beta"].values[0, 0]
    np.testing.assert_allclose(draws, 2 * line_posterior()[0], rtol=1e-6)
