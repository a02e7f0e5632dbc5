"""Where guides start: at a finite log-density, or not at all."""

from __future__ import annotations

import itertools

import numpy as np
import pymc as pm
import pytest
from pymc.distributions.transforms import ordered
from scipy.stats import norm

from pymc_svi import SVI
from pymc_svi.guides import (
    AutoDelta,
    AutoNormal,
    init_to_feasible,
    init_to_generated,
    init_to_initial_point,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)
from tests.checks import as_built


def start_of(model, strategy, seed=0) -> dict:
    svi = SVI(model, AutoDelta(model, init_loc_fn=strategy))
    return svi.get_params(svi.init(random_seed=seed))


def window():
    """Only a small window of ``x`` has a density, and a start at random often misses it."""
    x = pm.Normal("x", 0.0, 1.0)
    pm.Potential("window", pm.math.switch((x > 0.5) & (x < 1.0), 0.0, -np.inf))


@pytest.mark.parametrize("strategy", [init_to_uniform, init_to_sample])
def test_strategies_that_draw_try_again_until_the_log_density_is_finite(strategy):
    for seed in range(5):
        assert 0.5 < start_of(window, strategy, seed)["x_auto_loc"] < 1.0


@pytest.mark.parametrize("strategy", [init_to_feasible, init_to_initial_point])
def test_strategies_that_do_not_draw_name_the_site_that_is_not_finite(strategy):
    with pytest.raises(
        ValueError, match="Site 'window' has log-probability -inf at the start: x = 0"
    ):
        start_of(window, strategy)


def test_a_start_where_probabilities_round_to_0_or_1_is_as_finite_as_in_the_fit():
    """What is computed quickly is minus infinity there, what is compiled for a fit is not."""

    def model():
        eta = pm.Normal("eta", 0.0, 1.0)
        pm.Geometric("y", pm.math.sigmoid(eta), observed=np.array([4, 1]))

    svi = SVI(model, AutoDelta(model, init_loc_fn=init_to_value(values={"eta": 50.0})))
    assert svi.evaluate(svi.init()) == pytest.approx(3 * 50.0 - norm.logpdf(50.0), rel=1e-12)


def test_data_that_are_impossible_are_counted_without_those_that_are_only_unlikely():
    def model():
        eta = pm.Normal("eta", 0.0, 1.0)
        pm.Geometric("y", pm.math.sigmoid(eta), observed=np.array([4, 1, 0]))

    with pytest.raises(ValueError, match=r"1 of 3 observations, the first 0 at \[2\]"):
        start_of(model, init_to_value(values={"eta": 50.0}))


def test_a_hundred_tries_are_enough():
    def nowhere():
        x = pm.Normal("x")
        pm.Normal("y", x, pm.math.switch(x > 100, 1.0, -1.0), observed=0.0)

    with pytest.raises(ValueError, match="Site 'y' has log-probability -inf.*in 100 tries"):
        start_of(nowhere, init_to_uniform)


def test_generated_strategies_are_made_anew_at_each_try():
    values = itertools.cycle([0.0, 0.25, 0.75, 2.0])
    strategy = init_to_generated(lambda: init_to_value(values={"x": next(values)}))
    svi = SVI(window, AutoNormal(window, init_loc_fn=strategy))
    assert svi.get_params(svi.init())["x_auto_loc"] == 0.75


def test_generated_strategies_start_several_sites_jointly():
    def model():
        pm.Normal("a")
        pm.Normal("b")

    rng = np.random.default_rng(0)

    def generate():
        value = rng.normal()
        return init_to_value(values={"a": value, "b": -value})

    params = start_of(model, init_to_generated(generate))
    assert params["a_auto_loc"] == -params["b_auto_loc"] != 0


def test_generate_must_be_a_function():
    with pytest.raises(TypeError, match="generate is a function that returns a strategy"):
        init_to_generated(3)


@pytest.mark.parametrize(
    "strategy",
    [
        init_to_feasible,
        init_to_mean,
        init_to_median,
        init_to_sample,
        init_to_uniform,
        init_to_initial_point,
    ],
)
def test_every_strategy_starts_inside_bounds_that_depend_on_other_sites(strategy):
    def model():
        u = pm.HalfNormal("u")
        pm.Uniform("x", 0.0, u)

    for seed in range(3):
        params = start_of(model, strategy, seed)
        assert 0 < params["x_auto_loc"] < params["u_auto_loc"]


@pytest.mark.parametrize("strategy", [init_to_sample, init_to_median, init_to_mean])
def test_sites_without_a_prior_to_draw_from_start_at_random(strategy):
    """As NumPyro starts improper priors: uniform in (-2, 2) in unconstrained space."""

    def model():
        x, s = pm.Flat("x", shape=50), pm.HalfFlat("s")
        pm.Normal("y", x, s, observed=np.zeros(50))

    params = start_of(model, strategy)
    assert params["x_auto_loc"].std() == pytest.approx(4 / 12**0.5, abs=0.3)
    assert np.exp(-2) < params["s_auto_loc"] < np.exp(2)


def test_a_mixture_of_ordered_components_starts_at_the_median_of_its_draws():
    def model():
        mu = pm.Normal("mu", [-1.0, 1.0], 1.0, transform=ordered, initval=[-1.0, 1.0])
        pm.NormalMixture("x", w=[0.5, 0.5], mu=mu, sigma=0.5, shape=3)

    params = start_of(as_built(model), init_to_median)
    assert np.isfinite(params["x_auto_loc"]).all()
