"""Compiling without the garbage collector."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["compiled_at_first_call", "uncollected"]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Pause the search for reference cycles.

    A compiler makes millions of small objects that live until it is done. Python's collector goes
    through all of them again and again, which is an eighth of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def compiled_at_first_call(function: Callable) -> Callable:
    """Return a function whose first call, in which numba compiles it, is ``uncollected``."""
    called = False

    def call(*args: Any) -> Any:
        nonlocal called
        if called:
            return function(*args)
        with uncollected():
            result = function(*args)
        called = True
        return result

    return call
