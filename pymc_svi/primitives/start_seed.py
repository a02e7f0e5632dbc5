"""The seed with which starting values that are drawn are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["init_seed", "seeded_inits"]

_INIT_SEED: ContextVar[int] = ContextVar("init_seed", default=0)


def init_seed() -> int:
    """Return the seed for starting values that are drawn."""
    return _INIT_SEED.get()


@contextmanager
def seeded_inits(seed: int) -> Iterator[None]:
    """Inside, starting values that are drawn are drawn with this seed."""
    token = _INIT_SEED.set(seed)
    try:
        yield
    finally:
        _INIT_SEED.reset(token)
