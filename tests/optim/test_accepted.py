"""What users pass as an optimizer."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor_ml import optim as pml

from pymc_svi import optim
from tests.optim.quadratic import gradients, parameters, reference, run


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
