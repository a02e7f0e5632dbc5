"""Optimizers follow their formulas, name their state, and refuse what isn't one."""

from __future__ import annotations

import pickle

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor_ml import optim as pml

from pymc_svi import optim

# A quadratic in two parameters: loss = 0.5 * sum(curvature * (p - target)^2).
START = {"loc": np.array([1.0, -2.0, 0.5]), "scale": np.array(0.3)}
TARGET = {"loc": np.array([0.0, 1.0, 0.5]), "scale": np.array(-1.0)}
CURVATURE = {"loc": np.array([1.0, 30.0, 2.0]), "scale": np.array(4.0)}


def parameters(dtype="float64"):
    return [pytensor.shared(value.astype(dtype), name=name) for name, value in START.items()]


def gradients(params):
    return [
        np.asarray(CURVATURE[p.name], p.dtype) * (p - np.asarray(TARGET[p.name], p.dtype))
        for p in params
    ]


def run(rule, steps=5, dtype="float64", as_loss=False):
    """Values of both parameters after each step."""
    params = parameters(dtype)
    grads = gradients(params)
    loss = sum((0.5 * CURVATURE[p.name] * (p - TARGET[p.name]) ** 2).sum() for p in params)
    updates = rule(loss if as_loss else grads, params)
    step = pytensor.function([], [], updates=updates, mode="FAST_COMPILE")
    history = []
    for _ in range(steps):
        step()
        history.append(np.concatenate([np.ravel(p.get_value()) for p in params]))
    return np.array(history)


def reference(step, steps=5):
    """The same with ``step(name, t, p, g, state) -> p`` in plain numpy, t from 0."""
    p = {name: value.copy() for name, value in START.items()}
    state = {name: {} for name in p}
    history = []
    for t in range(steps):
        for name, value in p.items():
            g = CURVATURE[name] * (value - TARGET[name])
            p[name] = step(name, t, value, g, state[name])
        history.append(np.concatenate([np.ravel(value) for value in p.values()]))
    return np.array(history)


def adam_step(lr, b1=0.9, b2=0.999, eps=1e-8, clip=None, decay=0.0, nesterov=False):
    def step(name, t, p, g, s):
        if clip is not None:
            g = np.clip(g, -clip, clip)
        s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
        s["v"] = b2 * s.get("v", 0) + (1 - b2) * g**2
        m = b1 * s["m"] + (1 - b1) * g if nesterov else s["m"]
        direction = m / (1 - b1 ** (t + 1)) / (np.sqrt(s["v"] / (1 - b2 ** (t + 1))) + eps)
        rate = lr(t, name) if callable(lr) else lr
        return p - rate * (direction + decay * p)

    return step


def sgd_step(lr):
    return lambda name, t, p, g, s: p - (lr(t, name) if callable(lr) else lr) * g


def momentum_step(lr, mass, nesterov=False):
    def step(name, t, p, g, s):
        s["v"] = mass * s.get("v", 0) + g
        return p - lr * (mass * s["v"] + g if nesterov else s["v"])

    return step


def rmsprop_step(lr, gamma=0.9, eps=1e-8, momentum=0.0, centered=False):
    def step(name, t, p, g, s):
        s["m2"] = gamma * s.get("m2", 0) + (1 - gamma) * g**2
        s["m1"] = gamma * s.get("m1", 0) + (1 - gamma) * g
        variance = s["m2"] - s["m1"] ** 2 if centered else s["m2"]
        s["v"] = momentum * s.get("v", 0) + lr * g / np.sqrt(variance + eps)
        return p - s["v"]

    return step


def adagrad_step(lr, momentum):
    def step(name, t, p, g, s):
        s["g2"] = s.get("g2", 0) + g**2
        with np.errstate(divide="ignore"):
            inverse = np.where(s["g2"] > 0, 1 / np.sqrt(s["g2"]), 0.0)
        s["m"] = (1 - momentum) * g * inverse + momentum * s.get("m", 0)
        return p - lr * s["m"]

    return step


def adagrad_window_step(lr, eps, n_win):
    def step(name, t, p, g, s):
        s.setdefault("window", []).append(g**2)
        return p - lr * g / np.sqrt(sum(s["window"][-n_win:]) + eps)

    return step


def adadelta_step(lr, rho, eps):
    def step(name, t, p, g, s):
        s["g2"] = rho * s.get("g2", 0) + (1 - rho) * g**2
        x = np.sqrt(s.get("x2", 0) + eps) / np.sqrt(s["g2"] + eps) * g
        s["x2"] = rho * s.get("x2", 0) + (1 - rho) * x**2
        return p - lr * x

    return step


