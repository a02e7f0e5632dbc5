"""Checks of the arguments of optimizers and schedules."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from pymc_svi.errors import sentence

__all__ = [
    "count",
    "fraction",
    "is_number",
    "non_negative",
    "positive",
]


def is_number(value: Any) -> bool:
    """Whether a value is a real number, in Python or as an array without axes."""
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype.kind in "iuf"
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def positive(owner: str, name: str, value: Any) -> float:
    """Return a positive finite number, or say that the argument of the owner isn't one."""
    if not is_number(value):
        raise TypeError(sentence(f"{owner}: {name} must be a number", found=repr(value)))
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            sentence(f"{owner}: {name} must be positive and finite", found=repr(float(value)))
        )
    return float(value)


def fraction(owner: str, name: str, value: Any) -> float:
    """A decay rate, in [0, 1)."""
    if not is_number(value):
        raise TypeError(sentence(f"{owner}: {name} must be a number", found=repr(value)))
    if not 0 <= value < 1:
        raise ValueError(
            sentence(f"{owner}: {name} must be at least 0 and less than 1", found=repr(value))
        )
    return float(value)


def count(owner: str, name: str, value: Any) -> int:
    """Return a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(sentence(f"{owner}: {name} must be an integer", found=repr(value)))
    if value < 1:
        raise ValueError(sentence(f"{owner}: {name} must be at least 1", found=repr(value)))
    return int(value)


def non_negative(owner: str, name: str, value: Any) -> float:
    """Return a number that is at least zero."""
    return 0.0 if is_number(value) and value == 0 else positive(owner, name, value)
