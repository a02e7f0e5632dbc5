"""PyMC transforms, read as constraints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.logprob.transforms import (
    Transform,
)
from pytensor.graph.basic import Variable

from pymc_svi.constraints.base import Constraint, first_outside, floats, tensor
from pymc_svi.errors import sentence

__all__ = [
    "constraint_of",
]


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
        value = floats(value)
        return np.asarray(_transform_function(self, "forward", value.ndim)(value))

    def constrain(self, u):
        return self.transform.backward(tensor(u))

    def constrain_value(self, u):
        u = np.asarray(u)
        value = _transform_function(self, "backward", u.ndim)(floats(u))
        return np.asarray(value, dtype=u.dtype if u.dtype.kind == "f" else None)

    def log_jac_det(self, u):
        u = tensor(u)
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
        return first_outside(value, inside & np.isfinite(back).all(), f"must be inside {self.name}")

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


def constraint_of(transform: Transform) -> Constraint:
    """Return the constraint on what the ``backward`` of a transform returns."""
    return _FromTransform(transform)
