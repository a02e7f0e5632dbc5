"""Constraints: the sets parameters live in, and the maps to them from unconstrained space.

An optimizer moves unconstrained numbers; a guide wants a positive scale, a simplex, a Cholesky
factor. A :class:`Constraint` is the bridge. It has five jobs, and nothing else in the package
needs to know how they are done:

- ``unconstrain`` turns a starting value (numpy) into free numbers,
- ``constrain`` turns the free numbers into the parameter, as a PyTensor expression,
- ``constrain_value`` does the same in numpy, for results,
- ``log_jac_det`` is the volume change of ``constrain``,
- ``check`` and ``violation`` say whether a value is inside, and in words why it isn't.

Ready-made constraints carry NumPyro's names (``positive``, ``interval(a, b)``,
``lower_cholesky``...); any PyMC transform is accepted in their place through
:func:`as_constraint`. Users add their own by subclassing :class:`Constraint`, as the ones here do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions import transforms as pymc_transforms
from pymc.logprob.transforms import (
    IntervalTransform,
    LogOddsTransform,
    LogTransform,
    SimplexTransform,
    Transform,
)
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.tensor.variable import TensorVariable
from scipy.special import expit, logit, softmax

from pymc_svi.errors import sentence

__all__ = [
    "Constraint",
    "as_constraint",
    "corr_cholesky",
    "from_transform",
    "greater_than",
    "interval",
    "less_than",
    "lower_cholesky",
    "nonnegative",
    "ordered_vector",
    "positive",
    "positive_ordered_vector",
    "real",
    "scaled_unit_lower_cholesky",
    "simplex",
    "softplus_positive",
    "unit_interval",
    "unit_lower_cholesky",
]

# How far a simplex may miss one, a unit diagonal miss one: starting values are often written with
# few digits or computed in float32.
_TOLERANCE = 1e-6


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
        """

    @abstractmethod
    def constrain(self, u: TensorVariable) -> TensorVariable:
        """Map unconstrained numbers to the constraint, as a differentiable expression.

        Parameters
        ----------
        u : TensorVariable, shape (..., *unconstrained event)

        Returns
        -------
        TensorVariable, shape (..., *event), of the dtype of ``u``
        """

    @abstractmethod
    def constrain_value(self, u: np.ndarray) -> np.ndarray:
        """Map unconstrained numbers to the constraint in numpy; twin of :meth:`constrain`."""

    @abstractmethod
    def log_jac_det(self, u: TensorVariable) -> TensorVariable:
        """Log absolute determinant of the Jacobian of :meth:`constrain`.

        Where the value has fewer free elements than entries (simplex, Cholesky factors), the
        Jacobian is taken with respect to the free ones: all but the last entry of a simplex, the
        lower triangle of a factor (without its diagonal where that is determined by the rest).

        Parameters
        ----------
        u : TensorVariable, shape (..., *unconstrained event)

        Returns
        -------
        TensorVariable, shape (...)
            Summed over the event axes; elementwise if ``event_dim`` is 0.
        """

    def unconstrained_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the unconstrained numbers behind a value of the given shape.

        Raises
        ------
        ValueError
            If no value of that shape can satisfy the constraint.
        """
        return tuple(shape)

    def check(self, value: Any) -> bool:
        """Whether all of ``value`` is finite and inside the constraint."""
        return not self.violation(value)

    def violation(self, value: Any) -> str:
        """Say in a short sentence what is wrong with ``value``, or return ``""``.

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
        return _first_outside(array, np.isfinite(array), "must be finite") or self._violation(array)

    def _violation(self, value: np.ndarray) -> str:
        """Say what is wrong with a finite float64 value of an admissible shape, or return ``""``."""
        return ""

    def __repr__(self) -> str:
        return self.name


def _first_outside(value: np.ndarray, inside: np.ndarray, rule: str) -> str:
    """Return ``rule`` with the first element that breaks it, or ``""`` when none does."""
    value, inside = np.asarray(value), np.asarray(inside)
    if inside.all():
        return ""
    index = tuple(int(i) for i in np.argwhere(~inside)[0])
    where = f" at index {index}" if index else ""
    return f"{rule}; found {float(value[index])!r}{where}"


def _floats(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=pytensor.config.floatX)


def _tensor(u: Any) -> TensorVariable:
    u = pt.as_tensor(u)
    return u if u.dtype in ("float32", "float64") else u.astype(pytensor.config.floatX)


