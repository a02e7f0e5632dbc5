"""Constraints on each number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from scipy.special import expit, logit

from pymc_svi.constraints.base import (
    Constraint,
    first_outside,
    floats,
    like,
    softplus_inverse,
    tensor,
)
from pymc_svi.errors import sentence

__all__ = [
    "greater_than",
    "interval",
    "less_than",
    "nonnegative",
    "positive",
    "real",
    "softplus_positive",
    "unit_interval",
]


@dataclass(frozen=True, repr=False)
class _Real(Constraint):
    name = "real"

    def unconstrain(self, value):
        return floats(value)

    def constrain(self, u):
        return tensor(u)

    def constrain_value(self, u):
        return np.asarray(u)

    def log_jac_det(self, u):
        return pt.zeros_like(tensor(u))


@dataclass(frozen=True, repr=False)
class _Positive(Constraint):
    name = "positive"

    def unconstrain(self, value):
        return np.log(floats(value))

    def constrain(self, u):
        return pt.exp(tensor(u))

    def constrain_value(self, u):
        return np.exp(u)

    def log_jac_det(self, u):
        return tensor(u)

    def _violation(self, value):
        return first_outside(value, value > 0, "must be positive")


@dataclass(frozen=True, repr=False)
class _SoftplusPositive(_Positive):
    name = "softplus_positive"

    def unconstrain(self, value):
        return softplus_inverse(floats(value))

    def constrain(self, u):
        return pt.softplus(tensor(u))

    def constrain_value(self, u):
        u = np.asarray(u)
        return np.logaddexp(np.zeros((), u.dtype), u)

    def log_jac_det(self, u):
        return -pt.softplus(-tensor(u))


@dataclass(frozen=True, repr=False)
class _UnitInterval(Constraint):
    name = "unit_interval"

    def unconstrain(self, value):
        return logit(floats(value))

    def constrain(self, u):
        # Not clipped away from 0 and 1: PyTensor recognises log(sigmoid(u)) and log1p(-sigmoid(u))
        # and computes them stably, which a clip in between would hide from it.
        return pt.sigmoid(tensor(u))

    def constrain_value(self, u):
        return expit(u)

    def log_jac_det(self, u):
        u = tensor(u)
        return -pt.softplus(-u) - pt.softplus(u)

    def _violation(self, value):
        return first_outside(value, (value > 0) & (value < 1), "must lie strictly between 0 and 1")


type _Bound = float | tuple[Any, ...]


def _bound(value: Any, name: str) -> _Bound:
    """A bound as a float or nested tuple of floats: both compare, hash and print as one expects."""
    if isinstance(value, Variable):
        raise TypeError(
            sentence(
                f"{name} must be a number or an array of numbers",
                found=f"the symbolic variable {value}",
                fix="Use an unbounded parameter and shift or scale it in the program instead",
            )
        )
    array = np.asarray(value, dtype="float64")
    if not np.isfinite(array).all():
        raise ValueError(
            sentence(
                f"{name} must be finite",
                found=repr(value),
                fix="Use greater_than, less_than or real for sets without that bound",
            )
        )

    def nested(x):
        return tuple(nested(y) for y in x) if isinstance(x, list) else x

    return nested(array.tolist())


def _fits(shape: tuple[int, ...], *bounds: _Bound) -> tuple[int, ...]:
    """Return ``shape``, refusing one that array bounds would broadcast to something larger."""
    for bound in bounds:
        bound_shape = np.shape(bound)
        if bound_shape and np.broadcast_shapes(tuple(shape), bound_shape) != tuple(shape):
            raise ValueError(f"must have the shape of its bounds, {bound_shape}; found {shape}")
    return tuple(shape)


@dataclass(frozen=True, repr=False)
class _GreaterThan(Constraint):
    lower: _Bound
    name = "greater_than"

    def unconstrained_shape(self, shape):
        return _fits(shape, self.lower)

    def unconstrain(self, value):
        return np.log(floats(value) - floats(self.lower))

    def constrain(self, u):
        u = tensor(u)
        return pt.exp(u) + like(self.lower, u)

    def constrain_value(self, u):
        u = np.asarray(u)
        return np.exp(u) + np.asarray(self.lower, u.dtype)

    def log_jac_det(self, u):
        return tensor(u)

    def _violation(self, value):
        inside = value > np.asarray(self.lower)
        return first_outside(value, inside, f"must be greater than {self.lower}")

    def __repr__(self):
        return f"greater_than({self.lower})"


@dataclass(frozen=True, repr=False)
class _LessThan(Constraint):
    upper: _Bound
    name = "less_than"

    def unconstrained_shape(self, shape):
        return _fits(shape, self.upper)

    def unconstrain(self, value):
        return np.log(floats(self.upper) - floats(value))

    def constrain(self, u):
        u = tensor(u)
        return like(self.upper, u) - pt.exp(u)

    def constrain_value(self, u):
        u = np.asarray(u)
        return np.asarray(self.upper, u.dtype) - np.exp(u)

    def log_jac_det(self, u):
        return tensor(u)

    def _violation(self, value):
        inside = value < np.asarray(self.upper)
        return first_outside(value, inside, f"must be less than {self.upper}")

    def __repr__(self):
        return f"less_than({self.upper})"


@dataclass(frozen=True, repr=False)
class _Interval(Constraint):
    lower: _Bound
    upper: _Bound
    name = "interval"

    def unconstrained_shape(self, shape):
        return _fits(shape, self.lower, self.upper)

    def unconstrain(self, value):
        value = floats(value)
        return np.log(value - floats(self.lower)) - np.log(floats(self.upper) - value)

    def constrain(self, u):
        u = tensor(u)
        lower, upper = like(self.lower, u), like(self.upper, u)
        return lower + (upper - lower) * pt.sigmoid(u)

    def constrain_value(self, u):
        u = np.asarray(u)
        lower, upper = np.asarray(self.lower, u.dtype), np.asarray(self.upper, u.dtype)
        return lower + (upper - lower) * expit(u)

    def log_jac_det(self, u):
        u = tensor(u)
        log_width = np.log(np.asarray(self.upper) - np.asarray(self.lower))
        return like(log_width, u) - pt.softplus(-u) - pt.softplus(u)

    def _violation(self, value):
        inside = (value > np.asarray(self.lower)) & (value < np.asarray(self.upper))
        return first_outside(
            value, inside, f"must lie strictly between {self.lower} and {self.upper}"
        )

    def __repr__(self):
        return f"interval({self.lower}, {self.upper})"


real: Constraint = _Real()
"""All real numbers; the map is the identity."""

positive: Constraint = _Positive()
"""Positive numbers, through ``exp``: steps are relative."""

nonnegative: Constraint = positive
"""The same as :data:`positive`: zero lies infinitely far out in unconstrained space."""

softplus_positive: Constraint = _SoftplusPositive()
"""Positive numbers, through ``softplus``: steps are absolute for large values."""

unit_interval: Constraint = _UnitInterval()
"""Numbers strictly between 0 and 1, through the logistic function."""


def greater_than(lower_bound: Any) -> Constraint:
    """Numbers greater than a constant, through ``exp``.

    Parameters
    ----------
    lower_bound : float or array_like
        Constant; arrays broadcast against the value.

    Returns
    -------
    Constraint
        For ``param(..., constraint=...)``.

    Raises
    ------
    TypeError
        If the bound is not a number, or an expression.
    ValueError
        If the bound is not finite.

    Examples
    --------
    >>> from pymc_svi import constraints
    >>> constraints.greater_than(1).violation(0.5)
    'must be greater than 1.0; found 0.5'
    """
    return _GreaterThan(_bound(lower_bound, "greater_than: lower_bound"))


def less_than(upper_bound: Any) -> Constraint:
    """Numbers less than a constant, through ``exp``.

    Parameters
    ----------
    upper_bound : float or array_like
        Constant; arrays broadcast against the value.

    Returns
    -------
    Constraint
        For ``param(..., constraint=...)``.

    Raises
    ------
    TypeError
        If the bound is not a number, or an expression.
    ValueError
        If the bound is not finite.

    Examples
    --------
    >>> from pymc_svi import constraints
    >>> constraints.less_than(1).check(0.5)
    True
    """
    return _LessThan(_bound(upper_bound, "less_than: upper_bound"))


def interval(lower_bound: Any, upper_bound: Any) -> Constraint:
    """Numbers strictly between two constants, through the logistic function.

    Parameters
    ----------
    lower_bound, upper_bound : float or array_like
        Constants with ``lower_bound < upper_bound``; arrays broadcast against the value.

    Returns
    -------
    Constraint
        For ``param(..., constraint=...)``.

    Raises
    ------
    TypeError
        If a bound is not a number, or an expression.
    ValueError
        If a bound is not finite or the bounds are in the wrong order.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi import constraints
    >>> halves = constraints.interval(0, 0.5)
    >>> halves
    interval(0.0, 0.5)
    >>> halves.constrain_value(halves.unconstrain(0.25)).item()
    0.25
    """
    lower = _bound(lower_bound, "interval: lower_bound")
    upper = _bound(upper_bound, "interval: upper_bound")
    if not (np.asarray(lower) < np.asarray(upper)).all():
        raise ValueError(
            sentence(
                "interval: lower_bound must be less than upper_bound",
                found=f"interval({lower}, {upper})",
            )
        )
    return _Interval(lower, upper)
