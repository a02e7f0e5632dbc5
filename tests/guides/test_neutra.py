"""A fitted guide as a change of coordinates for MCMC."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from pymc_svi import SVI
from pymc_svi.guides import (
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    NeuTraReparam,
)
from pymc_svi.handlers import trace
from tests.guides.checks import GaussianTarget

TARGET = GaussianTarget.simulated()


def bounded():
    u = pm.HalfNormal("u")
    x = pm.Uniform("x", 0.0, u)
    pm.Normal("y", x, 0.5, observed=0.7)


def built(program) -> pm.Model:
    with pm.Model() as model:
        program()
    return model


@pytest.mark.parametrize("family", [AutoMultivariateNormal, AutoLaplaceApproximation])
def test_at_the_exact_posterior_the_noise_is_standard_normal(family):
    params = {"auto_loc": TARGET.mean, "auto_scale_tril": np.linalg.cholesky(TARGET.cov)}
    model = built(NeuTraReparam(family(TARGET), params).reparam(TARGET))
    log_density = model.compile_logp()
    for noise in np.random.default_rng(0).normal(size=(3, 3)) * 2:
        expected = TARGET.log_evidence - 0.5 * (noise**2).sum() - 1.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(log_density({"auto_shared_latent": noise}), expected, atol=1e-6)


@pytest.mark.parametrize("as_built", [False, True])
def test_the_density_is_that_of_the_model_with_the_change_of_variables(as_built):
    loc, scale = np.array([0.3, -0.2]), np.array([0.4, 1.3])
    program = built(bounded) if as_built else bounded
    guide = AutoDiagonalNormal(program)
    neutra = NeuTraReparam(guide, {"auto_loc": loc, "auto_scale": scale})
    traced = trace(neutra.reparam(program)).get_trace()
    assert list(traced.latent) == ["auto_shared_latent"]
    original = built(bounded).compile_logp()
    noise = np.array([0.7, -1.1])
    u = loc + scale * noise
    expected = original({"u_log__": u[0], "x_interval__": u[1]}) + np.log(scale).sum()
    if not as_built:
        mine = built(neutra.reparam(bounded)).compile_logp()({"auto_shared_latent": noise})
        np.testing.assert_allclose(mine, expected, rtol=1e-7)
    sites = neutra.transform_sample(noise)
    np.testing.assert_allclose(sites["u"], np.exp(u[0]))
    np.testing.assert_allclose(sites["x"], np.exp(u[0]) / (1 + np.exp(-u[1])))
    assert neutra.transform_sample(np.zeros((2, 5, 2)))["x"].shape == (2, 5)


def walk():
    a, b = pm.HalfNormal("a"), pm.HalfNormal("b")
    start = pm.MvNormal.dist(np.zeros(2), np.eye(2))
    chol = pm.math.stack([[a, 0.0], [0.0, b]])
    pm.MvGaussianRandomWalk("x", np.zeros(2), chol=chol, init_dist=start, steps=1)


@pytest.mark.filterwarnings("error")
def test_the_density_of_a_walk_is_that_at_the_noise_and_no_other():
    noise, scale = np.array([0.7, -1.1, 0.3, 0.2, -0.4, 0.9]), np.full(6, 0.5)
    neutra = NeuTraReparam(AutoDiagonalNormal(walk), {"auto_loc": np.zeros(6), "auto_scale": scale})
    a, b, *x = 0.5 * noise
    values = {"a_log__": a, "b_log__": b, "x": np.reshape(x, (2, 2))}
    expected = built(walk).compile_logp()(values) + np.log(scale).sum()
    mine = built(neutra.reparam(walk)).compile_logp()({"auto_shared_latent": noise})
    np.testing.assert_allclose(mine, expected)


def test_the_density_under_a_flow_is_that_of_finite_differences():
    guide = AutoIAFNormal(bounded, num_flows=2, init_scale=0.7)
    svi = SVI(bounded, guide)
    params = svi.get_params(svi.init())
    rng = np.random.default_rng(0)
    params = {name: v + 0.2 * rng.normal(size=v.shape) for name, v in params.items()}
    params["auto_scale"] = np.abs(params["auto_scale"]) + 0.1
    neutra = NeuTraReparam(guide, params)
    noise = np.array([0.4, -0.8])

    def unconstrained(noise):
        values = neutra.transform_sample(noise)
        share = values["x"] / values["u"]
        return np.array([np.log(values["u"]), np.log(share) - np.log1p(-share)])

    h = 1e-5
    jacobian = [
        (unconstrained(noise + d) - unconstrained(noise - d)) / (2 * h) for d in h * np.eye(2)
    ]
    u = unconstrained(noise)
    expected = built(bounded).compile_logp()({"u_log__": u[0], "x_interval__": u[1]})
    expected += np.linalg.slogdet(jacobian)[1]
    mine = built(neutra.reparam(bounded)).compile_logp()({"auto_shared_latent": noise})
    np.testing.assert_allclose(mine, expected, rtol=1e-5)


def test_guides_that_are_no_change_of_coordinates_are_refused():
    with pytest.raises(TypeError, match="draws all latent elements jointly"):
        NeuTraReparam(AutoNormal(bounded), {})
    params = {
        "auto_loc": np.zeros(2),
        "auto_scale": np.ones(2),
        "auto_cov_factor": np.zeros((2, 1)),
    }
    with pytest.raises(NotImplementedError, match="does not map noise one-to-one"):
        NeuTraReparam(AutoLowRankMultivariateNormal(bounded), params)
