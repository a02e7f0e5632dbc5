"""Memory of arrays that is used again for the next ones."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict

import numpy as np

__all__ = ["Memory"]

# How many pieces are kept for one kind of rows while they are not in use.
_FREE_PIECES = 2


class Memory:
    """Room for large arrays that come one after the other, of rows of a few kinds.

    New memory is cleared by the system before it is handed out, and is not in the caches of the
    processor yet: for a block of rows, a fifteenth of the time that all its steps take.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.data.memory import Memory
    >>> memory = Memory()
    >>> array = memory.empty((100, 3), np.dtype("float64"))
    >>> part, place = array[10:], array.ctypes.data
    >>> del array  # the part is still in use
    >>> memory.empty((90, 3), np.dtype("float64")).ctypes.data == place
    False
    >>> del part
    >>> memory.empty((90, 3), np.dtype("float64")).ctypes.data == place
    True
    """

    def __init__(self) -> None:
        self._free: dict[tuple, list[np.ndarray]] = defaultdict(list)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array of any contents, whose memory is free again when nothing refers to it."""
        n_bytes = math.prod(shape) * dtype.itemsize
        free = self._free[(*shape[1:], dtype)]
        # Another thread can give back a piece at any time.
        piece = free.pop() if free else np.empty(0, dtype=np.uint8)
        if len(piece) < n_bytes or not n_bytes:
            piece = np.empty(n_bytes + n_bytes // 8 + 1, dtype=np.uint8)  # the next may be larger

        def give_back() -> None:
            if len(free) < _FREE_PIECES:
                free.append(piece)

        # Any view refers to this array, which is not a view of an array itself.
        held = np.frombuffer(memoryview(piece), dtype=np.uint8)
        weakref.finalize(held, give_back).atexit = False
        return held[:n_bytes].view(dtype).reshape(shape)
