"""Batches inside compiled code: which rows a step sees follows from its number.

A feed has a placeholder for each array, which a program is built on, and an expression for each
placeholder, which takes its place in the loss: the rows of step ``counter``. Between two calls
of compiled code, :meth:`prepare` loads what the next steps need.
"""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.type import TensorType

from pymc_svi.data import DataLoader
from pymc_svi.data.checks import Batch, check_batch
from pymc_svi.data.sources import Stream, StreamEnded, TableSource
from pymc_svi.engine.arguments import DataVariable
from pymc_svi.errors import sentence

__all__ = ["BatchVariable", "DataFeed", "InMemoryFeed", "StreamFeed", "feed_of", "placeholder"]

# The order of the rows is loaded for as many epochs as have this many, or for a part of one.
_ROWS_OF_ORDER = 500_000
# A stack of batches has at most this many steps and bytes.
_STEPS_A_STACK = 1_024
_BYTES_A_STACK = 32_000_000


class BatchVariable(DataVariable):
    """An array of a batch whose number of rows is known only when a step runs."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape: an expression for the rows, numbers for the rest."""
        return (pt.shape(self)[0], *self.type.shape[1:])

    @property
    def size(self):
        """The number of elements, an expression."""
        return pt.shape(self)[0] * int(np.prod(self.type.shape[1:]))

    def __len__(self) -> int:
        raise TypeError(
            sentence(
                f"The number of rows of {self.name!r} differs from batch to batch",
                fix=f"Write {self.name}.shape[0], which is symbolic, instead of "
                f"len({self.name}), or use DataLoader(..., drop_last=True)",
            )
        )


def placeholder(name: str, value: np.ndarray, rows: int | None) -> DataVariable:
    """Return the variable that a program is built on; ``rows`` is None where they differ."""
    kind = DataVariable if rows is not None else BatchVariable
    return kind(
        type=TensorType(value.dtype, shape=(rows, *value.shape[1:])),
        value=value,
        strict=False,
        name=name or "data",
    )


class DataFeed(ABC):
    """What a fit reads its batches from.

    Attributes
    ----------
    counter : SharedVariable
        Number of the present step.
    placeholders : dict of str to DataVariable
        What programs are built on; they hold the first batch.
    expressions : dict of str to TensorVariable
        The rows of the present step.
    rows : int or None
        Rows of a batch; None where they differ from batch to batch.
    first : dict of str to numpy.ndarray
        The first batch.
    starts_anew : bool
        Whether it can be read from the beginning again, in the order of another seed.
    """

    starts_anew = True
    loaded: tuple[int, int]
    placeholders: dict[str, DataVariable]
    expressions: dict[str, Variable]
    rows: int | None
    first: Batch

    def __init__(self, loader: DataLoader, seed: int):
        self.loader, self.seed = loader, seed
        self.counter = pytensor.shared(np.array(0, dtype="int64"), name="data/step")
        self.offset = pytensor.shared(np.array(0, dtype="int64"), name="data/offset")

    @abstractmethod
    def prepare(self, step: int, n_steps: int) -> int:
        """Load data for the steps from ``step`` on; return how many of ``n_steps`` they cover."""

    def begin(self, step: int, n_steps: int) -> None:  # noqa: B027
        """Say which steps a fit will take."""

    def close(self) -> None:  # noqa: B027
        """End what runs in the background."""

    def start_anew(self, seed: int) -> None:
        """Go back to the beginning, with the order of a seed."""
        self.close()
        self.seed = seed
        self.loaded = (0, 0)

    def batch_at(self, step: int) -> Batch:
        """Return the batch of a step."""
        self.prepare(step, 1)
        before = self.counter.get_value()
        self.counter.set_value(np.array(step))
        mode = pytensor.compile.mode.Mode(linker="py", optimizer=None)
        arrays = pytensor.function([], list(self.expressions.values()), mode=mode)()
        self.counter.set_value(before)
        return dict(zip(self.expressions, arrays, strict=True))


