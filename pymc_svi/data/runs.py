"""Rows of short runs of neighbours, compiled."""

from __future__ import annotations

import numba

__all__ = ["rows_of_runs"]


@numba.njit(cache=True, nogil=True)
def rows_of_runs(positions, runs, bits, shift, n, out):
    """Write the rows at some positions of a block that is made of runs of ``2**bits`` rows.

    Parameters
    ----------
    positions : numpy.ndarray
        Within the block.
    runs : numpy.ndarray
        Which runs of the data the block is made of. What lies behind the last whole run of the data
        is a run that has no number, and the last of the last block.
    bits : int
        Of the number of rows of a run.
    shift : int
        Where in the data the first run begins; they go around its end.
    n : int
        The number of rows of the data.
    out : numpy.ndarray
        Where to write them.
    """
    unnumbered = n >> bits
    last = (1 << bits) - 1
    for i in range(len(positions)):
        number = positions[i] >> bits
        run = runs[number] if number < len(runs) else unnumbered
        row = (run << bits) + (positions[i] & last) + shift
        out[i] = row - n if row >= n else row
