"""Streams: batches that come one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from pymc_svi.data.checks import DataError
from pymc_svi.data.frames import frame_columns
from pymc_svi.errors import sentence

__all__ = ["BatchSource", "Restarted", "Stream", "StreamEnded", "as_named"]


class StreamEnded(DataError):
    """A stream has fewer batches than steps were asked for."""


class BatchSource(Protocol):
    """What gives batches, epoch after epoch."""

    @property
    def total_size(self) -> int | None:
        """Rows of an epoch, if known."""

    @property
    def n_batches(self) -> int | None:
        """Batches of an epoch, if known."""

    def batches(self, epoch: int, seed: int) -> Iterator[Mapping[str, Any]]:
        """Yield the batches of one epoch; the same ones for the same epoch and seed."""


def as_named(
    batch: Any, names: Sequence[str] | None = None, where: str = "A batch"
) -> Mapping[str, Any]:
    """Return a batch as a dict: a bare array is called ``""``, tuples get the names given.

    The columns of a frame keep theirs.
    """
    if isinstance(batch, Mapping):
        return batch
    columns = frame_columns(batch, where)
    if columns is not None:
        return columns
    if batch is None or isinstance(batch, str | bytes | set | frozenset | int | float):
        raise DataError(
            sentence(
                f"{where} is neither a dict of arrays nor an array",
                found=f"{batch!r} of type {type(batch).__name__}",
                fix='Yield dicts such as {"X": X, "y": y}',
            )
        )
    if isinstance(batch, tuple | list):
        if names is not None and len(names) == len(batch):
            return dict(zip(names, batch, strict=True))
        if len(batch) == 1:
            return {"": batch[0]}
        raise DataError(
            sentence(
                f"{where} is a tuple without names",
                found=f"{len(batch)} arrays",
                fix='Yield dicts such as {"X": X, "y": y}, or pass names=["X", "y"]',
            )
        )
    return {"": batch}


class Stream:
    """Any iterable of batches; one that can be iterated again has many epochs.

    Parameters
    ----------
    batches : iterable of dict, tuple or array_like
        The batches.
    names : sequence of str, optional
        Names of the arrays of batches that are tuples.
    """

    def __init__(self, batches: Iterable[Any], names: Sequence[str] | None = None):
        self._batches = batches
        self._names = names
        self.once = iter(batches) is batches
        data_set = getattr(batches, "dataset", None)  # of a torch DataLoader
        # A list has them all.
        self.total_size = _rows_of(batches) if isinstance(batches, list) else _length(data_set)
        self.n_batches = None if self.once else _length(batches)
        self._opened = False

    def batches(self, epoch: int, seed: int) -> Iterator[Mapping[str, Any]]:
        """Yield the batches as they come."""
        if self.once and epoch > 0:
            return
        for number, batch in enumerate(self._batches):
            yield as_named(batch, self._names, f"Batch {number} of epoch {epoch}")


class Restarted:
    """The batches that a function makes, anew for every epoch.

    Parameters
    ----------
    function : callable
        A function without arguments that returns an iterable of batches, such as a generator.
    """

    def __init__(self, function: Callable[[], Iterable[Any]]):
        self._function = function

    def __iter__(self) -> Iterator[Any]:
        batches = self._function()
        if not hasattr(batches, "__iter__"):
            raise DataError(
                sentence(
                    "DataLoader: the function for the batches does not return an iterable of them",
                    found=f"{type(batches).__name__}",
                    fix='Write a generator: def batches(): yield {"X": X, "y": y}',
                )
            )
        return iter(batches)


def _rows_of(batches: list[Any]) -> int | None:
    """Return how many rows a list of batches has; None if they cannot be counted."""
    total = 0
    for batch in batches:
        part = batch
        if isinstance(batch, Mapping):
            part = next(iter(batch.values()), None)
        elif isinstance(batch, tuple | list):
            part = next(iter(batch), None)
        rows = _length(part)
        if rows is None:
            return None
        total += rows
    return total or None


def _length(value: Any) -> int | None:
    try:
        return len(value)
    except TypeError:
        return None
