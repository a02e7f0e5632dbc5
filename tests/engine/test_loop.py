"""The loop around the compiled steps: the same numbers however it is cut, and loud failures."""

from __future__ import annotations

import itertools
import math
import pickle
import signal

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

from pymc_svi import SVI, Trace_ELBO, constraints, optim, param
from pymc_svi.engine import Training, loop
from pymc_svi.errors import NonFiniteError
from tests.models import MEASUREMENTS, normal_mean, normal_mean_guide

SETTINGS = {"random_seed": 5, "progressbar": False}


@pytest.fixture(scope="module")
def svi():
    return SVI(normal_mean, normal_mean_guide, optim.Adam(0.02))


@pytest.fixture(scope="module")
def whole(svi):
    """A fit of 300 steps that the others are compared with."""
    return svi.run(300, MEASUREMENTS, **SETTINGS)


def assert_same(result, expected):
    """Bit for bit: losses, params, optimizer, random generators and step."""
    np.testing.assert_array_equal(result.losses, expected.losses)
    assert result.state == expected.state
    for name, value in expected.params.items():
        np.testing.assert_array_equal(result.params[name], value)


# --- cutting a fit into pieces ----------------------------------------------------------------


def test_a_fit_in_two_pieces_is_the_fit_in_one(svi, whole):
    first = svi.run(113, MEASUREMENTS, **SETTINGS)
    second = svi.run(187, MEASUREMENTS, init_state=first.state, progressbar=False)
    np.testing.assert_array_equal(np.concatenate([first.losses, second.losses]), whole.losses)
    assert first.state.step == 113
    assert second.state.step == 300
    assert second.state == whole.state
    assert second.params == whole.params


def test_a_pickled_state_resumes_in_another_svi(svi, whole):
    first = svi.run(113, MEASUREMENTS, **SETTINGS)
    state = pickle.loads(pickle.dumps(first.state))
    assert state == first.state
    other = SVI(normal_mean, normal_mean_guide, optim.Adam(0.02))
    second = other.run(187, MEASUREMENTS, init_state=state, progressbar=False)
    assert second.state == whole.state


def test_a_fit_does_not_change_the_state_it_starts_from(svi):
    state = svi.init(MEASUREMENTS, random_seed=5)
    before = pickle.dumps(state)
    runs = [svi.run(20, MEASUREMENTS, init_state=state, progressbar=False) for _ in range(2)]
    assert pickle.dumps(state) == before
    assert_same(runs[0], runs[1])


def test_single_updates_are_the_steps_of_run(svi, whole):
    state = svi.init(MEASUREMENTS, random_seed=5)
    losses = []
    for _ in range(20):
        state, loss = svi.update(state, MEASUREMENTS)
        losses.append(loss)
    np.testing.assert_array_equal(losses, whole.losses[:20])
    assert state == svi.run(20, MEASUREMENTS, **SETTINGS).state


def test_evaluate_gives_the_loss_of_the_next_step_and_moves_nothing(svi, whole):
    state = svi.init(MEASUREMENTS, random_seed=5)
    assert svi.evaluate(state, MEASUREMENTS) == pytest.approx(whole.losses[0], abs=1e-12)
    assert svi.evaluate(state, MEASUREMENTS) == pytest.approx(whole.losses[0], abs=1e-12)
    later = svi.run(50, MEASUREMENTS, **SETTINGS).state
    assert svi.evaluate(later, MEASUREMENTS) == pytest.approx(whole.losses[50], abs=1e-12)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_numbers_do_not_depend_on_the_size_of_the_chunks(svi, whole, monkeypatch, size):
    monkeypatch.setattr(loop, "_FIRST_CHUNK", size)
    monkeypatch.setattr(loop, "_next_size", lambda *args: size)
    assert_same(svi.run(300, MEASUREMENTS, **SETTINGS), whole)


def test_the_numbers_do_not_depend_on_how_fast_the_machine_is(svi, whole, monkeypatch):
    monkeypatch.setattr(loop, "_FIRST_CHUNK", 3)
    monkeypatch.setattr(loop, "_SECONDS_A_CHUNK", 1e-5)
    assert_same(svi.run(300, MEASUREMENTS, **SETTINGS), whole)


