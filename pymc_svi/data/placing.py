"""Writing columns into rows, compiled."""

from __future__ import annotations

import numba

__all__ = ["place"]


@numba.njit(cache=True, nogil=True)
def place(column, rows, out, number):
    """Write a column to given rows of an array."""
    for i in range(len(column)):
        out[rows[i], number] = column[i]
