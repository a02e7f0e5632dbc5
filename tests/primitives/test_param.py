"""``param``."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

from pymc_svi import constraints, param
from pymc_svi.errors import InitializationError, SiteError
from pymc_svi.handlers import trace


def evaluated(expression):
    return expression.eval(mode="FAST_COMPILE")


@pytest.mark.parametrize("init", [1.5, np.float32(1.5), lambda: 1.5, [1.5]])
def test_a_param_starts_at_its_starting_value(init):
    value = evaluated(param("p", init, constraint=constraints.positive))
    np.testing.assert_allclose(value, np.full(np.shape(init() if callable(init) else init), 1.5))


def test_a_scalar_fills_the_dims_of_a_param():
    with pm.Model(coords={"city": range(3)}):
        assert evaluated(param("p", 2.0, dims="city")).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(), InitializationError, "'p' has no starting value at its first use.*an array"),
        (dict(init=-1.0, constraint=constraints.positive), InitializationError,
         "'p' starts outside its constraint positive.*must be positive; found -1.0"),
        (dict(init=np.nan), InitializationError, "'p' starts at a value that is not finite"),
        (dict(init=pt.scalar("s")), InitializationError, "'p' starts at a symbolic expression"),
        (dict(init=0.0, dims="town"), SiteError, "dim 'town' is not in the coords.*'city'"),
        (dict(init=np.zeros(2), dims="city"), SiteError,
         "dim 'city' has 3 in the model, 2 in the starting value"),
        (dict(init=np.zeros((2, 3)), dims="city"), SiteError, "2 dimensions but 1 dims|has 2 dim"),
    ],
)  # fmt: skip
def test_a_param_that_cannot_start_says_why(arguments, error, message):
    with pm.Model(coords={"city": range(3)}), pytest.raises(error, match=message):
        param("p", **arguments)


def test_a_param_without_a_name_is_refused():
    with pytest.raises(TypeError, match="first argument is its name"):
        param(1.0)


def test_a_param_inside_a_named_model_has_its_name():
    with pm.Model(name="m"), trace() as run:
        param("p", 0.0)
    assert list(run) == ["m::p"]
