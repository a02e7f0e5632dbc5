"""Data on disk, of which a block of many batches is in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.data import DataLoader
from pymc_svi.data.tables import TableSource
from pymc_svi.trainer.feeds.base import placeholder
from pymc_svi.trainer.feeds.reader import Part, ReadAheadFeed

__all__ = ["TableFeed"]


class TableFeed(ReadAheadFeed):
    """Blocks of rows that are read in the background; compiled code takes a step's rows from one."""

    def __init__(self, loader: DataLoader, seed: int):
        super().__init__(loader, seed)
        assert isinstance(loader.source, TableSource)
        self.source = loader.source
        self.rows = None if self.source.is_ragged else self.source.batch_size
        self.usual_rows = self.rows or loader.total_size / len(loader)
        self.first = next(self.source.batches(0, seed))
        self.placeholders = {
            name: placeholder(name, array, self.rows) for name, array in self.first.items()
        }
        self.block = {
            name: pytensor.shared(array, name=f"data/{name}", shape=(None, *array.shape[1:]))
            for name, array in self.first.items()
        }
        self.order = pytensor.shared(np.zeros(0, dtype="int64"), name="data/order")
        start = (self.counter - self.offset) * self.source.batch_size
        rows: Any = slice(start, start + self.source.batch_size)
        if self.source.shuffle:
            rows = self._sized(self.order[rows])
        self.expressions = {name: self._sized(array[rows]) for name, array in self.block.items()}

    @property
    def in_background(self) -> bool:
        """Whether columns are put into rows in a thread of their own.

        Tables are read in another one. On two cores these are as many as can work at a time, and
        rows are best put together on the core that will use them.
        """
        return self.loader.prefetch and (os.cpu_count() or 1) > 2

    def _sized(self, rows: Variable) -> Variable:
        if self.rows is None:  # the last batch of an epoch ends with its block
            return rows
        return pt.specify_shape(rows, (self.rows, *rows.type.shape[1:]))

    def parts(self, step: int) -> Generator[Part]:
        """Yield the blocks from the one of a step on."""
        epoch = step // self.source.n_batches
        begin = epoch * self.source.n_batches
        while self.is_needed(begin):
            for block in self.source.blocks(epoch, self.seed, ahead=self.loader.prefetch):
                if begin + block.n_batches > step:
                    values = {self.block[name]: array for name, array in block.rows.items()}
                    if block.order is not None:
                        values[self.order] = block.order
                    yield Part(begin, block.n_batches, values)
                begin += block.n_batches
            epoch += 1