def _like(number: Any, u: TensorVariable) -> np.ndarray:
    """A constant in the dtype of ``u``, so that no graph changes its precision on the way."""
    return np.asarray(number, dtype=u.dtype)


def _softplus_inverse(value: np.ndarray) -> np.ndarray:
    # log(exp(x) - 1), written so that neither a tiny nor a large x loses its digits.
    return value + np.log(-np.expm1(-value))


# --- elementwise ----------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class _Real(Constraint):
    name = "real"

    def unconstrain(self, value):
        return _floats(value)

    def constrain(self, u):
        return _tensor(u)

    def constrain_value(self, u):
        return np.asarray(u)

    def log_jac_det(self, u):
        return pt.zeros_like(_tensor(u))


@dataclass(frozen=True, repr=False)
class _Positive(Constraint):
    name = "positive"

    def unconstrain(self, value):
        return np.log(_floats(value))

    def constrain(self, u):
        return pt.exp(_tensor(u))

    def constrain_value(self, u):
        return np.exp(u)

    def log_jac_det(self, u):
        return _tensor(u)

    def _violation(self, value):
        return _first_outside(value, value > 0, "must be positive")


@dataclass(frozen=True, repr=False)
class _SoftplusPositive(_Positive):
    name = "softplus_positive"

    def unconstrain(self, value):
        return _softplus_inverse(_floats(value))

    def constrain(self, u):
        return pt.softplus(_tensor(u))

    def constrain_value(self, u):
        u = np.asarray(u)
        return np.logaddexp(np.zeros((), u.dtype), u)

    def log_jac_det(self, u):
        return -pt.softplus(-_tensor(u))


@dataclass(frozen=True, repr=False)
class _UnitInterval(Constraint):
    name = "unit_interval"

    def unconstrain(self, value):
        return logit(_floats(value))

    def constrain(self, u):
        # Not clipped away from 0 and 1: PyTensor recognises log(sigmoid(u)) and log1p(-sigmoid(u))
        # and computes them stably, which a clip in between would hide from it.
        return pt.sigmoid(_tensor(u))

    def constrain_value(self, u):
        return expit(u)

    def log_jac_det(self, u):
        u = _tensor(u)
        return -pt.softplus(-u) - pt.softplus(u)

    def _violation(self, value):
        return _first_outside(value, (value > 0) & (value < 1), "must lie strictly between 0 and 1")


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
        return np.log(_floats(value) - _floats(self.lower))

    def constrain(self, u):
        u = _tensor(u)
        return pt.exp(u) + _like(self.lower, u)

    def constrain_value(self, u):
        u = np.asarray(u)
        return np.exp(u) + np.asarray(self.lower, u.dtype)

    def log_jac_det(self, u):
        return _tensor(u)

    def _violation(self, value):
        inside = value > np.asarray(self.lower)
        return _first_outside(value, inside, f"must be greater than {self.lower}")

    def __repr__(self):
        return f"greater_than({self.lower})"


@dataclass(frozen=True, repr=False)
class _LessThan(Constraint):
    upper: _Bound
    name = "less_than"

    def unconstrained_shape(self, shape):
        return _fits(shape, self.upper)

    def unconstrain(self, value):
        return np.log(_floats(self.upper) - _floats(value))

    def constrain(self, u):
        u = _tensor(u)
        return _like(self.upper, u) - pt.exp(u)

    def constrain_value(self, u):
        u = np.asarray(u)
        return np.asarray(self.upper, u.dtype) - np.exp(u)

    def log_jac_det(self, u):
        return _tensor(u)

    def _violation(self, value):
        inside = value < np.asarray(self.upper)
        return _first_outside(value, inside, f"must be less than {self.upper}")

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
        value = _floats(value)
        return np.log(value - _floats(self.lower)) - np.log(_floats(self.upper) - value)

    def constrain(self, u):
        u = _tensor(u)
        lower, upper = _like(self.lower, u), _like(self.upper, u)
        return lower + (upper - lower) * pt.sigmoid(u)

    def constrain_value(self, u):
        u = np.asarray(u)
        lower, upper = np.asarray(self.lower, u.dtype), np.asarray(self.upper, u.dtype)
        return lower + (upper - lower) * expit(u)

    def log_jac_det(self, u):
        u = _tensor(u)
        log_width = np.log(np.asarray(self.upper) - np.asarray(self.lower))
        return _like(log_width, u) - pt.softplus(-u) - pt.softplus(u)

    def _violation(self, value):
        inside = (value > np.asarray(self.lower)) & (value < np.asarray(self.upper))
        return _first_outside(
            value, inside, f"must lie strictly between {self.lower} and {self.upper}"
        )

    def __repr__(self):
        return f"interval({self.lower}, {self.upper})"


