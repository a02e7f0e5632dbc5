"""Folders of Parquet files, read a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pymc_svi.data.checks import Batch, DataError, columns_of
from pymc_svi.data.columns import Columns
from pymc_svi.data.tables import TableSource
from pymc_svi.errors import quoted, sentence

__all__ = ["ParquetSource"]

# How many files are held open.
_OPEN_FILES = 16

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
        for file, number in self._in_order(self.groups, epoch, seed):
            yield f"{file.name}, row group {number}", self._read((file, number))

    def _read(self, group: tuple[Path, int]) -> Batch:
        file, number = group
        import pyarrow

        table = self._opened(file).read_row_group(
            number,
            columns=columns_of(self.columns),
            use_threads=self.is_waited_for or pyarrow.cpu_count() > _BUSY_THREADS,
        )
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
