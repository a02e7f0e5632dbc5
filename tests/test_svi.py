"""``SVI``: what it accepts, what it refuses, and that two kinds of programs are one thing to it."""

from __future__ import annotations

import itertools
import pickle
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from scipy import stats

from pymc_svi import SVI, SVIState, Trace_ELBO, TraceEnum_ELBO, constraints, optim, param
from pymc_svi.errors import InitializationError, PairingError, StateError
from pymc_svi.guides import AutoMultivariateNormal, AutoNormal
from tests.checks import as_built, assert_mean, assert_variance
from tests.models import (
    EFFECTS,
    ERRORS,
    MEASUREMENTS,
    SCHOOLS,
    Regression,
    normal_mean,
    normal_mean_guide,
    normal_mean_posterior,
)

FAST = {"mode": "FAST_COMPILE"}
SETTINGS = {"random_seed": 5, "progressbar": False}


# --- programs ---------------------------------------------------------------------------------


def test_the_program_of_the_proposal_runs_as_written():
    positive = constraints.positive

    with pm.Model() as model:
        pm.Normal("x", 3.0, 0.5)

    with pm.Model() as guide:
        mu = param("mu", 0.0)
        sd = param("sd", 1.0, constraint=positive)
        pm.Normal("x", mu, sd)

    with model:
        result = SVI(model, guide).run(10_000)

    # With the default step size of 0.001; the guide's family contains the posterior.
    assert result.params["mu"] == pytest.approx(3.0, abs=0.05)
    assert result.params["sd"] == pytest.approx(0.5, abs=0.05)
    assert result.losses.shape == (10_000,)


def bound(program):
    return lambda: program(MEASUREMENTS)


def test_functions_and_built_models_give_the_same_fit():
    models = [bound(normal_mean), as_built(normal_mean, MEASUREMENTS)]
    guides = [bound(normal_mean_guide), as_built(normal_mean_guide)]
    expected = SVI(normal_mean, normal_mean_guide, compile_kwargs=FAST)
    expected = expected.run(10, MEASUREMENTS, **SETTINGS)
    for model, guide in itertools.product(models, guides):
        fit = SVI(model, guide, compile_kwargs=FAST).run(10, **SETTINGS)
        np.testing.assert_allclose(fit.losses, expected.losses, rtol=1e-12)
        assert list(fit.params) == ["loc", "scale"]


@pytest.mark.parametrize("built", [False, True], ids=["function", "built"])
def test_the_exact_posterior_is_found(built):
    programs, args = (normal_mean, normal_mean_guide), (MEASUREMENTS,)
    if built:
        programs, args = [as_built(program, MEASUREMENTS) for program in programs], ()
    rate = optim.linear_decay(0.05, 2_000)
    fit = SVI(*programs, optim.Adam(rate), Trace_ELBO(num_particles=4)).run(
        2_000, *args, **SETTINGS
    )
    mean, sd = normal_mean_posterior()
    assert fit.params["loc"] == pytest.approx(
        mean, abs=0.06
    )  # 3.5 standard errors of the last steps
    assert fit.params["scale"] == pytest.approx(
        sd, abs=0.06
    )  # 3.5 standard errors of the last steps


def test_inside_the_context_of_its_model_and_outside_it_is_the_same():
    model, guide = as_built(normal_mean, MEASUREMENTS), as_built(normal_mean_guide)
    outside = SVI(model, guide, compile_kwargs=FAST).run(5, **SETTINGS)
    with model:
        inside = SVI(model, guide, compile_kwargs=FAST).run(5, **SETTINGS)
    np.testing.assert_array_equal(inside.losses, outside.losses)
    assert set(model.named_vars) == {"mu", "y"}, "a fit adds nothing to the model"