def adamax_step(lr, b1=0.9, b2=0.999, eps=1e-8):
    def step(name, t, p, g, s):
        s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
        s["u"] = np.maximum(b2 * s.get("u", 0), abs(g) + eps)
        return p - lr / (1 - b1 ** (t + 1)) * s["m"] / s["u"]

    return step


OPTIMIZERS = {
    "SGD": (optim.SGD(0.02), sgd_step(0.02)),
    "Momentum": (optim.Momentum(0.02, mass=0.8), momentum_step(0.02, 0.8)),
    "Nesterov": (optim.Nesterov(0.02, mass=0.8), momentum_step(0.02, 0.8, nesterov=True)),
    "Adam": (optim.Adam(0.1, b1=0.8, b2=0.99, eps=1e-3), adam_step(0.1, 0.8, 0.99, 1e-3)),
    "AdamW": (optim.AdamW(0.1, weight_decay=0.3), adam_step(0.1, decay=0.3)),
    "AdamW without decay": (optim.AdamW(0.1, weight_decay=0), adam_step(0.1)),
    "Nadam": (optim.Nadam(0.1), adam_step(0.1, nesterov=True)),
    "Adamax": (optim.Adamax(0.1), adamax_step(0.1)),
    "ClippedAdam": (optim.ClippedAdam(0.1), adam_step(0.1, clip=10.0)),
    "ClippedAdam decaying": (
        optim.ClippedAdam(0.1, clip_norm=2.0, lrd=0.5),
        adam_step(lambda t, name: 0.1 * 0.5 ** (t + 1), clip=2.0),
    ),
    "RMSProp": (optim.RMSProp(0.1, gamma=0.8, eps=1e-4), rmsprop_step(0.1, 0.8, 1e-4)),
    "RMSProp centered": (optim.RMSProp(0.1, centered=True), rmsprop_step(0.1, centered=True)),
    "RMSPropMomentum": (optim.RMSPropMomentum(0.1), rmsprop_step(0.1, momentum=0.9)),
    "Adagrad": (optim.Adagrad(0.1), adagrad_step(0.1, 0.9)),
    "Adagrad plain": (optim.Adagrad(0.1, momentum=0.0), adagrad_step(0.1, 0.0)),
    "AdagradWindow": (
        optim.AdagradWindow(0.1, eps=0.05, n_win=3),
        adagrad_window_step(0.1, 0.05, 3),
    ),
    "Adadelta": (optim.Adadelta(0.5, rho=0.8, eps=1e-3), adadelta_step(0.5, 0.8, 1e-3)),
}
every_optimizer = pytest.mark.parametrize(
    ("rule", "step"), OPTIMIZERS.values(), ids=OPTIMIZERS.keys()
)


@every_optimizer
def test_follows_its_formula(rule, step):
    np.testing.assert_allclose(run(rule), reference(step), rtol=1e-10, atol=1e-12)


@every_optimizer
def test_state_is_shared_variables_with_unique_names(rule, step):
    params = parameters()
    updates = rule(gradients(params), params)
    state = [variable for variable in updates if variable not in set(params)]
    names = [variable.name for variable in state]
    assert all(names)
    assert len(set(names)) == len(names)
    assert set(params) <= set(updates)
    for name in names:
        assert name.startswith(("loc/", "scale/")) or name.endswith("step_count")
    again = parameters()
    assert [v.name for v in rule(gradients(again), again)] == [v.name for v in updates]
    assert list(optim.name_state(updates, params)) == names


@every_optimizer
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_updates_keep_their_dtypes(rule, step, dtype):
    params = parameters(dtype)
    updates = rule(gradients(params), params)
    for variable, value in updates.items():
        assert value.type.dtype == variable.type.dtype
        if variable.name.endswith("step_count"):
            assert variable.type.dtype == "int64"
    if dtype == "float32":
        np.testing.assert_allclose(run(rule, dtype=dtype), reference(step), rtol=1e-3, atol=1e-4)


@every_optimizer
def test_repr_evaluates_to_an_equal_optimizer_and_pickles(rule, step):
    assert eval(repr(rule), vars(optim)) == rule
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert optim.as_rule(rule) is rule


@pytest.mark.filterwarnings("ignore:Scan return signature:DeprecationWarning")
@every_optimizer
def test_runs_inside_scan(rule, step):
    params = parameters()
    updates = rule(gradients(params), params)
    _, scan_updates = pytensor.scan(lambda: dict(updates), n_steps=5, return_updates=True)
    pytensor.function([], [], updates=scan_updates, mode="FAST_COMPILE")()
    found = np.concatenate([np.ravel(p.get_value()) for p in params])
    np.testing.assert_allclose(found, reference(step)[-1], rtol=1e-10, atol=1e-12)


