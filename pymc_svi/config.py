"""The switch for checks of programs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from pymc_svi.errors import sentence

__all__ = ["Level", "complain", "validation"]

Level = Literal["off", "warn", "error"]
_LEVELS = ("off", "warn", "error")
_LEVEL: ContextVar[Level | None] = ContextVar("pymc_svi_validation", default=None)


@contextmanager
def validation(level: Level | None) -> Iterator[None]:
    """Inside, what checks of programs find is ignored, warned of, or an error.

    Without it each check has a level of its own: what would make a result wrong is an error, what
    only looks like a mistake a warning.

    Parameters
    ----------
    level : {"off", "warn", "error"} or None
        The level of all checks; None leaves it as it is.

    Examples
    --------
    >>> from pymc_svi.config import complain, validation
    >>> with validation("off"):
    ...     complain("The shapes look odd.", ValueError)
    >>> with validation("error"):
    ...     complain("The shapes look odd.", ValueError)
    Traceback (most recent call last):
    ValueError: The shapes look odd.
    """
    if level not in (*_LEVELS, None):
        raise ValueError(
            sentence(
                "validate: unknown level", found=f"{level!r}", expected="'off', 'warn' or 'error'"
            )
        )
    token = _LEVEL.set(_LEVEL.get() if level is None else level)
    try:
        yield
    finally:
        _LEVEL.reset(token)


def complain(message: str, error: type[Exception], *, default: Level = "error") -> None:
    """Report what a check found, at the level that is set.

    Parameters
    ----------
    message : str
        The message.
    error : type of Exception
        What to raise.
    default : {"off", "warn", "error"}
        The check's own level, where none is set.
    """
    level = _LEVEL.get() or default
    if level == "error":
        raise error(message)
    if level == "warn":
        warnings.warn(message, UserWarning, stacklevel=3)