def test_coords_come_from_svi_from_built_programs_or_from_the_context_around():
    def model():
        z = pm.Normal("z", dims="school")
        pm.Normal("y", z, ERRORS, observed=EFFECTS, dims="school")

    def guide():
        pm.Normal("z", param("loc", 0.0, dims="school"), 1.0, dims="school")

    given = SVI(model, guide, coords=SCHOOLS, compile_kwargs=FAST)
    assert given.run(2, **SETTINGS).params["loc"].shape == (8,)
    with pm.Model(coords=SCHOOLS):
        around = SVI(model, guide, compile_kwargs=FAST)
        assert around.run(2, **SETTINGS).params["loc"].shape == (8,)
    mixed = SVI(as_built(model, coords=SCHOOLS), guide, compile_kwargs=FAST)
    assert mixed.run(2, **SETTINGS).params["loc"].shape == (8,)


# --- params -----------------------------------------------------------------------------------


CONSTRAINED = {
    "real": (constraints.real, [0.0, 1.0], [-1.0, 2.0]),
    "positive": (constraints.positive, [1.0, 1.0], [0.5, 3.0]),
    "softplus_positive": (constraints.softplus_positive, [1.0, 1.0], [0.5, 3.0]),
    "unit_interval": (constraints.unit_interval, [0.5, 0.5], [0.2, 0.9]),
    "interval": (constraints.interval(-1, 3), [0.0, 0.0], [-0.5, 2.5]),
    "greater_than": (constraints.greater_than(2), [3.0, 3.0], [2.5, 5.0]),
    "less_than": (constraints.less_than(2), [1.0, 1.0], [1.5, -2.0]),
    "simplex": (constraints.simplex, [0.3, 0.3, 0.4], [0.6, 0.1, 0.3]),
    "ordered_vector": (constraints.ordered_vector, [0.0, 1.0, 2.0], [-1.0, 0.5, 0.8]),
    "lower_cholesky": (constraints.lower_cholesky, np.eye(2), [[2.0, 0], [-0.7, 0.5]]),
    "unit_lower_cholesky": (constraints.unit_lower_cholesky, np.eye(2), [[1.0, 0], [-0.7, 1]]),
    "scaled_unit_lower_cholesky": (
        constraints.scaled_unit_lower_cholesky,
        np.eye(2),
        [[2.0, 0], [-0.7, 0.5]],
    ),
    "corr_cholesky": (constraints.corr_cholesky, np.eye(2), [[1.0, 0], [0.6, 0.8]]),
    "pymc transform": (pm.distributions.transforms.log, [1.0, 1.0], [0.5, 3.0]),
}


@pytest.fixture(scope="module")
def learned_params():
    """All constraints learned in one fit, by gradients without noise."""

    def guide():
        for name, (constraint, start, target) in CONSTRAINED.items():
            p = param(name, np.array(start, dtype=float), constraint=constraint)
            target = np.asarray(target, dtype=float)
            # The guide's own likelihood does not count, so the model looks the params up.
            assert p.type.shape in (target.shape, (None,) * target.ndim)

    def model():
        for name, (constraint, _, target) in CONSTRAINED.items():
            p = param(name, constraint=constraint)
            pm.Potential(f"near {name}", -5.0 * ((p - np.asarray(target)) ** 2).sum())

    return SVI(model, guide, optim.Adam(0.03), compile_kwargs=FAST).run(1_500, **SETTINGS)


@pytest.mark.parametrize("name", CONSTRAINED)
def test_a_param_is_learned_under_every_constraint(learned_params, name):
    np.testing.assert_allclose(learned_params.params[name], CONSTRAINED[name][2], atol=2e-3)


def test_a_param_in_model_and_guide_is_one():
    """The guide's N(m, 1) and the prior N(m, 1) share m: only the likelihood moves it."""

    def model():
        m = param("m")
        x = pm.Normal("x", m, 1.0)
        pm.Normal("y", x, 1.0, observed=2.0)

    def guide():
        pm.Normal("x", param("m", 0.0), 1.0)

    svi = SVI(model, guide, optim.Adam(0.05), Trace_ELBO(num_particles=20))
    result = svi.run(800, **SETTINGS)
    assert list(result.params) == ["m"]
    assert result.params["m"] == pytest.approx(2.0, abs=0.1)


