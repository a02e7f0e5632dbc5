"""Elementary functions in single precision, as arithmetic that vector instructions can do.

As those of :mod:`pymc_svi.engine.double_precision`, with polynomials half as long, and twice as many
numbers at once. See :mod:`pymc_svi.engine.vector_math`.
"""

from __future__ import annotations

import math

import numpy as np

# What compiles as PyTensor does has no public name there.
from pytensor.link.numba.dispatch.basic import numba_njit

from pymc_svi.engine.polynomial import polynomial

__all__ = ["exp", "exp_of_sum", "expm1", "log", "log1mexp", "log1p", "sigmoid", "softplus", "tanh"]

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
_SQRT_HALF_BITS = _number(math.sqrt(0.5)).view(np.int32)
_SMALLEST_NORMAL = np.finfo(np.float32).tiny
# What brings the numbers below that into the range of the others, and the log of its inverse.
_UP, _LOG_OF_DOWN = _number(2.0**25), _number(-25 * math.log(2.0))
# A large power of two.
_LARGE = _number(64.0)
# Below this exp(x) - 1 is -1, and above that exp(-x) is 1.
_ALL_BUT_ONE, _NEARLY_ZERO = _number(-20.0), _number(1e-35)
_INFINITY, _NAN = _number(np.inf), _number(np.nan)
_EXPONENT, _BIAS = np.int32(23), np.int32(127)

# The coefficients of r**7 to r**3 in exp(r), and of z**4 to z in 2 artanh(sqrt(z)) / sqrt(z) - 2.
_E7, _E6, _E5, _E4, _E3 = (_number(1 / math.factorial(n)) for n in range(7, 2, -1))
_L4, _L3, _L2, _L1 = (_number(2 / (2 * n + 1)) for n in range(4, 0, -1))

# What 2 artanh(s) / s - 2 is over s^2, in s^2 <= 1 / 9.
_artanh_tail = polynomial(
    [0.207876169, 0.174647025, 0.222647112, 0.285703057, 0.400000108, 0.666666667]
)

# Sums and products stay in the order in which they are written (no "reassoc"): the rounding trick
# and the two-part sums rely on it. A division by zero gives infinity, not an exception.
_compiled = numba_njit(fastmath={"contract"}, error_model="numpy", forceinline=True, cache=True)


@_compiled
def _exp_parts(x, low):
    """``n`` and ``exp(r) - 1`` for ``x + low = n log(2) + r`` with ``|r| <= log(2) / 2``, by its Taylor polynomial."""
    y = _ZERO if x < _LEAST else x
    y = _MOST if y > _MOST else y
    n = (y * _LOG2_E + _ROUND) - _ROUND
    r = ((y - n * _LN2_HIGH) - n * _LN2_LOW) + low
    p = _E7 * r + _E6
    p = p * r + _E5
    p = p * r + _E4
    p = p * r + _E3
    p = p * r + _HALF
    return n, p * (r * r) + r


@_compiled
def exp_of_sum(x, low):
    """``exp(x + low)`` for what is too small to be added to x."""
    n, e = _exp_parts(x, low)
    # What is zero is not the product of tiny numbers: those take a processor a hundred times as long.
    return _ZERO if x < _LEAST else _scaled(e + _ONE, n)


@_compiled
def _scaled(p, n):
    """``2**n * p``."""
    # In two halves, because 2**n may be out of range where the product is not.
    half = n * _HALF + _ROUND
    rest = (n - (half - _ROUND)) + _ROUND
    return p * _power_of_two(half) * _power_of_two(rest)


@_compiled
def exp(x):
    """The exponential."""
    return exp_of_sum(x, _ZERO)


@_compiled
def expm1(x):
    """``exp(x) - 1``, also of a small x."""
    n, e = _exp_parts(_ALL_BUT_ONE if x < _ALL_BUT_ONE else x, _ZERO)
    # Large ones are made of half the power, which is in range wherever the result is.
    large = n > _LARGE
    power = _power_of_two((n - _ONE if large else n) + _ROUND)
    value = power * e + (power - _ONE)
    return _TWO * value if large else value


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
    # As the logarithm, but for 0 <= e <= 1, which needs no look at the bits.
    s = e / (_TWO + e)
    z = s * s
    h = _HALF * e * e
    return (x if x > _ZERO else _ZERO) + (e - (h - s * (h + z * _artanh_tail(z))))


@_compiled
def sigmoid(x):
    """``1 / (1 + exp(-x))``."""
    e = exp(-abs(x))
    return (_ONE if x >= _ZERO else e) / (_ONE + e)


@_compiled
def tanh(x):
    """The hyperbolic tangent."""
    t = expm1(-_TWO * abs(x))
    return math.copysign(t / (t + _TWO), x)


@_compiled
def log1mexp(x):
    """``log(1 - exp(x))`` for a negative x."""
    n, e = _exp_parts(x, _ZERO)
    power = _ZERO if x < _LEAST else _scaled(e + _ONE, n)
    # From -log(2) on n is 0 or -1, and 1 - exp(x) has all its digits if made of e. Below, what rounding
    # takes from it comes back as a correction.
    near = x >= _LEAST and n > -_ONE - _HALF
    scale = _ONE if n > -_HALF else _HALF
    u = (_ONE - scale) - scale * e if near else _ONE - power
    correction = _ZERO if near else ((_ONE - u) - power) / u
    # Near zero it is -x, which may have no normal number.
    tiny = x > -_NEARLY_ZERO
    value = _log_of_positive(-x * _UP if tiny else u, correction) + (
        _LOG_OF_DOWN if tiny else _ZERO
    )
    return value if x < _ZERO else (-_INFINITY if x == _ZERO else _NAN)
