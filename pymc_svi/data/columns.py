"""Columns that are put side by side only where their rows are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["Columns"]

# Rows that are written column by column stay in the cache of the processor meanwhile.
_ROWS_AT_A_TIME = 4_096


class Columns:
    """An array of shape (rows, columns) that is still in columns.

    Parameters
    ----------
    columns : sequence of numpy.ndarray
        The columns, of one length.
    check : callable, optional
        Called once the columns are put together, if they may hold a number that is not finite: to
        look at each of them beforehand would be to read them twice.
    """

    def __init__(self, columns: Sequence[np.ndarray], check: Callable[[], object] | None = None):
        self.columns = list(columns)
        self.check = check
        self.dtype = np.result_type(*self.columns)
        self.shape = (len(self.columns[0]), len(self.columns))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        out = np.empty(self.shape, dtype=self.dtype)
        self.put(out)
        return out

    def put(self, out: np.ndarray) -> None:
        """Write the columns to an array of their shape.

        Other threads can compute meanwhile.

        Raises
        ------
        DataError
            If ``check`` finds a number that is not finite.
        """
        # Only here: loading the compiler takes a moment.
        from pymc_svi.data.placing import place, place_four

        columns = [np.ascontiguousarray(column, dtype=out.dtype) for column in self.columns]
        in_fours = len(columns) // 4 * 4
        total = 0.0  # which is not finite if any number is not
        for start in range(0, len(self), _ROWS_AT_A_TIME):
            part = slice(start, start + _ROWS_AT_A_TIME)
            for first in range(0, in_fours, 4):
                four = tuple(column[part] for column in columns[first : first + 4])
                total += place_four(four, out[part], first)
            for number in range(in_fours, len(columns)):
                total += place(columns[number][part], out[part], number)
        if self.check is not None and not np.isfinite(total):
            self.check()
