"""Where batches come from when the data are not arrays in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pymc_svi.data.checks import (
    Batch,
    DataError,
    check_kinds,
    checked_arrays,
    columns_of,
    length_of,
)
from pymc_svi.data.columns import Columns
from pymc_svi.errors import quoted, sentence

__all__ = [
    "BatchSource",
    "ParquetSource",
    "RowSource",
    "Stream",
    "StreamEnded",
    "TableSource",
    "as_named",
]


# How many files are held open.
_OPEN_FILES = 16


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


def as_named(batch: Any, names: Sequence[str] | None = None) -> Mapping[str, Any]:
    """Return a batch as a dict: a bare array is called ``""``, tuples get the names given."""
    if isinstance(batch, Mapping):
        return batch
    if isinstance(batch, tuple | list):
        if names is not None and len(names) == len(batch):
            return dict(zip(names, batch, strict=True))
        if len(batch) == 1:
            return {"": batch[0]}
        raise DataError(
            sentence(
                "A batch is a tuple without names",
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
        self.total_size = _length(data_set)
        self.n_batches = None if self.once else _length(batches)
        self._opened = False

    def batches(self, epoch: int, seed: int) -> Iterator[Mapping[str, Any]]:
        """Yield the batches as they come."""
        if self.once and epoch > 0:
            return
        for batch in self._batches:
            yield as_named(batch, self._names)


def _length(value: Any) -> int | None:
    try:
        return len(value)
    except TypeError:
        return None


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
        whole, rest = divmod(self.total_size, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    @abstractmethod
    def tables(self, epoch: int, seed: int) -> Iterator[tuple[str, Batch]]:
        """Yield the tables of one epoch, each with what it is called in messages."""

    def stacks(self, epoch: int, seed: int, ahead: bool = False) -> Iterator[Batch]:
        """Yield the batches of one epoch, many at a time: arrays of shape (batches, rows, ...).

        Parameters
        ----------
        epoch, seed : int
            Which epoch, and the seed of its order.
        ahead : bool, default False
            Read the next table in another thread while this one is shuffled.
        """
        generator = np.random.default_rng([seed, epoch, 1]) if self.shuffle else None
        tables = self.tables(epoch, seed)
        yield from stacked(
            self._checked(one_ahead(tables) if ahead else tables),
            self.batch_size,
            self.drop_last,
            generator,
            self.buffer_size,
        )

    def batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for stack in self.stacks(epoch, seed):
            for number in range(len(next(iter(stack.values())))):
                yield {name: array[number] for name, array in stack.items()}

    def _checked(self, tables: Iterable[tuple[str, Batch]]) -> Iterator[Batch]:
        first: Batch | None = None
        for where, table in tables:
            checked = checked_arrays(table, where)
            first = first or checked
            yield check_kinds(checked, first, where)


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
        for start in _in_order(starts, epoch, seed, self.shuffle):
            stop = min(start + self.buffer_size, self.total_size)
            table = {name: np.asarray(array[start:stop]) for name, array in self.arrays.items()}
            yield f"Rows {start} to {stop}", table


class ParquetSource(TableSource):
    """A folder of Parquet files, read a row group at a time.

    Parameters
    ----------
    folder : path
        A folder of ``*.parquet`` files, or one file.
    columns : dict of str to str or list of str, optional
        Which columns make each array; one array for each column if not given.
    batch_size, shuffle, drop_last, buffer_size
        As for :class:`RowSource`; row groups come in random order.
    """

    def __init__(
        self,
        folder: str | Path,
        columns: Mapping[str, str | Sequence[str]] | None,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        buffer_size: int,
    ):
        import pyarrow.parquet as parquet

        super().__init__(batch_size, shuffle, drop_last, buffer_size)
        path = Path(folder)
        self.files = [path] if path.is_file() else sorted(path.glob("**/*.parquet"))
        if not self.files:
            raise DataError(sentence("There are no Parquet files", found=str(path)))
        self.groups: list[tuple[Path, int]] = []
        self.total_size = 0
        schema: list[str] | None = None
        for file in self.files:
            with parquet.ParquetFile(file) as opened:
                names = opened.schema_arrow.names
                if schema is not None and set(names) != set(schema):
                    raise DataError(
                        sentence(
                            f"{file.name} has other columns than {self.files[0].name}",
                            found=quoted(names),
                            expected=quoted(schema),
                        )
                    )
                schema = schema or names
                self.groups += [(file, i) for i in range(opened.metadata.num_row_groups)]
                self.total_size += opened.metadata.num_rows
        assert schema is not None
        self._open: dict[Path, Any] = {}
        self.columns = dict(columns) if columns else {name: name for name in schema}
        unknown = [name for name in columns_of(self.columns) if name not in schema]
        if unknown:
            raise DataError(
                sentence(f"The Parquet files have no column {unknown[0]!r}", found=quoted(schema))
            )
        if self.total_size == 0:
            raise DataError(sentence("The Parquet files have no rows", found=str(path)))

    def tables(self, epoch: int, seed: int) -> Iterator[tuple[str, Batch]]:
        """Yield row groups."""
        for file, number in _in_order(self.groups, epoch, seed, self.shuffle):
            yield f"{file.name}, row group {number}", self._read((file, number))

    def _read(self, group: tuple[Path, int]) -> Batch:
        file, number = group
        table = self._opened(file).read_row_group(number, columns=columns_of(self.columns))
        arrays: dict[str, Any] = {}
        for name, source in self.columns.items():
            if isinstance(source, str):
                arrays[name] = _column(table, source)
            else:
                arrays[name] = Columns([_column(table, column) for column in source])
        return arrays

    def _opened(self, file: Path) -> Any:
        """Return a file that is open: its footer takes longer to read than a row group."""
        import pyarrow.parquet as parquet

        if file not in self._open:
            while len(self._open) >= _OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            # Mapped and without pre-buffering: the memory of one row group and no more.
            self._open[file] = parquet.ParquetFile(file, memory_map=True)
        return self._open[file]


def _column(table: Any, name: str) -> np.ndarray:
    column = table.column(name)
    if column.null_count:
        raise DataError(
            sentence(
                f"Column {name!r} has missing values", found=f"{column.null_count} of {len(column)}"
            )
        )
    return column.to_numpy()


def one_ahead[T](items: Iterator[T]) -> Iterator[T]:
    """Yield items, the next one of which is being made in another thread."""
    end = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reading") as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]


def _in_order(items: Sequence[Any], epoch: int, seed: int, shuffle: bool) -> Iterator[Any]:
    if not shuffle:
        return iter(items)
    order = np.random.default_rng([seed, epoch, 0]).permutation(len(items))
    return (items[i] for i in order)


def stacked(
    tables: Iterable[Batch],
    batch_size: int,
    drop_last: bool,
    generator: np.random.Generator | None,
    buffer_size: int,
) -> Iterator[Batch]:
    """Cut tables of any lengths into batches of one length, many of them in one array.

    A buffer of rows is filled from the tables, shuffled, and all its whole batches are given
    out; the rows that are left over start the next buffer.
    """
    held: list[Batch] = []
    rows = 0
    enough = max(batch_size, buffer_size if generator is not None else 1)
    for table in tables:
        held.append(table)
        rows += length_of(table)
        if rows >= enough:
            buffer = _joined(held, generator)
            whole = rows // batch_size * batch_size
            yield _cut(buffer, 0, whole, batch_size)
            held = [{name: array[whole:].copy() for name, array in buffer.items()}]
            rows -= whole
            held = held if rows else []
    if rows:
        buffer = _joined(held, generator)
        whole = rows // batch_size * batch_size
        if whole:
            yield _cut(buffer, 0, whole, batch_size)
        if whole < rows and not drop_last:
            yield _cut(buffer, whole, rows, rows - whole)


def _cut(buffer: Batch, start: int, stop: int, size: int) -> Batch:
    return {n: a[start:stop].reshape(-1, size, *a.shape[1:]) for n, a in buffer.items()}


def _joined(tables: Sequence[Batch], generator: np.random.Generator | None) -> Batch:
    """Put tables together, in random order if there is a generator."""
    lengths = [length_of(table) for table in tables]
    n = sum(lengths)
    order = np.arange(n) if generator is None else generator.permutation(n)
    places = np.split(order, np.cumsum(lengths)[:-1])
    joined = {}
    for name, first in tables[0].items():
        out = np.empty((n, *first.shape[1:]), dtype=first.dtype)
        for table, rows in zip(tables, places, strict=True):
            if isinstance(table[name], Columns):
                table[name].put(out, rows)
            else:
                out[rows] = table[name]
        joined[name] = out
    return joined
