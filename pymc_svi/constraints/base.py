"""What a constraint is, and the arithmetic that all share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

__all__ = [
    "TOLERANCE",
    "Constraint",
    "first_outside",
    "floats",
    "like",
    "softplus_inverse",
    "tensor",
]

# How far a simplex may miss one, a unit diagonal miss one: starting values are often written with
# few digits or computed in float32.
TOLERANCE = 1e-6


class Constraint(ABC):
    """A set of values together with a smooth bijection to it from unconstrained space.

    Subclasses are small, immutable and comparable: two constraints that mean the same are equal.
    All maps act on the last ``event_dim`` axes and broadcast over the axes before them.

    Attributes
    ----------
    name : str
        The name in this module.
    event_dim : int
        Number of rightmost axes of a constrained value that belong together: 0 for elementwise
        constraints, 1 for vectors, 2 for matrices.

    Examples
    --------
    A constraint of one's own, the numbers above one on a log-log scale:

    >>> import numpy as np
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.constraints import Constraint
    >>> class AboveOne(Constraint):
    ...     name = "above_one"
    ...
    ...     def unconstrain(self, value):
    ...         return np.log(np.log(np.asarray(value, dtype="float64")))
    ...
    ...     def constrain(self, u):
    ...         return pt.exp(pt.exp(u))
    ...
    ...     def constrain_value(self, u):
    ...         return np.exp(np.exp(u))
    ...
    ...     def log_jac_det(self, u):
    ...         return u + pt.exp(u)
    ...
    ...     def _violation(self, value):
    ...         return "" if (value > 1).all() else "must be greater than 1"
    >>> AboveOne().violation([2.0, 0.5])
    'must be greater than 1'
    """

    name: str
    event_dim: int = 0

    @abstractmethod
    def unconstrain(self, value: np.ndarray) -> np.ndarray:
        """Map a value inside the constraint to unconstrained space (numpy, ``floatX``).

        Parameters
        ----------
        value : array_like, shape (..., *event)
            A value for which :meth:`check` is true; others give NaN or infinities.

        Returns
        -------
        numpy.ndarray, shape ``unconstrained_shape(value.shape)``
            The numbers.
        """

    @abstractmethod
    def constrain(self, u: TensorVariable) -> TensorVariable:
        """Map unconstrained numbers to the constraint, as a differentiable expression.

        Parameters
        ----------
        u : TensorVariable, shape (..., *unconstrained event)
            Unconstrained numbers.

        Returns
        -------
        TensorVariable, shape (..., *event), of the dtype of ``u``
            The value.
        """

    @abstractmethod
    def constrain_value(self, u: np.ndarray) -> np.ndarray:
        """Map unconstrained numbers to the constraint in numpy; twin of :meth:`constrain`.

        Parameters
        ----------
        u : numpy.ndarray
            Unconstrained numbers.

        Returns
        -------
        numpy.ndarray
            The value.
        """

    @abstractmethod
    def log_jac_det(self, u: TensorVariable) -> TensorVariable:
        """Log absolute determinant of the Jacobian of :meth:`constrain`.

        Where the value has fewer free elements than entries (simplex, Cholesky factors), the
        Jacobian is taken with respect to the free ones: all but the last entry of a simplex, the
        lower triangle of a factor (without its diagonal where that is determined by the rest).

        Parameters
        ----------
        u : TensorVariable, shape (..., *unconstrained event)
            Unconstrained numbers.

        Returns
        -------
        TensorVariable, shape (...)
            Summed over the event axes; elementwise if ``event_dim`` is 0.
        """

    def unconstrained_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the unconstrained numbers behind a value of the given shape.

        Parameters
        ----------
        shape : tuple of int
            Shape of the value.

        Returns
        -------
        tuple of int
            Shape of the unconstrained numbers.

        Raises
        ------
        ValueError
            If no value of that shape can satisfy the constraint.
        """
        return tuple(shape)

    def check(self, value: Any) -> bool:
        """Whether all of ``value`` is finite and inside the constraint.

        Parameters
        ----------
        value : array_like
            The value.

        Returns
        -------
        bool
            Whether it is.
        """
        return not self.violation(value)

    def violation(self, value: Any) -> str:
        """Say in a short sentence what is wrong with ``value``, or return ``""``.

        Parameters
        ----------
        value : array_like
            The value.

        Returns
        -------
        str
            Part of a sentence.

        Examples
        --------
        >>> from pymc_svi import constraints
        >>> constraints.positive.violation([0.5, 2.0, -1.0])
        'must be positive; found -1.0 at index (2,)'
        >>> constraints.positive.violation(0.5)
        ''
        """
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            return f"must be an array of real numbers; found dtype {array.dtype}"
        array = array.astype("float64")
        if array.ndim < self.event_dim:
            return f"must have at least {self.event_dim} dimension(s); found shape {array.shape}"
        try:
            self.unconstrained_shape(array.shape)
        except ValueError as error:
            return str(error)
        return first_outside(array, np.isfinite(array), "must be finite") or self._violation(array)

    def _violation(self, value: np.ndarray) -> str:
        """Say what is wrong with a finite float64 value of an admissible shape, or return ``""``."""
        return ""

    def __repr__(self) -> str:
        return self.name


def first_outside(value: np.ndarray, inside: np.ndarray, rule: str) -> str:
    """Return ``rule`` with the first element that breaks it, or ``""`` when none does."""
    value, inside = np.asarray(value), np.asarray(inside)
    if inside.all():
        return ""
    index = tuple(int(i) for i in np.argwhere(~inside)[0])
    where = f" at index {index}" if index else ""
    return f"{rule}; found {float(value[index])!r}{where}"


def floats(value: Any) -> np.ndarray:
    """Return an array in the precision that is computed in."""
    return np.asarray(value, dtype=pytensor.config.floatX)


def tensor(u: Any) -> TensorVariable:
    """Return an expression of floats; those of another precision stay as they are."""
    u = pt.as_tensor(u)
    return u if u.dtype in ("float32", "float64") else u.astype(pytensor.config.floatX)


def like(number: Any, u: TensorVariable) -> np.ndarray:
    """A constant in the dtype of ``u``, so that no graph changes its precision on the way."""
    return np.asarray(number, dtype=u.dtype)


def softplus_inverse(value: np.ndarray) -> np.ndarray:
    """Return what ``softplus`` maps to a value."""
    # log(exp(x) - 1), written so that neither a tiny nor a large x loses its digits.
    return value + np.log(-np.expm1(-value))
