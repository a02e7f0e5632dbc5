"""Folders of Parquet files, read a row group at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytensor

from pymc_svi.data.cache import TableCache
from pymc_svi.data.checks import Batch, DataError, columns_of
from pymc_svi.data.columns import Columns
from pymc_svi.data.tables import TableSource
from pymc_svi.errors import quoted, sentence

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
        path = Path(folder)
        self.files = [path] if path.is_file() else sorted(path.glob("**/*.parquet"))
        if not self.files:
            raise DataError(sentence("There are no Parquet files", found=str(path)))
        self.cache = cache
        self.groups: list[tuple[Path, int]] = []
        self._metadata: dict[Path, Any] = {}  # takes longer to read than a row group
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
                self._metadata[file] = opened.metadata
                self.groups += [(file, i) for i in range(opened.metadata.num_row_groups)]
                self.total_size += opened.metadata.num_rows
        assert schema is not None
        self._open: dict[Path, Any] = {}
        self._n_mapped = 0
        self.columns = dict(columns) if columns else {name: name for name in schema}
        unknown = [name for name in columns_of(self.columns) if name not in schema]
        if unknown:
            raise DataError(
                sentence(f"The Parquet files have no column {unknown[0]!r}", found=quoted(schema))
            )
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
        import pyarrow

        where = f"{file.name}, row group {number}"
        group = self._metadata[file].row_group(number)
        opened = self._opened(file, group.total_byte_size)
        if group.num_rows * self._row_bytes <= _BYTES_AT_ONCE:
            yield where, self._arrays(self._read(opened.read_row_group, number))
            return
        start = 0
        size = self._rows_of_a_part
        for part in self._read(opened.iter_batches, size, row_groups=[number]):
            rows = f"rows {start} to {start + len(part)}"
            start += len(part)
            yield f"{where}, {rows}", self._arrays(pyarrow.Table.from_batches([part]))

    def _read(self, read: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        import pyarrow

        threads = self.pace.is_late or pyarrow.cpu_count() > _BUSY_THREADS
        return read(*args, columns=columns_of(self.columns), use_threads=threads, **kwargs)

    def _arrays(self, table: Any) -> Batch:
        arrays: dict[str, Any] = {}
        for name, source in self.columns.items():
            if isinstance(source, str):
                arrays[name] = _column(table, source)
            else:
                arrays[name] = Columns([_column(table, column) for column in source])
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


def _column(table: Any, name: str) -> np.ndarray:
    column = table.column(name)
    if column.null_count:
        raise DataError(
            sentence(
                f"Column {name!r} has missing values", found=f"{column.null_count} of {len(column)}"
            )
        )
    return column.to_numpy()
