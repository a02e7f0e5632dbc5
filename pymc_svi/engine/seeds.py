"""Random seeds, and random generators as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pymc_svi.errors import sentence

__all__ = ["generator_from_array", "generator_to_array", "seed_sequence", "spawn_generators"]

_MASK = (1 << 64) - 1


def seed_sequence(random_seed: Any) -> np.random.SeedSequence:
    """Return the seed sequence of what users pass as ``random_seed``.

    Parameters
    ----------
    random_seed : None, int, sequence of int, SeedSequence or Generator
        None draws fresh entropy. A Generator is advanced by one draw.
    """
    if isinstance(random_seed, np.random.SeedSequence):
        # Spawning counts: a copy, so that using a seed twice gives the same numbers.
        return np.random.SeedSequence(random_seed.entropy, spawn_key=random_seed.spawn_key)
    if isinstance(random_seed, np.random.Generator):
        return np.random.SeedSequence(int(random_seed.integers(2**63)))
    whole = isinstance(random_seed, int | np.integer) and not isinstance(random_seed, bool)
    several = (
        isinstance(random_seed, Sequence | np.ndarray)
        and not isinstance(random_seed, str)
        and np.asarray(random_seed).dtype.kind in "iu"
    )
    if random_seed is not None and not whole and not several:
        raise TypeError(
            sentence(
                "random_seed has the wrong type",
                found=f"{random_seed!r} of type {type(random_seed).__name__}",
                expected="None, a whole number, a list of them, or a numpy Generator",
            )
        )
    if (whole or several) and np.min(random_seed) < 0:
        raise ValueError(sentence("random_seed must not be negative", found=str(random_seed)))
    return np.random.SeedSequence(random_seed)


def spawn_generators(seed: np.random.SeedSequence, n: int) -> list[np.random.Generator]:
    """Return ``n`` independent generators."""
    return [np.random.Generator(np.random.PCG64(child)) for child in seed.spawn(n)]


def generator_to_array(generator: np.random.Generator) -> np.ndarray:
    """Return the whole state of a PCG64 generator as six 64-bit words."""
    state = generator.bit_generator.state
    words = []
    for number in (state["state"]["state"], state["state"]["inc"]):
        words += [number >> 64, number & _MASK]
    words += [state["has_uint32"], state["uinteger"]]
    return np.array(words, dtype=np.uint64)


def generator_from_array(words: np.ndarray) -> np.random.Generator:
    """Return the generator whose state :func:`generator_to_array` gave."""
    w = [int(word) for word in words]
    generator = np.random.Generator(np.random.PCG64(0))
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": (w[0] << 64) | w[1], "inc": (w[2] << 64) | w[3]},
        "has_uint32": w[4],
        "uinteger": w[5],
    }
    return generator