def test_maximum_likelihood_with_an_empty_guide():
    y = np.array([1.0, 2.0, 4.0, 4.0])

    def model(y):
        sd = param("sd", 1.0, constraint=constraints.positive)
        pm.Normal("y", param("m", 0.0), sd, observed=y)

    svi = SVI(model, lambda *args: None, optim.Adam(0.05))
    result = svi.run(1_000, y, **SETTINGS)
    assert result.params["m"] == pytest.approx(y.mean(), abs=1e-3)
    assert result.params["sd"] == pytest.approx(y.std(), abs=1e-3)
    assert np.ptp(result.losses[-10:]) < 1e-4, "nothing is drawn, so the losses have no noise"


def test_an_unused_param_is_warned_of():
    def guide(y=None):
        normal_mean_guide(y)
        param("forgotten", 1.0)

    svi = SVI(normal_mean, guide, compile_kwargs=FAST)
    with pytest.warns(
        UserWarning, match="does not depend on 'forgotten', which will not be learned"
    ):
        result = svi.run(2, MEASUREMENTS, **SETTINGS)
    assert result.params["forgotten"] == 1.0


def test_params_that_nothing_depends_on_are_refused():
    def model():
        pm.Normal("x")

    def guide():
        param("loc", 0.0)
        pm.Normal("x")

    with pytest.raises(
        PairingError, match="nothing to learn: the loss depends on none of the params"
    ):
        SVI(model, guide).run(2)


# --- starting values --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def svi():
    return SVI(normal_mean, normal_mean_guide, compile_kwargs=FAST)


def test_init_params_are_constrained_values(svi):
    state = svi.init(MEASUREMENTS, init_params={"scale": 0.3}, random_seed=0)
    params = svi.get_params(state)
    assert params["scale"] == pytest.approx(0.3)
    assert params["loc"] == 0.0
    started = svi.run(1, MEASUREMENTS, init_params={"loc": 7.0}, **SETTINGS)
    assert started.params["loc"] == pytest.approx(7.0, abs=0.01)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"scal": 1.0}, InitializationError, "there is no param 'scal'.*Did you mean 'scale'"),
        ({"scale": -1.0}, InitializationError, "'scale' is outside its constraint.*positive"),
        ({"loc": np.nan}, InitializationError, "'loc' is outside its constraint real.*nan"),
        (
            {"loc": [0.0, 1.0]},
            InitializationError,
            r"'loc' has the wrong shape. Found: \(2,\). Expected: \(\)",
        ),
        ({"loc": "zero"}, InitializationError, "'loc' is not numeric. Found: 'zero'"),
        ([1.0], TypeError, "init_params is a dict of constrained values by name"),
    ],
)
def test_wrong_init_params_are_refused(svi, values, error, message):
    with pytest.raises(error, match=message):
        svi.run(1, MEASUREMENTS, init_params=values)


def test_init_state_and_init_params_exclude_each_other(svi):
    state = svi.init(MEASUREMENTS)
    with pytest.raises(ValueError, match="init_state or init_params, not both"):
        svi.run(1, MEASUREMENTS, init_state=state, init_params={"loc": 1.0})


def test_a_callable_start_is_called_for_each_fit(svi):
    calls = []

    def start():
        calls.append(None)
        return float(len(calls))

    def guide(y=None):
        pm.Normal("mu", param("loc", start), 1.0)

    other = SVI(normal_mean, guide, compile_kwargs=FAST)
    starts = [other.init(MEASUREMENTS).params["loc"] for _ in range(2)]
    assert starts[1] > starts[0]


# --- states -----------------------------------------------------------------------------------


def test_a_state_is_a_plain_picklable_record(svi):
    state = svi.run(3, MEASUREMENTS, **SETTINGS).state
    assert isinstance(state, SVIState)
    assert set(state.params) == {"loc", "scale"}
    assert all(type(value) is np.ndarray for value in state.params.values())
    assert all(type(value) is np.ndarray for value in state.optim_state.values())
    assert state.rng_state.dtype == np.uint64
    assert state.step == 3
    assert pickle.loads(pickle.dumps(state)) == state