# --- vectors --------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class _Simplex(Constraint):
    name = "simplex"
    event_dim = 1

    def unconstrained_shape(self, shape):
        if shape[-1] < 1:
            raise ValueError(f"must have at least one entry in the last axis; found shape {shape}")
        return (*shape[:-1], shape[-1] - 1)

    def unconstrain(self, value):
        log_value = np.log(_floats(value))
        return (log_value - log_value.mean(axis=-1, keepdims=True))[..., :-1]

    # PyMC's map: log-ratios that sum to zero, of which the last is left out. Unlike stick
    # breaking it treats the entries alike.
    @staticmethod
    def _logits(u):
        u = _tensor(u)
        return pt.concatenate([u, -u.sum(axis=-1, keepdims=True)], axis=-1)

    def constrain(self, u):
        return pt.special.softmax(self._logits(u), axis=-1)

    def constrain_value(self, u):
        u = np.asarray(u)
        return softmax(np.concatenate([u, -u.sum(axis=-1, keepdims=True)], axis=-1), axis=-1)

    def log_jac_det(self, u):
        # The Jacobian of the first K - 1 entries has determinant K * prod(simplex), and the
        # logits sum to zero, which leaves only their normaliser.
        logits = self._logits(u)
        size = logits.shape[-1].astype(logits.dtype)
        return pt.log(size) - size * pt.logsumexp(logits, axis=-1)

    def _violation(self, value):
        outside = _first_outside(value, value > 0, "must be positive everywhere")
        if outside:
            return outside
        total = value.sum(axis=-1)
        return _first_outside(total, abs(total - 1) < _TOLERANCE, "must sum to 1").replace(
            "; found", "; found the sum"
        )


@dataclass(frozen=True, repr=False)
class _OrderedVector(Constraint):
    name = "ordered_vector"
    event_dim = 1

    def unconstrain(self, value):
        value = _floats(value)
        return np.concatenate([value[..., :1], np.log(np.diff(value, axis=-1))], axis=-1)

    def constrain(self, u):
        u = _tensor(u)
        return pt.cumsum(pt.concatenate([u[..., :1], pt.exp(u[..., 1:])], axis=-1), axis=-1)

    def constrain_value(self, u):
        u = np.asarray(u)
        return np.cumsum(np.concatenate([u[..., :1], np.exp(u[..., 1:])], axis=-1), axis=-1)

    def log_jac_det(self, u):
        return _tensor(u)[..., 1:].sum(axis=-1)

    def _violation(self, value):
        rising = np.diff(value, axis=-1, prepend=-np.inf) > 0
        return _first_outside(value, rising, "must increase strictly along the last axis")


@dataclass(frozen=True, repr=False)
class _PositiveOrderedVector(_OrderedVector):
    name = "positive_ordered_vector"

    def unconstrain(self, value):
        return np.log(np.diff(_floats(value), axis=-1, prepend=0.0))

    def constrain(self, u):
        return pt.cumsum(pt.exp(_tensor(u)), axis=-1)

    def constrain_value(self, u):
        return np.cumsum(np.exp(u), axis=-1)

    def log_jac_det(self, u):
        return _tensor(u).sum(axis=-1)

    def _violation(self, value):
        outside = _first_outside(value, value > 0, "must be positive")
        return outside or super()._violation(value)


# --- triangular matrices --------------------------------------------------------------------
#
# Free numbers are a vector, in NumPyro's order: the strict lower triangle row by row, then (where
# it is free) the diagonal. The matrix is filled by one scatter with constant indices into its
# flattened form; with one dimension of indices every backend has a fast path for it.


def _length(u: TensorVariable) -> int | TensorVariable:
    """Length of the last axis, as a number wherever it is known: constants compile faster."""
    static = u.type.shape[-1]
    if static is None and isinstance(u, SharedVariable):
        # Shared variables don't promise a shape in their type, but a parameter never changes its.
        static = u.get_value(borrow=True).shape[-1]
    return u.shape[-1] if static is None else int(static)


