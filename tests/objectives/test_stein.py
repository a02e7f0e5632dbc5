"""Stein variational gradient descent: kernels, directions, and where particles end."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.pytensorf import rewrite_pregrad
from pymc.variational.stein import Stein
from pymc.variational.test_functions import rbf

from pymc_svi import SVI, constraints, optim, param
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.evaluation import evaluate, evaluation_mode
from pymc_svi.guides import AutoNormal, AutoParticles
from pymc_svi.handlers.plate import plate
from pymc_svi.objectives import IMQ, RBF, Linear, SteinGradient
from tests.models import Regression, normal_mean, normal_mean_guide

FAST = {"compile_kwargs": {"mode": "FAST_COMPILE"}}
POINTS = np.random.default_rng(0).normal(size=(7, 3))


# --- kernels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kernel, formula",
    [
        (RBF(0.7), lambda x, y: pt.exp(-((x - y) ** 2).sum() / 1.4)),
        (IMQ(-0.3, 0.7), lambda x, y: (1 + ((x - y) ** 2).sum() / 1.4) ** -0.3),
        (Linear(), lambda x, y: (x * y).sum() / 3 + 1),
    ],
)
def test_kernels_are_their_formulas_and_repulsions_the_gradients(kernel, formula):
    x, y = pt.vectors("x", "y")
    value, gradient = formula(x, y), pytensor.grad(formula(x, y), x)
    pair = pytensor.function([x, y], [value, gradient], mode=evaluation_mode())
    k, repulsion = map(evaluate, kernel(POINTS))
    pairs = [[pair(b, a) for b in POINTS] for a in POINTS]
    np.testing.assert_allclose(k, [[v for v, _ in row] for row in pairs])
    np.testing.assert_allclose(repulsion, [sum(g for _, g in row) for row in pairs])


@pytest.mark.parametrize("n", [7, 8])
def test_the_median_heuristic_is_that_of_pymc(n):
    points = np.random.default_rng(n).normal(size=(n, 2))
    for ours, theirs in zip(RBF()(points), rbf(pt.as_tensor(points)), strict=True):
        np.testing.assert_allclose(evaluate(ours), evaluate(theirs))


def test_particles_in_one_place_have_a_bandwidth():
    for kernel in (RBF(), IMQ()):
        k, repulsion = map(evaluate, kernel(np.ones((3, 2))))
        np.testing.assert_array_equal(k, 1.0)
        np.testing.assert_array_equal(repulsion, 0.0)


# --- directions -------------------------------------------------------------------------------


def positive_model():
    scale = pm.HalfNormal("scale", 2.0)
    mu = pm.Normal("mu", 0.0, 3.0, shape=2)
    pm.Normal("y", mu.sum(), scale, observed=[1.0, 2.5])


def gradient_of(svi, values=None):
    loss, store = svi.build_loss()
    with store.holding(values):
        gradients = pytensor.grad(rewrite_pregrad(loss.surrogate), list(store.variables.values()))
        compute = pytensor.function([], gradients, mode=evaluation_mode())
        return dict(zip(store.variables, compute(), strict=True))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("kernel", ["rbf", rbf])
def test_the_gradient_is_that_of_pymc(kernel, temperature):
    with pm.Model() as model:
        positive_model()
    theirs = pm.SVGD(n_particles=5, model=model, random_seed=1)
    particles = theirs.approx.params[0].get_value()
    with model:
        stein = Stein(theirs.approx, kernel=rbf, temperature=temperature)
        expected = evaluate(stein.grad)
    guide = AutoParticles(model, num_particles=5)
    svi = SVI(model, guide, loss=SteinGradient(kernel, temperature))
    [ours] = gradient_of(svi, {"auto_particles": particles}).values()
    np.testing.assert_allclose(ours, -expected)


def test_an_amortised_gradient_is_that_of_the_directions_of_its_draws():
    seen = []

    def kernel(particles):
        seen.append(particles)
        return IMQ(bandwidth=1.0)(particles)

    def guide():
        loc = param("loc", 0.3)
        pm.LogNormal("x", loc, param("spread", 0.4, constraint=constraints.positive))

    def model():
        x = pm.HalfNormal("x", 2.0)
        pm.Normal("y", x, 1.0, observed=1.5)

    objective = SteinGradient(kernel, temperature=1.7, num_particles=6)
    loss, store = SVI(model, guide, loss=objective).build_loss()
    surrogate = rewrite_pregrad(loss.surrogate)
    gradients = pytensor.grad(surrogate, list(store.variables.values()))
    u, value, *gradients = pytensor.function(
        [], [seen[0], loss.value, *gradients], mode=evaluation_mode()
    )()
    x, noise = np.exp(u[:, 0]), (u[:, 0] - 0.3) / 0.4
    log_density = (
        np.log(2 / (2 * np.sqrt(2 * np.pi))) - x**2 / 8 - 0.5 * (1.5 - x) ** 2
        - 0.5 * np.log(2 * np.pi) + u[:, 0]
    )  # fmt: skip
    score = (-x / 4 + (1.5 - x)) * x + 1
    k, repulsion = map(evaluate, IMQ(bandwidth=1.0)(u))
    phi = (k @ score / 1.7 + repulsion[:, 0]) / 6
    np.testing.assert_allclose(value, -log_density.mean())
    np.testing.assert_allclose(gradients[0], -phi.sum())
    spread = constraints.positive  # its param is learned in unconstrained space
    slope = np.gradient(
        spread.constrain_value(spread.unconstrain(0.4) + np.array([-1e-6, 0, 1e-6])), 1e-6
    )[1]
    np.testing.assert_allclose(gradients[1], -(phi * noise).sum() * slope, rtol=1e-6)


def test_params_of_the_model_follow_the_mean_log_density():
    def model():
        x = pm.Normal("x", 0.0, 1.0)
        pm.Normal("y", x + param("bias", 0.5), 1.0, observed=2.0)

    guide = AutoParticles(model, num_particles=4)
    svi = SVI(model, guide, loss=SteinGradient(temperature=3.0))
    particles = np.array([[0.0], [1.0], [2.0], [-1.0]])
    gradients = gradient_of(svi, {"auto_particles": particles})
    np.testing.assert_allclose(gradients["bias"], -(2.0 - particles - 0.5).mean())


# --- where particles end ------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_linear_kernel_finds_mean_and_covariance_of_a_normal_posterior(temperature):
    regression = Regression.simulated()
    model = regression.built()
    guide = AutoParticles(model, num_particles=12, jitter=0.3)
    svi = SVI(
        model,
        guide,
        optim.Adam(optim.cosine_decay(0.05, 1_500)),
        SteinGradient(Linear(), temperature),
        **FAST,
    )
    result = svi.run(1_500, random_seed=0, progressbar=False)
    values = guide.particles(result.params)
    joint = np.column_stack([values["intercept"], values["weights"]])
    np.testing.assert_allclose(joint.mean(axis=0), regression.mean, atol=1e-5)
    np.testing.assert_allclose(np.cov(joint.T, ddof=0), temperature * regression.cov, atol=1e-5)
    posterior = result.sample_posterior(50, random_seed=0).posterior
    assert posterior["weights"].dims == ("chain", "draw", "feature")
    drawn = np.column_stack([posterior["intercept"][0], posterior["weights"][0]])
    assert set(map(tuple, drawn)) <= set(map(tuple, joint))  # whole particles are drawn


def test_a_schedule_of_the_temperature_counts_steps():
    svi = SVI(
        normal_mean, AutoParticles(normal_mean, 3), optim.SGD(0.1),
        SteinGradient(temperature=lambda step: 10.0 / (1 + step)), **FAST,
    )  # fmt: skip
    y = np.zeros(4)
    first = svi.init(y, random_seed=0)
    second, _ = svi.update(first, y)
    assert first.optim_state["temperature/step"] == 0
    assert second.optim_state["temperature/step"] == 1


# --- mistakes -----------------------------------------------------------------------------------


def test_wrong_arguments_are_told():
    with pytest.raises(ValueError, match="no kernel 'rfb'.*Did you mean 'rbf'"):
        SteinGradient("rfb")
    with pytest.raises(TypeError, match=r"Make an object of it: IMQ\(\)"):
        SteinGradient(IMQ)
    with pytest.raises(TypeError, match=r"Use RBF\(\), IMQ\(\) or Linear\(\)"):
        SteinGradient(1.0)
    with pytest.raises(ValueError, match="a positive number or 'median'.*-1"):
        RBF(-1.0)
    with pytest.raises(ValueError, match="between -1 and 0"):
        IMQ(beta=0.5)
    with pytest.raises(ValueError, match="a number above 0, or a function of the step"):
        SteinGradient(temperature=0.0)
    with pytest.raises(ValueError, match="num_particles is a whole number from 1 on"):
        AutoParticles(normal_mean, 0)
    with pytest.raises(ValueError, match="jitter is a number from 0 on"):
        AutoParticles(normal_mean, jitter=-1.0)


def test_a_model_without_latent_sites_is_told():
    def model():
        pm.Normal("y", param("loc", 0.0), 1.0, observed=1.0)

    with pytest.raises(PairingError, match="no latent sites to move"):
        SVI(model, lambda: None, loss=SteinGradient()).build_loss()


def test_sites_of_a_subsampled_plate_cannot_be_particles():
    def model():
        with plate("rows", 10, subsample_size=2):
            pm.Normal("z", 0.0, 1.0)

    with pytest.raises(SiteError, match="'z' is local to the subsampled plate 'rows'"):
        SVI(model, AutoParticles(model), loss=SteinGradient()).build_loss()


@pytest.mark.parametrize("guide", [normal_mean_guide, AutoNormal(normal_mean)])
def test_any_guide_with_differentiable_draws_can_be_amortised(guide):
    svi = SVI(normal_mean, guide, loss=SteinGradient(num_particles=3), **FAST)
    state, loss = svi.update(svi.init(np.zeros(4), random_seed=0), np.zeros(4))
    assert np.isfinite(loss) and all(np.isfinite(v).all() for v in state.params.values())