def test_states_differ_in_whatever_they_differ(svi):
    state = svi.run(3, MEASUREMENTS, **SETTINGS).state
    assert replace(state) == state
    assert replace(state, step=4) != state
    assert replace(state, rng_state=state.rng_state + np.uint64(1)) != state
    assert replace(state, params={**state.params, "loc": np.array(9.0)}) != state
    moment = next(iter(state.optim_state))
    other = {**state.optim_state, moment: state.optim_state[moment] + 1}
    assert replace(state, optim_state=other) != state


def states_of_others():
    def other_names(y=None):
        pm.Normal("mu", param("location", 0.0), param("scale", 1.0))

    def other_shapes(y=None):
        pm.Normal("mu", param("loc", np.zeros(2)).sum(), param("scale", 1.0))

    programs = {"names": other_names, "shapes": other_shapes}
    states = {
        name: SVI(normal_mean, guide, compile_kwargs=FAST).init(MEASUREMENTS)
        for name, guide in programs.items()
    }
    sgd = SVI(normal_mean, normal_mean_guide, optim.SGD(0.1), compile_kwargs=FAST)
    states["optimizer"] = sgd.init(MEASUREMENTS)
    return states


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("names", "its params have other names. Found: 'location'. Expected: 'loc'"),
        ("shapes", r"'loc' has another shape. Found: \(2,\). Expected: \(\)"),
        ("optimizer", "its optimizer state has other names"),
    ],
)
def test_the_state_of_another_fit_is_refused(svi, which, message):
    state = states_of_others()[which]
    for use in (
        lambda: svi.run(1, MEASUREMENTS, init_state=state),
        lambda: svi.update(state, MEASUREMENTS),
        lambda: svi.evaluate(state, MEASUREMENTS),
    ):
        with pytest.raises(StateError, match=message):
            use()


def test_a_state_with_other_generators_is_refused(svi):
    state = svi.init(MEASUREMENTS)
    state = replace(state, rng_state=np.concatenate([state.rng_state] * 2))
    with pytest.raises(
        StateError, match="another number of random generators. Found: 2. Expected: 1"
    ):
        svi.run(1, MEASUREMENTS, init_state=state)


def test_get_params_needs_a_state_of_its_own(svi):
    state = svi.init(MEASUREMENTS)
    fresh = SVI(normal_mean, normal_mean_guide, compile_kwargs=FAST)
    with pytest.raises(StateError, match="get_params: the state is not of this SVI"):
        fresh.get_params(state)


# --- arguments of the wrong kind --------------------------------------------------------------


@pytest.mark.parametrize("program", [3, "model", None, AutoNormal, pm.Model])
def test_what_is_no_program_is_refused(program):
    with pytest.raises(TypeError, match="SVI: the model is not a program"):
        SVI(program, normal_mean_guide)
    with pytest.raises(TypeError, match=r"SVI: the guide is not a program.*AutoNormal\(model\)"):
        SVI(normal_mean, program)


def test_a_posterior_in_the_place_of_the_model_is_named_not_printed():
    posterior = xr.DataTree.from_dict({"/posterior": xr.Dataset({"mu": ("draw", np.zeros(5))})})
    with pytest.raises(TypeError, match="Found: DataTree. Expected: a function"):
        SVI(posterior, normal_mean_guide)


@pytest.mark.parametrize(
    ("loss", "message"),
    [(Trace_ELBO, r"Make an object of it: Trace_ELBO\(\)"), ("elbo", "Use Trace_ELBO"), (1, "Use")],
)
def test_what_is_no_objective_is_refused(loss, message):
    with pytest.raises(TypeError, match=f"SVI: loss is not an objective.*{message}"):
        SVI(normal_mean, normal_mean_guide, loss=loss)


@pytest.mark.parametrize("rule", [0.01, "adam", optim.Adam, Trace_ELBO()])
def test_what_is_no_optimizer_is_refused(rule):
    with pytest.raises(TypeError, match="optim"):
        SVI(normal_mean, normal_mean_guide, rule)


