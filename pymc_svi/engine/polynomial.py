"""Polynomials and constants in compiled code, in the precision of what they are given.

A number of Python's would make double precision of single, and a loop over coefficients is not undone by
LLVM before it makes vector instructions; so the arithmetic is written out as instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["constant", "polynomial"]


def polynomial(double: Sequence[float], single: Sequence[float] | None = None) -> Callable:
    """Return a function of compiled code that evaluates a polynomial by Horner's rule.

    Parameters
    ----------
    double : sequence of float
        The coefficients, that of the highest power first.
    single : sequence of float, optional
        Those for a number in single precision; the same by default.

    Returns
    -------
    callable
        ``evaluate(x)``, of the type of ``x``: for a floating-point number.
    """
    coefficients = {
        types.float64: tuple(double),
        types.float32: tuple(double if single is None else single),
    }

    @intrinsic
    def evaluate(typingctx, x):
        def codegen(context, builder, signature, arguments):
            [value] = arguments
            first, *rest = (ir.Constant(value.type, c) for c in coefficients[x])
            for coefficient in rest:
                product = builder.fmul(first, value, flags=("contract",))
                first = builder.fadd(product, coefficient, flags=("contract",))
            return first

        return x(x), codegen

    return evaluate


def constant(value: float) -> Callable:
    """Return a function of compiled code that gives a number in the precision of its argument."""
    return polynomial((value,))
