"""Data on disk that are read in tables of many rows, and cut into batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from pymc_svi.data.checks import Batch, DataError, check_kinds, checked_arrays, length_of
from pymc_svi.data.columns import Columns
from pymc_svi.data.shuffling import rows_in_order
from pymc_svi.errors import sentence

__all__ = ["Block", "RowSource", "TableSource", "one_ahead"]


class Block(NamedTuple):
    """Rows that are in memory together: those of one batch after the other.

    Attributes
    ----------
    rows : dict of str to numpy.ndarray
        The rows.
    n_batches : int
        How many batches they are; the last of an epoch may have fewer rows.
    """

    rows: Batch
    n_batches: int


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

        A block is filled from the tables until it has ``buffer_size`` rows, which are shuffled;
        the rows that are left over behind its last batch start the next block.

        Parameters
        ----------
        epoch, seed : int
            Which epoch, and the seed of its order.
        ahead : bool, default False
            Read the next table in another thread while this one is put in order.
        """
        tables = self._checked(self.tables(epoch, seed))
        enough = self.buffer_size if self.shuffle else self.batch_size
        held: list[Batch] = []
        number = 0
        for table in one_ahead(tables) if ahead else tables:
            held.append(table)
            if sum(map(length_of, held)) >= enough:
                block, left = self._block(held, [seed, epoch, 1, number])
                yield block
                held = [left] if length_of(left) else []
                number += 1
        if held:
            block, _ = self._block(held, [seed, epoch, 1, number], self.is_ragged)
            if block.n_batches:
                yield block

    def _block(
        self, tables: Sequence[Batch], seed: Sequence[int], ragged: bool = False
    ) -> tuple[Block, Batch]:
        """Make a block of tables; return with it the rows that are in no batch."""
        n = sum(map(length_of, tables))
        places = np.arange(n)
        if self.shuffle:
            # Only here: loading the compiler takes a moment.
            from pymc_svi.data.placing import side_by_side

            places = rows_in_order(n, np.random.SeedSequence(seed), 0, n)
            side_by_side(places, self.batch_size)
        rows = _joined(tables, places)
        n_batches = n // self.batch_size + ragged
        used = n_batches * self.batch_size
        left = {name: array[used:].copy() for name, array in rows.items()}
        return Block({name: array[:used] for name, array in rows.items()}, n_batches), left

    def batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for block in self.blocks(epoch, seed):
            for start in range(0, block.n_batches * self.batch_size, self.batch_size):
                stop = start + self.batch_size
                yield {name: array[start:stop] for name, array in block.rows.items()}

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


def one_ahead[T](items: Iterator[T]) -> Iterator[T]:
    """Yield items, the next one of which is being made in another thread."""
    end = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading") as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]


def _joined(tables: Sequence[Batch], places: np.ndarray) -> Batch:
    """Put tables together, each row at its place."""
    ends = np.cumsum([length_of(table) for table in tables])
    joined = {}
    for name, first in tables[0].items():
        out = joined[name] = np.empty((len(places), *first.shape[1:]), dtype=first.dtype)
        for table, rows in zip(tables, np.split(places, ends[:-1]), strict=True):
            if isinstance(table[name], Columns):
                table[name].put(out, rows)
            else:
                out[rows] = table[name]
    return joined