@pytest.mark.parametrize("steps", [1.0, "10", True, None, MEASUREMENTS])
def test_a_number_of_steps_that_is_no_whole_number_is_refused(svi, steps):
    with pytest.raises(TypeError, match="the first argument is the number of steps"):
        svi.run(steps, MEASUREMENTS)


@pytest.mark.parametrize("steps", [0, -3])
def test_fewer_than_one_step_is_refused(svi, steps):
    with pytest.raises(ValueError, match=f"num_steps must be at least 1. Found: {steps}"):
        svi.run(steps, MEASUREMENTS)


@pytest.mark.parametrize("seed", [1.5, True, "seed", [0.5], {}])
def test_a_seed_of_the_wrong_type_is_refused(svi, seed):
    with pytest.raises(TypeError, match="random_seed has the wrong type"):
        svi.run(1, MEASUREMENTS, random_seed=seed)


@pytest.mark.parametrize("seed", [-1, [1, -2]])
def test_a_negative_seed_is_refused(svi, seed):
    with pytest.raises(ValueError, match="random_seed must not be negative"):
        svi.run(1, MEASUREMENTS, random_seed=seed)


@pytest.mark.parametrize(
    "seed",
    [3, np.int64(3), [3, 4], np.random.SeedSequence(3), np.random.SeedSequence(3).spawn(1)[0]],
)
def test_seeds_give_the_same_fit_twice(svi, seed):
    first, second = (
        svi.run(3, MEASUREMENTS, random_seed=seed, progressbar=False) for _ in range(2)
    )
    np.testing.assert_array_equal(first.losses, second.losses)


def test_a_generator_is_advanced_like_any_other_use_of_it(svi):
    def two_fits(rng):
        return [svi.run(3, MEASUREMENTS, random_seed=rng, progressbar=False).losses for _ in "ab"]

    first, second = two_fits(np.random.default_rng(1))
    assert not np.any(first == second)
    np.testing.assert_array_equal([first, second], two_fits(np.random.default_rng(1)))


@pytest.mark.parametrize("state", [3, {"loc": 0.0}, "state"])
def test_what_is_no_state_is_refused(svi, state):
    with pytest.raises(TypeError, match="The state is not an SVIState"):
        svi.run(1, MEASUREMENTS, init_state=state)


def test_a_single_callback_is_asked_for_as_a_list(svi):
    with pytest.raises(
        TypeError, match=r"callbacks is a list of functions.*callbacks=\[function\]"
    ):
        svi.run(1, MEASUREMENTS, callbacks=lambda state, losses: None)
    with pytest.raises(TypeError, match=r"a callback is not a function.*3 of type int.*Write"):
        svi.run(1, MEASUREMENTS, callbacks=[3])
    steps = []
    svi.run(1, MEASUREMENTS, callbacks=iter([lambda state, losses: steps.append(state.step)]))
    assert steps == [1]


def test_a_built_model_takes_no_arguments():
    model = as_built(normal_mean, MEASUREMENTS)
    with pytest.raises(TypeError, match="A built pm.Model takes no arguments.*pm.set_data"):
        SVI(model, AutoNormal(model)).run(1, MEASUREMENTS)


def test_unknown_compile_options_are_refused():
    with pytest.raises(TypeError, match="unknown compile_kwargs. Found: 'profile'"):
        SVI(normal_mean, normal_mean_guide, compile_kwargs={"profile": True})


# --- built models between two fits ------------------------------------------------------------


@pytest.fixture(scope="module")
def regression():
    return Regression.simulated()