def test_the_numbers_do_not_depend_on_progressbar_or_callbacks(svi, whole):
    watch = [lambda state, losses: None]
    assert_same(svi.run(300, MEASUREMENTS, random_seed=5, callbacks=watch), whole)


def test_stable_update_leaves_a_good_fit_alone(svi, whole):
    result = svi.run(300, MEASUREMENTS, **SETTINGS, stable_update=True)
    np.testing.assert_allclose(result.losses, whole.losses, rtol=1e-10)


def test_chunks_grow_towards_a_fixed_time_and_never_to_nothing():
    assert loop._next_size(50, 1e-9) == 1_000  # at most twenty times as long
    assert loop._next_size(1_000, 0.1) == 2_000
    assert loop._next_size(1, 60.0) == 1


# --- seeds ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_fit_and_others_do_not(svi, whole):
    assert_same(svi.run(300, MEASUREMENTS, **SETTINGS), whole)
    other = svi.run(300, MEASUREMENTS, random_seed=6, progressbar=False)
    assert not np.any(other.losses == whole.losses)
    unseeded = [svi.run(20, MEASUREMENTS, progressbar=False).losses for _ in range(2)]
    assert not np.any(unseeded[0] == unseeded[1])


def test_a_fit_leaves_the_generators_of_a_built_model_alone():
    with pm.Model() as model:
        pm.Normal("x", 0.0, 1.0)
        pm.Normal("y", model["x"], 1.0, observed=1.0)
    rngs = [rv.owner.inputs[0] for rv in model.basic_RVs]
    before = [pickle.dumps(rng.get_value()) for rng in rngs]

    def guide():
        pm.Normal("x", param("loc", 0.0), 1.0)

    SVI(model, guide).run(5, progressbar=False)
    assert [pickle.dumps(rng.get_value()) for rng in rngs] == before


# --- callbacks --------------------------------------------------------------------------------


def test_callbacks_see_the_state_reached_and_all_losses_so_far(svi, whole, monkeypatch):
    monkeypatch.setattr(loop, "_FIRST_CHUNK", 100)
    monkeypatch.setattr(loop, "_next_size", lambda *args: 100)
    seen = []
    svi.run(
        300,
        MEASUREMENTS,
        **SETTINGS,
        callbacks=[lambda state, losses: seen.append((state, losses.copy()))],
    )
    assert [state.step for state, _ in seen] == [100, 200, 300]
    for state, losses in seen:
        np.testing.assert_array_equal(losses, whole.losses[: state.step])
    assert seen[-1][0] == whole.state


def test_stop_iteration_ends_the_fit_where_it_was_raised(svi, whole, monkeypatch):
    monkeypatch.setattr(loop, "_FIRST_CHUNK", 100)
    monkeypatch.setattr(loop, "_next_size", lambda *args: 100)

    def stop(state, losses):
        if state.step >= 200:
            raise StopIteration

    result = svi.run(300, MEASUREMENTS, **SETTINGS, callbacks=[stop])
    np.testing.assert_array_equal(result.losses, whole.losses[:200])
    assert result.state.step == 200
    resumed = svi.run(100, MEASUREMENTS, init_state=result.state, progressbar=False)
    assert resumed.state == whole.state


