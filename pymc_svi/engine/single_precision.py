"""Elementary functions in single precision, as arithmetic that vector instructions can do.

As those of :mod:`pymc_svi.engine.double_precision`, with polynomials half as long, and twice as many
numbers at once. See :mod:`pymc_svi.engine.vector_math`.
"""

from __future__ import annotations

import math

import numpy as np

# What compiles as PyTensor does has no public name there.
from pytensor.link.numba.dispatch.basic import numba_njit

__all__ = ["exp", "log", "log1p", "sigmoid", "softplus"]

# All constants have the type: with a number of Python's the result would be in double precision.
_number = np.float32
_ZERO, _HALF, _ONE, _TWO = _number(0.0), _number(0.5), _number(1.0), _number(2.0)
# Adding and subtracting this rounds to an integer, which is then in the low bits of the sum.
_ROUND = _number(1.5 * 2.0**23)
_ROUND_BITS = _ROUND.view(np.int32)
_LOG2_E = _number(math.log2(math.e))
# log(2) in two parts, the first with so few bits that its product with an exponent is exact.
_LN2_HIGH = _number(355 / 512)
_LN2_LOW = _number(math.log(2.0) - 355 / 512)
# What exp is given at least and at most: beyond, it is zero or infinite.
_LEAST, _MOST = _number(-104.0), _number(89.0)
_SQRT_TWO_LESS_ONE = _number(math.sqrt(2.0) - 1.0)
_SQRT_HALF_BITS = _number(math.sqrt(0.5)).view(np.int32)
_SMALLEST_NORMAL = np.finfo(np.float32).tiny
# What brings the numbers below that into the range of the others, and the log of its inverse.
_UP, _LOG_OF_DOWN = _number(2.0**25), _number(-25 * math.log(2.0))
_INFINITY, _NAN = _number(np.inf), _number(np.nan)
_EXPONENT, _BIAS = np.int32(23), np.int32(127)

# The coefficients of r**7 to r**3 in exp(r), and of z**4 to z in 2 artanh(sqrt(z)) / sqrt(z) - 2.
_E7, _E6, _E5, _E4, _E3 = (_number(1 / math.factorial(n)) for n in range(7, 2, -1))
_L4, _L3, _L2, _L1 = (_number(2 / (2 * n + 1)) for n in range(4, 0, -1))

# Sums and products stay in the order in which they are written (no "reassoc"): the rounding trick
# and the two-part sums rely on it. A division by zero gives infinity, not an exception.
_compiled = numba_njit(fastmath={"contract"}, error_model="numpy", forceinline=True, cache=True)


@_compiled
def exp(x):
    """``2**n * exp(r)`` with ``|r| <= log(2) / 2`` and the Taylor polynomial of ``exp(r)``."""
    y = _LEAST if x < _LEAST else x
    y = _MOST if y > _MOST else y
    n = (y * _LOG2_E + _ROUND) - _ROUND
    r = (y - n * _LN2_HIGH) - n * _LN2_LOW
    p = _E7 * r + _E6
    p = p * r + _E5
    p = p * r + _E4
    p = p * r + _E3
    p = p * r + _HALF
    p = p * (r * r) + r + _ONE
    # In two halves, because 2**n may be out of range where the product is not.
    half = n * _HALF + _ROUND
    rest = (n - (half - _ROUND)) + _ROUND
    return p * _power_of_two(half) * _power_of_two(rest)


@_compiled
def _power_of_two(shifted):
    """``2**n``, for ``n + _ROUND``."""
    n = np.int32(np.float32(shifted).view(np.int32) - _ROUND_BITS)
    return np.int32(np.int32(n + _BIAS) << _EXPONENT).view(np.float32)


@_compiled
def _log_of_parts(k, f, s, correction):
    """``k log(2) + log(1 + f) + correction``, for ``s = f / (2 + f)`` with ``|s| < 0.18``."""
    # log(1 + f) = 2 artanh(s) = f - f^2 / 2 + s (f^2 / 2 + r), with r the tail of the series.
    z = s * s
    r = _L4 * z + _L3
    r = r * z + _L2
    r = r * z + _L1
    r = r * z
    h = _HALF * f * f
    return k * _LN2_HIGH - ((h - (s * (h + r) + (k * _LN2_LOW + correction))) - f)


@_compiled
def _log_of_positive(x, correction):
    """``log(x) + correction`` for a finite positive normal x: ``x = 2**k * (1 + f)``."""
    bits = np.float32(x).view(np.int32)
    k_bits = np.int32(np.int32(bits - _SQRT_HALF_BITS) >> _EXPONENT)
    f = np.int32(bits - np.int32(k_bits << _EXPONENT)).view(np.float32) - _ONE
    k = np.int32(k_bits + _ROUND_BITS).view(np.float32) - _ROUND
    return _log_of_parts(k, f, f / (_TWO + f), correction)


@_compiled
def log(x):
    """The logarithm: ``-inf`` at zero, NaN below."""
    tiny = x < _SMALLEST_NORMAL
    y = x * _UP if tiny else x
    shift = _LOG_OF_DOWN if tiny else _ZERO
    value = _log_of_positive(y, _ZERO) + shift
    special = -_INFINITY if x == _ZERO else (x if x > _ZERO else _NAN)
    return value if _ZERO < x < _INFINITY else special


@_compiled
def log1p(x):
    """``log(1 + x)``, also of a small x."""
    # What rounding took from 1 + x comes back as a correction.
    u = _ONE + x
    value = _log_of_positive(u, (x - (u - _ONE)) / u)
    special = -_INFINITY if x == -_ONE else (x if x > _ZERO else _NAN)
    return value if -_ONE < x < _INFINITY else special


@_compiled
def softplus(x):
    """``log(1 + exp(x))``."""
    e = exp(-abs(x))
    # log(1 + e) with 0 <= e <= 1 needs no look at the bits: k is 0 or 1. Sums instead of
    # selections, which LLVM makes branches of when there are many.
    k = np.float32(e > _SQRT_TWO_LESS_ONE)
    f = e * (_ONE - _HALF * k) - _HALF * k
    s = (e - k) / (e + _TWO + k)
    return (x if x > _ZERO else _ZERO) + _log_of_parts(k, f, s, _ZERO)


@_compiled
def sigmoid(x):
    """``1 / (1 + exp(-x))``."""
    e = exp(-abs(x))
    return (_ONE if x >= _ZERO else e) / (_ONE + e)
