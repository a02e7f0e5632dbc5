"""A keyed permutation, compiled."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["ROUNDS", "permuted"]

ROUNDS = 6

# How many numbers are permuted together: as many as stay in the fastest cache.
_AT_A_TIME = 1_024


@numba.njit(cache=True, nogil=True)
def _turn(part, other, key, size):
    """Move each number below ``size`` on, around the circle, by a number that looks random.

    The types keep to 32 bits, of which vector instructions take many at a time.
    """
    u32, u64 = np.uint32, np.uint64
    for i in range(len(part)):
        # The finalizer of MurmurHash3.
        x = u32(other[i] + key)
        x = u32(u32(x ^ (x >> u32(16))) * u32(0x85EBCA6B))
        x = u32(u32(x ^ (x >> u32(13))) * u32(0xC2B2AE35))
        x = u32(x ^ (x >> u32(16)))
        moved = u32(part[i] + u32((u64(x) * u64(size)) >> u64(32)))
        part[i] = min(moved, u32(moved - size))  # which wraps around where it is below 0


@numba.njit(cache=True, nogil=True)
def _network(high, low, n_high, n_low, keys):
    """Permute numbers in place that are ``high * n_low + low``."""
    for i in range(0, len(keys), 2):
        _turn(high, low, keys[i], np.uint32(n_high))
        _turn(low, high, keys[i + 1], np.uint32(n_low))


@numba.njit(cache=True, nogil=True)
def permuted(start, out, n, n_high, n_low, keys):
    """Write where the numbers from ``start`` on go to, in a permutation of those below ``n``.

    The network permutes those below ``n_high * n_low``; what it moves to ``n`` or above is moved on.
    """
    high, low = np.empty(_AT_A_TIME, np.uint32), np.empty(_AT_A_TIME, np.uint32)
    next_high, next_low = start // n_low, start % n_low
    for begin in range(0, len(out), _AT_A_TIME):
        part = out[begin : begin + _AT_A_TIME]
        some_high, some_low = high[: len(part)], low[: len(part)]
        for i in range(len(part)):
            some_high[i], some_low[i] = next_high, next_low
            next_low += 1
            if next_low == n_low:
                next_high, next_low = next_high + 1, 0
        _network(some_high, some_low, n_high, n_low, keys)
        for i in range(len(part)):
            part[i] = np.int64(some_high[i]) * n_low + some_low[i]
        for i in range(len(part)):
            while part[i] >= n:
                _network(some_high[i : i + 1], some_low[i : i + 1], n_high, n_low, keys)
                part[i] = np.int64(some_high[i]) * n_low + some_low[i]
