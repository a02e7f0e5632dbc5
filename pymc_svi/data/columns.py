"""Columns side by side, which are put together in the order of the rows that is wanted."""

from __future__ import annotations

from collections.abc import Sequence

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
    """

    def __init__(self, columns: Sequence[np.ndarray]):
        self.columns = list(columns)
        self.dtype = np.result_type(*self.columns)
        self.shape = (len(self.columns[0]), len(self.columns))

    def __len__(self) -> int:
        return self.shape[0]

    def put(self, out: np.ndarray, rows: np.ndarray) -> None:
        """Write the rows to given places of an array.

        Other threads can compute meanwhile.
        """
        # Only here: loading the compiler takes a moment.
        from pymc_svi.data.placing import place, place_four

        columns = [np.ascontiguousarray(column, dtype=out.dtype) for column in self.columns]
        in_fours = len(columns) // 4 * 4
        for start in range(0, len(self), _ROWS_AT_A_TIME):
            part = slice(start, start + _ROWS_AT_A_TIME)
            for first in range(0, in_fours, 4):
                four = tuple(column[part] for column in columns[first : first + 4])
                place_four(four, rows[part], out, first)
            for number in range(in_fours, len(columns)):
                place(columns[number][part], rows[part], out, number)
