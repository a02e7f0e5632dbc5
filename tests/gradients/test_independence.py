"""Axes that are said to run along with a source do: an element depends on no other element."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.builders import OpFromGraph

from pymc_svi.gradients.independence import follow_axes

WEIGHTS = pt.constant(np.random.default_rng(0).normal(size=(3, 2)))
ROWS = pt.constant(np.random.default_rng(1).normal(size=(4, 3)))


def of_rows(x):
    return pt.concatenate([ROWS, pt.shape_padright(x)], axis=1)


def layer(rows):
    given = rows.type()
    return OpFromGraph([given], [pt.tanh(given @ pt.ones((4, 5)))])(rows)


EXPRESSIONS = {
    "joined along another axis": (of_rows, (0,)),
    "joined along its own": (lambda x: pt.concatenate([x, x]), (None,)),
    "rows times a matrix": (lambda x: pt.outer(x, pt.ones(3)) @ WEIGHTS, (0,)),
    "rows times a vector": (lambda x: of_rows(x) @ pt.ones(4), (0,)),
    "a vector times a matrix": (lambda x: x @ of_rows(pt.ones(4)), (None,)),
    "a matrix times columns": (lambda x: WEIGHTS.T @ pt.outer(pt.ones(3), x), (1,)),
    "a matrix times a vector": (lambda x: ROWS.T @ x, (None,)),
    "softmax of rows": (lambda x: pt.special.softmax(of_rows(x), axis=-1)[:, :2], (0,)),
    "log-softmax of rows": (lambda x: pt.special.log_softmax(of_rows(x), axis=1)[:, :2], (0,)),
    "softmax of all": (lambda x: pt.special.softmax(of_rows(x), axis=(0, 1)), (None,)),
    "a layer": (lambda x: layer(of_rows(x)), (0,)),
    "a network": (lambda x: pt.tanh(of_rows(x) @ pt.ones((4, 5))) @ pt.ones((5, 2)), (0,)),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_only_elements_at_the_same_place_move(name):
    make, expected = EXPRESSIONS[name]
    x = pt.vector("x", shape=(4,))
    target = make(x)
    assert follow_axes(x, target) == expected
    [place] = expected
    if place is None:
        return
    function = pytensor.function([x], target, mode="FAST_COMPILE")
    start = np.arange(1.0, 5.0)
    before = np.moveaxis(function(start), place, 0)
    for i in range(4):
        after = np.moveaxis(function(start + 0.5 * np.eye(4)[i]), place, 0)
        moved = np.abs(after - before).reshape(4, -1).max(axis=1) > 0
        np.testing.assert_array_equal(moved, np.arange(4) == i)
