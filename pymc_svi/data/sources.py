"""Where batches come from when the data are not arrays in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pymc_svi.data.checks import Batch, DataError, columns_of
from pymc_svi.errors import quoted, sentence

__all__ = ["BatchSource", "ParquetSource", "RowSource", "Stream", "StreamEnded", "as_named"]


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


class RowSource:
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
        self.arrays = arrays
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        lengths = {int(array.shape[0]) for array in arrays.values()}
        if len(lengths) != 1:
            raise DataError(
                sentence("The arrays have different numbers of rows", found=str(sorted(lengths)))
            )
        [self.total_size] = lengths
        self.n_batches = _batches_in(self.total_size, batch_size, drop_last)
        self.block = max(batch_size, buffer_size // batch_size * batch_size)

    def batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        blocks = [
            (start, min(start + self.block, self.total_size))
            for start in range(0, self.total_size, self.block)
        ]
        tables = (
            {name: np.asarray(array[start:stop]) for name, array in self.arrays.items()}
            for start, stop in _in_order(blocks, epoch, seed, self.shuffle)
        )
        yield from rebatched(
            tables, self.batch_size, self.drop_last, self._generator(epoch, seed), self.block
        )

    def _generator(self, epoch: int, seed: int) -> np.random.Generator | None:
        return np.random.default_rng([seed, epoch, 1]) if self.shuffle else None


class ParquetSource:
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
        self.columns = dict(columns) if columns else {name: name for name in schema}
        unknown = [name for name in columns_of(self.columns) if name not in schema]
        if unknown:
            raise DataError(
                sentence(f"The Parquet files have no column {unknown[0]!r}", found=quoted(schema))
            )
        if self.total_size == 0:
            raise DataError(sentence("The Parquet files have no rows", found=str(path)))
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.buffer_size = max(buffer_size, batch_size)
        self.n_batches = _batches_in(self.total_size, batch_size, drop_last)

    def batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        generator = np.random.default_rng([seed, epoch, 1]) if self.shuffle else None
        tables = map(self._read, _in_order(self.groups, epoch, seed, self.shuffle))
        yield from rebatched(tables, self.batch_size, self.drop_last, generator, self.buffer_size)

    def _read(self, group: tuple[Path, int]) -> Batch:
        import pyarrow.parquet as parquet

        file, number = group
        with parquet.ParquetFile(file) as opened:
            # No threads and no pre-buffering: the memory of one row group and no more.
            table = opened.read_row_group(
                number, columns=columns_of(self.columns), use_threads=False
            )
        arrays = {}
        for name, source in self.columns.items():
            if isinstance(source, str):
                arrays[name] = _column(table, source)
            else:
                arrays[name] = np.column_stack([_column(table, column) for column in source])
        return arrays


def _column(table: Any, name: str) -> np.ndarray:
    column = table.column(name)
    if column.null_count:
        raise DataError(
            sentence(
                f"Column {name!r} has missing values", found=f"{column.null_count} of {len(column)}"
            )
        )
    return column.to_numpy()


def _in_order(items: Sequence[Any], epoch: int, seed: int, shuffle: bool) -> Iterator[Any]:
    if not shuffle:
        return iter(items)
    order = np.random.default_rng([seed, epoch, 0]).permutation(len(items))
    return (items[i] for i in order)


def _batches_in(rows: int, batch_size: int, drop_last: bool) -> int:
    return rows // batch_size if drop_last else -(-rows // batch_size)


def rebatched(
    tables: Iterable[Batch],
    batch_size: int,
    drop_last: bool,
    generator: np.random.Generator | None,
    buffer_size: int,
) -> Iterator[Batch]:
    """Cut tables of any lengths into batches of one, the rows of a buffer shuffled.

    A buffer of rows is filled from the tables, shuffled, and all its whole batches are given
    out; the rows that are left over start the next buffer.
    """
    held: list[Batch] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += len(next(iter(table.values())))
        if rows >= max(batch_size, buffer_size if generator is not None else 1):
            buffer = _joined(held, generator)
            whole = rows // batch_size * batch_size
            for start in range(0, whole, batch_size):
                yield {name: array[start : start + batch_size] for name, array in buffer.items()}
            held = [{name: array[whole:].copy() for name, array in buffer.items()}]
            rows -= whole
    if rows:
        buffer = _joined(held, generator)
        for start in range(0, rows, batch_size):
            batch = {name: array[start : start + batch_size] for name, array in buffer.items()}
            if not drop_last or rows - start >= batch_size:
                yield batch


def _joined(tables: Sequence[Batch], generator: np.random.Generator | None) -> Batch:
    joined = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    if generator is None:
        return joined
    order = generator.permutation(len(next(iter(joined.values()))))
    return {name: array[order] for name, array in joined.items()}
