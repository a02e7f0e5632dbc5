"""``Trace_ELBO``: the value and the gradient of the evidence lower bound.

Claims about random numbers are checked within 3.5 standard errors of their own mean.
"""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytest
from pymc.pytensorf import rewrite_pregrad

from pymc_svi import Trace_ELBO, constraints, param
from pymc_svi.guides import AutoMultivariateNormal, AutoNormal
from pymc_svi.results.sampling import draw_function
from tests.checks import as_built, assert_mean, built_loss, gradient_draws, loss_draws
from tests.models import (
    MEASUREMENTS,
    Regression,
    normal_mean,
    normal_mean_guide,
    normal_mean_log_evidence,
    normal_mean_posterior,
)

FRONT_ENDS = pytest.mark.parametrize("built", [False, True], ids=["function", "built"])


def posterior_guide(y=None):
    """The exact posterior, as a guide."""
    mean, sd = normal_mean_posterior()
    pm.Normal("mu", param("loc", mean), param("scale", sd, constraint=constraints.positive))


# --- value ------------------------------------------------------------------------------------


@FRONT_ENDS
def test_at_the_exact_posterior_every_draw_of_the_loss_is_minus_the_log_evidence(built):
    programs = (normal_mean, posterior_guide)
    if built:
        draws = loss_draws(*(as_built(p, MEASUREMENTS) for p in programs), n=50)
    else:
        draws = loss_draws(*programs, MEASUREMENTS, n=50)
    assert np.ptp(draws) < 1e-10
    # PyMC's Normal has its constant in single precision, 7e-9 off.
    np.testing.assert_allclose(draws, -normal_mean_log_evidence(), rtol=0, atol=1e-7)


def test_loss_is_minus_the_elbo_in_closed_form():
    """E_q[log q - log p] of a Normal guide for a Normal model: log evidence and KL are known."""
    mean, sd = normal_mean_posterior()
    loc, scale = 0.0, 1.0
    kl = np.log(sd / scale) + (scale**2 + (loc - mean) ** 2) / (2 * sd**2) - 0.5
    draws = loss_draws(normal_mean, normal_mean_guide, MEASUREMENTS, n=20_000)
    assert_mean(draws, kl - normal_mean_log_evidence())


def test_observed_sites_and_factors_of_the_guide_do_not_count_as_its_density():
    def model():
        pm.Normal("x", param("m", 0.5), observed=1.0)

    def guide():
        pm.Normal("data", 0.0, 1.0, observed=3.0)

    [value] = loss_draws(model, guide, n=1)
    assert value == pytest.approx(0.5 * np.log(2 * np.pi) + 0.125)


def test_potentials_and_total_size_weigh_in_the_loss():
    def model():
        m = param("m", 0.5)
        pm.Potential("extra", -3.0 * m)
        pm.Normal("x", m, observed=[1.0, 0.0], total_size=10)

    [value] = loss_draws(as_built(model), lambda: None, n=1)
    one = 0.5 * np.log(2 * np.pi) + 0.125
    assert value == pytest.approx(1.5 + 10 / 2 * 2 * one)


# --- gradient ---------------------------------------------------------------------------------


@FRONT_ENDS
def test_gradient_is_unbiased_against_the_closed_form(built):
    """d/d loc = (loc - m)/s^2 and d/d log scale = scale^2/s^2 - 1 for a posterior N(m, s^2)."""
    mean, sd = normal_mean_posterior()
    programs = (normal_mean, normal_mean_guide)
    if built:
        draws = gradient_draws(*(as_built(p, MEASUREMENTS) for p in programs), n=20_000)
    else:
        draws = gradient_draws(*programs, MEASUREMENTS, n=20_000)
    assert_mean(draws["loc"], (0.0 - mean) / sd**2)
    assert_mean(draws["scale"], 1.0 / sd**2 - 1)


def test_gradient_of_a_full_rank_guide_is_unbiased_against_the_closed_form():
    """For a Gaussian posterior (m, P): d/d loc = P (loc - m) and d/d L = P L - L^-T."""
    data = Regression.simulated()
    guide = AutoMultivariateNormal(data, init_scale=0.3)
    draws = gradient_draws(data, guide, data.X, data.y, n=20_000)
    assert_mean(draws["auto_loc"], data.precision @ (0 - data.mean))
    # Through the parametrisation of the Cholesky factor, with PyTensor's own gradient.
    _, store = built_loss(data, guide, data.X, data.y)
    tril, start = store.sites["auto_scale_tril"], 0.3 * np.eye(3)
    wanted = data.precision @ start - np.linalg.inv(start).T
    chained = pytensor.grad((tril.value * wanted).sum(), tril.unconstrained).eval()
    assert_mean(draws["auto_scale_tril"], chained)


def chain_model():
    z1 = pm.Normal("z1", 0.3, 1.2)
    z2 = pm.Normal("z2", 0.5 * z1, 0.8)
    pm.HalfNormal("s", 2.0)
    pm.Normal("y", z2, 0.7, observed=1.1)


def chain_guide():
    """A guide whose second site is drawn around the first, and whose third is positive."""
    z1 = pm.Normal("z1", param("a", 0.4), param("s1", 0.9, constraint=constraints.positive))
    pm.Normal("z2", param("b", 0.7) * z1, param("s2", 0.6, constraint=constraints.positive))
    pm.LogNormal("s", param("c", -0.2), param("s3", 0.5, constraint=constraints.softplus_positive))


