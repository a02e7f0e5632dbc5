"""Step sizes: schedules, one for each parameter, and mistakes."""

from __future__ import annotations

import pickle

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor_ml import optim as pml

from pymc_svi import optim
from tests.optim.formulas import OPTIMIZERS, adam_step, sgd_step
from tests.optim.quadratic import START, gradients, parameters, reference, run


def test_schedules_count_from_zero():
    schedule = optim.exponential_decay(0.1, 2, 0.5)
    expected = reference(sgd_step(lambda t, name: 0.1 * 0.5 ** (t / 2)))
    np.testing.assert_allclose(run(optim.SGD(schedule)), expected, rtol=1e-12)
    expected = reference(adam_step(lambda t, name: 0.1 * 0.5 ** (t / 2)))
    np.testing.assert_allclose(run(optim.Adam(schedule)), expected, rtol=1e-10)


def test_any_callable_of_the_step_count_is_a_schedule():
    expected = reference(sgd_step(lambda t, name: 0.1 / (1 + t)))
    np.testing.assert_allclose(run(optim.SGD(lambda t: 0.1 / (1 + t))), expected, rtol=1e-12)
    constant = reference(sgd_step(0.1))
    np.testing.assert_allclose(run(optim.SGD(lambda t: 0.1)), constant, rtol=1e-12)
    pytensor_ml = pml.linear_schedule(0.1, 4)
    expected = reference(sgd_step(lambda t, name: 0.1 * (1 - min(t, 4) / 4)))
    np.testing.assert_allclose(run(optim.SGD(pytensor_ml)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (optim.constant(0.3), lambda t: 0.3),
        (optim.exponential_decay(0.3, 10, 0.5), lambda t: 0.3 * 0.5 ** (t / 10)),
        (optim.exponential_decay(0.3, 10, 0.5, True), lambda t: 0.3 * 0.5 ** (t // 10)),
        (optim.step_decay(0.3, 7), lambda t: 0.3 * 0.1 ** (t // 7)),
        (optim.inverse_time_decay(0.3, 10, 2.0), lambda t: 0.3 / (1 + 2 * t / 10)),
        (optim.inverse_time_decay(0.3, 10, 2.0, True), lambda t: 0.3 / (1 + 2 * (t // 10))),
        (
            optim.polynomial_decay(0.3, 20, 0.1, 2.0),
            lambda t: 0.1 + 0.2 * (1 - min(t, 20) / 20) ** 2,
        ),
        (optim.linear_decay(0.3, 20), lambda t: 0.3 * (1 - min(t, 20) / 20)),
        (
            optim.cosine_decay(0.3, 20, 0.1),
            lambda t: 0.3 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * min(t, 20) / 20))),
        ),
        (
            optim.piecewise_constant([5, 9], [0.3, 0.2, 0.1]),
            lambda t: 0.3 if t < 5 else 0.2 if t < 9 else 0.1,
        ),
        (
            optim.join([optim.constant(0.3), optim.exponential_decay(0.2, 1, 0.9)], [4]),
            lambda t: 0.3 if t < 4 else 0.2 * 0.9 ** (t - 4),
        ),
        (
            optim.linear_onecycle(0.3, 20, 0.5, 0.8, 3.0, 10.0),
            lambda t: np.interp(t, [0, 10, 16, 20], [0.1, 0.3, 0.1, 0.01]),
        ),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_schedule_values(schedule, expected):
    steps = np.arange(30)
    np.testing.assert_allclose(schedule(steps), [expected(t) for t in steps], rtol=1e-12)
    step = pt.scalar("t", dtype="int64")
    symbolic = schedule(step)
    assert symbolic.ndim == 0
    assert symbolic.dtype == pytensor.config.floatX
    np.testing.assert_allclose(symbolic.eval({step: 6}, mode="FAST_COMPILE"), expected(6))
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert repr(copy) == repr(schedule)


def test_step_sizes_by_parameter_name():
    rates = {"loc": 0.02, "scale": 0.1}
    expected = reference(adam_step(lambda t, name: rates[name]))
    np.testing.assert_allclose(run(optim.Adam(rates)), expected, rtol=1e-10)
    np.testing.assert_allclose(run(optim.Adam({"scale": 0.1, None: 0.02})), expected, rtol=1e-10)
    np.testing.assert_allclose(
        run(optim.Adam(optim.per_param(lambda name: rates[name]))), expected, rtol=1e-10
    )


def test_step_sizes_by_name_may_be_schedules():
    rule = optim.Adam({"loc": optim.exponential_decay(0.1, 1, 0.5), None: 0.02})
    expected = reference(adam_step(lambda t, name: 0.1 * 0.5**t if name == "loc" else 0.02))
    np.testing.assert_allclose(run(rule), expected, rtol=1e-10)
    params = parameters()
    names = [variable.name for variable in rule(gradients(params), params)]
    assert "adam/schedule/step_count" in names


def test_every_optimizer_scales_with_its_step_size():
    # What makes step sizes per parameter possible without a rule for each group of them.
    for rule, _ in OPTIMIZERS.values():
        by_name = type(rule)(**{**vars(rule), "step_size": {None: rule.step_size}})
        np.testing.assert_allclose(run(by_name), run(rule), rtol=1e-9)


def test_a_shared_step_size_can_be_steered():
    rate = pytensor.shared(0.1, name="rate")
    params = parameters()
    updates = optim.SGD(rate)(gradients(params), params)
    step = pytensor.function([], [], updates=updates, mode="FAST_COMPILE")
    rate.set_value(0.0)
    step()
    np.testing.assert_array_equal(params[0].get_value(), START["loc"])


def test_missing_and_unknown_names_are_reported():
    params = parameters()
    with pytest.raises(ValueError, match=r"Adam: step_size has no entry for 'scale'.*key None"):
        optim.Adam({"loc": 0.1})(gradients(params), params)
    with pytest.warns(UserWarning, match="entry for 'locs'.*Did you mean 'loc'"):
        optim.Adam({"locs": 0.1, None: 0.2})(gradients(params), params)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: optim.Adam(-0.1), ValueError, "Adam: step_size must be positive and finite"),
        (lambda: optim.SGD(0), ValueError, "SGD: step_size must be positive"),
        (lambda: optim.SGD(np.nan), ValueError, "Found: nan"),
        (lambda: optim.SGD(np.inf), ValueError, "Found: inf"),
        (lambda: optim.SGD({"loc": -1}), ValueError, r"SGD: step_size\['loc'\] must be positive"),
        (lambda: optim.SGD({1: 0.1}), TypeError, "parameter names as keys"),
        (lambda: optim.Adam({"lr": 0.1}), TypeError, r"not Pyro's options.*optim.Adam\(0.1\)"),
        (
            lambda: optim.ClippedAdam({"lr": 0.1, "betas": (0.9, 0.99), "lrd": 0.999}),
            TypeError,
            r"optim.ClippedAdam\(0.1\), and 'betas', 'lrd' as arguments",
        ),
        (lambda: optim.SGD("0.1"), TypeError, r"Write for example optim.SGD\(0.01\)"),
        (lambda: optim.SGD(True), TypeError, "is not a step size"),
        (lambda: optim.SGD(None), TypeError, "is not a step size"),
        (lambda: optim.SGD(optim.Adam()), TypeError, "is not a step size"),
        (lambda: optim.SGD(pt.vector("r")), ValueError, "must be a scalar"),
        (lambda: optim.per_param(0.1), TypeError, "per_param: function must be callable"),
        (lambda: optim.Adam(b1=1.0), ValueError, "Adam: b1 must be at least 0 and less than 1"),
        (lambda: optim.Adam(b2=-0.1), ValueError, "Adam: b2"),
        (lambda: optim.Adam(b2="x"), TypeError, "Adam: b2 must be a number"),
        (lambda: optim.Adam(eps=0), ValueError, "Adam: eps must be positive"),
        (lambda: optim.ClippedAdam(clip_norm=0), ValueError, "ClippedAdam: clip_norm"),
        (lambda: optim.ClippedAdam(lrd=0), ValueError, "ClippedAdam: lrd"),
        (lambda: optim.AdamW(weight_decay=-1), ValueError, "AdamW: weight_decay"),
        (lambda: optim.Momentum(mass=1), ValueError, "Momentum: mass"),
        (lambda: optim.RMSProp(gamma=np.nan), ValueError, "RMSProp: gamma"),
        (lambda: optim.AdagradWindow(n_win=0), ValueError, "AdagradWindow: n_win"),
        (lambda: optim.AdagradWindow(n_win=2.5), TypeError, "n_win must be an integer"),
        (lambda: optim.cosine_decay(0.1, 0), ValueError, "decay_steps must be at least 1"),
        (lambda: optim.exponential_decay(0.1, 1, -1), ValueError, "decay_rate must be positive"),
        (lambda: optim.piecewise_constant([5, 3], [1, 2, 3]), ValueError, "must increase"),
        (lambda: optim.join([optim.constant(1)], [3]), ValueError, "one fewer than the pieces"),
        (lambda: optim.linear_onecycle(0.1, 2), ValueError, "three phases"),
        (lambda: optim.clip_by_global_norm(0), ValueError, "max_norm must be positive"),
        (lambda: optim.clip_by_value(-1), ValueError, "max_value must be positive"),
        (lambda: optim.clip_by_value(1, 2), ValueError, "min_value must be less"),
        (lambda: optim.chain(), ValueError, "at least one"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bad_schedules_are_reported_when_applied():
    params = parameters()
    with pytest.raises(TypeError, match="must return a number"):
        optim.SGD(lambda t: None)(gradients(params), params)
    with pytest.raises(ValueError, match="must return a scalar"):
        optim.SGD(lambda t: pt.ones(3))(gradients(params), params)
