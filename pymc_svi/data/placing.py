"""The writing of columns into rows, compiled."""

from __future__ import annotations

import numba
from numba import types
from numba.extending import intrinsic

__all__ = ["place"]

# Rows that are written column by column stay in the cache of the processor meanwhile.
_ROWS_AT_A_TIME = 512


@intrinsic
def _pointer(typingctx, address, like):
    """Return a pointer to numbers of the type that an array has."""
    kind = types.CPointer(like.dtype)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.intp, like), codegen


@numba.njit(cache=True, nogil=True)
def place(addresses, out):
    """Write columns side by side.

    Parameters
    ----------
    addresses : numpy.ndarray
        Where in memory each column begins; its numbers have the type of those of ``out``.
    out : numpy.ndarray
        Shape (rows, columns).

    Returns
    -------
    float
        The sum of the numbers, which is not finite if any of them is not.
    """
    n_rows, n_columns = out.shape
    in_fours = n_columns // 4 * 4
    of_a = of_b = of_c = of_d = 0.0  # additions that need not wait for each other
    for start in range(0, n_rows, _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, n_rows)
        # Memory is written in lines of more than one number, so four columns at a time.
        for j in range(0, in_fours, 4):
            a = numba.carray(_pointer(addresses[j], out), n_rows)
            b = numba.carray(_pointer(addresses[j + 1], out), n_rows)
            c = numba.carray(_pointer(addresses[j + 2], out), n_rows)
            d = numba.carray(_pointer(addresses[j + 3], out), n_rows)
            for i in range(start, stop):
                out[i, j] = a[i]
                out[i, j + 1] = b[i]
                out[i, j + 2] = c[i]
                out[i, j + 3] = d[i]
                of_a += a[i]
                of_b += b[i]
                of_c += c[i]
                of_d += d[i]
        for j in range(in_fours, n_columns):
            a = numba.carray(_pointer(addresses[j], out), n_rows)
            for i in range(start, stop):
                out[i, j] = a[i]
                of_a += a[i]
    return of_a + of_b + of_c + of_d
