"""Taking rows of a large array, which are far apart in memory, and checking their numbers.

A minibatch is random rows of the data. If these do not fit into the caches of the processor, a row
takes longer to arrive than to compute with; so each is asked for while those before it are copied.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

# What compiles and keeps on disk as PyTensor does has no public name there.
from pytensor.link.numba.dispatch.basic import numba_njit

__all__ = ["check_places", "row_taker"]

# How many rows ahead memory is asked for; some ten lines of it can be on their way at a time.
_ROWS_AHEAD = 16
# What memory is read in, in bytes.
_LINE = 64
# Up to how many numbers of a row are copied by a loop of known length, which is fast.
_FEW_NUMBERS = 64


@cache
def row_taker(width: int | None = None) -> Callable[[Any, Any], Any]:
    """Return a function that takes rows of an array in compiled code.

    Parameters
    ----------
    width : int, optional
        How many numbers a row has, if it is known when the code is compiled.

    Returns
    -------
    callable
        ``take_rows(x, rows)`` returns ``x[rows]`` for a vector of row numbers, of which negative ones
        count from the end.
    """
    if width is not None and width > _FEW_NUMBERS:
        return row_taker()

    def take_rows(x, rows):
        raise NotImplementedError("for compiled code only")

    @overload(take_rows)
    def _take_rows(x, rows):
        if x.layout == "C":
            copy = _copier_ahead(width)

            def take(x, rows):
                out = np.empty((len(rows), *x.shape[1:]), dtype=x.dtype)
                copy(x.reshape((len(x), -1)), rows, out.reshape((len(rows), -1)))
                return out
        else:

            def take(x, rows):
                out = np.empty((len(rows), *x.shape[1:]), dtype=x.dtype)
                _copy_anyhow(x, rows, out)
                return out

        return take

    return take_rows


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
def _place(row, n):
    """Return the place of a row that may be counted from the end."""
    place = row if row >= 0 else row + n
    if place < 0 or place >= n:
        raise IndexError("index", np.int64(row), "of an axis with", n)
    return place


@numba_njit(cache=True)
def check_places(places, n):
    """Check that each place in an array exists along an axis; negative ones count from its end.

    Parameters
    ----------
    places : numpy.ndarray
        Whole numbers.
    n : int
        The length of the axis.

    Raises
    ------
    IndexError
        With the first place that does not exist, and the length.
    """
    n_bad = 0
    for place in places.flat:  # without a way out of it, it is vector instructions
        row = np.int64(place)
        n_bad += (row >= n) | (row < -n)
    if n_bad:
        for place in places.flat:
            _place(np.int64(place), n)


@cache
def _copier_ahead(width: int | None) -> Callable:
    """Return what copies rows of an array that lies in memory row by row, and has two axes."""

    @numba_njit(cache=True)
    def copy(x, rows, out):
        columns = x.shape[1] if width is None else width
        n, first, size = len(x), x.ctypes.data, columns * x.itemsize
        for i in range(-_ROWS_AHEAD, len(rows)):
            if i + _ROWS_AHEAD < len(rows):
                begin = first + rows[i + _ROWS_AHEAD] * size
                for address in range(begin & -_LINE, begin + size, _LINE):
                    _ask_for(address)
            if i >= 0:
                row = _place(rows[i], n)
                for j in range(columns):
                    out[i, j] = x[row, j]

    return copy


@numba_njit(cache=True)
def _copy_anyhow(x, rows, out):
    """Copy rows of a vector or matrix of any layout."""
    for i in range(len(rows)):
        out[i] = x[_place(rows[i], len(x))]