@pytest.fixture
def ctrl_c():
    """What Ctrl-C does by default; processes that are started in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_a_fit_with_the_steps_that_were_taken(svi, whole, ctrl_c):
    def press(state, losses):
        if state.step == 200:
            signal.raise_signal(signal.SIGINT)

    with pytest.warns(UserWarning, match="interrupted after 200 of 300 steps.*init_state=result"):
        result = svi.run(300, MEASUREMENTS, **SETTINGS, callbacks=[press])
    np.testing.assert_array_equal(result.losses, whole.losses[:200])
    rest = svi.run(100, MEASUREMENTS, progressbar=False, init_state=result)
    assert rest.state == whole.state


def test_ctrl_c_before_the_first_step_is_not_swallowed(svi, monkeypatch):
    monkeypatch.setattr(Training, "chunk", lambda self, stable: _interrupt)
    with pytest.raises(KeyboardInterrupt):
        svi.run(300, MEASUREMENTS, **SETTINGS)


def _interrupt(*args):
    raise KeyboardInterrupt


def test_other_exceptions_of_a_callback_reach_the_user(svi):
    def broken(state, losses):
        raise KeyError("my own mistake")

    with pytest.raises(KeyError, match="my own mistake"):
        svi.run(10, MEASUREMENTS, **SETTINGS, callbacks=[broken])


# --- losses and gradients that are not finite ------------------------------------------------


def one_down(gradients, params):
    """An optimizer whose path is known: params fall by one while their gradient is finite."""
    return {
        p: pt.switch(pt.isfinite(g), p - 1.0, np.nan)
        for p, g in zip(params, gradients, strict=True)
    }


def walks_into(wall, start=5.0):
    """A fit whose loss (or gradient) stops being finite when ``m`` reaches zero."""

    def model():
        m = param("m", start)
        pm.Normal("before", m, 1.0, observed=0.0)
        pm.Potential("wall", wall(m))
        pm.Potential("behind", wall(m))

    return SVI(model, lambda: None, one_down, compile_kwargs={"mode": "FAST_COMPILE"})


@pytest.fixture(scope="module")
def infinite_loss():
    return walks_into(pt.log)


@pytest.fixture(scope="module")
def infinite_gradient():
    return walks_into(pt.sqrt)  # finite at zero, where its slope is infinite


@pytest.fixture(params=[1, 2, 5, 6, 50])
def chunk_size(request, monkeypatch):
    monkeypatch.setattr(loop, "_FIRST_CHUNK", request.param)
    monkeypatch.setattr(loop, "_next_size", lambda *args: request.param)


def test_a_loss_that_is_not_finite_names_step_and_first_site(infinite_loss, chunk_size):
    with pytest.raises(NonFiniteError) as caught:
        infinite_loss.run(20, progressbar=False)
    error = caught.value
    assert (error.step, error.site) == (5, "wall")
    assert "The fit broke at step 5: the log-probability of site 'wall' in the model" in str(error)
    assert "stable_update=True" in str(error)
    assert error.state.step == 5
    assert float(error.state.params["m"]) == 0.0
    assert len(error.losses) == 5
    assert np.isfinite(error.losses).all()


def test_a_gradient_that_is_not_finite_is_found_though_the_loss_was(infinite_gradient, chunk_size):
    with pytest.raises(NonFiniteError) as caught:
        infinite_gradient.run(20, progressbar=False)
    error = caught.value
    assert (error.step, error.site) == (5, "m")
    assert "the gradient of the loss for param 'm' is not finite" in str(error)
    assert error.state.step == 5
    assert float(error.state.params["m"]) == 0.0
    assert len(error.losses) == 5


def test_a_gradient_that_breaks_the_last_step_is_not_returned_silently(
    infinite_gradient, chunk_size
):
    with pytest.raises(NonFiniteError) as caught:
        infinite_gradient.run(6, progressbar=False)
    assert caught.value.step == 5
    assert infinite_gradient.run(5, progressbar=False).params["m"] == 0.0


def test_steps_are_counted_from_the_start_of_the_fit_also_after_resuming(infinite_loss):
    state = infinite_loss.run(3, progressbar=False).state
    with pytest.raises(NonFiniteError) as caught:
        infinite_loss.run(20, init_state=state, progressbar=False)
    assert caught.value.step == 5
    assert len(caught.value.losses) == 2


def test_update_does_not_return_a_broken_state_silently(infinite_loss, infinite_gradient):
    for svi in (infinite_loss, infinite_gradient):
        state = svi.run(5, progressbar=False).state
        with pytest.raises(NonFiniteError) as caught:
            svi.update(state)
        assert caught.value.step == 5
        assert caught.value.state == state


def test_stable_update_leaves_the_step_out(infinite_loss, infinite_gradient, chunk_size):
    for svi in (infinite_loss, infinite_gradient):
        result = svi.run(9, progressbar=False, stable_update=True)
        np.testing.assert_array_equal(np.isnan(result.losses), [False] * 5 + [True] * 4)
        assert result.params["m"] == 0.0  # it stays where the next step would break
        assert result.state.step == 9


def test_stable_update_goes_on_after_a_step_that_was_left_out(chunk_size):
    """Draws below zero break a step; the next draw may not. The generators must advance."""

    def model():
        x = pm.Normal("x")
        pm.Potential("wall", pt.log(x))

    def guide():
        pm.Normal("x", param("loc", 0.5), param("scale", 1.0, constraint=constraints.positive))

    svi = SVI(model, guide, optim.Adam(0.001), compile_kwargs={"mode": "FAST_COMPILE"})
    with pytest.raises(NonFiniteError) as caught:
        svi.run(60, **SETTINGS)
    assert caught.value.site == "wall"
    result = svi.run(60, **SETTINGS, stable_update=True)
    left_out = np.isnan(result.losses)
    assert 5 < left_out.sum() < 40
    assert np.flatnonzero(left_out)[0] == caught.value.step
    assert np.isfinite(result.params["loc"])
    # The error's state resumes to the same fit.
    rest = svi.run(
        60 - caught.value.step,
        init_state=caught.value.state,
        stable_update=True,
        progressbar=False,
    )
    assert rest.state == result.state


@pytest.mark.parametrize("vectorize", [True, False])
def test_the_site_is_found_in_whichever_particle_it_broke(vectorize):
    def model():
        x = pm.Normal("x")
        pm.Potential("wall", pt.log(x + 1.5))  # broken by 7 draws in 100

    def guide():
        pm.Normal("x", param("loc", 0.0), 1.0)

    loss = Trace_ELBO(num_particles=10, vectorize_particles=vectorize)
    svi = SVI(model, guide, loss=loss, compile_kwargs={"mode": "FAST_COMPILE"})
    for seed in range(5):
        with pytest.raises(NonFiniteError) as caught:
            svi.run(100, random_seed=seed, progressbar=False)
        assert caught.value.site == "wall"


def test_a_failure_in_the_middle_of_a_long_chunk_leaves_the_state_before_it(monkeypatch):
    monkeypatch.setattr(loop, "_FIRST_CHUNK", 1_000)
    svi = walks_into(pt.log, start=500.0)
    with pytest.raises(NonFiniteError) as caught:
        svi.run(2_000, progressbar=False)
    assert caught.value.step == 500
    assert caught.value.state == svi.run(500, progressbar=False).state


def test_a_start_without_a_finite_loss_breaks_at_step_zero():
    svi = walks_into(pt.log, start=-1.0)
    with pytest.raises(NonFiniteError) as caught:
        svi.run(3, progressbar=False)
    assert (caught.value.step, caught.value.site, len(caught.value.losses)) == (0, "wall", 0)


def test_a_scale_that_went_negative_is_told_about_constraints():
    def model():
        pm.Normal("x")

    def guide():
        pm.Normal("x", param("loc", -0.5), param("scale", -1.0))

    svi = SVI(model, guide, compile_kwargs={"mode": "FAST_COMPILE"})
    message = "'x' in the guide is -inf.*If 'loc', 'scale' has to be positive, say so.*constraints.positive"
    with pytest.raises(NonFiniteError, match=message):
        svi.run(3, progressbar=False)


# --- several random generators ----------------------------------------------------------------


def test_each_site_has_its_own_generator_with_its_own_numbers():
    def model():
        for i in range(3):
            pm.Normal(f"x{i}")

    def guide():
        for i in range(3):
            pm.Normal(f"x{i}", param(f"loc{i}", 0.0), 1.0)

    svi = SVI(model, guide, compile_kwargs={"mode": "FAST_COMPILE"})
    state = svi.init(random_seed=0)
    assert len(state.rng_state) == 3
    for a, b in itertools.combinations(state.rng_state, 2):
        assert not np.array_equal(a, b)
    assert math.isfinite(svi.evaluate(state))
