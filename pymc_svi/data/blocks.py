"""Tables cut into blocks: rows that are in memory together, in whole batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pymc_svi.data.checks import Batch, length_of
from pymc_svi.data.columns import Columns
from pymc_svi.data.memory import Memory
from pymc_svi.data.shuffling import rows_in_order

__all__ = ["Block", "Cut", "Pace", "read_ahead"]

# How many blocks are read before they are used: reading takes longer for some than for others.
_BLOCKS_AHEAD = 3
_TABLES_AHEAD = 1
# With so many ready, the thread that reads has time to join the next one too.
_ENOUGH_READY = 2


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
        """Return the rows at some positions of the order."""
        which = slice(start, stop) if self.order is None else self.order[start:stop]
        return {name: array[which] for name, array in self.rows.items()}


class Pace:
    """How reading ahead keeps up with what is done with the blocks."""

    def __init__(self) -> None:
        self.coming: deque[Future] = deque()

    @property
    def n_ready(self) -> int:
        """How many blocks wait to be used."""
        return sum(each.done() for each in tuple(self.coming))


@dataclass
class _Part:
    """What a block is made of.

    Attributes
    ----------
    tables : list of dict
        The tables.
    n_left : int
        How many rows come before them, those that were left over from the last block.
    n_batches, order
        As of the block.
    memory : Memory
        Room for its rows.
    """

    tables: list[Batch]
    n_left: int
    n_batches: int
    order: np.ndarray | None
    memory: Memory
    rows: Batch | None = None

    def join(self) -> Batch:
        """Put the tables below each other, once, with room for the rows before them."""
        if self.rows is None:
            names = self.tables[0] if self.tables else ()
            self.rows = {
                name: _joined([table[name] for table in self.tables], self.n_left, self.memory)
                for name in names
            }
            self.tables = []
        return self.rows

    def block(self, left: Batch) -> Block:
        """Return the block, with the rows that were left over."""
        rows = self.join() or left
        if self.n_left:
            for name, array in left.items():
                rows[name][: self.n_left] = array
        return Block(rows, self.n_batches, self.order)


@dataclass(frozen=True)
class Cut:
    """How the tables of an epoch are cut into blocks.

    A block is filled from the tables until it has enough rows, which are shuffled; the rows that
    are left over behind its last batch start the next block.

    Attributes
    ----------
    batch_size : int
        Rows of a batch.
    enough : int
        The fewest rows of a block.
    seed : sequence of int or None
        The seed of the order; None if rows stay in order.
    ragged : bool
        Whether the epoch ends in a batch with fewer rows.
    memory : Memory
        Room for the blocks.
    """

    batch_size: int
    enough: int
    seed: Sequence[int] | None
    ragged: bool
    memory: Memory = field(default_factory=Memory)

    def blocks(self, tables: Iterable[Batch], ahead: Pace | None = None) -> Iterator[Block]:
        """Yield the blocks.

        Parameters
        ----------
        tables : iterable of dict
            The tables.
        ahead : Pace, optional
            If given, tables are read in another thread while a block is in use, and put in order in
            a third one. They are joined by that one if it has time, or else by this one.
        """
        left: Batch = {}
        with ExitStack() as reading:
            if ahead is None:
                parts = self._parts(tables, None)
            else:
                read = read_ahead(iter(tables), Pace(), _TABLES_AHEAD)
                parts = self._parts(reading.enter_context(closing(read)), ahead)
                parts = reading.enter_context(closing(read_ahead(parts, ahead, _BLOCKS_AHEAD)))
            for part in parts:
                block = part.block(left)
                yield block
                rest = block.batch(block.n_batches * self.batch_size, length_of(block.rows))
                left = {name: array.copy() for name, array in rest.items()}

    def _parts(self, tables: Iterable[Batch], ahead: Pace | None) -> Generator[_Part]:
        held: list[Batch] = []
        n_left = n_rows = n_parts = 0

        def part(ragged: bool = False) -> _Part:
            order = None
            if self.seed is not None:
                words = np.random.SeedSequence([*self.seed, n_parts])
                order = rows_in_order(n_rows, words, 0, n_rows)
            made = _Part(held, n_left, n_rows // self.batch_size + ragged, order, self.memory)
            if ahead is not None and ahead.n_ready >= _ENOUGH_READY:
                made.join()
            return made

        for table in tables:
            held.append(table)
            n_rows += length_of(table)
            if n_rows >= max(self.enough, self.batch_size):
                yield part()
                held, n_parts = [], n_parts + 1
                n_left = n_rows = n_rows % self.batch_size
        if n_rows >= self.batch_size or (n_rows and self.ragged):
            yield part(self.ragged)


def read_ahead[T](items: Iterator[T], pace: Pace, depth: int) -> Generator[T]:
    """Yield items, the next few of which are made in another thread meanwhile."""
    end = object()
    coming = pace.coming = deque()
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading")
    try:
        for _ in range(depth):
            coming.append(thread.submit(next, items, end))
        while (item := coming[0].result()) is not end:
            coming.popleft()
            coming.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
        coming.clear()  # what was made and will not be used


def _joined(arrays: Sequence[np.ndarray | Columns], n_before: int, memory: Memory) -> np.ndarray:
    """Put arrays below each other, below room for some rows."""
    first = arrays[0]
    if len(arrays) == 1 and not n_before and isinstance(first, np.ndarray):
        return first
    ends = np.cumsum([n_before, *map(len, arrays)])
    joined = memory.empty((int(ends[-1]), *first.shape[1:]), first.dtype)
    for array, part in zip(arrays, np.split(joined, ends[:-1])[1:], strict=True):
        if isinstance(array, Columns):
            array.put(part)
        else:
            part[:] = array
    return joined
