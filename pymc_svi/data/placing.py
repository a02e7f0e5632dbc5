"""The writing of columns into rows, compiled."""

from __future__ import annotations

import numba

__all__ = ["place", "place_four"]


@numba.njit(cache=True, nogil=True)
def place(column, out, number):
    """Write a column of an array; return the sum of its numbers."""
    total = 0.0
    for i in range(len(column)):
        out[i, number] = column[i]
        total += column[i]
    return total


@numba.njit(cache=True, nogil=True)
def place_four(columns, out, first):
    """Write four columns side by side: memory is written in lines of more than one number.

    Returns the sum of the numbers.
    """
    a, b, c, d = columns
    of_a = of_b = of_c = of_d = 0.0  # additions that need not wait for each other
    for i in range(len(a)):
        out[i, first] = a[i]
        out[i, first + 1] = b[i]
        out[i, first + 2] = c[i]
        out[i, first + 3] = d[i]
        of_a += a[i]
        of_b += b[i]
        of_c += c[i]
        of_d += d[i]
    return of_a + of_b + of_c + of_d
