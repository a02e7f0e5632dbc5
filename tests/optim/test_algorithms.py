"""Optimizers follow their formulas and name their state."""

from __future__ import annotations

import pickle

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi import optim
from tests.optim.formulas import OPTIMIZERS
from tests.optim.quadratic import START, gradients, parameters, reference, run

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
