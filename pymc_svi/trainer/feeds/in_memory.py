"""Arrays in memory, which compiled code takes the rows of a step from."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.data import DataLoader
from pymc_svi.data.checks import Batch
from pymc_svi.trainer.feeds.base import placeholder
from pymc_svi.trainer.feeds.reader import Part, ReadAheadFeed

__all__ = ["InMemoryFeed"]

# The order of the rows is loaded for as many epochs as have this many, or for a part of one.
_ROWS_OF_ORDER = 500_000


class InMemoryFeed(ReadAheadFeed):
    """Arrays in memory, indexed inside compiled code; their order is made in the background."""

    def __init__(self, loader: DataLoader, seed: int):
        super().__init__(loader, seed)
        assert loader.arrays is not None
        total = self.total = loader.total_size
        size = self.size = loader.batch_size or total
        self.steps_an_epoch = len(loader)
        self.ragged = total % size != 0 and not loader.drop_last
        self.rows = None if self.ragged else size
        self.usual_rows = total / self.steps_an_epoch if self.ragged else size
        self.whole = size == total
        self.shuffled = loader.shuffle is True and not self.whole
        self.shuffled_once = loader.shuffle == "once" and not self.whole
        arrays = self._shuffled_copies() if self.shuffled_once else loader.arrays
        self.full = {
            name: pytensor.shared(array, name=f"data/{name}", shape=array.shape, borrow=True)
            for name, array in arrays.items()
        }
        first_rows = loader.order(0, seed, 0, size) if self.shuffled else slice(size)
        self.first = {name: array[first_rows] for name, array in arrays.items()}
        self.placeholders = {
            name: placeholder(name, array, self.rows) for name, array in self.first.items()
        }
        ndim = 1 if self.ragged else 2
        self.table = pytensor.shared(
            np.zeros((0,) * (ndim - 1) + (0 if self.ragged else size,), dtype="int64"),
            name="data/order",
            shape=(None,) if self.ragged else (None, size),
        )
        self.expressions = self._expressions()

    def _expressions(self) -> dict[str, Variable]:
        if self.whole:
            return dict(self.full)
        if self.shuffled:
            step = self.counter - self.offset
            if self.ragged:
                # Positions count over the epochs, each of which ends in a shorter batch.
                before = self._position(self.offset)
                start = self._position(self.counter) - before
                rows = self.table[start : self._position(self.counter + 1) - before]
            else:
                rows = self.table[step]
            return {name: array[rows] for name, array in self.full.items()}
        start, stop = self._bounds()
        sliced = {name: array[start:stop] for name, array in self.full.items()}
        if self.rows is None:
            return sliced
        return {
            name: pt.specify_shape(part, (self.rows, *part.type.shape[1:]))
            for name, part in sliced.items()
        }

    def _position(self, step: Variable) -> Variable:
        epoch = step // self.steps_an_epoch
        return epoch * self.total + step % self.steps_an_epoch * self.size

    def _bounds(self) -> tuple[Variable, Variable]:
        """Return where the rows of a step begin and end, if they lie side by side."""
        start = self.counter % self.steps_an_epoch * self.size
        stop = pt.minimum(start + self.size, self.total)
        if not self.shuffled_once:
            return start, stop
        first = self.loader.first_position(self.counter // self.steps_an_epoch)
        begin = (first + start) % self.total
        return begin, begin + (stop - start)

    def _shuffled_copies(self) -> Batch:
        """Return the arrays in the order of a seed, with the first rows once more at their end.

        An epoch begins anywhere, and a batch that goes beyond the end goes on with the first rows.
        """
        assert self.loader.arrays is not None
        order = self.loader.order_of_copy(self.seed)
        rows = np.concatenate([order, order[: self.size - 1]])
        return {name: array[rows] for name, array in self.loader.arrays.items()}

    def start_anew(self, seed: int) -> None:
        """Go back to the beginning, with the order of a seed."""
        another = seed != self.seed
        super().start_anew(seed)
        if self.shuffled_once and another:
            for name, array in self._shuffled_copies().items():
                self.full[name].set_value(array, borrow=True)

    def prepare(self, step: int, n_steps: int) -> int:
        """Load the order of the rows of the steps to come."""
        return super().prepare(step, n_steps) if self.shuffled else n_steps

    def parts(self, step: int) -> Generator[Part]:
        """Yield the order of the rows from a step on: of whole epochs, or of a part of a long one."""
        n_epochs = 1
        while self.is_needed(step):
            epoch, number = divmod(step, self.steps_an_epoch)
            if self.total > _ROWS_OF_ORDER:
                last = min(self.steps_an_epoch, number + max(1, _ROWS_OF_ORDER // self.size))
                rows = self._rows(epoch, number * self.size, last * self.size)
                begin, end = step, step + last - number
            else:
                used = self.steps_an_epoch * self.size
                rows = np.concatenate([self._rows(epoch + i, 0, used) for i in range(n_epochs)])
                begin, end = (e * self.steps_an_epoch for e in (epoch, epoch + n_epochs))
                # A fit of many steps has few parts, and one of a few steps is not kept waiting.
                n_epochs = max(1, min(2 * n_epochs, _ROWS_OF_ORDER // self.total))
            rows = rows if self.ragged else rows.reshape(-1, self.size)
            yield Part(begin, end - begin, {self.table: rows})
            step = end

    def _rows(self, epoch: int, start: int, stop: int) -> np.ndarray:
        return self.loader.order(epoch, self.seed, start, min(stop, self.total))