@pytest.mark.parametrize("guide", [AutoNormal, AutoMultivariateNormal])
def test_set_data_between_fits_is_seen(regression, guide):
    model = regression.built()
    svi = SVI(model, guide(model), compile_kwargs=FAST)
    before = svi.run(3, **SETTINGS)
    with model:
        pm.set_data({"y_data": regression.y + 1})
    after = svi.run(3, **SETTINGS)
    assert len(svi._trainings) == 1, "the same compiled step"
    moved = Regression(regression.X, regression.y + 1).built()
    expected = SVI(moved, guide(moved), compile_kwargs=FAST).run(3, **SETTINGS)
    np.testing.assert_array_equal(after.losses, expected.losses)
    assert not np.any(after.losses == before.losses)


def test_set_data_of_another_length_is_seen(regression):
    model = regression.built()
    svi = SVI(model, AutoNormal(model), compile_kwargs=FAST)
    svi.run(3, **SETTINGS)
    with model:
        pm.set_data({"X": regression.X[:5], "y_data": regression.y[:5]})
    after = svi.run(3, **SETTINGS)
    fewer = Regression(regression.X[:5], regression.y[:5]).built()
    expected = SVI(fewer, AutoNormal(fewer), compile_kwargs=FAST).run(3, **SETTINGS)
    np.testing.assert_allclose(after.losses, expected.losses, rtol=1e-12)
    assert after.sample_posterior(7, random_seed=0).posterior["mean"].shape == (1, 7, 5)


@pytest.mark.parametrize("dims", [None, "row"])
def test_latents_that_follow_the_length_of_the_data_follow_it(dims):
    coords = {"row": np.arange(3)} if dims else {}
    with pm.Model(coords=coords) as model:
        y = pm.Data("y_data", np.zeros(3), dims=dims)
        z = pm.Normal("z", dims=dims) if dims else pm.Normal("z", shape=y.shape[0])
        pm.Normal("y", z, 1.0, observed=y, dims=dims)
    svi = SVI(model, AutoNormal(model), compile_kwargs=FAST)
    assert svi.run(2, **SETTINGS).params["z_auto_loc"].shape == (3,)
    with model:
        pm.set_data({"y_data": np.ones(5)}, coords={"row": np.arange(5)} if dims else {})
    assert svi.run(2, **SETTINGS).params["z_auto_loc"].shape == (5,)


def test_a_variable_added_to_the_model_is_not_left_out():
    model = as_built(normal_mean, MEASUREMENTS)
    svi = SVI(model, normal_mean_guide, compile_kwargs=FAST)
    before = svi.run(2, **SETTINGS)
    with model:
        pm.Potential("extra", pt.constant(100.0))
    np.testing.assert_allclose(svi.run(2, **SETTINGS).losses, before.losses - 100)


# --- compilation ------------------------------------------------------------------------------


def test_one_svi_compiles_once_and_two_do_not_share_anything():
    a, b = (SVI(normal_mean, normal_mean_guide, compile_kwargs=FAST) for _ in range(2))
    first = a.run(3, MEASUREMENTS, **SETTINGS)
    b.run(3, MEASUREMENTS + 1, random_seed=9, progressbar=False)
    again = a.run(3, MEASUREMENTS, **SETTINGS)
    np.testing.assert_array_equal(first.losses, again.losses)
    assert first.state == again.state


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"backend": "c"}, {"compile_kwargs": FAST}, {"compile_kwargs": {"mode": "FAST_RUN"}}],
    ids=["c", "FAST_COMPILE", "FAST_RUN"],
)
def test_other_linkers_give_the_same_numbers(options):
    with pm.Model() as model:
        u = pm.HalfNormal("u")
        x = pm.Beta("x", 2.0, 1.0 + u, shape=2)
        pm.Normal("y", x, u, observed=[0.4, 0.6])
    numba = SVI(model, AutoMultivariateNormal(model), optim.Adam(0.02))
    other = SVI(model, AutoMultivariateNormal(model), optim.Adam(0.02), **options)
    fits = [svi.run(200, **SETTINGS) for svi in (numba, other)]
    np.testing.assert_allclose(fits[0].losses, fits[1].losses, rtol=0, atol=1e-8)
    for name, value in fits[0].params.items():
        np.testing.assert_allclose(fits[1].params[name], value, rtol=0, atol=1e-8)


