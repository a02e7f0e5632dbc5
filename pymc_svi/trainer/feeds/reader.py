"""Data that are read in the background while steps are taken."""

from __future__ import annotations

import queue
import threading
from abc import abstractmethod
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable

from pymc_svi.data import DataLoader
from pymc_svi.trainer.feeds.base import DataFeed

__all__ = ["Part", "ReadAheadFeed"]


class Part(NamedTuple):
    """What some steps need.

    Attributes
    ----------
    begin, n_steps : int
        The first of the steps, and how many they are.
    values : dict of SharedVariable to numpy.ndarray
        The data.
    """

    begin: int
    n_steps: int
    values: dict[SharedVariable, np.ndarray]


class ReadAheadFeed(DataFeed):
    """Base of the feeds that load a part of the data while the last one is in use."""

    def __init__(self, loader: DataLoader, seed: int):
        super().__init__(loader, seed)
        self.loaded = (0, 0)
        self._limit: int | None = None
        self._reader: _Reader | None = None
        self._next = 0  # the step whose data are read next

    @property
    def in_background(self) -> bool:
        """Whether the parts are made in a thread of their own."""
        return self.loader.prefetch

    @abstractmethod
    def parts(self, step: int) -> Generator[Part]:
        """Yield the parts of the data from the one of a step on, up to the limit if there is one."""

    def begin(self, step: int, n_steps: int) -> None:
        """Say which steps a fit will take, so that no more is read."""
        self.close()
        self._limit = step + n_steps

    def is_needed(self, step: int) -> bool:
        """Whether the fit takes a step."""
        return self._limit is None or step < self._limit

    def prepare(self, step: int, n_steps: int) -> int:
        """Load the part that a step is in."""
        begin, end = self.loaded
        if not begin <= step < end:
            if self._reader is None or self._next != step:
                self.close()
                self._reader = _Reader(self.parts(step), self.in_background)
            part = self._reader.next()
            for variable, value in part.values.items():
                variable.set_value(value, borrow=True)
            self.offset.set_value(np.array(part.begin))
            end = self._next = part.begin + part.n_steps
            self.loaded = part.begin, end
        return min(n_steps, end - step)

    def close(self) -> None:
        """End the thread that reads ahead."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self.loaded = (0, 0)


class _Reader:
    """Read an iterator one item ahead in a background thread."""

    def __init__(self, items: Generator[Part], ahead: bool):
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
        """End the threads, this one's and those of the iterator."""
        self._closed.set()
        if self._queue is None:
            self._items.close()
        else:
            self._thread.join(timeout=10)
