"""Random orders of rows, of which any part can be computed on its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["rows_in_blocks", "rows_in_order"]

# Longer orders are not shuffled as a whole, which costs more and for ten million rows takes a second
# before the first step, but computed where they are needed.
_SHUFFLED_AS_A_WHOLE = 5_000
# Blocks are made of runs of this many neighbouring rows: few lines of memory are shared with others.
_ROWS_OF_A_RUN = 16


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

    A block is made of short runs of neighbouring rows from all over the data, so that it is like
    the whole also where neighbours are alike; its rows are in random order. Where the runs begin is
    random too. Memory is read in lines, which neighbours share, and they stay in the caches of the
    processor for the time of a block.

    Parameters
    ----------
    n, block : int
        The number of rows, of all and of a block, which has whole runs and so up to 15 fewer. Runs
        of fewer than 16 rows, where a block is smaller, have a power of two.
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
    if block >= n:
        return rows_in_order(n, np.random.SeedSequence(words), start, stop)
    # Only here: loading the compiler takes a moment.
    from pymc_svi.data.runs import rows_of_runs

    stop = max(start, min(stop, n))
    bits = min(_ROWS_OF_A_RUN, block).bit_length() - 1
    block -= block % (1 << bits)
    shift = int(np.random.default_rng([*words, 0]).integers(n))
    numbers = range(start // block, -(-stop // block))
    first_run = numbers.start * block >> bits
    last_run = min(n, numbers.stop * block) >> bits
    of_runs = np.random.SeedSequence([*words, 1])
    runs = rows_in_order(n >> bits, of_runs, first_run, last_run)
    rows = np.empty(stop - start, dtype=np.int64)
    for number in numbers:
        first = number * block
        size = min(block, n - first)
        begin, end = max(start, first), min(stop, first + size)
        within = np.random.SeedSequence([*words, 2, number])
        positions = rows_in_order(size, within, begin - first, end - first)
        runs_of_block = runs[(first >> bits) - first_run :][: size >> bits]
        rows_of_runs(positions, runs_of_block, bits, shift, n, rows[begin - start : end - start])
    return rows
