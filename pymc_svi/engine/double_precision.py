"""Elementary functions in double precision, as arithmetic that vector instructions can do.

Range reduction and a polynomial, with selections for branches. See :mod:`pymc_svi.engine.vector_math`.
"""

from __future__ import annotations

import math

import numpy as np

# What compiles as PyTensor does has no public name there.
from pytensor.link.numba.dispatch.basic import numba_njit

__all__ = ["exp", "log", "log1p", "sigmoid", "softplus"]

# Adding and subtracting this rounds to an integer, which is then in the low bits of the sum.
_ROUND = 1.5 * 2.0**52
_ROUND_BITS = int(np.float64(_ROUND).view(np.int64))
_LOG2_E = math.log2(math.e)
# log(2) in two parts, the first with so few bits that its product with an exponent is exact.
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_SQRT_TWO = math.sqrt(2.0)
_SQRT_HALF_BITS = int(np.float64(math.sqrt(0.5)).view(np.int64))
_SMALLEST_NORMAL = float(np.finfo(np.float64).tiny)
_INFINITY = float("inf")

# Sums and products stay in the order in which they are written (no "reassoc"): the rounding trick
# and the two-part sums rely on it. A division by zero gives infinity, not an exception.
_compiled = numba_njit(fastmath={"contract"}, error_model="numpy", forceinline=True, cache=True)


@_compiled
def exp(x):
    """``2**n * exp(r)`` with ``|r| <= log(2) / 2`` and the Taylor polynomial of ``exp(r)``."""
    y = -746.0 if x < -746.0 else x
    y = 710.0 if y > 710.0 else y
    n = (y * _LOG2_E + _ROUND) - _ROUND
    r = (y - n * _LN2_HIGH) - n * _LN2_LOW
    p = 1 / 6227020800.0
    p = p * r + 1 / 479001600.0
    p = p * r + 1 / 39916800.0
    p = p * r + 1 / 3628800.0
    p = p * r + 1 / 362880.0
    p = p * r + 1 / 40320.0
    p = p * r + 1 / 5040.0
    p = p * r + 1 / 720.0
    p = p * r + 1 / 120.0
    p = p * r + 1 / 24.0
    p = p * r + 1 / 6.0
    p = p * r + 0.5
    p = p * (r * r) + r + 1.0
    # In two halves, because 2**n may be out of range where the product is not.
    half = n * 0.5 + _ROUND
    rest = (n - (half - _ROUND)) + _ROUND
    return p * _power_of_two(half) * _power_of_two(rest)


@_compiled
def _power_of_two(shifted):
    """``2**n``, for ``n + _ROUND``."""
    n = np.float64(shifted).view(np.int64) - np.int64(_ROUND_BITS)
    return np.int64((n + np.int64(1023)) << np.int64(52)).view(np.float64)


@_compiled
def _log_of_parts(k, f, s, correction):
    """``k log(2) + log(1 + f) + correction``, for ``s = f / (2 + f)`` with ``|s| < 0.18``."""
    # log(1 + f) = 2 artanh(s) = f - f^2 / 2 + s (f^2 / 2 + r), with r the tail of the series.
    z = s * s
    r = 2 / 21.0
    r = r * z + 2 / 19.0
    r = r * z + 2 / 17.0
    r = r * z + 2 / 15.0
    r = r * z + 2 / 13.0
    r = r * z + 2 / 11.0
    r = r * z + 2 / 9.0
    r = r * z + 2 / 7.0
    r = r * z + 2 / 5.0
    r = r * z + 2 / 3.0
    r = r * z
    h = 0.5 * f * f
    return k * _LN2_HIGH - ((h - (s * (h + r) + (k * _LN2_LOW + correction))) - f)


@_compiled
def _log_of_positive(x, correction):
    """``log(x) + correction`` for a finite positive normal x: ``x = 2**k * (1 + f)``."""
    bits = np.float64(x).view(np.int64)
    k_bits = (bits - np.int64(_SQRT_HALF_BITS)) >> np.int64(52)
    f = np.int64(bits - (k_bits << np.int64(52))).view(np.float64) - 1.0
    k = np.int64(k_bits + np.int64(_ROUND_BITS)).view(np.float64) - _ROUND
    return _log_of_parts(k, f, f / (2.0 + f), correction)


@_compiled
def log(x):
    """The logarithm: ``-inf`` at zero, NaN below."""
    tiny = x < _SMALLEST_NORMAL
    y = x * 2.0**54 if tiny else x
    shift = -37.42994775023705 if tiny else 0.0  # -54 log(2)
    value = _log_of_positive(y, 0.0) + shift
    special = -_INFINITY if x == 0.0 else (x if x > 0.0 else np.nan)
    return value if 0.0 < x < _INFINITY else special


@_compiled
def log1p(x):
    """``log(1 + x)``, also of a small x."""
    # What rounding took from 1 + x comes back as a correction.
    u = 1.0 + x
    value = _log_of_positive(u, (x - (u - 1.0)) / u)
    special = -_INFINITY if x == -1.0 else (x if x > 0.0 else np.nan)
    return value if -1.0 < x < _INFINITY else special


@_compiled
def softplus(x):
    """``log(1 + exp(x))``."""
    e = exp(-abs(x))
    # log(1 + e) with 0 <= e <= 1 needs no look at the bits: k is 0 or 1. Sums instead of
    # selections, which LLVM makes branches of when there are many.
    k = np.float64(e > _SQRT_TWO - 1.0)
    f = e * (1.0 - 0.5 * k) - 0.5 * k
    s = (e - k) / (e + 2.0 + k)
    return (x if x > 0.0 else 0.0) + _log_of_parts(k, f, s, 0.0)


@_compiled
def sigmoid(x):
    """``1 / (1 + exp(-x))``."""
    e = exp(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)
