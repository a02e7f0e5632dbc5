"""The state of an object is read from its attributes and put back."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi.engine.attributes import read_state, write_state
from pymc_svi.errors import StateError

Moments = namedtuple("Moments", "first second")


class Everything:
    def __init__(self):
        self.text, self.nothing, self.shape = "adam", None, (2, 3)
        self.count, self.rate, self.on = 3, 0.5, True
        self.array = np.arange(3.0)
        self.loc = pytensor.shared(np.zeros(2), name="loc")
        self.params = [self.loc]
        self.nested = {"a": {"b": np.ones(1)}, "c": [np.zeros(2), np.zeros(3)]}
        self.history = []
        self.moments = Moments(np.zeros(2), np.zeros(1))
        self.generator = np.random.default_rng(1)
        self.legacy = np.random.RandomState(2)
        noise = pytensor.shared(np.random.default_rng(3))
        after, draw = pt.random.normal(size=2, rng=noise).owner.outputs
        clock = pytensor.shared(0.0)
        updates = {self.loc: self.loc + draw, clock: clock + 1, noise: after}
        self.update = pytensor.function([], draw, updates=updates, mode="FAST_COMPILE")

    def move(self):
        self.count += 1
        self.array = self.array + self.generator.normal()
        self.nested["a"]["b"] = self.nested["a"]["b"] + self.legacy.normal()
        self.nested["c"][1] = self.nested["c"][1] + 1
        self.moments = Moments(self.moments.first + 1, self.moments.second + 2)
        self.history.append(float(self.update()[0]))
        self.late = {"made": self.history[-1]}


def test_what_is_put_back_goes_on_as_if_nothing_had_been_between():
    one, other = Everything(), Everything()
    one.move()
    state = read_state(one)
    write_state(other, state)
    assert isinstance(other.count, int) and isinstance(other.on, bool)
    assert isinstance(other.moments, Moments) and other.history == one.history
    for _ in range(2):
        one.move(), other.move()
    after, expected = read_state(other), read_state(one)
    assert list(after) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_params_of_another_shape_are_refused_before_anything_is_changed():
    one = Everything()
    state = read_state(one)
    with pytest.raises(StateError, match=r"'loc' has another shape. Found: \(3,\). Expected: \(2,"):
        write_state(one, {**state, "count": np.array(7), "loc": np.zeros(3)})
    with pytest.raises(StateError, match="does not belong to this Everything"):
        write_state(one, {**state, "count": np.array(7), "params/other": np.zeros(3)})
    assert one.count == 3
