"""Constraints on vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
from scipy.special import softmax

from pymc_svi.constraints.base import TOLERANCE, Constraint, first_outside, floats, tensor

__all__ = [
    "ordered_vector",
    "positive_ordered_vector",
    "simplex",
]


@dataclass(frozen=True, repr=False)
class _Simplex(Constraint):
    name = "simplex"
    event_dim = 1

    def unconstrained_shape(self, shape):
        if shape[-1] < 1:
            raise ValueError(f"must have at least one entry in the last axis; found shape {shape}")
        return (*shape[:-1], shape[-1] - 1)

    def unconstrain(self, value):
        log_value = np.log(floats(value))
        return (log_value - log_value.mean(axis=-1, keepdims=True))[..., :-1]

    # PyMC's map: log-ratios that sum to zero, of which the last is left out. Unlike stick
    # breaking it treats the entries alike.
    @staticmethod
    def _logits(u):
        u = tensor(u)
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
        outside = first_outside(value, value > 0, "must be positive everywhere")
        if outside:
            return outside
        total = value.sum(axis=-1)
        return first_outside(total, abs(total - 1) < TOLERANCE, "must sum to 1").replace(
            "; found", "; found the sum"
        )


@dataclass(frozen=True, repr=False)
class _OrderedVector(Constraint):
    name = "ordered_vector"
    event_dim = 1

    def unconstrain(self, value):
        value = floats(value)
        return np.concatenate([value[..., :1], np.log(np.diff(value, axis=-1))], axis=-1)

    def constrain(self, u):
        u = tensor(u)
        return pt.cumsum(pt.concatenate([u[..., :1], pt.exp(u[..., 1:])], axis=-1), axis=-1)

    def constrain_value(self, u):
        u = np.asarray(u)
        return np.cumsum(np.concatenate([u[..., :1], np.exp(u[..., 1:])], axis=-1), axis=-1)

    def log_jac_det(self, u):
        return tensor(u)[..., 1:].sum(axis=-1)

    def _violation(self, value):
        rising = np.diff(value, axis=-1, prepend=-np.inf) > 0
        return first_outside(value, rising, "must increase strictly along the last axis")


@dataclass(frozen=True, repr=False)
class _PositiveOrderedVector(_OrderedVector):
    name = "positive_ordered_vector"

    def unconstrain(self, value):
        return np.log(np.diff(floats(value), axis=-1, prepend=0.0))

    def constrain(self, u):
        return pt.cumsum(pt.exp(tensor(u)), axis=-1)

    def constrain_value(self, u):
        return np.cumsum(np.exp(u), axis=-1)

    def log_jac_det(self, u):
        return tensor(u).sum(axis=-1)

    def _violation(self, value):
        outside = first_outside(value, value > 0, "must be positive")
        return outside or super()._violation(value)


simplex: Constraint = _Simplex()
"""Positive vectors that sum to 1, shape (..., K) from (..., K - 1), by PyMC's softmax map."""

ordered_vector: Constraint = _OrderedVector()
"""Strictly increasing vectors, shape (..., K)."""

positive_ordered_vector: Constraint = _PositiveOrderedVector()
"""Strictly increasing vectors of positive numbers, shape (..., K)."""
