"""Arguments of programs: arrays are data, everything else is fixed when a step is compiled."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi import SVI, optim, param
from pymc_svi.engine.arguments import Arguments, DataVariable, is_data
from pymc_svi.guides import AutoNormal
from tests.models import Regression

FAST = {"mode": "FAST_COMPILE"}
SETTINGS = {"random_seed": 5, "progressbar": False}


def key(*args, **kwargs):
    return Arguments(args, kwargs).key


# --- what is data -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [np.zeros(3), np.arange(3), np.array([True, False]), np.float32([1, 2]), np.array(2.0)],
    ids=["float", "int", "bool", "float32", "scalar array"],
)
def test_arrays_of_numbers_are_data(value):
    assert is_data(value)
    [variable] = Arguments((value,), {}).variables()
    assert isinstance(variable, DataVariable)
    np.testing.assert_array_equal(variable.eval(), value)
    kept = pytensor.config.floatX if value.dtype.kind == "f" else value.dtype
    assert variable.type.dtype == kept


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        3,
        True,
        None,
        "text",
        [1.0, 2.0],
        np.array([1.0, np.nan]),
        np.ma.masked_array([1.0, 2.0], [False, True]),
        np.array(["a"]),
        pd.Series([1.0, 2.0]),
        pd.DataFrame({"x": [1.0]}),
        pt.constant(1.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_everything_else_is_passed_on_as_it_is(value):
    assert not is_data(value)
    arguments = Arguments((), {"a": value})
    args, kwargs = arguments.split(arguments.variables())
    assert args == ()
    assert kwargs["a"] is value


def test_arrays_are_compared_by_shape_and_dtype_alone():
    assert key(np.zeros(3)) == key(np.ones(3)) == key(np.float32([1, 2, 3]))
    assert key(np.zeros(3)) != key(np.zeros(4))
    assert key(np.zeros(3)) != key(np.zeros((3, 1)))
    assert key(np.zeros(3)) != key(np.zeros(3, int))
    assert key(np.zeros(3)) != key(x=np.zeros(3))
    assert key(x=np.zeros(3)) != key(y=np.zeros(3))


def test_fixed_values_are_compared_by_value_and_type():
    assert key(1, "a", None) == key(1, "a", None)
    assert key(1) != key(1.0)
    assert key(1) != key(True)
    assert key(None) != key(0)


def test_lists_and_data_frames_are_compared_by_their_content_when_passed():
    assert key([1.0, 2.0]) == key([1.0, 2.0])
    values = [1.0, 2.0]
    before = key(values)
    values.append(3.0)
    assert key(values) != before
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    before = key(frame)
    assert key(frame.copy()) == before
    frame.loc[0, "x"] = 5.0
    assert key(frame) != before


def test_what_cannot_be_pickled_is_compared_by_identity():
    functions = [lambda: 1]  # a list, which cannot be hashed, of what cannot be pickled
    assert key(functions) == key(functions)
    assert key(functions) != key([lambda: 1])


def test_a_data_variable_has_a_shape_of_numbers():
    [X] = Arguments((np.zeros((4, 3)),), {}).variables()
    assert X.shape == (4, 3)
    assert len(X) == 4
    assert X.size == 12
    assert X.ndim == 2
    assert np.zeros(X.shape[1]).shape == (3,)
    [x] = Arguments((np.array(1.0),), {}).variables()
    assert x.shape == ()
    with pytest.raises(TypeError, match="scalar has no length"):
        len(x)


# --- in a fit ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return Regression.simulated()


@pytest.fixture(scope="module")
def svi(data):
    return SVI(data, AutoNormal(data), optim.Adam(0.05), compile_kwargs=FAST)


def test_new_values_of_the_same_shape_use_the_same_compiled_step(svi, data):
    first = svi.run(3, data.X, data.y, **SETTINGS)
    [(training, _)] = svi._trainings.values()
    compiled = training.chunk()
    second = svi.run(3, data.X, data.y + 1, **SETTINGS)
    assert [training for training, _ in svi._trainings.values()] == [training]
    assert training.chunk() is compiled
    assert not np.any(first.losses == second.losses)
    fresh = SVI(data, AutoNormal(data), optim.Adam(0.05), compile_kwargs=FAST)
    expected = fresh.run(3, data.X, data.y + 1, **SETTINGS)
    np.testing.assert_array_equal(second.losses, expected.losses)
    again = svi.run(3, data.X, data.y, **SETTINGS)
    np.testing.assert_array_equal(again.losses, first.losses)


def test_another_shape_compiles_anew_and_is_fitted_right(svi, data):
    svi.run(3, data.X, data.y, **SETTINGS)
    fewer = svi.run(3, data.X[:5], data.y[:5], **SETTINGS)
    assert len(svi._trainings) == 2
    fresh = SVI(data, AutoNormal(data), optim.Adam(0.05), compile_kwargs=FAST)
    expected = fresh.run(3, data.X[:5], data.y[:5], **SETTINGS)
    np.testing.assert_allclose(fewer.losses, expected.losses, rtol=1e-12)
    wider = svi.run(3, np.column_stack([data.X, data.X]), data.y, **SETTINGS)
    assert wider.params["weights_auto_loc"].shape == (4,)


def test_keyword_arguments_are_data_too(svi, data):
    positional = svi.run(3, data.X, data.y, **SETTINGS)
    keyword = svi.run(3, X=data.X, y=data.y, **SETTINGS)
    np.testing.assert_allclose(keyword.losses, positional.losses, rtol=1e-12)


def test_fixed_arguments_choose_what_the_program_does():
    def model(y, family, n_latents=1):
        mu = sum(pm.Normal(f"x{i}") for i in range(n_latents))
        getattr(pm, family)("y", mu, 1.0, observed=y)

    svi = SVI(model, AutoNormal(model), compile_kwargs=FAST)
    # A guide keeps the latents of its first run, so each family and size is fitted for itself.
    y = np.array([1.0, 2.0])
    normal = svi.run(2, y, "Normal", **SETTINGS)
    laplace = svi.run(2, y, "Laplace", **SETTINGS)
    assert len(svi._trainings) == 2
    assert not np.any(normal.losses == laplace.losses)


def test_a_list_that_grew_between_fits_is_seen():
    def model(y):
        mu = pm.Normal("mu")
        pm.Normal("y", mu, 1.0, observed=y)

    def guide(y):
        pm.Normal("mu", param("loc", 0.0), 1.0)

    svi = SVI(model, guide, compile_kwargs=FAST)
    y = [1.0, 2.0]
    before = svi.run(2, y, **SETTINGS)
    y.append(30.0)
    after = svi.run(2, y, **SETTINGS)
    assert np.all(after.losses > before.losses + 100)


@pytest.mark.parametrize("kind", [bool, int])
def test_integer_and_boolean_arrays_keep_their_meaning(kind):
    y = np.array([1, 0, 1, 1]).astype(kind)
    group = np.array([0, 1, 1, 0])

    def model(group, y):
        effect = pm.Normal("effect", shape=2)
        pm.Bernoulli("y", logit_p=effect[group], observed=y)

    def guide(group, y):
        pm.Normal("effect", param("loc", np.zeros(2)), 1e-6)

    svi = SVI(model, guide, compile_kwargs=FAST)
    state = svi.init(group, y, random_seed=0)
    entropy = 2 * (0.5 * np.log(2 * np.pi * np.e) + np.log(1e-6))
    prior = -np.log(2 * np.pi)
    loss = svi.evaluate(state, group, y)
    # The noise in log q has a standard deviation of 1.
    assert loss == pytest.approx(-entropy - prior + 4 * np.log(2), abs=6)
    other = svi.evaluate(state, group, 1 - y.astype(int)) if kind is int else loss
    assert other == pytest.approx(loss, abs=1e-4)


def test_pandas_objects_are_data_of_the_model_as_in_pymc():
    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 3.0, 5.0]})

    def model(frame):
        slope = pm.Normal("slope", 0, 10)
        pm.Normal("y", 1 + slope * frame["x"].to_numpy(), 1.0, observed=frame["y"])

    def guide(frame):
        pm.Normal("slope", param("loc", 0.0), 0.1)

    svi = SVI(model, guide, optim.Adam(0.1), compile_kwargs=FAST)
    result = svi.run(400, frame, **SETTINGS)
    assert result.params["loc"] == pytest.approx(10 / (5 + 0.01), abs=0.1)


def test_arrays_with_missing_values_are_imputed():
    """y = (1, ?, 3): the missing value has the posterior predictive as its posterior."""

    def model(y):
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Normal("y", mu, 1.0, observed=y)

    y = np.array([1.0, np.nan, 3.0])
    guide = AutoNormal(model)
    with pytest.warns(Warning, match="missing|[Ii]mput"):
        result = SVI(model, guide, optim.Adam(0.05), compile_kwargs=FAST).run(2_000, y, **SETTINGS)
        posterior = result.sample_posterior(100, random_seed=1)
    # Mean field keeps the posterior mean of a Gaussian: mu = 4/3, and the missing value too.
    assert result.params["mu_auto_loc"] == pytest.approx(4 / 3, abs=0.2)
    assert result.params["y_unobserved_auto_loc"] == pytest.approx(4 / 3, abs=0.2)
    joined = posterior.posterior["y"].values[0]
    np.testing.assert_array_equal(joined[:, [0, 2]], np.tile([1.0, 3.0], (100, 1)))
    np.testing.assert_array_equal(joined[:, 1], posterior.posterior["y_unobserved"].values[0, :, 0])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "uint32", "uint64", ">i4", ">i8"])
def test_whole_numbers_have_a_sign_and_room(dtype):
    value = np.array([1, 100]).astype(dtype)
    [variable] = Arguments((value,), {}).variables()
    assert variable.type.dtype in ("int32", "int64")
    difference = (variable[0] - variable[1]) * variable[1] ** 2
    assert difference.eval() == -99 * 100**2


def test_arguments_by_place_have_the_names_of_the_program():
    def program(X, y=None, *rest): ...

    arguments = Arguments(tuple(np.zeros((4, 2))), {"z": np.zeros(2)})
    names = [variable.name for variable in arguments.variables(program)]
    assert names == ["X", "y", "arg2", "arg3", "z"]
    assert arguments.variables()[0].name == "arg0"
