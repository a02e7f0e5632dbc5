"""A program called with the wrong arguments, or data that do not fit, says so before it is compiled."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pymc as pm
import pytest

from pymc_svi import SVI, Predictive, handlers, optim, param, plate, sample
from pymc_svi.errors import InitializationError, NonFiniteError, SiteError
from pymc_svi.guides import AutoNormal

X = np.linspace(-1.0, 1.0, 12).reshape(4, 3)
Y = np.array([0.5, -0.5, 1.0, 0.0])


def model(X, y=None):
    w = pm.Normal("w", 0.0, 1.0, shape=X.shape[1])
    pm.Normal("y", X @ w, 1.0, observed=y)


def guide(X, y=None):
    pm.Normal("w", param("loc", np.zeros(3)), 1.0)


def bernoulli(X, y):
    pm.Bernoulli("y", logit_p=X @ pm.Normal("w", shape=3), observed=y)


def run(*args, program=model, guide=guide, **kwargs):
    return SVI(program, guide, optim.Adam(0.1)).run(1, *args, progressbar=False, **kwargs)


def refuse_to_compile(monkeypatch):
    def compiled(*args):
        raise AssertionError("a step was compiled before the data were checked")

    monkeypatch.setattr("pymc_svi.engine.training.Training.chunk", compiled)


# --- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"model does not take.*missing.*'X'.*Expected: model\(X, y=None\)"),
        ((X, Y, 3), {}, r"too many positional arguments. Found: 3 positional"),
        ((X,), {"Y": Y}, r"unexpected keyword argument 'Y'.*Did you mean 'y'\?"),
        ((X, Y), {"progress_bar": False}, r"'progress_bar'.*Did you mean 'progressbar'\?"),
        ((X, Y), {"callback": ()}, r"'callback'.*Did you mean 'callbacks'\?"),
    ],
)
def test_arguments_that_a_program_does_not_take(args, kwargs, message):
    with pytest.raises(TypeError, match=message):
        run(*args, **kwargs)


def test_a_guide_with_other_arguments_than_the_model_is_told_of():
    def other():
        pm.Normal("w", param("loc", np.zeros(3)), 1.0)

    with pytest.raises(TypeError, match=r"program other .* same arguments"):
        run(X, Y, guide=other)


@pytest.mark.parametrize("wrap", [handlers.scope, handlers.trace, AutoNormal])
def test_programs_in_handlers_and_guides_are_checked_when_they_are_called(wrap):
    with pytest.raises(TypeError, match="The program model does not take"):
        handlers.trace(wrap(model)).get_trace(X, Y, 3)


def test_programs_that_take_anything_are_called_with_anything():
    def anything(*args, **kwargs):
        pm.Normal("w", float(len(args) + len(kwargs)))

    traced = handlers.trace(anything).get_trace(1, 2, c=3)
    assert traced["w"].dist.owner.op.dist_params(traced["w"].dist.owner)[0].eval() == 3.0


def test_a_program_that_has_run_already_is_not_a_program():
    with (
        pm.Model(),
        pytest.raises(TypeError, match=r"Pass the function itself.*model\(X, y\) has run"),
    ):
        SVI(model(X, Y), guide)


# --- errors inside a program ------------------------------------------------------------------


def notes(error):
    return "\n".join(error.value.__notes__)


@pytest.mark.parametrize(
    ("args", "note"),
    [
        ((Y, X), "X: an array of shape (4,), float64\n  y: an array of shape (4, 3), float64"),
        ((pd.DataFrame(X), Y), "X: a DataFrame. Pass X.to_numpy()"),
        ((X.tolist(), Y), "X: a list. Pass np.asarray(X)"),
        ((None, Y), "X: None"),
        ((X.astype(str), Y), "Not all of it are numbers"),
        ((pd.DataFrame(X).assign(town="A"), Y), "X: a DataFrame. Not all of it are numbers"),
        ((X.astype("datetime64[D]"), Y), "It holds dates"),
        ((X, np.array(["yes", "no", "no", "no"])), "y: an array of shape (4,), <U3. Not all"),
        ((X, pd.Series(["yes", "no", "no", "no"])), "y: a Series. Not all of it are numbers"),
    ],
)
def test_an_error_in_a_program_says_what_it_was_called_with(args, note):
    with pytest.raises((TypeError, IndexError, AttributeError)) as error:
        run(*args, guide=AutoNormal(model))
    said = notes(error)
    assert "The program model was called with" in said and note in said
    assert said.count("was called with") == 1


@pytest.mark.parametrize("program", [lambda: pm.Normal("x"), lambda: sample("x", pm.Normal.dist())])
def test_a_program_that_runs_outside_of_any_model_is_told_of_one(program):
    with pytest.raises(TypeError, match="No model on context stack") as error:
        with handlers.trace(), handlers.seed(rng_seed=0):
            program()
    [note] = error.value.__notes__
    assert "with handlers.seed(rng_seed=0), pm.Model(): program()" in note


def test_an_array_that_is_indexed_by_a_minibatch_says_how():
    def picked():
        with plate("rows", 4, subsample_size=2) as rows:
            pm.Normal("y", 0.0, 1.0, observed=Y[rows])

    with pytest.raises(IndexError) as error:
        handlers.trace(picked).get_trace()
    assert notes(error).count("write pt.as_tensor(Y)[rows], or subsample(Y)") == 1


def test_a_frame_whose_columns_are_taken_is_an_argument_like_others():
    def columns(frame):
        slope = pm.Normal("w", 0.0, 1.0)
        pm.Normal("y", slope * frame["x"].to_numpy(), 1.0, observed=frame["y"])

    traced = handlers.trace(columns).get_trace(pd.DataFrame({"x": X[:, 0], "y": Y}))
    np.testing.assert_array_equal(traced["y"].value.eval(), Y)


# --- data that do not fit ---------------------------------------------------------------------


@pytest.mark.parametrize("guide", [guide, AutoNormal(model)], ids=["function", "auto"])
@pytest.mark.parametrize("y", [Y[:3], Y[:, None]], ids=["rows", "column"])
def test_other_rows_than_the_parameters_have(guide, y):
    with pytest.raises(SiteError, match=r"Site 'y': its value does not fit.*\(4,\)|\(1, 4\)"):
        run(X, y, guide=guide)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_covariates_that_are_not_finite_are_told_before_compiling(bad, monkeypatch):
    refuse_to_compile(monkeypatch)
    x = X.copy()
    x[2, 1] = bad
    with pytest.raises(NonFiniteError, match=rf"site 'y'.*shape \(4, 3\).*first {bad} at \[2, 1\]"):
        run(x, Y)


def test_missing_covariates_that_a_program_fills_in_are_no_error():
    def filled(X, y):
        w = pm.Normal("w", 0.0, 1.0, shape=3)
        pm.Normal("y", np.nan_to_num(X) @ w, 1.0, observed=y)

    x = X.copy()
    x[2, 1] = np.nan
    assert np.isfinite(run(x, Y, program=filled).losses).all()


def test_impossible_data_are_counted_at_the_start():
    with pytest.raises(
        InitializationError, match=r"'y'.*2 of 4 observations, the first 2 at \[1\]"
    ):
        run(X, np.array([0, 2, 1, 2]), program=bernoulli, guide=AutoNormal(bernoulli))


def test_rows_that_set_data_left_behind_are_told_of():
    with pm.Model() as built:
        w = pm.Normal("w", 0.0, 1.0, shape=3)
        pm.Normal("y", pm.Data("X", X) @ w, 1.0, observed=pm.Data("data", Y))
    with built:
        pm.set_data({"X": X[:2]})
    said = r"The data of the model are X \(2, 3\), data \(4,\)"
    with pytest.raises(ValueError, match="broadcast") as error:
        Predictive(built, {"w": np.zeros((5, 3))})(random_seed=0)
    assert said.replace("\\", "") in notes(error)
    with pytest.raises(ValueError, match="broadcast") as error:
        run(program=built, guide=AutoNormal(built))
    assert said.replace("\\", "") in notes(error)


@pytest.mark.parametrize(
    "computed",
    [
        lambda X: np.where(X[:, 0] > 0, 1.0, 2.0),
        lambda X: X[:, 0] if (X > 0).all() else X[:, 1],
        lambda X: np.column_stack([np.ones(4), X])[:, 0],
        lambda X: np.concatenate([X[:, 0], X[:, 1]])[:4],
        lambda X: X[:, int(X[0, 0])],
        lambda X: X[X[:, 0] > np.isnan(X[:, 0])][:, 0],
        lambda X: np.linalg.inv(X.T @ X)[0, 0] * X[:, 0],
        lambda X: np.max(X) * X[:, 0],
    ],
    ids=["where", "if", "stack", "concatenate", "int", "isnan", "linalg", "max"],
)
def test_numpy_on_an_argument_says_what_to_write(computed):
    def program(X, y):
        pm.Normal("y", computed(X) + pm.Normal("b"), 1.0, observed=y)

    with pytest.raises((TypeError, ValueError)) as caught:
        SVI(program, AutoNormal(program)).init(X, Y)
    notes = [note for note in caught.value.__notes__ if "array arguments are symbolic" in note]
    assert len(notes) == 1 and "pt.switch in place of np.where" in notes[0]
