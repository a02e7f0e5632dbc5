"""Random orders of rows, of which any part can be computed on its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["rows_in_blocks", "rows_in_order"]

# Longer orders are not shuffled as a whole, which costs more and for ten million rows takes a second
# before the first step, but computed where they are needed.
_SHUFFLED_AS_A_WHOLE = 5_000


def rows_in_order(n: int, seed: np.random.SeedSequence, start: int, stop: int) -> np.ndarray:
    """Return the rows at positions ``start`` to ``stop`` of a random order of ``n`` rows.

    A long order is a keyed permutation: a Feistel network [1]_ permutes the numbers below the
    next product of two about equal ones, and is applied again where it leaves the range [2]_.

    References
    ----------
    .. [1] Luby and Rackoff (1988), How to Construct Pseudorandom Permutations from Pseudorandom
       Functions.
    .. [2] Black and Rogaway (2002), Ciphers with Arbitrary Finite Domains.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.data.shuffling import rows_in_order
    >>> seed = np.random.SeedSequence(1)
    >>> sorted(rows_in_order(5, seed, 0, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    if n <= _SHUFFLED_AS_A_WHOLE or n > 2**32:
        return np.random.Generator(np.random.Philox(seed)).permutation(n)[start:stop]
    # Only here: loading the compiler takes a moment.
    from pymc_svi.data.feistel import ROUNDS, permuted

    n_high = math.isqrt(n - 1) + 1
    n_low = -(-n // n_high)
    out = np.empty(max(0, min(stop, n) - start), dtype=np.int64)
    permuted(start, out, n, n_high, n_low, seed.generate_state(ROUNDS, np.uint32))
    return out


def rows_in_blocks(n: int, block: int, words: Sequence[int], start: int, stop: int) -> np.ndarray:
    """Return the rows at positions ``start`` to ``stop`` of an order within blocks of rows.

    The blocks begin at a random row, behind which they follow each other around the end of the data.
    They come in random order, the last of them, which may be shorter, at the end.

    Parameters
    ----------
    n, block : int
        The number of rows, of all and of a block.
    words : sequence of int
        The seed.
    start, stop : int
        Which positions of the order.

    Examples
    --------
    >>> from pymc_svi.data.shuffling import rows_in_blocks
    >>> rows_in_blocks(10, 4, [1], 0, 10).tolist()
    [8, 1, 0, 9, 7, 6, 5, 4, 2, 3]
    """
    stop = min(stop, n)
    shift = int(np.random.default_rng([*words, 0]).integers(n))
    n_whole, first, last = n // block, start // block, -(-stop // block)
    blocks = rows_in_order(n_whole, np.random.SeedSequence([*words, 1]), first, last)
    parts = [np.empty(0, dtype=np.int64)]
    for number in range(first, last):
        begin = block * int(blocks[number - first] if number < n_whole else n_whole)
        within = np.random.SeedSequence([*words, 2, number])
        here = slice(max(0, start - number * block), min(block, stop - number * block))
        size = min(block, n - begin)
        parts.append(rows_in_order(size, within, here.start, here.stop) + begin)
    rows = np.concatenate(parts) + shift
    rows -= n * (rows >= n)
    return rows
