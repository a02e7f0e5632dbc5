"""Objectives that compare samples: Trace_MMD and EnergyDistance, against closed forms."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from pymc_svi import (
    SVI,
    EnergyDistance,
    Trace_MMD,
    constraints,
    factor,
    handlers,
    param,
    plate,
)
from pymc_svi.errors import PairingError
from pymc_svi.gradients import NoPathwiseDraw
from pymc_svi.guides import AutoNormal
from pymc_svi.objectives import IMQ, RBF
from tests.checks import assert_mean, gradient_draws, loss_draws

PRIOR_MEAN, PRIOR_SD, NOISE, Y = 0.2, 1.3, 0.7, 1.1
LOC, SCALE = 0.4, 0.6


def model():
    x = pm.Normal("x", param("prior", PRIOR_MEAN), PRIOR_SD)
    pm.Normal("y", x, NOISE, observed=Y)
    factor("penalty", -(x**2))


def guide():
    pm.Normal("x", param("loc", LOC), param("scale", SCALE, constraint=constraints.positive))


def finite_differences(function, **at):
    """Gradients in unconstrained space, where the scale is a logarithm."""
    at["scale"] = np.log(at["scale"])

    def value(**changed):
        arguments = {**at, **changed}
        return function(**{**arguments, "scale": np.exp(arguments["scale"])})

    return {
        name: (value(**{name: x + 1e-5}) - value(**{name: x - 1e-5})) / 2e-5
        for name, x in at.items()
    }


# --- maximum mean discrepancy -------------------------------------------------------------------


def mean_kernel(difference, variance, h, size=1):
    """The mean of the radial kernel of two Normal vectors, from their difference."""
    factor = (h / (h + variance)) ** (size / 2)
    return factor * np.exp(-(np.sum(difference) ** 2) / (2 * (h + variance)))


def exact_mmd(loc=LOC, scale=SCALE, prior=PRIOR_MEAN, h=0.8, weight=1.0):
    log_lik = norm.logpdf(Y, loc, NOISE) - 0.5 * scale**2 / NOISE**2 - (loc**2 + scale**2)
    mmd = (
        mean_kernel(0.0, 2 * scale**2, h)
        + mean_kernel(0.0, 2 * PRIOR_SD**2, h)
        - 2 * mean_kernel(loc - prior, scale**2 + PRIOR_SD**2, h)
    )
    return -log_lik + weight * mmd


def test_loss_and_gradient_with_mmd_average_to_the_closed_form():
    objective = Trace_MMD(RBF(0.8), num_particles=3, mmd_scale=2.5)
    assert_mean(loss_draws(model, guide, n=20_000, loss=objective), exact_mmd(weight=2.5))
    expected = finite_differences(
        lambda **at: exact_mmd(weight=2.5, **at), loc=LOC, scale=SCALE, prior=PRIOR_MEAN
    )
    draws = gradient_draws(model, guide, n=20_000, loss=objective)
    for name, gradient in expected.items():
        assert_mean(draws[name], gradient)


def test_elements_of_a_plate_are_samples_and_others_a_vector():
    def vectors(shape, plates):
        def program():
            if plates:
                with plate("rows", 4, dim=-1):
                    pm.Normal("z", 0.0, 1.0, shape=shape)
            else:
                pm.Normal("z", 0.0, 1.0, shape=shape)

        return program

    def shifted(shape, plates):
        def program():
            loc = param("loc", 0.5)
            if plates:
                with plate("rows", 4, dim=-1):
                    pm.Normal("z", loc, 1.0, shape=shape)
            else:
                pm.Normal("z", loc, 1.0, shape=shape)

        return program

    for plates, size in ((True, 1), (False, 4)):
        objective = Trace_MMD(RBF(0.8), num_particles=5)
        draws = loss_draws(vectors(4, plates), shifted(4, plates), n=10_000, loss=objective)
        difference = 0.5 * np.sqrt(size)
        expected = 2 * (mean_kernel(0.0, 2.0, 0.8, size) - mean_kernel(difference, 2.0, 0.8, size))
        assert_mean(draws, expected)


def test_each_site_may_have_a_kernel():
    def two():
        pm.Normal("a", 0.0, 1.0)
        pm.Normal("b", 0.0, 1.0)

    SVI(two, AutoNormal(two), loss=Trace_MMD({"a": "imq", "b": IMQ()})).build_loss()
    with pytest.raises(PairingError, match="no kernel for site 'b'.*kernels for 'a'"):
        SVI(two, AutoNormal(two), loss=Trace_MMD({"a": "imq"})).build_loss()


# --- energy distance ----------------------------------------------------------------------------


def exact_energy(loc=LOC, scale=SCALE, prior=PRIOR_MEAN, weight=0.0):
    """The continuous ranked probability score of a Normal prediction."""
    sd = np.hypot(scale, NOISE)
    z = (Y - loc) / sd
    score = sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    log_prior = norm.logpdf(loc, prior, PRIOR_SD) - 0.5 * scale**2 / PRIOR_SD**2
    return score - weight * log_prior


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_loss_and_gradient_of_predictions_average_to_the_closed_form(weight):
    objective = EnergyDistance(prior_scale=weight, num_particles=3)
    assert_mean(loss_draws(model, guide, n=20_000, loss=objective), exact_energy(weight=weight))
    if weight == 0:  # the prior does not enter, and has no gradient
        return
    expected = finite_differences(
        lambda **at: exact_energy(weight=weight, **at), loc=LOC, scale=SCALE, prior=PRIOR_MEAN
    )
    draws = gradient_draws(model, guide, n=20_000, loss=objective)
    for name, gradient in expected.items():
        assert_mean(draws[name], gradient)


def test_another_exponent_averages_to_quadrature():
    sd = np.hypot(SCALE, NOISE)

    def moment(center, spread):
        return quad(lambda x: abs(x) ** 1.5 * norm.pdf(x, center, spread), -15, 15, points=[0])[0]

    expected = moment(LOC - Y, sd) - 0.5 * moment(0.0, np.sqrt(2) * sd)
    assert_mean(loss_draws(model, guide, n=20_000, loss=EnergyDistance(1.5)), expected)


def test_the_norm_is_that_of_one_draw_and_masks_and_scales_apply():
    data = np.array([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]])

    def vectors():
        pm.MvNormal("y", np.zeros(2), 1e-12 * np.eye(2), observed=data, shape=(3, 2))

    def nothing():
        param("unused", 0.0)

    masked = handlers.scale(handlers.mask(vectors, mask=np.array([True, True, False])), scale=10.0)
    draws = loss_draws(masked, nothing, n=2, loss=EnergyDistance())
    np.testing.assert_allclose(draws, 10 * 5.0, rtol=1e-5)


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match="Trace_MMD compares several draws"):
        Trace_MMD(num_particles=1)
    with pytest.raises(ValueError, match="mmd_scale is a number from 0 on"):
        Trace_MMD(mmd_scale=-1.0)
    with pytest.raises(ValueError, match="compares predictions with each other"):
        EnergyDistance(num_particles=1)
    with pytest.raises(ValueError, match="above 0 and below 2.*2.0"):
        EnergyDistance(beta=2.0)
    with pytest.raises(ValueError, match="prior_scale is a number from 0 on"):
        EnergyDistance(prior_scale=-1.0)

    def prior():
        pm.Normal("x")

    with pytest.raises(PairingError, match="no observed sites to predict"):
        SVI(prior, AutoNormal(prior), loss=EnergyDistance()).build_loss()

    def counts():
        x = pm.Normal("x")
        pm.Poisson("n", pm.math.exp(x), observed=3)

    with pytest.raises(NoPathwiseDraw, match="'n'"):
        SVI(counts, AutoNormal(counts), loss=EnergyDistance()).build_loss()
