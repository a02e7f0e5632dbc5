"""Reads of arrays at all states of a variable are the arrays themselves."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.traversal import ancestors
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.subtensor import AdvancedSubtensor

from pymc_svi.enumeration.body import vectorized
from pymc_svi.evaluation import evaluation_mode

RNG = np.random.default_rng(0)
P = RNG.dirichlet(np.ones(3), size=3)
CUBE = RNG.normal(size=(3, 3, 4))
ROWS = RNG.dirichlet(np.ones(3), size=5)  # one law for each of five elements

x = pt.tensor("x", shape=(3,))
p = pt.tensor("p", shape=(3, 3))
cube = pt.tensor("cube", shape=(3, 3, 4))
rows = pt.tensor("rows", shape=(5, 3))
data = pt.tensor("data", shape=(4,), dtype="int64")
VALUES = {x: np.array([0.3, -1.0, 2.0]), p: P, cube: CUBE, rows: ROWS, data: np.array([2, 0, 2, 1])}

a, b = pt.scalar("a", dtype="int64"), pt.scalar("b", dtype="int64")
v = pt.tensor("v", shape=(5,), dtype="int64")
w = pt.tensor("w", shape=(5,), dtype="int64")

EXPRESSIONS = {
    "element": x[a],
    "sum of two": x[a] + 2.0 * x[b],
    "row": p[a],
    "column": p[:, a],
    "row and column": p[a, b],
    "row, then column": p[a][b],
    "in the middle": cube[:, a],
    "two of three": cube[a, b],
    "backwards": x[-1 - a],
    "the next": x[pt.clip(a + 1, 0, 2)],
    "of elements": x[v],
    "pairs": p[v, w],
    "rows of elements": p[v],
    "law": pm.logp(pm.Categorical.dist(x.exp() / x.exp().sum()), a),
    "law of elements": pm.logp(pm.Categorical.dist(p[0], shape=5), v),
    "law of rows": pm.logp(pm.Categorical.dist(rows, shape=5), v),
    "law given the one before": pm.logp(pm.Categorical.dist(p[a]), b),
    "law given those before": pm.logp(pm.Categorical.dist(p[v], shape=5), w),
    "law of two parents": pm.logp(pm.Categorical.dist(pm.math.softmax(cube[a, b], axis=-1)), v[0]),
}


GATHERED = {  # beside an index that is not known until the graph is run
    "unknown row": p[data, a],
    "unknown rows": p[data, a[None]],
    "unknown row, states of elements": p[data, v[:, None]],
    "unknown rows of elements": p[data[:, None], v[:4]],
    "column of unknown rows": cube[:, data, a],
    "unknown row first and last": cube[data, :, a],
    "unknown law": pm.logp(
        pm.Categorical.dist(pm.math.softmax(cube[data, v[:, None]], axis=-1)), w[:, None]
    ),
}
EXPRESSIONS |= GATHERED
READ = {name for name in EXPRESSIONS if name not in ("law of two parents", *GATHERED)}


def states(variable, place, n):
    """All three values, along an axis of their own, in every element."""
    shape = [1] * n + [1] * variable.ndim
    shape[place] = 3
    values = pt.constant(np.arange(3).reshape(shape))
    lead = [3 if i == place else 1 for i in range(n)]
    return pt.broadcast_to(values, (*lead, *variable.type.shape))


def of_all_states(expression):
    """Return the discrete variables, and the expression at all of their states."""
    found = set(ancestors([expression]))
    discrete = [d for d in (a, b, v, w) if d in found]
    batched = {d: states(d, i, len(discrete)) for i, d in enumerate(discrete)}
    [value] = vectorized([expression], batched)
    return discrete, value


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_all_states_at_once_are_each_of_them(name):
    expression = EXPRESSIONS[name]
    discrete, value = of_all_states(expression)
    floats = list(VALUES)
    function = pytensor.function(floats, value, mode=evaluation_mode(), on_unused_input="ignore")
    at_once = function(*VALUES.values())
    one = pytensor.function(
        [*floats, *discrete], expression, mode=evaluation_mode(), on_unused_input="ignore"
    )
    at_once = np.broadcast_to(at_once, (*[3] * len(discrete), *at_once.shape[len(discrete) :]))
    for state in np.ndindex(*[3] * len(discrete)):
        given = [np.full(d.type.shape, s) for d, s in zip(discrete, state, strict=True)]
        np.testing.assert_allclose(at_once[state], one(*VALUES.values(), *given), atol=1e-12)


@pytest.mark.parametrize("name", sorted(READ))
def test_nothing_is_gathered(name):
    """Elements that are shared by a plate are read without a gather, those of its own too."""
    _, value = of_all_states(EXPRESSIONS[name])
    ops = [n.owner.op for n in ancestors([value]) if n.owner is not None]
    assert not [op for op in ops if isinstance(op, Blockwise)]
    if name not in ("backwards", "the next"):  # another order is one gather, of constants' places
        assert not [op for op in ops if isinstance(op, AdvancedSubtensor)]


@pytest.mark.parametrize("name", sorted(GATHERED))
def test_unknown_places_are_read_once(name):
    _, value = of_all_states(EXPRESSIONS[name])
    ops = [n.owner.op for n in ancestors([value]) if n.owner is not None]
    assert not [op for op in ops if isinstance(op, Blockwise)]


def test_an_index_out_of_bounds_stays_an_error():
    _, value = of_all_states(x[a + 1])
    function = pytensor.function([x], value, mode=evaluation_mode())
    with pytest.raises(IndexError):
        function(VALUES[x])


def test_an_array_of_unknown_length_is_read():
    unknown = pt.vector("unknown")
    _, value = of_all_states(unknown[a])
    function = pytensor.function([unknown], value, mode=evaluation_mode())
    np.testing.assert_allclose(function(VALUES[x]), VALUES[x])