def _matrix_size(length: int | TensorVariable, *, with_diagonal: bool):
    """Return ``n`` of the (n, n) triangular matrix with that many free numbers."""
    symbolic = isinstance(length, Variable)
    root = (pt if symbolic else np).sqrt(1.0 + 8.0 * length)
    n = (root - 1.0) / 2.0 if with_diagonal else (root + 1.0) / 2.0
    if symbolic:
        return pt.round(n).astype("int64")
    n = round(float(n))
    if n * (n + 1 if with_diagonal else n - 1) // 2 != length:
        triangle = "lower triangle" if with_diagonal else "strict lower triangle"
        raise ValueError(f"{length} unconstrained numbers do not fill the {triangle} of a matrix.")
    return n


def _strict_lower_indices(n):
    """Rows and columns of the strict lower triangle, row by row."""
    return pt.tril_indices(n, -1) if isinstance(n, Variable) else np.tril_indices(n, -1)


def _scatter(entries: TensorVariable, n, *, diagonal: bool) -> TensorVariable:
    """Fill the lower triangle of a matrix of zeros.

    Parameters
    ----------
    entries : TensorVariable, shape (..., m)
        The strict lower triangle row by row, followed by the diagonal if ``diagonal``.
    """
    rows, columns = _strict_lower_indices(n)
    if isinstance(n, Variable):
        concatenate, arange = pt.concatenate, pt.arange(n)
    else:
        concatenate, arange = np.concatenate, np.arange(n)
    flat = rows * n + columns
    if diagonal:
        flat = concatenate([flat, arange * (n + 1)])
    batch = tuple(entries.shape)[:-1]
    zeros = pt.zeros((*batch, n * n), dtype=entries.dtype)
    return zeros[..., flat].set(entries).reshape((*batch, n, n))


def _matrix_value(entries: np.ndarray, n: int, *, diagonal: bool) -> np.ndarray:
    """Numpy twin of :func:`_scatter`."""
    matrix = np.zeros((*entries.shape[:-1], n, n), dtype=entries.dtype)
    rows, columns = np.tril_indices(n, -1)
    matrix[..., rows, columns] = entries[..., : len(rows)]
    if diagonal:
        matrix[..., np.arange(n), np.arange(n)] = entries[..., len(rows) :]
    return matrix