def chain_loss() -> float:
    """The expected loss of ``chain_guide``, site by site."""
    a, s1, b, s2, c, s3 = 0.4, 0.9, 0.7, 0.6, -0.2, 0.5

    def expected_normal(mean_square, sd):
        return -0.5 * mean_square / sd**2 - np.log(sd) - 0.5 * np.log(2 * np.pi)

    def entropy(sd):
        return 0.5 * np.log(2 * np.pi * np.e) + np.log(sd)

    log_joint = (
        expected_normal((a - 0.3) ** 2 + s1**2, 1.2)
        + expected_normal(((b - 0.5) ** 2) * (a**2 + s1**2) + s2**2, 0.8)
        + expected_normal((b * a - 1.1) ** 2 + b**2 * s1**2 + s2**2, 0.7)
        + expected_normal(np.exp(2 * c + 2 * s3**2), 2.0)
        + np.log(2)
    )
    return -(log_joint + entropy(s1) + entropy(s2) + entropy(s3) + c)


@pytest.mark.parametrize("particles", [1, 4])
@FRONT_ENDS
def test_nested_random_dependence_gives_the_exact_expectation(built, particles):
    """Each draw of z2 is centred on the z1 of the same particle."""
    programs = [as_built(p) if built else p for p in (chain_model, chain_guide)]
    draws = loss_draws(*programs, n=20_000 // particles, loss=Trace_ELBO(num_particles=particles))
    assert_mean(draws, chain_loss())


def test_gradient_equals_finite_differences_with_common_random_numbers():
    """The same seed gives the same noise at every value of the params."""
    loss, store = built_loss(chain_model, chain_guide)
    variables = store.variables
    gradients = pytensor.grad(rewrite_pregrad(loss.surrogate), list(variables.values()))
    draw = draw_function({"loss": loss.value, **dict(zip(variables, gradients, strict=True))})
    at_start = draw(200, 7)
    step = 1e-5
    for name, variable in variables.items():
        start = variable.get_value()
        sides = []
        for sign in (1, -1):
            variable.set_value(start + sign * step)
            sides.append(draw(200, 7)["loss"])
        variable.set_value(start)
        finite = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(at_start[name], finite, rtol=1e-6, atol=1e-6, err_msg=name)


def test_gradient_of_transformed_latents_equals_finite_differences():
    """Jacobians and bounds that depend on other sites are differentiated too."""

    def model():
        u = pm.HalfNormal("u", 1.0)
        x = pm.Uniform("x", 0.0, u)
        p = pm.Dirichlet("p", np.full(3, 2.0))
        pm.Normal("y", x + p[0], 0.5, observed=0.7)

    for guide in (AutoNormal(model), AutoMultivariateNormal(model)):
        loss, store = built_loss(model, guide)
        variables = store.variables
        gradients = pytensor.grad(rewrite_pregrad(loss.surrogate), list(variables.values()))
        draw = draw_function({"loss": loss.value, **dict(zip(variables, gradients, strict=True))})
        at_start = draw(20, 7)
        for name, variable in variables.items():
            start = variable.get_value()
            direction = np.random.default_rng(0).normal(size=start.shape)
            sides = []
            for sign in (1, -1):
                variable.set_value(start + sign * 1e-5 * direction)
                sides.append(draw(20, 7)["loss"])
            variable.set_value(start)
            finite = (sides[0] - sides[1]) / 2e-5
            exact = (at_start[name] * direction).reshape(20, -1).sum(axis=1)
            np.testing.assert_allclose(exact, finite, rtol=1e-5, atol=1e-6, err_msg=name)


# --- particles --------------------------------------------------------------------------------


def test_variance_falls_as_one_over_the_number_of_particles():
    """A sample variance of n draws has a relative standard error of about sqrt(kurtosis / n)."""
    n = 20_000
    one = loss_draws(chain_model, chain_guide, n=n)
    ten = loss_draws(chain_model, chain_guide, n=n, seed=1, loss=Trace_ELBO(num_particles=10))
    ratio = one.var() / ten.var()
    kurtosis = np.mean((one - one.mean()) ** 4) / one.var() ** 2
    error = 10 * np.sqrt((kurtosis - 1) / n + 2.5 / n)
    assert abs(ratio - 10) < 3.5 * error
    assert_mean(ten, chain_loss())


def test_particles_one_after_the_other_have_the_same_expectation_and_variance():
    settings = {"num_particles": 5, "vectorize_particles": False}
    draws = loss_draws(chain_model, chain_guide, n=4_000, loss=Trace_ELBO(**settings))
    assert_mean(draws, chain_loss())
    batch = loss_draws(chain_model, chain_guide, n=4_000, loss=Trace_ELBO(num_particles=5), seed=2)
    assert 0.8 < draws.var() / batch.var() < 1.25


def test_gradient_with_particles_is_unbiased():
    mean, sd = normal_mean_posterior()
    loss = Trace_ELBO(num_particles=4)
    draws = gradient_draws(normal_mean, normal_mean_guide, MEASUREMENTS, n=5_000, loss=loss)
    assert_mean(draws["loc"], (0.0 - mean) / sd**2)
    assert_mean(draws["scale"], 1.0 / sd**2 - 1)


@pytest.mark.parametrize("particles", [0, -1])
def test_fewer_than_one_particle_is_refused(particles):
    with pytest.raises(ValueError, match="num_particles must be at least 1"):
        Trace_ELBO(num_particles=particles)


@pytest.mark.parametrize("particles", [1.0, "3", True, None])
def test_a_number_of_particles_that_is_no_whole_number_is_refused(particles):
    with pytest.raises(TypeError, match="num_particles is a whole number"):
        Trace_ELBO(num_particles=particles)