def test_a_fit_raises_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "RandomVariable Ops will stop hiding")
        svi = SVI(normal_mean, AutoNormal(normal_mean), compile_kwargs=FAST)
        result = svi.run(3, MEASUREMENTS, **SETTINGS)
        result.sample_posterior(3, random_seed=0)


# --- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("one_vector", [True, False])
def test_sampled_gradients_have_the_exact_mean_and_variance_at_the_params_asked_for(one_vector):
    """With ``q = N(m, s)`` and ``p = N(0, 1)`` the loss is ``-log s + x^2 / 2`` and a constant."""

    def model():
        pm.Normal("x", 0.0, 1.0)

    def guide():
        pm.Normal("x", param("m", 0.0), param("s", 1.0, constraint=constraints.positive))

    rule = optim.Adam(0.1) if one_vector else (lambda loss, params: {p: p for p in params})
    svi = SVI(model, guide, rule)
    draws = svi.sample_gradients(20_000, params={"m": 1.5, "s": 0.5}, random_seed=0)
    assert set(draws) == {"m", "s"} and draws["m"].shape == (20_000,)
    assert_mean(draws["m"], 1.5)
    assert_variance(draws["m"], 0.25)
    assert_mean(draws["s"], 0.25 - 1.0)
    again = svi.sample_gradients(20_000, params={"m": 1.5, "s": 0.5}, random_seed=0)
    np.testing.assert_array_equal(draws["m"], again["m"])


def test_sampling_gradients_leaves_a_fit_as_it_is():
    def model():
        pm.Normal("x", 0.0, 1.0)

    def guide():
        pm.Normal("x", param("m", 1.0), 1.0)

    svi = SVI(model, guide, optim.Adam(0.1))
    first = svi.run(5, random_seed=0, progressbar=False)
    svi.sample_gradients(10, params={"m": 7.0}, random_seed=3)
    second = svi.run(5, init_state=first.state, progressbar=False)
    whole = svi.run(10, random_seed=0, progressbar=False)
    assert whole.state == second.state


# --- habits from elsewhere, pairs without params --------------------------------------------------


def test_names_of_pyros_svi_say_what_they_are_here():
    svi = SVI(normal_mean, normal_mean_guide)
    for name, hint in (("step", r"svi\.run\(num_steps"), ("get_param_store", "result.params")):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'. .*{hint}"):
            getattr(svi, name)
    with pytest.raises(AttributeError, match="'SVI' object has no attribute 'nothing'$"):
        svi.nothing  # noqa: B018
    assert not hasattr(svi, "step")


def test_names_for_the_number_of_draws_say_what_it_is_here():
    def model():
        pm.Normal("x")

    guide = AutoNormal(model)
    result = SVI(model, guide).run(1, random_seed=0, progressbar=False)
    for name, value in (("num_samples", 3), ("sample_shape", (3,))):
        for draw in (partial(guide.sample_posterior, result.params), result.sample_posterior):
            with pytest.raises(TypeError, match=f"What is {name} elsewhere is draws here"):
                draw(**{name: value})
    assert guide.sample_posterior(result.params, draws=3)["x"].shape == (3,)


def test_the_loss_of_a_pair_without_params_is_evaluated_and_not_run():
    def model(y):
        z = pm.Bernoulli("z", 0.3)
        pm.Normal("y", 2.0 * z, 1.0, observed=y)

    def guide(y):
        pass

    svi = SVI(model, guide, loss=TraceEnum_ELBO())
    for y in (0.5, 1.5):
        evidence = 0.7 * stats.norm.pdf(y) + 0.3 * stats.norm.pdf(y - 2.0)
        state = svi.init(y)
        assert (state.params, state.optim_state) == ({}, {})
        assert svi.evaluate(state, y) == pytest.approx(-np.log(evidence), rel=1e-6)
    for refused in (lambda: svi.run(1, 0.5), lambda: svi.update(state, 0.5)):
        with pytest.raises(PairingError, match="nothing to learn.*svi.evaluate"):
            refused()
