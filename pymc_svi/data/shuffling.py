"""Random orders of rows, of which any part can be computed on its own."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["rows_in_order"]

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
