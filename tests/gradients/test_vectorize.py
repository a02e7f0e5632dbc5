"""Graphs at many values at once have the gradients of each of them."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi.evaluation import evaluation_mode
from pymc_svi.gradients import vectorize_draws
from pymc_svi.gradients.vectorize import vectorize

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4, 3))
ROWS = RNG.integers(0, 4, 4)
COLUMNS = RNG.integers(0, 3, (5, 4, 4))
WEIGHTS = RNG.normal(size=(5, 4, 4))

x = pt.tensor("x", shape=(4, 3))
xs = pt.tensor("xs", shape=(5, 4, 3))
rows = pt.tensor("rows", shape=(4,), dtype="int64")
columns = pt.tensor("columns", shape=(4, 4), dtype="int64")
all_columns = pt.tensor("all_columns", shape=(5, 4, 4), dtype="int64")


def exact_gradient():
    gradient = np.zeros_like(X)
    for i, (columns_of_one, weights) in enumerate(zip(COLUMNS, WEIGHTS, strict=True)):
        np.add.at(gradient[i], (np.broadcast_to(ROWS, (4, 4)), columns_of_one), weights)
    return gradient


@pytest.mark.parametrize("batched", [False, True])
def test_the_gradient_of_a_read_at_indices_of_different_dimensions(batched):
    of, value = (xs, X) if batched else (x, X[0])
    replace = {columns: all_columns} | ({x: xs} if batched else {})
    [read] = vectorize([x[rows, columns]], replace)
    gradient = pytensor.grad((read * WEIGHTS).sum(), of)
    function = pytensor.function([of, rows, all_columns], [read, gradient], mode=evaluation_mode())
    found, slope = function(value, ROWS, COLUMNS)
    sources = X if batched else [X[0]] * 5
    for one, source, columns_of_one in zip(found, sources, COLUMNS, strict=True):
        np.testing.assert_array_equal(one, source[ROWS, columns_of_one])
    exact = exact_gradient()
    np.testing.assert_allclose(slope, exact if batched else exact.sum(0))


def test_written_elements_at_indices_of_different_dimensions():
    [written] = vectorize([x[rows, columns].inc(1.0)], {columns: all_columns})
    function = pytensor.function([x, rows, all_columns], written, mode=evaluation_mode())
    found = function(X[0], ROWS, COLUMNS)
    for one, columns_of_one in zip(found, COLUMNS, strict=True):
        np.testing.assert_array_equal(one, x[ROWS, columns_of_one].inc(1.0).eval({x: X[0]}))


def test_a_discrete_draw_as_an_index_beside_a_vector():
    """The gradient for the table counts how often each of its elements was read."""
    drawn = pm.Bernoulli.dist(0.5, shape=(4, 4))
    outputs = vectorize_draws([x[rows, drawn].sum(), drawn], 6)
    gradient = pytensor.grad(outputs[0].sum(), x)
    function = pytensor.function([x, rows], [gradient, outputs[1]], mode=evaluation_mode())
    counted, draws = function(X[0], ROWS)
    exact = np.zeros((4, 3))
    np.add.at(exact, (np.broadcast_to(ROWS, draws.shape), draws), 1.0)
    np.testing.assert_array_equal(counted, exact)
