"""Data on disk that are read in tables of many rows, and cut into batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pymc_svi.data.blocks import Block, Cut, Pace
from pymc_svi.data.checks import Batch, DataError, check_kinds, checked_arrays
from pymc_svi.data.memory import Memory
from pymc_svi.errors import sentence

__all__ = ["RowSource", "TableSource"]


class TableSource(ABC):
    """Base of the sources that are read in tables of many rows, and cut into batches.

    Parameters
    ----------
    batch_size : int
        Rows of a batch.
    shuffle : bool
        Whether to shuffle.
    drop_last : bool
        Whether to leave out a last batch with fewer rows.
    buffer_size : int
        How many rows are shuffled together.
    """

    total_size: int

    def __init__(self, batch_size: int, shuffle: bool, drop_last: bool, buffer_size: int):
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.buffer_size = max(buffer_size, batch_size)
        self.pace, self.memory = Pace(), Memory()

    @property
    def n_batches(self) -> int:
        """Batches of an epoch."""
        return self.total_size // self.batch_size + self.is_ragged

    @property
    def is_ragged(self) -> bool:
        """Whether the last batch of an epoch has fewer rows."""
        return not self.drop_last and self.total_size % self.batch_size > 0

    @abstractmethod
    def tables(self, epoch: int, seed: int) -> Iterator[tuple[str, Batch]]:
        """Yield the tables of one epoch, each with what it is called in messages."""

    def blocks(self, epoch: int, seed: int, ahead: bool = False) -> Iterator[Block]:
        """Yield the rows of one epoch, those of many batches at a time.

        Parameters
        ----------
        epoch, seed : int
            Which epoch, and the seed of its order.
        ahead : bool, default False
            Read the next tables in another thread while a block is in use.
        """
        enough = self.buffer_size if self.shuffle else self.batch_size
        words = [seed, epoch, 1] if self.shuffle else None
        cut = Cut(self.batch_size, enough, words, self.is_ragged, self.memory)
        tables = self._checked(self.tables(epoch, seed))
        return cut.blocks(tables, self.pace if ahead else None)

    def batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for block in self.blocks(epoch, seed):
            for start in range(0, block.n_batches * self.batch_size, self.batch_size):
                yield block.batch(start, start + self.batch_size)

    def _checked(self, tables: Iterable[tuple[str, Batch]]) -> Iterator[Batch]:
        first: Batch | None = None
        for where, table in tables:
            checked = checked_arrays(table, where)
            first = first or checked
            yield check_kinds(checked, first, where)

    def _in_order[T](self, items: Sequence[T], epoch: int, seed: int) -> Iterator[T]:
        """Yield parts of the data in the order of an epoch."""
        if not self.shuffle:
            return iter(items)
        order = np.random.default_rng([seed, epoch, 0]).permutation(len(items))
        return (items[i] for i in order)


class RowSource(TableSource):
    """Arrays on disk that are read in slices of rows, such as those of a zarr store.

    Batches are consecutive rows. With shuffling, blocks of rows come in random order, and the
    rows of each block too.

    Parameters
    ----------
    arrays : dict of str to array_like
        Arrays that can be sliced, of equal lengths.
    batch_size : int
        Rows of a batch.
    shuffle : bool
        Whether to shuffle.
    drop_last : bool
        Whether to leave out a last batch with fewer rows.
    buffer_size : int
        Rows of a block.
    """

    def __init__(self, arrays, batch_size: int, shuffle: bool, drop_last: bool, buffer_size: int):
        super().__init__(batch_size, shuffle, drop_last, buffer_size)
        self.arrays = arrays
        lengths = {int(array.shape[0]) for array in arrays.values()}
        if len(lengths) != 1:
            raise DataError(
                sentence("The arrays have different numbers of rows", found=str(sorted(lengths)))
            )
        [self.total_size] = lengths
        self.buffer_size = self.buffer_size // batch_size * batch_size

    def tables(self, epoch: int, seed: int) -> Iterator[tuple[str, Batch]]:
        """Yield slices of rows."""
        starts = range(0, self.total_size, self.buffer_size)
        for start in self._in_order(starts, epoch, seed):
            stop = min(start + self.buffer_size, self.total_size)
            table = {name: np.asarray(array[start:stop]) for name, array in self.arrays.items()}
            yield f"Rows {start} to {stop}", table
