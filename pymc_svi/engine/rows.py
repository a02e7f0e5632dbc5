"""Taking rows of a large array, which are far apart in memory.

A minibatch is random rows of the data. If these do not fit into the caches of the processor, a row
takes longer to arrive than to compute with; so each is asked for while those before it are copied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

# What compiles and keeps on disk as PyTensor does has no public name there.
from pytensor.link.numba.dispatch.basic import numba_njit

__all__ = ["take_rows"]

# How many rows ahead memory is asked for; some ten lines of it can be on their way at a time.
_ROWS_AHEAD = 16
# What memory is read in, in bytes.
_LINE = 64


def take_rows(x: Any, rows: Any) -> Any:
    """Return ``x[rows]`` for a vector of row numbers, of which negative ones count from the end."""
    raise NotImplementedError("for compiled code only")


@intrinsic
def _ask_for(typingctx, address):
    """Have the line of memory at an address brought to the caches, without waiting for it."""

    def codegen(context, builder, signature, arguments):
        word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        prefetch = builder.module.globals.get("llvm.prefetch")
        if prefetch is None:
            kind = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
            prefetch = ir.Function(builder.module, kind, "llvm.prefetch")
        to_read, keep, data = word(0), word(3), word(1)
        place = builder.inttoptr(arguments[0], pointer)
        builder.call(prefetch, [place, to_read, keep, data])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@numba_njit(cache=True)
def _taken(x, rows, out):
    """Copy rows of an array that lies in memory row by row, which has two axes as the result has."""
    n, first, size = len(x), x.ctypes.data, x.shape[1] * x.itemsize
    for i in range(-_ROWS_AHEAD, len(rows)):
        if i + _ROWS_AHEAD < len(rows):
            row = first + rows[i + _ROWS_AHEAD] * size
            for address in range(row & -_LINE, row + size, _LINE):
                _ask_for(address)
        if i >= 0:
            row = rows[i] if rows[i] >= 0 else rows[i] + n
            if row < 0 or row >= n:
                raise IndexError("a row that is asked for does not exist")
            for j in range(x.shape[1]):
                out[i, j] = x[row, j]


@numba_njit(cache=True)
def _taken_anyhow(x, rows, out):
    """Copy rows of a vector or matrix of any layout."""
    n = len(x)
    for i in range(len(rows)):
        row = rows[i] if rows[i] >= 0 else rows[i] + n
        if row < 0 or row >= n:
            raise IndexError("a row that is asked for does not exist")
        out[i] = x[row]


@overload(take_rows)
def _take_rows(x, rows):
    if x.layout == "C":

        def take(x, rows):
            out = np.empty((len(rows), *x.shape[1:]), dtype=x.dtype)
            _taken(x.reshape((len(x), -1)), rows, out.reshape((len(rows), -1)))
            return out
    else:

        def take(x, rows):
            out = np.empty((len(rows), *x.shape[1:]), dtype=x.dtype)
            _taken_anyhow(x, rows, out)
            return out

    return take
