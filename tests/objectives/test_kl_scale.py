"""Annealing: the weight of the divergence, fixed or by a schedule that the fit carries."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from pymc_svi import SVI, Trace_ELBO, optim, param
from tests.checks import assert_mean, gradient_draws, loss_draws


def model():
    x = pm.Normal("x", 0.0, 1.0)
    pm.Potential("extra", 0.3 * x)
    pm.Normal("y", x, 1.0, observed=2.0)


def guide():
    pm.Normal("x", param("loc", 0.5), 0.7)


KL = 0.5 * (0.7**2 + 0.5**2 - 1) - np.log(0.7)
REST = 0.5 * (1.5**2 + 0.7**2) + 0.5 * np.log(2 * np.pi) - 0.3 * 0.5


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_only_the_divergence_is_weighted(weight):
    loss = Trace_ELBO(kl_scale=weight)
    assert_mean(loss_draws(model, guide, n=20_000, loss=loss), weight * KL + REST)
    draws = gradient_draws(model, guide, n=20_000, loss=loss)
    assert_mean(draws["loc"], weight * 0.5 - 1.5 - 0.3)


def test_a_schedule_follows_the_steps_and_resumes_where_it_was():
    """A deterministic loss, so that each step shows its weight."""

    def delta():
        pm.Normal("x", param("loc", 0.5), 0.7)

    loss = Trace_ELBO(kl_scale=lambda step: (step / 4.0).clip(0.0, 1.0), num_particles=3)
    svi = SVI(model, delta, optim.Adam(0.01), loss)
    straight = svi.run(6, random_seed=0, progressbar=False)
    first = svi.run(2, random_seed=0, progressbar=False)
    assert int(first.state.optim_state["kl_scale/step"]) == 2
    second = svi.run(4, init_state=first.state, progressbar=False)
    np.testing.assert_array_equal(straight.losses[2:], second.losses)
    assert straight.state == second.state


def test_by_site_adds_up_to_the_loss():
    loss, _ = SVI(model, guide).build_loss()
    total = sum(loss.by_site.values())
    values = pm.draw([loss.value, total], random_seed=3)
    assert set(loss.by_site) == {"x", "extra", "y"}
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("weight", [-0.1, "much", None])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match="kl_scale is a number or a schedule"):
        Trace_ELBO(kl_scale=weight)
