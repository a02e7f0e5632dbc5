"""Data on disk that are read in tables of many rows, and cut into batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from pymc_svi.data.checks import Batch, DataError, check_kinds, checked_arrays, length_of
from pymc_svi.data.columns import Columns
from pymc_svi.data.shuffling import rows_in_order
from pymc_svi.errors import sentence

__all__ = ["Block", "RowSource", "TableSource", "one_ahead"]


class Block(NamedTuple):
    """Rows that are in memory together, and which batches they are.

    Attributes
    ----------
    rows : dict of str to numpy.ndarray
        The rows.
    n_batches : int
        How many batches they are; the last of an epoch may have fewer rows.
    order : numpy.ndarray or None
        The numbers of the rows, those of one batch after the other; None if they are in order.
    """

    rows: Batch
    n_batches: int
    order: np.ndarray | None

    def batch(self, start: int, stop: int) -> Batch:
        """Return the rows of a batch, or of a part of one."""
        which = slice(start, stop) if self.order is None else self.order[start:stop]
        return {name: array[which] for name, array in self.rows.items()}


class _Tables(NamedTuple):
    """What a block is made of, besides the rows that were left over from the last one."""

    tables: list[Batch]
    n_batches: int
    order: np.ndarray | None


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
    # Whether the last table that was read ahead came too late.
    is_waited_for = False

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
            Read the next tables in another thread while these are in use.
        """
        parts = self._parts(epoch, seed)
        if ahead:
            parts = one_ahead(parts, self._note_waiting)
        left: list[Batch] = []
        for tables, n_batches, order in parts:
            block = Block(_joined([*left, *tables]), n_batches, order)
            if n_batches:
                yield block
            rest = block.batch(n_batches * self.batch_size, length_of(block.rows))
            left = [{name: array.copy() for name, array in rest.items()}]

    def _parts(self, epoch: int, seed: int) -> Iterator[_Tables]:
        """Yield the tables of each block, with the order of its rows."""
        enough = self.buffer_size if self.shuffle else self.batch_size
        held: list[Batch] = []
        n_rows = n_blocks = 0

        def part(ragged: bool = False) -> _Tables:
            order = None
            if self.shuffle:
                words = np.random.SeedSequence([seed, epoch, 1, n_blocks])
                order = rows_in_order(n_rows, words, 0, n_rows)
            return _Tables(held, n_rows // self.batch_size + ragged, order)

        for table in self._checked(self.tables(epoch, seed)):
            held.append(table)
            n_rows += length_of(table)
            if n_rows >= enough:
                yield part()
                held = []
                n_rows %= self.batch_size
                n_blocks += 1
        if n_rows:
            yield part(self.is_ragged)

    def batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for block in self.blocks(epoch, seed):
            for start in range(0, block.n_batches * self.batch_size, self.batch_size):
                yield block.batch(start, start + self.batch_size)

    def _note_waiting(self, waiting: bool) -> None:
        self.is_waited_for = waiting

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


def one_ahead[T](
    items: Iterator[T], note_waiting: Callable[[bool], object] = lambda waiting: None
) -> Iterator[T]:
    """Yield items, the next one of which is being made in another thread.

    ``note_waiting`` is told of each whether it is waited for.
    """
    end = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading") as thread:
        coming = thread.submit(next, items, end)
        while True:
            note_waiting(not coming.done())
            item = coming.result()
            if item is end:
                return
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]


def _joined(tables: Sequence[Batch]) -> Batch:
    """Put tables below each other."""
    joined = {}
    ends = np.cumsum([length_of(table) for table in tables])
    for name, first in tables[0].items():
        if len(tables) == 1 and isinstance(first, np.ndarray):
            joined[name] = first
            continue
        joined[name] = np.empty((ends[-1], *first.shape[1:]), dtype=first.dtype)
        for table, part in zip(tables, np.split(joined[name], ends[:-1]), strict=True):
            if isinstance(table[name], Columns):
                table[name].put(part)
            else:
                part[:] = table[name]
    return joined
