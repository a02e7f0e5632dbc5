"""What autoguides are made of, where they start, and what they refuse."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from pymc_svi import SVI, optim
from pymc_svi.errors import InitializationError, SiteError
from pymc_svi.guides import (
    AutoMultivariateNormal,
    AutoNormal,
    init_to_feasible,
    init_to_initial_point,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)
from pymc_svi.handlers import condition
from tests.checks import as_built
from tests.models import SCHOOLS, eight_schools

FAST = {"mode": "FAST_COMPILE"}
SETTINGS = {"random_seed": 5, "progressbar": False}
GUIDES = pytest.mark.parametrize("guide", [AutoNormal, AutoMultivariateNormal])


# --- params -----------------------------------------------------------------------------------


def test_params_of_auto_normal_have_the_names_and_dims_of_the_sites():
    model = eight_schools()
    result = SVI(model, AutoNormal(model), compile_kwargs=FAST).run(2, **SETTINGS)
    assert {name: np.shape(value) for name, value in result.params.items()} == {
        "mu_auto_loc": (),
        "mu_auto_scale": (),
        "tau_auto_loc": (),
        "tau_auto_scale": (),
        "z_auto_loc": (8,),
        "z_auto_scale": (8,),
    }
    fit = result.sample_posterior(2).fit
    assert fit["z_auto_scale"].dims == ("school",)
    assert list(fit["school"].values) == SCHOOLS["school"]


def test_params_of_auto_multivariate_normal_are_joint():
    model = eight_schools()
    guide = AutoMultivariateNormal(model, prefix="q", init_scale=0.2)
    svi = SVI(model, guide, compile_kwargs=FAST)
    params = svi.get_params(svi.init())
    assert {name: np.shape(value) for name, value in params.items()} == {
        "q_loc": (10,),
        "q_scale_tril": (10, 10),
    }
    np.testing.assert_allclose(params["q_scale_tril"], 0.2 * np.eye(10), atol=1e-12)


@GUIDES
def test_more_latents_than_fit_a_fused_product(guide):
    """From 65 latents on the full-rank guide multiplies by BLAS; the loss is of the same kind."""

    def model():
        pm.Normal("x", np.arange(70.0), 1.0)

    svi = SVI(model, guide(model, init_scale=1.0), compile_kwargs=FAST)
    # q is the prior itself, so every draw of the loss is zero.
    assert svi.evaluate(svi.init(random_seed=0)) == pytest.approx(0, abs=1e-5)


@GUIDES
def test_observed_sites_factors_and_deterministics_are_left_out(guide):
    def model():
        x = pm.Normal("x")
        pm.Deterministic("twice", 2 * x)
        pm.Potential("extra", -x)
        pm.Normal("y", x, observed=1.0)
        pm.Normal("z")

    fixed = condition(model, data={"z": 3.0})
    result = SVI(fixed, guide(fixed), compile_kwargs=FAST).run(2, **SETTINGS)
    assert set(result.sample_posterior(2).posterior.data_vars) == {"x", "twice"}


# --- refusals ---------------------------------------------------------------------------------


@GUIDES
@pytest.mark.parametrize("scale", [0, 0.0, -1.0, np.nan])
def test_a_starting_scale_that_is_not_positive_is_refused(guide, scale):
    with pytest.raises(TypeError, match=r"one number, in unconstrained.*init_params=\{'x_auto_s"):
        guide(eight_schools(), init_scale={"mu": 0.1})
    with pytest.raises(ValueError, match=f"{guide.__name__}: init_scale must be positive"):
        guide(eight_schools(), init_scale=scale)


@GUIDES
def test_a_discrete_latent_is_refused(guide):
    def model():
        pm.Normal("x")
        pm.Poisson("n", 3.0)

    for program in (model, as_built(model)):
        with pytest.raises(
            SiteError, match=r"Site 'n' is discrete \(int64\).*for continuous sites"
        ):
            SVI(program, guide(program)).run(1)


@GUIDES
def test_a_model_without_latents_is_refused_with_the_way_out(guide):
    def model():
        pm.Normal("y", 0.0, 1.0, observed=1.0)

    for program in (model, as_built(model)):
        with pytest.raises(SiteError, match="no latent sites in the model.*lambda"):
            SVI(program, guide(program)).run(1)


@GUIDES
@pytest.mark.parametrize("model", [3, "model", None])
def test_what_is_no_model_is_refused(guide, model):
    with pytest.raises(TypeError, match=f"{guide.__name__}: the first argument is the model"):
        guide(model)


@GUIDES
def test_a_strategy_that_is_no_function_is_refused(guide):
    with pytest.raises(TypeError, match="init_loc_fn is a function of a site"):
        guide(eight_schools(), init_loc_fn="mean")


# --- where they start -------------------------------------------------------------------------


def mixed():
    """A site of each kind, one below another."""
    sd = pm.HalfNormal("sd", 2.0)
    pm.Normal("x", 3.0, sd, shape=2)
    pm.Uniform("share", 0.0, sd)
    pm.Dirichlet("p", np.array([2.0, 3.0, 5.0]))


@pytest.fixture(scope="module", params=["function", "built"])
def program(request):
    return mixed if request.param == "function" else as_built(mixed)


def start(program, strategy, seed=0, guide=AutoNormal):
    """The posterior medians of a guide that is all but a point: where it starts."""
    svi = SVI(
        program,
        guide(program, init_loc_fn=strategy, init_scale=1e-9),
        optim.SGD(1e-30),
        compile_kwargs=FAST,
    )
    result = svi.run(1, random_seed=seed, progressbar=False)
    posterior = result.sample_posterior(1, random_seed=0).posterior
    return {name: values.values[0, 0] for name, values in posterior.items()}


STRATEGIES = {
    "initial point": init_to_initial_point,
    "initial point()": init_to_initial_point(),
    "feasible": init_to_feasible,
    "feasible()": init_to_feasible(),
    "uniform": init_to_uniform,
    "uniform(radius)": init_to_uniform(radius=0.1),
    "sample": init_to_sample,
    "sample()": init_to_sample(),
    "median": init_to_median,
    "median(n)": init_to_median(num_samples=5),
    "mean": init_to_mean,
    "mean(n)": init_to_mean(num_samples=50),
    "value": init_to_value(values={"sd": 1.5, "x": [1.0, 2.0], "p": [0.2, 0.3, 0.5]}),
    "value()": init_to_value,
    "my own": lambda site: init_to_feasible(site),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_starts_inside_the_support(program, name):
    values = start(program, STRATEGIES[name])
    assert values["sd"] > 0
    assert 0 < values["share"] < values["sd"], "the bound is that of the start"
    assert values["x"].shape == (2,)
    assert values["p"].sum() == pytest.approx(1)
    assert np.all(values["p"] > 0)


def test_initial_point_is_pymcs(program):
    values = start(program, init_to_initial_point)
    expected = as_built(mixed).initial_point()
    assert values["sd"] == pytest.approx(np.exp(expected["sd_log__"]))
    np.testing.assert_allclose(values["x"], expected["x"], atol=1e-6)
    assert values["share"] == pytest.approx(values["sd"] / 2)
    np.testing.assert_allclose(values["p"], [0.2, 0.3, 0.5], atol=1e-6)


def test_feasible_is_zero_in_unconstrained_space(program):
    values = start(program, init_to_feasible)
    assert values["sd"] == pytest.approx(1)
    np.testing.assert_allclose(values["x"], 0, atol=1e-6)
    assert values["share"] == pytest.approx(0.5)
    np.testing.assert_allclose(values["p"], np.full(3, 1 / 3), rtol=1e-6)


def test_values_are_taken_and_the_rest_starts_at_the_initial_point(program):
    values = start(program, init_to_value(values={"sd": 1.5, "p": [0.6, 0.3, 0.1]}))
    assert values["sd"] == pytest.approx(1.5)
    np.testing.assert_allclose(values["p"], [0.6, 0.3, 0.1], atol=1e-6)
    np.testing.assert_allclose(values["x"], 3, atol=1e-6)


def test_mean_and_median_are_near_those_of_the_prior(program):
    means = start(program, init_to_mean(num_samples=4_000))
    assert means["sd"] == pytest.approx(2 * np.sqrt(2 / np.pi), abs=0.07)  # 3.5 errors of 0.019
    np.testing.assert_allclose(means["p"], [0.2, 0.3, 0.5], atol=0.01)
    medians = start(program, init_to_median(num_samples=51))
    assert medians["sd"] == pytest.approx(2 * 0.6745, abs=0.77)  # 3.5 errors of 0.22


def test_uniform_stays_in_its_radius_and_changes_with_the_seed(program):
    draws = [start(program, init_to_uniform(radius=0.1), seed) for seed in range(3)]
    assert all(abs(np.log(values["sd"])) <= 0.1 for values in draws)
    assert len({float(values["sd"]) for values in draws}) == 3
    again = start(program, init_to_uniform(radius=0.1), 0)
    assert again["sd"] == draws[0]["sd"]


def test_random_starts_change_with_the_seed_only(program):
    first, second = start(program, init_to_sample, 0), start(program, init_to_sample, 1)
    assert first["sd"] != second["sd"]
    assert start(program, init_to_sample, 0)["sd"] == first["sd"]


@GUIDES
def test_initval_is_respected(guide):
    def model():
        pm.HalfNormal("sd", 2.0, initval=0.25)
        pm.Normal("x", 3.0, 1.0, shape=2, initval=[1.0, -1.0])

    for program in (model, as_built(model)):
        values = start(program, init_to_initial_point, guide=guide)
        assert values["sd"] == pytest.approx(0.25)
        np.testing.assert_allclose(values["x"], [1.0, -1.0], atol=1e-6)


def test_a_start_outside_the_support_is_refused_by_name():
    strategy = init_to_value(values={"sd": -1.0})
    with pytest.raises(
        InitializationError, match="Site 'sd' starts outside its support.*init_loc_fn"
    ):
        start(mixed, strategy)


def test_a_radius_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="init_to_uniform: radius must be positive"):
        start(mixed, init_to_uniform(radius=0))
