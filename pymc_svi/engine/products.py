"""Matrix products that compile fast.

PyTensor's own read an operand of any strides where it is, which takes numba ten seconds to compile,
and as long again for each other order of an operand in memory. Numba's ``np.dot`` makes the same
call of BLAS for arrays that lie in memory row by row or column by column, after half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numba.extending import overload

# What turns an operation into a numba function has no public name in PyTensor.
from pytensor.link.numba.dispatch.basic import numba_funcify, numba_njit
from pytensor.tensor.blas import BatchedDot
from pytensor.tensor.math import Dot

__all__ = ["batched_product", "column_product", "product"]


def product(x: Any, y: Any) -> Any:
    """Return the product of two matrices, of shapes (n, k) and (k, m)."""
    raise NotImplementedError("for compiled code only")


def column_product(x: Any, y: Any) -> Any:
    """Return the product of a matrix and one that has a single column."""
    raise NotImplementedError("for compiled code only")


def batched_product(x: Any, y: Any) -> Any:
    """Return the products of matrices one by one, of shapes (b, n, k) and (b, k, m)."""
    raise NotImplementedError("for compiled code only")


# Kept on disk, so that a new model needs not compile them again.


@numba_njit(cache=True)
def _dot(x, y):
    return np.dot(x, y)


@numba_njit(cache=True)
def _dot_column(x, y):
    return np.dot(x, np.ascontiguousarray(y).reshape(-1)).reshape((-1, 1))


@numba_njit(cache=True)
def _dot_each(x, y):
    out = np.empty((x.shape[0], x.shape[1], y.shape[2]), dtype=x.dtype)
    for i in range(x.shape[0]):
        np.dot(x[i], y[i], out[i])
    return out


@overload(product)
def _product(x, y):
    if x.layout in "CF" and y.layout in "CF":
        return lambda x, y: _dot(x, y)
    general = _general(Dot(), x.dtype.name)
    return lambda x, y: general(x, y)


@overload(column_product)
def _column_product(x, y):
    if x.layout in "CF":
        return lambda x, y: _dot_column(x, y)
    general = _general(Dot(), x.dtype.name)
    return lambda x, y: general(x, y)


@overload(batched_product)
def _batched_product(x, y):
    if x.layout == "C" and y.layout == "C":
        return lambda x, y: _dot_each(x, y)
    general = _general(BatchedDot(), x.dtype.name)
    return lambda x, y: general(x, y)


@cache
def _general(op: Dot | BatchedDot, dtype: str) -> Callable:
    """Return PyTensor's product of arrays of any strides."""
    array = pt.tensor(dtype=dtype, shape=(None,) * (2 if isinstance(op, Dot) else 3))
    return numba_funcify(op, node=op.make_node(array, array))
