"""A keyed permutation, compiled."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["ROUNDS", "permute"]

ROUNDS = 6


@numba.njit(cache=True, nogil=True)
def _mixed(x):
    """Return a number that looks random: the finalizer of MurmurHash3."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


@numba.njit(cache=True, nogil=True)
def _network(x, left_bits, right_bits, keys):
    """Permute the numbers of ``left_bits + right_bits`` bits."""
    left_mask = (np.uint32(1) << left_bits) - np.uint32(1)
    right_mask = (np.uint32(1) << right_bits) - np.uint32(1)
    left, right = x >> right_bits, x & right_mask
    for i in range(ROUNDS // 2):
        left ^= _mixed(right + keys[2 * i]) & left_mask
        right ^= _mixed(left + keys[2 * i + 1]) & right_mask
    return (left << right_bits) | right


@numba.njit(cache=True, nogil=True)
def permute(rows, last, left_bits, right_bits, keys):
    """Permute rows in place, by loops without branches."""
    outside = np.arange(len(rows))
    values = rows.copy()
    while len(outside):
        for i in range(len(values)):
            values[i] = _network(values[i], left_bits, right_bits, keys)
        count = 0
        for i in range(len(values)):
            rows[outside[i]] = value = values[i]
            outside[count] = outside[i]
            values[count] = value
            count += value > last
        outside, values = outside[:count], values[:count]