class _LowerTriangular(Constraint):
    """What the constraints on lower-triangular matrices share: shapes and the check of form."""

    event_dim = 2
    _with_diagonal: ClassVar[bool] = True

    def unconstrained_shape(self, shape):
        if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 1:
            raise ValueError(f"must be a square matrix in its last two axes; found shape {shape}")
        n = shape[-1]
        return (*shape[:-2], n * (n + 1 if self._with_diagonal else n - 1) // 2)

    def _split(self, u):
        """Return the size of the matrix, the strict lower triangle, and the diagonal's numbers."""
        length = _length(u) if isinstance(u, Variable) else u.shape[-1]
        n = _matrix_size(length, with_diagonal=self._with_diagonal)
        if not self._with_diagonal:
            return n, u, None
        return n, u[..., : length - n], u[..., length - n :]

    @staticmethod
    def _parts(value):
        """Return the strict lower triangle (row by row) and the diagonal of a numpy value."""
        value = _floats(value)
        rows, columns = np.tril_indices(value.shape[-1], -1)
        return value[..., rows, columns], np.diagonal(value, axis1=-2, axis2=-1)

    def _violation(self, value):
        n = value.shape[-1]
        upper = _first_outside(
            value,
            (value == 0) | np.tri(n, dtype=bool),
            "must be lower triangular: zero above the diagonal",
        )
        if upper:
            return upper
        diagonal = np.where(np.eye(n, dtype=bool), value, 1.0)
        return self._diagonal_violation(diagonal)

    def _diagonal_violation(self, diagonal):
        """Judge the diagonal; entries off it are 1, which keeps the indices those of the value."""
        return _first_outside(diagonal, diagonal > 0, "must have a positive diagonal")


@dataclass(frozen=True, repr=False)
class _LowerCholesky(_LowerTriangular):
    name = "lower_cholesky"

    def unconstrain(self, value):
        lower, diagonal = self._parts(value)
        return np.concatenate([lower, np.log(diagonal)], axis=-1)

    def constrain(self, u):
        n, lower, diagonal = self._split(_tensor(u))
        return _scatter(pt.concatenate([lower, pt.exp(diagonal)], axis=-1), n, diagonal=True)

    def constrain_value(self, u):
        n, lower, diagonal = self._split(np.asarray(u))
        return _matrix_value(np.concatenate([lower, np.exp(diagonal)], axis=-1), n, diagonal=True)

    def log_jac_det(self, u):
        _, _, diagonal = self._split(_tensor(u))
        return diagonal.sum(axis=-1)


@dataclass(frozen=True, repr=False)
class _UnitLowerCholesky(_LowerTriangular):
    name = "unit_lower_cholesky"
    _with_diagonal: ClassVar[bool] = False

    def unconstrain(self, value):
        return self._parts(value)[0]

    def constrain(self, u):
        u = _tensor(u)
        n, lower, _ = self._split(u)
        return _scatter(lower, n, diagonal=False) + pt.eye(n, dtype=u.dtype)

    def constrain_value(self, u):
        u = np.asarray(u)
        n, lower, _ = self._split(u)
        return _matrix_value(lower, n, diagonal=False) + np.eye(n, dtype=u.dtype)

    def log_jac_det(self, u):
        return pt.zeros_like(_tensor(u)).sum(axis=-1)

    def _diagonal_violation(self, diagonal):
        inside = abs(diagonal - 1) < _TOLERANCE
        return _first_outside(diagonal, inside, "must have ones on the diagonal")


@dataclass(frozen=True, repr=False)
class _ScaledUnitLowerCholesky(_LowerTriangular):
    name = "scaled_unit_lower_cholesky"

    def unconstrain(self, value):
        lower, diagonal = self._parts(value)
        rows, _ = np.tril_indices(diagonal.shape[-1], -1)
        return np.concatenate([lower / diagonal[..., rows], _softplus_inverse(diagonal)], axis=-1)

    def constrain(self, u):
        n, lower, diagonal = self._split(_tensor(u))
        diagonal = pt.softplus(diagonal)
        rows, _ = _strict_lower_indices(n)
        entries = pt.concatenate([lower * diagonal[..., rows], diagonal], axis=-1)
        return _scatter(entries, n, diagonal=True)

    def constrain_value(self, u):
        n, lower, diagonal = self._split(np.asarray(u))
        diagonal = np.logaddexp(np.zeros((), diagonal.dtype), diagonal)
        rows, _ = np.tril_indices(n, -1)
        entries = np.concatenate([lower * diagonal[..., rows], diagonal], axis=-1)
        return _matrix_value(entries, n, diagonal=True)

    def log_jac_det(self, u):
        # Row i has i entries below the diagonal, each multiplied by the row's scale.
        n, _, diagonal = self._split(_tensor(u))
        arange = pt.arange(n, dtype=diagonal.dtype)
        terms = arange * pt.log(pt.softplus(diagonal)) - pt.softplus(-diagonal)
        return terms.sum(axis=-1)


@dataclass(frozen=True, repr=False)
class _CorrCholesky(_LowerTriangular):
    name = "corr_cholesky"
    _with_diagonal: ClassVar[bool] = False

    # Row i is a unit vector broken off stick by stick: with t = tanh(u),
    # L[i, j] = t[i, j] * sqrt(prod_{k < j} (1 - t[i, k]^2)), and the diagonal takes the rest.
    # Logs of 1 - tanh^2 are taken through softplus, since the difference itself cancels.

    def unconstrain(self, value):
        value = _floats(value)
        squares = value**2
        # What is left of the row beyond column j, summed from the right: no cancellation. With it
        # sinh(u) = t / sqrt(1 - t^2) = L[i, j] / sqrt(rest), which needs no arctanh near one.
        rest = np.zeros_like(squares)
        rest[..., :-1] = np.cumsum(squares[..., :0:-1], axis=-1)[..., ::-1]
        rows, columns = np.tril_indices(value.shape[-1], -1)
        return np.arcsinh(value[..., rows, columns] / np.sqrt(rest[..., rows, columns]))

    @staticmethod
    def _log_one_minus_tanh_squared(u):
        return _like(2 * np.log(2.0), u) - 2 * u - 2 * pt.softplus(-2 * u)

    def constrain(self, u):
        u = _tensor(u)
        n, lower, _ = self._split(u)
        # Above the diagonal and on it u is 0, hence tanh 0 and log(1 - tanh^2) 0.
        matrix = _scatter(lower, n, diagonal=False)
        log_rest = self._log_one_minus_tanh_squared(matrix)
        log_before = pt.cumsum(log_rest, axis=-1) - log_rest
        return (pt.tanh(matrix) + pt.eye(n, dtype=u.dtype)) * pt.exp(0.5 * log_before)

    def constrain_value(self, u):
        u = np.asarray(u)
        n, lower, _ = self._split(u)
        matrix = _matrix_value(lower, n, diagonal=False)
        log_rest = 2 * (np.log(2.0) - matrix - np.logaddexp(0, -2 * matrix))
        log_before = np.cumsum(log_rest, axis=-1) - log_rest
        factor = (np.tanh(matrix) + np.eye(n)) * np.exp(0.5 * log_before)
        return factor.astype(u.dtype)

    def log_jac_det(self, u):
        # The Jacobian to the strict lower triangle is triangular. Entry (i, j) brings
        # log(1 - t^2) once for its tanh, and half of it for each later entry of its row.
        u = _tensor(u)
        n, lower, _ = self._split(u)
        rows, columns = _strict_lower_indices(n)
        weights = 1 + 0.5 * (rows - columns - 1)
        weights = weights.astype(u.dtype)
        return (weights * self._log_one_minus_tanh_squared(lower)).sum(axis=-1)

    def _violation(self, value):
        outside = super()._violation(value)
        if outside:
            return outside
        norm = np.sqrt((value**2).sum(axis=-1))
        return _first_outside(norm, abs(norm - 1) < _TOLERANCE, "must have rows of norm 1").replace(
            "; found", "; found the norm"
        )


# --- PyMC transforms ------------------------------------------------------------------------


def _same(a: Any, b: Any) -> bool:
    """Whether two PyMC transforms (or parts of them) are made of the same pieces."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Transform):
        return _same(vars(a), vars(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, Variable):
        return a.equals(b) if isinstance(a, pt.TensorConstant) else False
    return bool(a == b)


@dataclass(frozen=True, repr=False, eq=False)
class _FromTransform(Constraint):
    """A PyMC transform, read as the constraint on what its ``backward`` returns."""

    transform: Transform

    def __post_init__(self):
        object.__setattr__(self, "event_dim", self._event_dims()[1])

    @property
    def name(self) -> str:  # type: ignore[override]
        return str(getattr(self.transform, "name", None) or type(self.transform).__name__)

    def _event_dims(self) -> tuple[int, int]:
        """Event dimensions in unconstrained and in constrained space.

        PyMC states only the first (``ndim_supp``); a transform such as ``CholeskyCovTransform``
        turns vectors into matrices.
        """
        support = getattr(self.transform, "ndim_supp", None) or 0
        # A transform along axis -2 reaches further than its one dimension of support.
        for free in range(support, support + 4):
            try:
                value = self.transform.backward(pt.tensor(shape=(None,) * free, dtype="float64"))
            except np.exceptions.AxisError:
                continue
            break
        else:
            raise TypeError(sentence("Not a transform of an array", found=repr(self.transform)))
        if not isinstance(value, Variable):
            raise TypeError(
                sentence(
                    "A constraint needs a one-to-one map",
                    found=f"{self.transform}, whose backward returns several values",
                    fix="Use a transform whose inverse is unique",
                )
            )
        return free, value.type.ndim

    def unconstrained_shape(self, shape):
        dummy = np.ones(shape, dtype=pytensor.config.floatX)
        try:
            return tuple(int(n) for n in _transform_function(self, "shape", len(shape))(dummy))
        except ValueError as error:
            raise ValueError(
                f"must have a shape {self.name} accepts; found shape {shape}"
            ) from error

    def unconstrain(self, value):
        value = _floats(value)
        return np.asarray(_transform_function(self, "forward", value.ndim)(value))

    def constrain(self, u):
        return self.transform.backward(_tensor(u))

    def constrain_value(self, u):
        u = np.asarray(u)
        value = _transform_function(self, "backward", u.ndim)(_floats(u))
        return np.asarray(value, dtype=u.dtype if u.dtype.kind == "f" else None)

    def log_jac_det(self, u):
        u = _tensor(u)
        log_jac_det = self.transform.log_jac_det(u)
        left = log_jac_det.ndim - (u.ndim - self._event_dims()[0])
        return log_jac_det.sum(axis=tuple(range(-left, 0))) if left > 0 else log_jac_det

    def _violation(self, value):
        # A transform says nothing about the set it maps to; a value is inside if it survives the
        # way there and back.
        with np.errstate(all="ignore"):
            try:
                u = self.unconstrain(value)
                back = self.constrain_value(u)
            except (ValueError, np.linalg.LinAlgError) as error:
                return f"must be inside {self.name}; {error}"
        close = (
            np.isclose(back, value, rtol=1e-5, atol=1e-6) if back.shape == value.shape else False
        )
        inside = np.broadcast_to(close, value.shape)
        return _first_outside(
            value, inside & np.isfinite(back).all(), f"must be inside {self.name}"
        )

    def __eq__(self, other):
        return isinstance(other, _FromTransform) and _same(self.transform, other.transform)

    def __hash__(self):
        return hash((_FromTransform, type(self.transform)))

    def __repr__(self):
        return f"from_transform({self.transform})"


@lru_cache(maxsize=64)
def _transform_function(constraint: _FromTransform, what: str, ndim: int) -> Callable:
    """Compile a direction of a transform for arrays of ``ndim`` axes; cheap, and used for inits."""
    value = pt.tensor(shape=(None,) * ndim, dtype=pytensor.config.floatX)
    if what == "backward":
        out = constraint.transform.backward(value)
    else:
        out = pt.as_tensor(constraint.transform.forward(value))
    if what == "shape":
        # A list of scalars, not a vector: a scalar value has an empty shape.
        return pytensor.function(
            [value], list(out.shape), mode="FAST_COMPILE", on_unused_input="ignore"
        )
    return pytensor.function([value], out, mode="FAST_COMPILE")


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


# --- the public names -----------------------------------------------------------------------

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

simplex: Constraint = _Simplex()
"""Positive vectors that sum to 1, shape (..., K) from (..., K - 1), by PyMC's softmax map."""

ordered_vector: Constraint = _OrderedVector()
"""Strictly increasing vectors, shape (..., K)."""

positive_ordered_vector: Constraint = _PositiveOrderedVector()
"""Strictly increasing vectors of positive numbers, shape (..., K)."""

lower_cholesky: Constraint = _LowerCholesky()
"""Lower-triangular matrices with positive diagonal (``exp``), shape (..., n, n).

Unconstrained shape (..., n (n + 1) / 2): the strict lower triangle row by row, then the diagonal."""

unit_lower_cholesky: Constraint = _UnitLowerCholesky()
"""Lower-triangular matrices with ones on the diagonal, from (..., n (n - 1) / 2)."""

scaled_unit_lower_cholesky: Constraint = _ScaledUnitLowerCholesky()
"""The matrices of :data:`lower_cholesky`, as a unit factor whose rows are scaled by ``softplus``.

Better conditioned for optimization where scales differ; NumPyro's map and order."""

corr_cholesky: Constraint = _CorrCholesky()
"""Cholesky factors of correlation matrices: positive diagonal, rows of norm 1, shape (..., n, n).

From (..., n (n - 1) / 2) by the ``tanh`` stick-breaking of Stan and NumPyro [1]_.

.. [1] Lewandowski, D., Kurowicka, D., Joe, H. (2009). Generating random correlation matrices based
   on vines and extended onion method. Journal of Multivariate Analysis 100(9)."""


def greater_than(lower_bound: Any) -> Constraint:
    """Numbers greater than a constant, through ``exp``.

    Parameters
    ----------
    lower_bound : float or array_like
        Constant; arrays broadcast against the value.

    Raises
    ------
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

    Raises
    ------
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

    Raises
    ------
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
    return _native(transform) or _FromTransform(transform)


def as_constraint(constraint: Any) -> Constraint:
    """Return what a user gave as ``constraint=`` as a :class:`Constraint`.

    Parameters
    ----------
    constraint : Constraint or pymc Transform

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


_FACTORIES = ("interval", "greater_than", "less_than")


def _names() -> tuple[str, ...]:
    functions = ("Constraint", "as_constraint", "from_transform")
    return tuple(name for name in __all__ if name not in functions)


def _not_a_constraint(given: Any) -> str:
    library = type(given).__module__.partition(".")[0]
    written = getattr(given, "__name__", "")
    if isinstance(given, str):
        found = f"the string {given!r}"
        close = get_close_matches(given, _names(), n=1)
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
        "a pymc_svi constraint (" + ", ".join(_names()) + ") or a transform of "
        "pymc.distributions.transforms"
    )
    return sentence("Not a constraint", found=found, expected=expected, fix=fix)
