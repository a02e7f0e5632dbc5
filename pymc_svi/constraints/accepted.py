"""What users pass as a constraint: one of these, or a PyMC transform."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pymc.distributions import transforms as pymc_transforms
from pymc.logprob.transforms import (
    IntervalTransform,
    LogOddsTransform,
    LogTransform,
    SimplexTransform,
    Transform,
)

from pymc_svi.constraints.base import Constraint
from pymc_svi.constraints.elementwise import __all__ as elementwise
from pymc_svi.constraints.elementwise import (
    greater_than,
    interval,
    less_than,
    positive,
    real,
    softplus_positive,
    unit_interval,
)
from pymc_svi.constraints.matrices import __all__ as matrices
from pymc_svi.constraints.transforms import constraint_of
from pymc_svi.constraints.vectors import __all__ as vectors
from pymc_svi.constraints.vectors import ordered_vector, positive_ordered_vector, simplex
from pymc_svi.errors import sentence

__all__ = [
    "as_constraint",
    "from_transform",
]


def _native(transform: Transform) -> Constraint | None:
    """Return our own constraint for a PyMC transform that is the same map.

    They compare and pickle (PyMC's ``Interval`` holds a closure), and have numpy twins.
    """
    # Exact types: a subclass may mean something else.
    kind = type(transform)
    if kind is LogTransform:
        return positive
    if kind is LogOddsTransform:
        return unit_interval
    if kind is pymc_transforms.LogExpM1:
        return softplus_positive
    if kind is SimplexTransform:
        return simplex
    if kind is pymc_transforms.Ordered and transform.ascending:
        return positive_ordered_vector if transform.positive else ordered_vector
    if isinstance(transform, IntervalTransform):
        try:
            # Constant bounds don't look at their arguments; bounds that follow a distribution's
            # parameters do, and a param has no distribution.
            lower, upper = transform.args_fn()
        except Exception as error:
            raise TypeError(
                sentence(
                    "An Interval constraint needs constant bounds",
                    found="bounds computed from a distribution's parameters",
                    fix="Write constraints.interval(lower, upper), greater_than or less_than",
                )
            ) from error
        if lower is None and upper is None:
            return real
        if upper is None:
            return greater_than(lower)
        return less_than(upper) if lower is None else interval(lower, upper)
    return None


def from_transform(transform: Transform) -> Constraint:
    """Read a PyMC transform as a constraint.

    Parameters
    ----------
    transform : pymc.logprob.transforms.Transform
        Any transform with constant parameters, from ``pymc.distributions.transforms`` or one's
        own. Its ``backward`` maps unconstrained numbers to the parameter.

    Returns
    -------
    Constraint
        The constraint of this module where that is the same map, so that
        ``from_transform(transforms.log) is positive``.

    Raises
    ------
    TypeError
        If it is not a transform, has bounds that depend on a distribution, or is not one-to-one.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc.distributions import transforms
    >>> from pymc_svi import constraints
    >>> constraints.from_transform(transforms.Interval(0, 2))
    interval(0.0, 2.0)
    >>> zero_sum = constraints.from_transform(transforms.ZeroSumTransform([-1]))
    >>> zero_sum.unconstrained_shape((3,))
    (2,)
    >>> zero_sum.check(np.array([1.0, 2.0, -3.0])), zero_sum.check(np.array([1.0, 2.0, 3.0]))
    (True, False)
    """
    if not isinstance(transform, Transform):
        raise TypeError(_not_a_constraint(transform))
    return _native(transform) or constraint_of(transform)


def as_constraint(constraint: Any) -> Constraint:
    """Return what a user gave as ``constraint=`` as a :class:`Constraint`.

    Parameters
    ----------
    constraint : Constraint or pymc Transform
        A constraint, or the transform of one.

    Returns
    -------
    Constraint
        The constraint.

    Raises
    ------
    TypeError
        For anything else; the message says what to write.

    Examples
    --------
    >>> from pymc.distributions import transforms
    >>> from pymc_svi import constraints
    >>> constraints.as_constraint(transforms.log)
    positive
    """
    if isinstance(constraint, Constraint):
        return constraint
    if isinstance(constraint, Transform):
        return from_transform(constraint)
    raise TypeError(_not_a_constraint(constraint))


# What a user may have written for a constraint.
_NAMES = (*elementwise, *vectors, *matrices)
_FACTORIES = ("interval", "greater_than", "less_than")


def _not_a_constraint(given: Any) -> str:
    library = type(given).__module__.partition(".")[0]
    written = getattr(given, "__name__", "")
    if isinstance(given, str):
        found = f"the string {given!r}"
        close = get_close_matches(given, _NAMES, n=1)
        fix = (
            f"Pass the object: constraints.{close[0]}"
            if close
            else "Pass an object of pymc_svi.constraints"
        )
    elif callable(given) and written in _FACTORIES:
        found, fix = f"the function {written}", f"Call it with its bounds, as in {written}(...)"
    elif isinstance(given, type) and issubclass(given, Constraint | Transform):
        found, fix = f"the class {written}", f"Pass an instance, as in {written}(...)"
    else:
        found = f"{given!r} of type {type(given).__name__}"
        fix = (
            f"{library} has its own; use the one of that name in pymc_svi.constraints"
            if library in ("numpyro", "pyro", "torch", "tensorflow_probability")
            else "Pass one of pymc_svi.constraints or a PyMC transform"
        )
    expected = (
        "a pymc_svi constraint (" + ", ".join(_NAMES) + ") or a transform of "
        "pymc.distributions.transforms"
    )
    return sentence("Not a constraint", found=found, expected=expected, fix=fix)
