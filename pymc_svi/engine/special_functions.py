"""Special functions in both precisions, as arithmetic that vector instructions can do.

Each is one formula that holds on a half-line, brought there by recurrence and reflection: Stirling's
series for the logarithm of the gamma function and its derivative, a polynomial in
``(x - 3.75) / (x + 3.75)`` for the scaled complementary error function [1]_.
See :mod:`pymc_svi.engine.vector_math`.

References
----------
.. [1] M. M. Shepherd and J. G. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in
   0 <= x < inf", Mathematics of Computation 36 (1981).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

# What compiles as PyTensor does has no public name there.
from pytensor.link.numba.dispatch.basic import numba_njit

from pymc_svi.engine import double_precision, single_precision
from pymc_svi.engine.polynomial import constant, polynomial

__all__ = ["digamma", "erf", "erfc", "erfcx", "gammaln"]

_COMPILED: Any = {"fastmath": {"contract"}, "error_model": "numpy", "forceinline": True}
_compiled = numba_njit(cache=True, **_COMPILED)

_zero, _half, _one, _two = (constant(value) for value in (0.0, 0.5, 1.0, 2.0))
_infinity = constant(math.inf)


def _log(x):
    raise NotImplementedError("for compiled code only")


@overload(_log, jit_options=_COMPILED)
def _log_in_precision(x):
    log = (single_precision if x == types.float32 else double_precision).log
    return lambda x: log(x)


def _exp_of_sum(x, low):
    raise NotImplementedError("for compiled code only")


@overload(_exp_of_sum, jit_options=_COMPILED)
def _exp_of_sum_in_precision(x, low):
    exp_of_sum = (single_precision if x == types.float32 else double_precision).exp_of_sum
    return lambda x, low: exp_of_sum(x, low)


# --- the gamma function -------------------------------------------------------------------------

# Where the series is good enough, and how far below the recurrence leads to it.
_shift = polynomial([8.0], [4.0])
# The product of z, z + 1, ... below the shift, in u = z (z + shift - 1), and its derivative.
_product = polynomial([1.0, 28.0, 252.0, 720.0, 0.0], [1.0, 2.0, 0.0])
_product_slope = polynomial([4.0, 84.0, 504.0, 720.0], [2.0, 2.0])
# Bernoulli numbers, over 2k (2k - 1) and over 2k.
_STIRLING = [
    1 / 12,
    -1 / 360,
    1 / 1260,
    -1 / 1680,
    1 / 1188,
    -691 / 360360,
    1 / 156,
    -3617 / 122400,
]
_STIRLING += [43867 / 244188]
_stirling = polynomial(_STIRLING[::-1], _STIRLING[3::-1])
_DIGAMMA = [1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160]
_DIGAMMA += [43867 / 14364]
_digamma_tail = polynomial(_DIGAMMA[::-1], _DIGAMMA[4::-1])
_stirling_constant = constant(0.5 * math.log(2 * math.pi) - 0.5)
_pi, _log_pi = constant(math.pi), constant(math.log(math.pi))
# sin(pi r) / r and cos(pi r) in r^2, for |r| <= 1/2.
_sine = polynomial(
    [
        -2.228371216069697e-08,
        7.94853903737232e-07,
        -2.1915250301851375e-05,
        0.0004663027874593273,
        -0.007370430943702136,
        0.08214588661099356,
        -0.5992645293207869,
        2.5501640398773455,
        -5.16771278004997,
        3.141592653589793,
    ],
    [-0.00702830386, 0.0820503502, -0.599252187, 2.55016332, -5.16771276, 3.14159265],
)
_cosine = polynomial(
    [
        -1.34352129509532e-07,
        4.300724172734847e-06,
        -0.00010463741681752138,
        0.0019295741872812349,
        -0.025806891376592964,
        0.235330630357995,
        -1.3352627688545549,
        4.058712126416768,
        -4.934802200544679,
        1.0,
    ],
    [-0.0243959321, 0.234937069, -1.33521195, 4.05870915, -4.93480214, 1.0],
)


@_compiled
def _above_nearest_integer(x):
    """How far a number is above the nearest integer, or below it."""
    return x - np.floor(x + _half(x))


@_compiled
def _is_pole(x, r):
    """Whether a number that is r above an integer is zero or a negative integer."""
    return x <= _zero(x) and not (r < _zero(x) or r > _zero(x))


@_compiled
def _reflected_and_shifted(x):
    """Whether a number is positive, it or its reflection, whether the series holds there, and where it does."""
    positive = x > _zero(x)
    z = x if positive else _one(x) - x
    far = z >= _shift(x)
    return positive, z, far, z if far else z + _shift(x)


@_compiled
def gammaln(x):
    """The logarithm of the absolute value of the gamma function."""
    positive, z, far, y = _reflected_and_shifted(x)
    w = _one(x) / y
    below = _one(x) if far else _product(z * (z + (_shift(x) - _one(x))))
    value = (y - _half(x)) * (_log(y) - _one(x)) + _stirling_constant(x) + w * _stirling(w * w)
    # Gamma(x) Gamma(1 - x) = pi / sin(pi x).
    r = _above_nearest_integer(x)
    divisor = below if positive else abs(r * _sine(r * r)) / below
    value = (value if positive else _log_pi(x) - value) - _log(divisor)
    return _infinity(x) if _is_pole(x, r) else value


@_compiled
def digamma(x):
    """The derivative of the logarithm of the gamma function."""
    positive, z, far, y = _reflected_and_shifted(x)
    w = _one(x) / y
    last = _shift(x) - _one(x)
    u = z * (z + last)
    below = _zero(x) if far else (_two(x) * z + last) * _product_slope(u) / _product(u)
    value = _log(y) - w * (_half(x) + w * _digamma_tail(w * w)) - below
    r = _above_nearest_integer(x)
    reflected = value - _pi(x) * _cosine(r * r) / (r * _sine(r * r))
    return value if positive else (_infinity(x) if _is_pole(x, r) else reflected)


# --- the error function -------------------------------------------------------------------------

_center = constant(3.75)
_scaled = polynomial(
    [
        5.502110856246013e-11,
        4.397753661117409e-10,
        -5.600907857569786e-10,
        -5.364827795123287e-09,
        3.641717765923212e-09,
        4.019789124723808e-08,
        -2.7230287441300826e-08,
        -2.633607419379133e-07,
        2.799077357164491e-07,
        1.6555721573319336e-06,
        -3.2893609480353137e-06,
        -8.903619266998117e-06,
        3.747164357350598e-05,
        1.0593863854687785e-05,
        -0.0003486468330659182,
        0.0007948231289535177,
        0.0009863380763845768,
        -0.012535880045084727,
        0.04911877861552134,
        -0.13195540117823448,
        0.2790620490337755,
        -0.4904702912076886,
        0.7363189252217518,
        -0.9587415766529095,
        1.0919229095627891,
    ],
    [
        -8.65452967e-06,
        -0.000252621654,
        0.000814051104,
        0.000883928054,
        -0.012545297,
        0.04917056,
        -0.131953259,
        0.279050072,
        -0.490470472,
        0.736319945,
        -0.958741574,
        1.0919229,
    ],
)
# erf(x) / x in x^2, for |x| <= 1/2.
_small = polynomial(
    [
        1.3214378238338438e-08,
        -1.6273138761686977e-07,
        1.6459034327218912e-06,
        -1.4925586560096415e-05,
        0.00012055332131175981,
        -0.0008548327016159163,
        0.005223977625403192,
        -0.026866170645130034,
        0.11283791670955123,
        -0.37612638903183754,
        1.1283791670955126,
    ],
    [-0.000769453428, 0.00520041372, -0.026863143, 0.11283774, -0.376126385, 1.12837917],
)
# What keeps the upper half of the bits of a number, and where exp(-x^2) is zero.
_split, _gone = polynomial([2.0**27 + 1], [2.0**12 + 1]), polynomial([28.0], [11.0])


@_compiled
def _scaled_at(x):
    """``exp(x^2) erfc(x)`` for a number from zero on."""
    w = _one(x) / (x + _center(x))
    return w * _scaled((x - _center(x)) * w if x < _infinity(x) else _one(x))


@_compiled
def _square(x):
    """The square of a number, and what rounding takes from it."""
    c = _split(x) * x
    high = c - (c - x)
    low = x - high
    square = x * x
    return square, ((high * high - square) + _two(x) * high * low) + low * low


@_compiled
def erfcx(x):
    """``exp(x^2) erfc(x)``."""
    a = abs(x)
    value = _scaled_at(a)
    square, rest = _square(_gone(x) if a > _gone(x) else a)
    return value if x >= _zero(x) else _two(x) * _exp_of_sum(square, rest) - value


@_compiled
def erfc(x):
    """``1 - erf(x)``, also where that is tiny."""
    a = abs(x)
    a = _gone(x) if a > _gone(x) else a
    square, rest = _square(a)
    value = _scaled_at(a) * _exp_of_sum(-square, -rest)
    return value if x >= _zero(x) else _two(x) - value


@_compiled
def erf(x):
    """The error function."""
    a = abs(x)
    far = math.copysign(_one(x) - erfc(a), x)
    return x * _small(x * x) if a < _half(x) else far
