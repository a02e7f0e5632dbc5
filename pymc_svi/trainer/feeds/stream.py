"""Batches that come one by one, stacked so that one compiled call takes many steps."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import pytensor

from pymc_svi.data import DataError, DataLoader
from pymc_svi.data.checks import Batch, check_kinds, check_names
from pymc_svi.data.sources import Stream, StreamEnded
from pymc_svi.errors import sentence
from pymc_svi.trainer.feeds.base import placeholder
from pymc_svi.trainer.feeds.reader import Part, ReadAheadFeed

__all__ = ["StreamFeed"]

# A stack of batches has at most this many steps and bytes.
_STEPS_A_STACK = 1_024
_BYTES_A_STACK = 32_000_000


class StreamFeed(ReadAheadFeed):
    """Batches of a stream, stacked so that one compiled call takes many steps."""

    starts_anew = False

    def __init__(self, loader: DataLoader, seed: int):
        super().__init__(loader, seed)
        assert isinstance(loader.source, Stream)
        self.source = loader.source
        _ = loader.total_size  # an error if it is not known
        self.rows = None
        self._pending: Iterator[Batch] | None = None
        self._held: Batch | None = None
        iterator = self._from(0)
        try:
            self.first = next(iterator)
        except StopIteration:
            raise StreamEnded(sentence("The stream has no batches")) from None
        self.usual_rows = _rows(self.first)
        if self.source.once:
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

    def parts(self, step: int) -> Generator[Part]:
        """Yield stacks of batches of one size, from the one of ``step`` on."""
        held: list[Batch] = []
        batches = self._batches(step)
        while self.is_needed(step):
            batch = next(batches)
            if held and _rows(batch) != _rows(held[0]):
                yield self._stacked(step - len(held), held)
                held = []
            held.append(batch)
            step += 1
            if len(held) >= _most_steps(sum(array.nbytes for array in batch.values())):
                yield self._stacked(step - len(held), held)
                held = []
        if held:
            yield self._stacked(step - len(held), held)

    def _stacked(self, begin: int, batches: list[Batch]) -> Part:
        values = {
            stack: np.stack([b[name] for b in batches]) for name, stack in self.stacks.items()
        }
        return Part(begin, len(batches), values)

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
        where = f"Batch {number} of the stream"
        check_names(batch, self.first, where)  # the values have been checked by the loader
        self._check_size(_rows(batch), f"batch {number}")
        return check_kinds(batch, self.first, where)

    def _check_size(self, rows: int, what: str) -> None:
        if rows > self.loader.total_size:
            raise DataError(
                sentence(
                    "total_size contradicts the stream",
                    found=f"total_size={self.loader.total_size}, but {rows} rows in {what}",
                    fix="total_size is the number of rows of all batches of an epoch",
                )
            )

    def _from(self, step: int) -> Iterator[Batch]:
        """Yield the batches of all epochs from a step on."""
        epoch = 0
        if self.source.n_batches:
            epoch, step = divmod(step, self.source.n_batches)
        while True:
            n = rows = 0
            for batch in self.loader.batches(epoch, self.seed):
                n += 1
                rows += _rows(batch)
                if step > 0:
                    step -= 1
                    continue
                yield batch
            if n == 0 or self.source.once:
                return
            if self.source.n_batches is not None:  # a function may draw as many as it likes
                self._check_size(rows, f"the {n} batches of an epoch")
            epoch += 1


def _rows(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def _most_steps(bytes_of_a_batch: int) -> int:
    """Return how many batches a stack may hold."""
    return max(1, min(_STEPS_A_STACK, _BYTES_A_STACK // max(1, bytes_of_a_batch)))
