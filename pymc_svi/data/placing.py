"""Writing columns into rows, compiled."""

from __future__ import annotations

import numba

__all__ = ["place", "place_four"]


@numba.njit(cache=True, nogil=True)
def place(column, rows, out, number):
    """Write a column to given rows of an array."""
    for i in range(len(column)):
        out[rows[i], number] = column[i]


@numba.njit(cache=True, nogil=True)
def place_four(columns, rows, out, first):
    """Write four columns side by side: memory is written in lines of more than one number."""
    a, b, c, d = columns
    for i in range(len(a)):
        row = rows[i]
        out[row, first] = a[i]
        out[row, first + 1] = b[i]
        out[row, first + 2] = c[i]
        out[row, first + 3] = d[i]