class InMemoryFeed(DataFeed):
    """Arrays in memory, indexed inside compiled code."""

    def __init__(self, loader: DataLoader, seed: int):
        super().__init__(loader, seed)
        assert loader.arrays is not None
        total = self.total = loader.total_size
        size = self.size = loader.batch_size or total
        self.steps_an_epoch = len(loader)
        self.ragged = total % size != 0 and not loader.drop_last
        self.rows = None if self.ragged else size
        self.whole = size == total
        self.shuffled = loader.shuffle and not self.whole
        self.full = {
            name: pytensor.shared(array, name=f"data/{name}", shape=array.shape, borrow=True)
            for name, array in loader.arrays.items()
        }
        first_rows = loader.order(0, seed, 0, size) if self.shuffled else slice(size)
        self.first = {name: array[first_rows] for name, array in loader.arrays.items()}
        self.placeholders = {
            name: placeholder(name, array, self.rows) for name, array in self.first.items()
        }
        ndim = 1 if self.ragged else 2
        self.table = pytensor.shared(
            np.zeros((0,) * (ndim - 1) + (0 if self.ragged else size,), dtype="int64"),
            name="data/order",
            shape=(None,) if self.ragged else (None, size),
        )
        self.loaded = (0, 0)  # the steps whose order is in the table
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
        start, stop = self._bounds(self.counter % self.steps_an_epoch)
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

    def _bounds(self, number: Variable) -> tuple[Variable, Variable]:
        start = number * self.size
        return start, pt.minimum(start + self.size, self.total)

    def prepare(self, step: int, n_steps: int) -> int:
        """Load the order of the rows of the epochs to come."""
        if not self.shuffled:
            return n_steps
        begin, end = self.loaded
        if not begin <= step < end:
            begin, end = self.loaded = self._load(step, n_steps, 2 * (end - begin))
        return min(n_steps, end - step)

    def _load(self, step: int, n_steps: int, wanted: int) -> tuple[int, int]:
        """Load the order of some steps from ``step`` on; return which."""
        epoch, number = divmod(step, self.steps_an_epoch)
        if self.total > _ROWS_OF_ORDER:  # a part of an epoch
            last = min(self.steps_an_epoch, number + max(1, _ROWS_OF_ORDER // self.size))
            rows = self._rows(epoch, number * self.size, last * self.size)
            begin, end = step, step + last - number
        else:
            n_epochs = -(-max(number + n_steps, wanted) // self.steps_an_epoch)
            n_epochs = max(1, min(n_epochs, _ROWS_OF_ORDER // self.total))
            used = self.steps_an_epoch * self.size
            rows = np.concatenate([self._rows(epoch + i, 0, used) for i in range(n_epochs)])
            begin = epoch * self.steps_an_epoch
            end = begin + n_epochs * self.steps_an_epoch
        self.table.set_value(rows if self.ragged else rows.reshape(-1, self.size), borrow=True)
        self.offset.set_value(np.array(begin))
        return begin, end

    def _rows(self, epoch: int, start: int, stop: int) -> np.ndarray:
        return self.loader.order(epoch, self.seed, start, min(stop, self.total))


class StreamFeed(DataFeed):
    """Batches of a stream, stacked so that one compiled call takes many steps."""

    def __init__(self, loader: DataLoader, seed: int):
        super().__init__(loader, seed)
        assert loader.source is not None
        self.source = loader.source
        self.starts_anew = isinstance(self.source, TableSource)
        self.total = loader.total_size  # an error if it is not known
        self.rows = None
        self._pending: Iterator[Batch] | None = None
        self._limit: int | None = None
        self._reader: _Reader | None = None
        self.position = 0  # the step whose batch is read next
        self._held: Batch | None = None
        iterator = self._from(0)
        try:
            self.first = next(iterator)
        except StopIteration:
            raise StreamEnded(sentence("The stream has no batches")) from None
        if isinstance(self.source, Stream) and self.source.once:
            self._pending, self._held = iterator, self.first
        self.placeholders = {
            name: placeholder(name, array, None) for name, array in self.first.items()
        }
        self.stacks = {
            name: pytensor.shared(
                array[None], name=f"data/{name}", shape=(None, None, *array.shape[1:])
            )
            for name, array in self.first.items()
        }
        step = self.counter - self.offset
        self.expressions = {name: stack[step] for name, stack in self.stacks.items()}
        self.loaded = (0, 0)

    def begin(self, step: int, n_steps: int) -> None:
        """Say which steps a fit will take, so that no more is read."""
        self.close()
        self._limit = step + n_steps

    def prepare(self, step: int, n_steps: int) -> int:
        """Load the next stack of batches."""
        begin, end = self.loaded
        if not begin <= step < end:
            if self._reader is None or self.position != step:
                self.close()
                self._reader = _Reader(self._stacks(step), self.loader.prefetch)
            stack, size = self._reader.next()
            for name, array in stack.items():
                self.stacks[name].set_value(array, borrow=True)
            self.offset.set_value(np.array(step))
            begin, end = self.loaded = (step, step + size)
            self.position = end
        return min(n_steps, end - step)

    def close(self) -> None:
        """End the thread that reads ahead."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self.loaded = (0, 0)

    def _stacks(self, step: int) -> Iterator[tuple[Batch, int]]:
        """Yield stacks of batches of one size, from the one of ``step`` on."""
        if isinstance(self.source, TableSource):
            yield from self._stacks_of_tables(self.source, step)
            return
        held: list[Batch] = []
        most = _STEPS_A_STACK
        batches = self._batches(step)
        while self._limit is None or step < self._limit:
            batch = next(batches)
            step += 1
            if held and len(batch[self._name]) != len(held[0][self._name]):
                yield self._stacked(held)
                held = []
            held.append(batch)
            n_bytes = sum(array.nbytes for array in batch.values())
            most = _most_steps(n_bytes)
            if len(held) >= most:
                yield self._stacked(held)
                held = []
        if held:
            yield self._stacked(held)

    def _stacks_of_tables(self, source: TableSource, step: int) -> Iterator[tuple[Batch, int]]:
        """Yield what a source stacks itself, in parts that are not too long."""
        epoch, skipped = divmod(step, source.n_batches)
        while True:
            for stack in source.stacks(epoch, self.seed, ahead=self.loader.prefetch):
                size = len(stack[self._name])
                most = _most_steps(sum(array.nbytes for array in stack.values()) // size)
                for start in range(skipped, size, most):
                    part = {name: array[start : start + most] for name, array in stack.items()}
                    yield part, len(part[self._name])
                skipped = max(0, skipped - size)
            epoch += 1

    @property
    def _name(self) -> str:
        return next(iter(self.first))

    def _stacked(self, batches: list[Batch]) -> tuple[Batch, int]:
        return {n: np.stack([b[n] for b in batches]) for n in self.first}, len(batches)

    def _batches(self, step: int) -> Iterator[Batch]:
        """Yield the batches from a step on, epoch after epoch."""
        if self._pending is not None:
            yield from self._from_generator(step)
        number = step
        for batch in self._from(step):
            yield self._checked(batch, number)
            number += 1
        self._end(number)

    def _from_generator(self, step: int) -> Iterator[Batch]:
        # What was read from it cannot be read again: it goes on where it is, and a state
        # that is resumed with a new generator starts at its own step.
        assert self._pending is not None
        if self._held is not None:
            first, self._held = self._held, None
            if step == 0:
                yield self._checked(first, 0)
                step = 1
            else:
                for _ in range(step - 1):
                    next(self._pending, None)
        for number, batch in enumerate(self._pending, start=step):
            yield self._checked(batch, number)
            step = number + 1
        self._end(step)

    def _end(self, number: int) -> None:
        raise StreamEnded(
            sentence(
                f"The stream ended after {number} batches",
                found=f"{number} of the {self._limit} batches that the fit asked for",
                fix="Ask for fewer steps, or pass something that can be iterated over again, "
                "such as a list or a torch DataLoader, instead of a generator",
            )
        )

    def _checked(self, batch: Batch, number: int) -> Batch:
        return check_batch(batch, self.first, f"Batch {number} of the stream")

    def _from(self, step: int) -> Iterator[Batch]:
        """Yield the batches of all epochs from a step on."""
        epoch = 0
        if self.source.n_batches:
            epoch, step = divmod(step, self.source.n_batches)
        while True:
            n = 0
            for batch in self.loader.batches(epoch, self.seed):
                n += 1
                if step > 0:
                    step -= 1
                    continue
                yield batch
            if n == 0 or (isinstance(self.source, Stream) and self.source.once):
                return
            epoch += 1


class _Reader:
    """Read an iterator one item ahead in a background thread."""

    def __init__(self, items: Iterator[Any], ahead: bool):
        self._items = items
        self._queue: queue.Queue[Any] | None = queue.Queue(maxsize=1) if ahead else None
        self._closed = threading.Event()
        if ahead:
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put((item, None)):
                    return
        except BaseException as error:  # it is raised where the item is asked for
            self._put((None, error))

    def _put(self, item: Any) -> bool:
        assert self._queue is not None
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.05)
                return True
            except queue.Full:
                continue
        return False

    def next(self) -> Any:
        """Return the next item, or raise what its reading raised."""
        if self._queue is None:
            return next(self._items)
        item, error = self._queue.get()
        if error is not None:
            raise error
        return item

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._queue is not None:
            self._thread.join(timeout=10)


def _most_steps(bytes_of_a_batch: int) -> int:
    """Return how many batches a stack may hold."""
    return max(1, min(_STEPS_A_STACK, _BYTES_A_STACK // max(1, bytes_of_a_batch)))


def feed_of(loader: DataLoader, seed: int) -> DataFeed:
    """Return the feed of a loader."""
    seed = seed if loader.seed is None else loader.seed
    return InMemoryFeed(loader, seed) if loader.in_memory else StreamFeed(loader, seed)
