"""Operations that compile fast give what those give that they replace."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.tensor.basic import ExtractDiag, Split
from pytensor.tensor.elemwise import CAReduce, Elemwise

from pymc_svi.engine import training_mode


def compiled(inputs, outputs):
    return pytensor.function(inputs, outputs, mode=training_mode())


def has(function, op_type):
    return any(isinstance(node.op, op_type) for node in function.maker.fgraph.apply_nodes)


def test_reductions_over_some_axes():
    x = pt.tensor("x", shape=(None, None, None))
    outputs = [x.sum(axis=0), x.sum(axis=(0, 2)), x.max(axis=1), x.prod(axis=2), x.min(), x.sum()]
    outputs += [pt.all(x > -1, axis=1), pt.any(x > 2)]
    function = compiled([x], outputs)
    assert not has(function, CAReduce)
    values = np.random.default_rng(0).normal(size=(3, 4, 5))
    for layout in (values, np.asfortranarray(values), values.transpose(2, 0, 1), values[::-1, ::2]):
        sums = layout.sum(axis=0), layout.sum(axis=(0, 2))
        rest = layout.max(axis=1), layout.prod(axis=2), layout.min(), layout.sum()
        rest = (*rest, (layout > -1).all(axis=1), (layout > 2).any())
        for found, expected in zip(function(layout), (*sums, *rest), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_reductions_of_nothing():
    x = pt.tensor("x", shape=(None, None))
    function = compiled([x], x.sum(axis=0))
    np.testing.assert_array_equal(function(np.empty((0, 3))), np.zeros(3))


@pytest.mark.parametrize("shape", [(3, 3), (1, 3, 3)])
def test_a_main_diagonal_is_a_slice(shape):
    x = pt.tensor("x", shape=shape)
    function = compiled([x], [pt.diagonal(x, axis1=-2, axis2=-1), pt.diagonal(2 * x.mT, 0, -1, -2)])
    assert not has(function, ExtractDiag)
    values = np.random.default_rng(0).normal(size=shape)
    diagonal = np.diagonal(values, axis1=-2, axis2=-1)
    for found, expected in zip(function(values), (diagonal, 2 * diagonal), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_other_diagonals_are_left():
    x, wide, many = pt.matrix("x", shape=(3, 3)), pt.matrix("w"), pt.tensor("m", shape=(2, 3, 3))
    outputs = [
        pt.diagonal(x, offset=1),
        pt.diagonal(wide),
        pt.diagonal(many, axis1=-2, axis2=-1),
        pt.diagonal(pt.specify_shape(many, (2, 3, 3)), axis1=0, axis2=1),
    ]
    function = compiled([x, wide, many], outputs)
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 3)), rng.normal(size=(2, 4)), rng.normal(size=(2, 3, 3))
    expected = np.diagonal(a, 1), np.diagonal(b), np.diagonal(c, 0, -2, -1), np.diagonal(c, 0, 0, 1)
    for found, value in zip(function(a, b, c), expected, strict=True):
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("sizes", [(2, 0, 3), (1, 1, 1, 1, 1)])
def test_few_parts_are_slices(sizes):
    x = pt.vector("x", shape=(5,))
    function = compiled([x], pt.split(x, sizes, n_splits=len(sizes)))
    assert has(function, Split) == (len(sizes) == 5)
    values = np.arange(5.0)
    for found, expected in zip(function(values), np.split(values, np.cumsum(sizes)), strict=False):
        np.testing.assert_array_equal(found, expected)


def test_parts_along_another_axis():
    x = pt.matrix("x", shape=(2, 5))
    function = compiled([x], pt.split(x, (2, 3), n_splits=2, axis=1))
    assert not has(function, Split)
    values = np.arange(10.0).reshape(2, 5)
    for found, expected in zip(function(values), np.split(values, [2], axis=1), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_parts_of_the_wrong_size_are_an_error():
    x = pt.vector("x")
    function = compiled([x], pt.split(x, (2, 2), n_splits=2))
    # A function that comes out of numba's cache has lost the text of such a message, PyTensor's
    # own as well, and raises RuntimeError.
    with pytest.raises((ValueError, RuntimeError)):
        function(np.arange(5.0))


def test_columns_are_computed_as_vectors():
    """The gradient of a product with a matrix, and what it is made of."""
    X, w, y = pt.matrix("X"), pt.vector("w", shape=(3,)), pt.vector("y")
    loss = pt.softplus(X @ w).sum() - (y * (X @ w)).sum()
    gradient = pytensor.grad(loss, w)
    function = compiled([X, w, y], [gradient, pt.exp(y[:, None] * X[:, :1]) + 1.0])
    lengths = [
        v.type.shape[-1]
        for node in function.maker.fgraph.apply_nodes
        if isinstance(node.op, Elemwise)
        for v in node.outputs
        if v.type.ndim == 2
    ]
    assert 1 not in lengths
    rng = np.random.default_rng(0)
    X_, w_, y_ = rng.normal(size=(100, 3)), rng.normal(size=3), rng.normal(size=100)
    found, column = function(X_, w_, y_)
    np.testing.assert_allclose(found, X_.T @ (1 / (1 + np.exp(-X_ @ w_)) - y_), rtol=1e-12)
    np.testing.assert_allclose(column, np.exp(y_ * X_[:, 0])[:, None] + 1.0, rtol=1e-14)
