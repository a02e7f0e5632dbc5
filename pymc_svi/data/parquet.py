"""Folders of Parquet files, read a row group at a time."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytensor

from pymc_svi.data.cache import TableCache
from pymc_svi.data.checks import Batch, DataError, columns_of
from pymc_svi.data.columns import Columns
from pymc_svi.data.frames import arrow_column
from pymc_svi.data.tables import TableSource
from pymc_svi.errors import did_you_mean, quoted, sentence

__all__ = ["ParquetSource"]

# Row groups with more bytes are read in parts: the default of pyarrow is a million rows.
_BYTES_AT_ONCE = 64_000_000
_BYTES_OF_A_PART = 16_000_000

# Files are closed once so much of them was read: what was read of a mapped file counts as memory of the
# process until then.
_BYTES_MAPPED = 256_000_000

# One reads, one puts rows in order, and one trains: with no core left, more are in their way, unless
# these have nothing to do.
_BUSY_THREADS = 3


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
    cache : TableCache, optional
        Where row groups are kept once they are decoded.
    """

    def __init__(
        self,
        folder: str | Path,
        columns: Mapping[str, str | Sequence[str]] | None,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        buffer_size: int,
        cache: TableCache | None = None,
    ):
        import pyarrow.parquet as parquet

        super().__init__(batch_size, shuffle, drop_last, buffer_size)
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(
                sentence(
                    "from_parquet: the first argument is a folder, or one file",
                    found=repr(folder),
                    fix="Put the files into a folder of their own; links to them will do",
                )
            )
        self.columns = _checked_columns(columns)
        path = Path(folder)
        self.files = [path] if path.is_file() else sorted(path.glob("**/*.parquet"))
        if not self.files:
            raise DataError(sentence("There are no Parquet files", found=str(path)))
        self.cache = cache
        self.groups: list[tuple[Path, int]] = []
        self._metadata: dict[Path, Any] = {}  # takes longer to read than a row group
        self.total_size = 0
        schema: Any = None
        for file in self.files:
            with _naming(file), parquet.ParquetFile(file) as opened:
                found, metadata = opened.schema_arrow, opened.metadata
            if not columns:
                self.columns = self.columns or {name: name for name in found.names}
                _check_names(found.names, self.columns, file, self.files[0])
            used = _used(found, columns_of(self.columns), file)
            _check_types(used, schema or used, file, self.files[0])
            schema = schema or used
            self._metadata[file] = metadata
            rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            self.groups += [(file, i) for i, n_rows in enumerate(rows) if n_rows]
            self.total_size += metadata.num_rows
        self._open: dict[Path, Any] = {}
        self._n_mapped = 0
        if self.total_size == 0:
            raise DataError(sentence("The Parquet files have no rows", found=str(path)))

    def tables(self, epoch: int, seed: int) -> Iterator[tuple[str, Batch]]:
        """Yield row groups, large ones in parts."""
        for file, number in self._in_order(self.groups, epoch, seed):
            tables = self._tables(file, number)
            if self.cache is None:
                yield from tables
            else:
                yield from self.cache.tables(self._key(file, number), tables)

    def _key(self, file: Path, number: int) -> list:
        """Return what the tables of a row group follow from."""
        on_disk = file.stat()
        columns = [[name, source] for name, source in self.columns.items()]
        sizes = [self._rows_of_a_part, pytensor.config.floatX]
        return [str(file.resolve()), on_disk.st_size, on_disk.st_mtime_ns, number, columns, sizes]

    @property
    def _row_bytes(self) -> int:
        return 8 * len(columns_of(self.columns))  # of numbers in memory

    @property
    def _rows_of_a_part(self) -> int:
        return max(self.batch_size, _BYTES_OF_A_PART // self._row_bytes)

    def _tables(self, file: Path, number: int) -> Iterator[tuple[str, Batch]]:
        """Yield the tables of a row group."""
        whole = self._metadata[file].row_group(number).num_rows
        start = 0
        for table in self._read(file, number):
            where = f"{file.name}, row group {number}"
            if len(table) < whole:
                where += f", rows {start} to {start + len(table)}"
            start += len(table)
            yield where, self._arrays(table, where)

    def _read(self, file: Path, number: int) -> Iterator[Any]:
        """Yield a row group, or parts of a large one."""
        import pyarrow

        group = self._metadata[file].row_group(number)
        used = columns_of(self.columns)
        threads = self.pace.n_ready == 0 or pyarrow.cpu_count() > _BUSY_THREADS
        with _naming(file):
            opened = self._opened(file, group.total_byte_size)
            if group.num_rows * self._row_bytes <= _BYTES_AT_ONCE:
                yield opened.read_row_group(number, columns=used, use_threads=threads)
                return
            size = self._rows_of_a_part
            for part in opened.iter_batches(size, [number], columns=used, use_threads=threads):
                yield pyarrow.Table.from_batches([part])

    def _arrays(self, table: Any, where: str) -> Batch:
        arrays: dict[str, Any] = {}
        for name, source in self.columns.items():
            if isinstance(source, str):
                arrays[name] = arrow_column(table.column(source), source, where)
            else:
                columns = [arrow_column(table.column(each), each, where) for each in source]
                arrays[name] = Columns(columns)
        return arrays

    def _opened(self, file: Path, n_bytes: int) -> Any:
        """Return a file that is mapped into memory, to read some bytes of it."""
        import pyarrow.parquet as parquet

        self._n_mapped += n_bytes
        if self._n_mapped > _BYTES_MAPPED:
            for opened in self._open.values():
                opened.close()
            self._open, self._n_mapped = {}, n_bytes
        if file not in self._open:
            # Without pre-buffering: the memory of one row group and no more.
            metadata = self._metadata[file]
            self._open[file] = parquet.ParquetFile(file, metadata=metadata, memory_map=True)
        return self._open[file]


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Say which file cannot be read."""
    import pyarrow

    try:
        yield
    except pyarrow.ArrowException as error:
        raise DataError(
            sentence(f"{file} cannot be read as a Parquet file", found=str(error))
        ) from error


def _check_names(found: Sequence[str], expected: Collection[str], file: Path, first: Path) -> None:
    if set(found) != set(expected):
        raise DataError(
            sentence(
                f"{file.name} has other columns than {first.name}",
                found=quoted(found),
                expected=quoted(expected),
                fix='Say which ones to use: columns={"X": ["x0", "x1"], "y": "y"}',
            )
        )


def _used(schema: Any, names: Sequence[str], file: Path) -> dict[str, str]:
    """Return the types of the columns that are used."""
    from pyarrow import types

    missing = [name for name in names if name not in schema.names]
    if missing:
        raise DataError(
            sentence(f"{file.name} has no column {missing[0]!r}", found=quoted(schema.names))
            + did_you_mean(missing[0], schema.names)
        )
    kinds = {name: schema.field(name).type for name in names}
    # Floats of any precision are computed with in that of the fit.
    return {n: "floating" if types.is_floating(kind) else str(kind) for n, kind in kinds.items()}


def _check_types(
    found: Mapping[str, str], expected: Mapping[str, str], file: Path, first: Path
) -> None:
    for name, kind in found.items():
        if kind != expected[name]:
            raise DataError(
                sentence(
                    f"Column {name!r} of {file.name} has another type than in {first.name}",
                    found=kind,
                    expected=expected[name],
                )
            )


def _checked_columns(
    columns: Mapping[str, str | Sequence[str]] | None,
) -> dict[str, str | Sequence[str]]:
    """Return which columns make up each array, or say how that is written."""
    if columns is None:
        return {}
    as_written = isinstance(columns, Mapping) and all(
        isinstance(each, str)
        or (isinstance(each, Sequence) and each and all(isinstance(n, str) for n in each))
        for each in columns.values()
    )
    if not as_written or not columns:
        raise TypeError(
            sentence(
                "from_parquet: columns says which columns make up each array",
                found=repr(columns),
                fix='Write columns={"X": ["x0", "x1"], "y": "y"}, or leave it out: then each column is an array',
            )
        )
    return dict(columns)
