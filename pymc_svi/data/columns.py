"""Columns that are put side by side only where their rows are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytensor

__all__ = ["Columns"]


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
        dtype = np.result_type(*self.columns)
        # Whole numbers beside single precision would make double precision of all.
        self.dtype = np.dtype(pytensor.config.floatX) if dtype.kind == "f" else dtype
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
        from pymc_svi.data.placing import place

        columns = [np.ascontiguousarray(column, dtype=out.dtype) for column in self.columns]
        total = place(np.array([column.ctypes.data for column in columns]), out)
        if self.check is not None and not np.isfinite(total):
            self.check()