def test_a_loss_gives_the_same_steps_as_its_gradients():
    np.testing.assert_allclose(run(optim.Adam(0.1), as_loss=True), run(optim.Adam(0.1)), rtol=1e-12)


def test_adagrad_takes_no_step_where_the_gradient_is_zero():
    history = run(optim.Adagrad(0.1))
    assert np.isfinite(history).all()
    assert (history[:, 2] == START["loc"][2]).all()


def test_gradients_far_smaller_than_the_parameter_are_not_lost():
    param = pytensor.shared(np.array([1e10]), name="p")
    updates = optim.chain(optim.clip_by_value(1.0), optim.SGD(1e12))([pt.constant([1e-9])], [param])
    pytensor.function([], [], updates=updates, mode="FAST_COMPILE")()
    assert param.get_value() == 1e10 - 1e3


# --- step sizes ----------------------------------------------------------------------------


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


# --- composition ---------------------------------------------------------------------------


def test_clip_by_value_clips_elements():
    rule = optim.chain(optim.clip_by_value(2.0), optim.SGD(0.1))
    expected = reference(lambda name, t, p, g, s: p - 0.1 * np.clip(g, -2, 2))
    np.testing.assert_allclose(run(rule), expected, rtol=1e-12)


def test_clip_by_global_norm_keeps_the_direction():
    p = np.concatenate([np.ravel(v) for v in START.values()])
    g = np.concatenate([np.ravel(CURVATURE[n] * (START[n] - TARGET[n])) for n in START])
    expected = p - 0.1 * g / np.linalg.norm(g) * 0.7
    found = run(optim.chain(optim.clip_by_global_norm(0.7), optim.SGD(0.1)), steps=1)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    loose = optim.chain(optim.clip_by_global_norm(1e6), optim.SGD(0.01))
    np.testing.assert_allclose(run(loose), run(optim.SGD(0.01)), rtol=1e-12)


def test_chains_take_pytensor_ml_and_pymc_rules():
    clip = optim.clip_by_value(2.0)
    expected = run(optim.chain(clip, optim.Adam(0.1)))
    np.testing.assert_allclose(run(optim.chain(clip, pml.adam(0.1))), expected, rtol=1e-12)
    nested = optim.chain(optim.chain(clip), pml.chain(pml.adam(1.0), pml.scale(0.1)))
    np.testing.assert_allclose(run(nested), expected, rtol=1e-12)
    pymc = run(optim.chain(clip, pm.sgd(learning_rate=0.1)))
    np.testing.assert_allclose(pymc, run(optim.chain(clip, optim.SGD(0.1))), rtol=1e-12)


def test_a_chain_keeps_gradient_transforms_of_users_ahead_of_the_rule():
    def halve(incoming, params):
        updates = pml.to_updates(incoming, params).copy()
        for p in params:
            updates[p] = p + 0.5 * (updates[p] - p)
        return updates

    chained = optim.chain(optim.clip_by_value(2.0), halve, optim.SGD(0.1))
    expected = reference(lambda name, t, p, g, s: p - 0.05 * np.clip(g, -2, 2))
    np.testing.assert_allclose(run(chained), expected, rtol=1e-12)


def test_chains_print_as_written_and_name_their_state():
    rule = optim.chain(optim.clip_by_value(1.0), optim.chain(optim.Adam(0.1)))
    assert repr(rule) == f"chain(clip_by_value(1.0, -1.0), {optim.Adam(0.1)!r})"
    assert eval(repr(rule), vars(optim)) == rule
    twice = optim.chain(pml.trace(0.9), pml.trace(0.9), optim.SGD(0.1))
    params = parameters()
    names = [variable.name for variable in twice(gradients(params), params)]
    assert len(set(names)) == len(names)


def test_two_rules_in_a_chain_are_refused():
    params = parameters()
    with pytest.raises(ValueError, match="Keep one rule in a chain"):
        optim.chain(optim.Adam(), optim.SGD())(gradients(params), params)


# --- what users pass -----------------------------------------------------------------------


def test_none_is_adam():
    assert optim.as_rule(None) == optim.Adam(1e-3)


