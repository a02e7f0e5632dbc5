"""Constraints on lower-triangular matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.tensor.variable import TensorVariable

from pymc_svi.constraints.base import (
    TOLERANCE,
    Constraint,
    first_outside,
    floats,
    like,
    softplus_inverse,
    tensor,
)

__all__ = [
    "corr_cholesky",
    "lower_cholesky",
    "scaled_unit_lower_cholesky",
    "unit_lower_cholesky",
]

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
        value = floats(value)
        rows, columns = np.tril_indices(value.shape[-1], -1)
        return value[..., rows, columns], np.diagonal(value, axis1=-2, axis2=-1)

    def _violation(self, value):
        n = value.shape[-1]
        upper = first_outside(
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
        return first_outside(diagonal, diagonal > 0, "must have a positive diagonal")


@dataclass(frozen=True, repr=False)
class _LowerCholesky(_LowerTriangular):
    name = "lower_cholesky"

    def unconstrain(self, value):
        lower, diagonal = self._parts(value)
        return np.concatenate([lower, np.log(diagonal)], axis=-1)

    def constrain(self, u):
        n, lower, diagonal = self._split(tensor(u))
        return _scatter(pt.concatenate([lower, pt.exp(diagonal)], axis=-1), n, diagonal=True)

    def constrain_value(self, u):
        n, lower, diagonal = self._split(np.asarray(u))
        return _matrix_value(np.concatenate([lower, np.exp(diagonal)], axis=-1), n, diagonal=True)

    def log_jac_det(self, u):
        _, _, diagonal = self._split(tensor(u))
        return diagonal.sum(axis=-1)


@dataclass(frozen=True, repr=False)
class _UnitLowerCholesky(_LowerTriangular):
    name = "unit_lower_cholesky"
    _with_diagonal: ClassVar[bool] = False

    def unconstrain(self, value):
        return self._parts(value)[0]

    def constrain(self, u):
        u = tensor(u)
        n, lower, _ = self._split(u)
        return _scatter(lower, n, diagonal=False) + pt.eye(n, dtype=u.dtype)

    def constrain_value(self, u):
        u = np.asarray(u)
        n, lower, _ = self._split(u)
        return _matrix_value(lower, n, diagonal=False) + np.eye(n, dtype=u.dtype)

    def log_jac_det(self, u):
        return pt.zeros_like(tensor(u)).sum(axis=-1)

    def _diagonal_violation(self, diagonal):
        inside = abs(diagonal - 1) < TOLERANCE
        return first_outside(diagonal, inside, "must have ones on the diagonal")


@dataclass(frozen=True, repr=False)
class _ScaledUnitLowerCholesky(_LowerTriangular):
    name = "scaled_unit_lower_cholesky"

    def unconstrain(self, value):
        lower, diagonal = self._parts(value)
        rows, _ = np.tril_indices(diagonal.shape[-1], -1)
        return np.concatenate([lower / diagonal[..., rows], softplus_inverse(diagonal)], axis=-1)

    def constrain(self, u):
        n, lower, diagonal = self._split(tensor(u))
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
        n, _, diagonal = self._split(tensor(u))
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
        value = floats(value)
        squares = value**2
        # What is left of the row beyond column j, summed from the right: no cancellation. With it
        # sinh(u) = t / sqrt(1 - t^2) = L[i, j] / sqrt(rest), which needs no arctanh near one.
        rest = np.zeros_like(squares)
        rest[..., :-1] = np.cumsum(squares[..., :0:-1], axis=-1)[..., ::-1]
        rows, columns = np.tril_indices(value.shape[-1], -1)
        return np.arcsinh(value[..., rows, columns] / np.sqrt(rest[..., rows, columns]))

    @staticmethod
    def _log_one_minus_tanh_squared(u):
        return like(2 * np.log(2.0), u) - 2 * u - 2 * pt.softplus(-2 * u)

    def constrain(self, u):
        u = tensor(u)
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
        u = tensor(u)
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
        return first_outside(norm, abs(norm - 1) < TOLERANCE, "must have rows of norm 1").replace(
            "; found", "; found the norm"
        )


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
