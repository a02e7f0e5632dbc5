"""Elementary functions in double precision, as arithmetic that vector instructions can do.

Range reduction and a polynomial, with selections for branches. See :mod:`pymc_svi.engine.vector_math`.
"""

from __future__ import annotations

import math

import numpy as np

# What compiles as PyTensor does has no public name there.
from pytensor.link.numba.dispatch.basic import numba_njit

from pymc_svi.engine.polynomial import polynomial

__all__ = ["exp", "exp_of_sum", "expm1", "log", "log1mexp", "log1p", "sigmoid", "softplus", "tanh"]

# Adding and subtracting this rounds to an integer, which is then in the low bits of the sum.
_ROUND = 1.5 * 2.0**52
_ROUND_BITS = int(np.float64(_ROUND).view(np.int64))
_LOG2_E = math.log2(math.e)
# log(2) in two parts, the first with so few bits that its product with an exponent is exact.
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_SQRT_HALF_BITS = int(np.float64(math.sqrt(0.5)).view(np.int64))
_SMALLEST_NORMAL = float(np.finfo(np.float64).tiny)
# What exp is given at least and at most: beyond, it is zero or infinite.
_LEAST, _MOST = -746.0, 710.0
_LOG_OF_DOWN = -37.42994775023705  # -54 log(2)
_INFINITY = float("inf")

# What 2 artanh(s) / s - 2 is over s^2, in s^2 <= 1 / 9.
_artanh_tail = polynomial(
    [
        0.15231262619428984,
        0.06334110851770246,
        0.09942024896554735,
        0.10480399234365274,
        0.11767997767241035,
        0.13333176949138179,
        0.15384620253804163,
        0.18181818086005655,
        0.22222222223331986,
        0.2857142857142194,
        0.4,
        0.6666666666666666,
    ]
)

# Sums and products stay in the order in which they are written (no "reassoc"): the rounding trick
# and the two-part sums rely on it. A division by zero gives infinity, not an exception.
_compiled = numba_njit(fastmath={"contract"}, error_model="numpy", forceinline=True, cache=True)


@_compiled
def _exp_parts(x, low):
    """``n`` and ``exp(r) - 1`` for ``x + low = n log(2) + r`` with ``|r| <= log(2) / 2``, by its Taylor polynomial."""
    y = 0.0 if x < _LEAST else x
    y = _MOST if y > _MOST else y
    n = (y * _LOG2_E + _ROUND) - _ROUND
    r = ((y - n * _LN2_HIGH) - n * _LN2_LOW) + low
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
    return n, p * (r * r) + r


@_compiled
def exp_of_sum(x, low):
    """``exp(x + low)`` for what is too small to be added to x."""
    n, e = _exp_parts(x, low)
    # What is zero is not the product of tiny numbers: those take a processor a hundred times as long.
    return 0.0 if x < _LEAST else _scaled(e + 1.0, n)


@_compiled
def _scaled(p, n):
    """``2**n * p``."""
    # In two halves, because 2**n may be out of range where the product is not.
    half = n * 0.5 + _ROUND
    rest = (n - (half - _ROUND)) + _ROUND
    return p * _power_of_two(half) * _power_of_two(rest)


@_compiled
def exp(x):
    """The exponential."""
    return exp_of_sum(x, 0.0)


@_compiled
def expm1(x):
    """``exp(x) - 1``, also of a small x."""
    n, e = _exp_parts(-40.0 if x < -40.0 else x, 0.0)
    # Large ones are made of half the power, which is in range wherever the result is.
    large = n > 512.0
    power = _power_of_two((n - 1.0 if large else n) + _ROUND)
    value = power * e + (power - 1.0)
    return 2.0 * value if large else value


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
    shift = _LOG_OF_DOWN if tiny else 0.0
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
    # As the logarithm, but for 0 <= e <= 1, which needs no look at the bits.
    s = e / (2.0 + e)
    z = s * s
    h = 0.5 * e * e
    return (x if x > 0.0 else 0.0) + (e - (h - s * (h + z * _artanh_tail(z))))


@_compiled
def sigmoid(x):
    """``1 / (1 + exp(-x))``."""
    e = exp(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)


@_compiled
def tanh(x):
    """The hyperbolic tangent."""
    t = expm1(-2.0 * abs(x))
    return math.copysign(t / (t + 2.0), x)


@_compiled
def log1mexp(x):
    """``log(1 - exp(x))`` for a negative x."""
    n, e = _exp_parts(x, 0.0)
    power = 0.0 if x < _LEAST else _scaled(e + 1.0, n)
    # From -log(2) on n is 0 or -1, and 1 - exp(x) has all its digits if made of e. Below, what rounding
    # takes from it comes back as a correction.
    near = x >= _LEAST and n > -1.0 - 0.5
    scale = 1.0 if n > -0.5 else 0.5
    u = (1.0 - scale) - scale * e if near else 1.0 - power
    correction = 0.0 if near else ((1.0 - u) - power) / u
    # Near zero it is -x, which may have no normal number.
    tiny = x > -1e-300
    value = _log_of_positive(-x * 2.0**54 if tiny else u, correction) + (
        _LOG_OF_DOWN if tiny else 0.0
    )
    return value if x < 0.0 else (-_INFINITY if x == 0.0 else np.nan)