@pytest.mark.parametrize(
    "rule",
    [
        pm.adam(learning_rate=0.1),
        pm.adagrad_window(learning_rate=0.1),
        pm.momentum(learning_rate=0.01),
        pml.adam(0.1),
        pml.chain(pml.clip_by_global_norm(1.0), pml.sgd(0.1)),
        lambda grads, params: {p: p - 0.1 * g for p, g in zip(params, grads, strict=True)},
        lambda grads, params: [(p, p - 0.1 * g) for p, g in zip(params, grads, strict=True)],
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rules_from_elsewhere_are_accepted_and_their_state_named(rule, dtype):
    rule = optim.as_rule(rule)
    params = parameters(dtype)
    updates = rule(tuple(gradients(params)), params)
    names = [variable.name for variable in updates]
    assert all(names)
    assert len(set(names)) == len(names)
    again = parameters(dtype)
    assert [variable.name for variable in rule(gradients(again), again)] == names
    assert all(value.dtype == variable.dtype for variable, value in updates.items())
    step = pytensor.function([], [], updates=updates, mode="FAST_COMPILE")
    step()
    assert all(np.isfinite(p.get_value()).all() for p in params)


def test_pymc_adagrad_window_is_our_adagrad_window():
    theirs = run(optim.as_rule(pm.adagrad_window(learning_rate=0.1, n_win=3)), steps=8)
    np.testing.assert_allclose(theirs, run(optim.AdagradWindow(0.1, n_win=3), steps=8), rtol=1e-9)


def test_name_state_numbers_what_has_no_name_and_keeps_the_rest():
    loc = pytensor.shared(0.0, name="loc")
    state = [pytensor.shared(0.0, name=name) for name in (None, "kept", "twice", "twice", "loc")]
    updates = {loc: loc + 1, **{variable: variable + 1 for variable in state}}
    named = optim.name_state(updates, [loc])
    assert list(named) == ["optim/0", "kept", "optim/2", "optim/3", "optim/4"]
    assert [named[name] for name in named] == state
    assert loc.name == "loc"
    assert list(optim.name_state(updates, [loc])) == list(named)


def fake(module, name):
    return type(name, (), {"__module__": module, "__call__": lambda self, a, b: {}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (optim.Adam, r"the class Adam. Write optim.Adam\(0.01\)"),
        (int, "the class int"),
        ("adam", r"the string 'adam'. Write optim.Adam\(\)"),
        ("rms_prop", r"Write optim.RMSProp\(\)"),
        ("xyz", r"Write for example optim.Adam\(0.01\)"),
        (0.01, r"Write optim.Adam\(0.01\)"),
        ({"lr": 0.01}, "the dict"),
        (optim.constant(0.1), "Pass it to an optimizer"),
        (optim.clip_by_value, r"optim.clip_by_value\(\.\.\.\)"),
        (pml.adam, r"pytensor_ml.optim.adam\(0.01\)"),
        (object(), "of type object"),
        (lambda grads: {}, "can't be called with two arguments"),
        (fake("torch.optim.adam", "Adam")(), r"torch.optim.adam.Adam. .*write optim.Adam\(...\)"),
        (fake("pyro.optim.optim", "PyroOptim")(), "pymc_svi trains PyTensor variables"),
        (fake("numpyro.optim", "ClippedAdam")(), r"write optim.ClippedAdam\(...\)"),
        (fake("optax._src.base", "GradientTransformation")(), r"write optim.Adam\(...\)"),
    ],
)
def test_other_objects_are_refused_with_what_to_write(given, message):
    with pytest.raises(TypeError, match=f"Not an optimizer. Found: .*{message}"):
        optim.as_rule(given)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda grads, params: optim.Adam(), "returned Adam"),
        (lambda grads, params: None, "returned NoneType"),
        (lambda grads, params: {"loc": grads[0]}, "whose keys are shared variables"),
    ],
)
def test_rules_that_return_something_else_are_reported(rule, message):
    params = parameters()
    with pytest.raises(TypeError, match=message):
        optim.as_rule(rule)(gradients(params), params)


def test_updates_that_change_a_type_are_reported():
    count = pytensor.shared(np.int64(0), name="count")
    rule = optim.as_rule(lambda grads, params: {count: count + 0.5})
    params = parameters()
    with pytest.raises(TypeError, match="changes the type of 'count'. Found: float64"):
        rule(gradients(params), params)


def test_a_minimal_rule_class_plugs_in():
    class SignDescent:
        def __call__(self, loss_or_grads, params):
            return {p: p - 0.1 * pt.sign(g) for p, g in zip(params, loss_or_grads, strict=True)}

    expected = reference(lambda name, t, p, g, s: p - 0.1 * np.sign(g))
    np.testing.assert_allclose(run(optim.as_rule(SignDescent())), expected, rtol=1e-12)
