"""``DataLoader``: data of any size in batches."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pymc_svi.data.cache import TableCache
from pymc_svi.data.checks import (
    Batch,
    DataError,
    check_batch,
    checked_arrays,
    checked_flag,
    checked_names,
    checked_seed,
    length_of,
    positive_whole,
)
from pymc_svi.data.frames import frame_columns, kinds_of, refuse_lazy
from pymc_svi.data.parquet import ParquetSource
from pymc_svi.data.shuffling import rows_in_blocks, rows_in_order
from pymc_svi.data.sources import BatchSource, Restarted, Stream
from pymc_svi.data.tables import RowSource, TableSource
from pymc_svi.errors import did_you_mean, quoted, sentence

__all__ = ["DataLoader"]

# Arrays on disk are shuffled within this many batches, but fewer if these have many rows.
_BATCHES_IN_BUFFER = 100
_ROWS_IN_BUFFER = 250_000
_FEWEST_IN_BUFFER = 20
# How many rows tell data from others.
_ROWS_OF_SAMPLE = 1_000


class DataLoader:
    """Data in batches.

    Parameters
    ----------
    data : dict, array_like, DataFrame, Dataset, zarr group or iterable
        Arrays by name, with equally many rows; a pandas or polars frame or a pyarrow table, each
        column of which is an array; an ``xarray.Dataset``, each variable of which is one, with rows along ``dim``
        or its first dim; a zarr group or a dict of zarr arrays, read in blocks; a single array,
        which has no name. Anything else is a stream: an iterable of batches (dicts of arrays, or frames), such
        as a PyTorch ``DataLoader`` or a generator, or a function without arguments that returns
        one and is called for each epoch.
    batch_size : int, optional
        Number of rows in a batch; all rows if not given. The batches of a stream have their own.
    shuffle : bool or "once", default True
        Shuffle the rows anew in every epoch, in which each row comes once. Streams keep their order.
        ``"once"`` shuffles a copy of arrays in memory [1]_ and reads it in that order, each epoch
        from another row on: rows that lie side by side take no longer to arrive from memory for
        ten million rows than for ten thousand. A row then has the same neighbours in each epoch.
    seed : int, optional
        Seed of the order; the seed of the fit if not given.
    drop_last : bool, default False
        Leave out the last batch of an epoch if it has fewer rows. If it is kept, its rows are
        weighted by its own size, and its gradient counts as much as it has rows, so that nothing
        is biased.
    total_size : int, optional
        Number of rows of all data; needed for streams that do not know it.
    names : sequence of str, optional
        Names of the arrays of a stream whose batches are tuples, or of a tuple of arrays.
    prefetch : bool, default True
        Load the next batches of a stream, or of data on disk, in a background thread.
    dim : str, optional
        The dim of an ``xarray.Dataset`` along which the rows lie; it need not be the first.
    buffer_size : int, optional
        Shuffle rows within blocks of this many. By default any row of arrays in memory may come at
        any place, and blocks of arrays on disk, which come in random order, have about a hundred
        batches. A block of arrays in memory is made of runs of 16 neighbouring rows from all over
        the data. Blocks of some ten thousand rows are read faster than rows from all over
        millions. Where neighbours are alike, as rows that are sorted by group, so are the
        batches of a block, a little, and the gradients are somewhat noisier than if shuffled as a
        whole.

    Raises
    ------
    DataError
        If the arrays differ in their number of rows, a batch is larger than the data, or
        ``total_size`` contradicts them.
    ValueError
        If ``shuffle`` is none of ``True``, ``False`` and ``"once"``.

    References
    ----------
    .. [1] Mishchenko, Khaled and Richtarik (2020), Random Reshuffling: Simple Analysis with Vast
       Improvements, which has the same rates of convergence for both.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi import DataLoader
    >>> loader = DataLoader({"x": np.arange(5), "y": np.arange(5.0)}, batch_size=2, shuffle=False)
    >>> for batch in loader:
    ...     print(batch["x"], batch["y"])
    [0 1] [0. 1.]
    [2 3] [2. 3.]
    [4] [4.]
    >>> len(loader), loader.total_size
    (3, 5)
    """

    def __init__(
        self,
        data: Any,
        batch_size: int | None = None,
        shuffle: bool | Literal["once"] = True,
        seed: int | None = None,
        drop_last: bool = False,
        total_size: int | None = None,
        *,
        names: Sequence[str] | None = None,
        prefetch: bool = True,
        dim: str | None = None,
        buffer_size: int | None = None,
    ):
        self.batch_size = None if batch_size is None else positive_whole(batch_size, "batch_size")
        self.shuffle: bool | str = _checked_shuffle(shuffle)
        self.drop_last = checked_flag(drop_last, "drop_last")
        self.seed = checked_seed(seed)
        self.prefetch = checked_flag(prefetch, "prefetch")
        self.arrays: Batch | None = None
        self.buffer_size: int | None = None
        self.source: BatchSource | None = None
        if total_size is not None:
            total_size = positive_whole(total_size, "total_size")
        if buffer_size is not None:
            buffer_size = positive_whole(buffer_size, "buffer_size")
        self._open(data, names, dim, buffer_size)
        known = self._known_size()
        if total_size is not None and known is not None and known != total_size:
            raise DataError(
                sentence(
                    "total_size contradicts the data",
                    found=f"total_size={total_size}",
                    expected=f"{known}, the rows there are",
                    fix="Leave total_size out",
                )
            )
        self._total_size = known if total_size is None else total_size
        if known is not None and self.batch_size is not None and self.batch_size > known:
            raise DataError(
                sentence(
                    "A batch is larger than the data",
                    found=f"batch_size={self.batch_size} of {known} rows",
                    fix="Use a smaller batch_size, or none for all rows",
                )
            )
        self._epoch = 0

    def _open(
        self, data: Any, names: Sequence[str] | None, dim: str | None, buffer_size: int | None
    ) -> None:
        tables = _as_tables(data, dim)
        if names is not None:
            names = checked_names(names)
            tables = _with_names(data, tables, names)
        on_disk = bool(tables) and all(map(_is_on_disk, (tables or {}).values()))
        if self.shuffle == "once" and (tables is None or on_disk):
            raise DataError(
                sentence(
                    'shuffle="once" is for arrays in memory, of which it makes a copy',
                    found=f"an object of type {type(data).__name__}",
                    fix="Load it into memory, or write it in another order",
                )
            )
        if tables is None:
            if buffer_size is not None:
                raise DataError(
                    sentence(
                        "buffer_size does not apply to a stream, which keeps its order",
                        found=f"buffer_size={buffer_size}",
                        fix="Leave it out, and shuffle where the batches are made",
                    )
                )
            if self.batch_size is not None:
                raise DataError(
                    sentence(
                        "batch_size does not apply to a stream, which has batches of its own",
                        found=f"batch_size={self.batch_size} and an object of type "
                        f"{type(data).__name__}, which is iterated over",
                        fix="Leave batch_size out; arrays of all rows need names: "
                        'DataLoader({"X": X, "y": y}, batch_size=128)',
                    )
                )
            batches = data if hasattr(data, "__iter__") else Restarted(data)
            self.source = Stream(batches, names)
        elif on_disk:
            for name, array in tables.items():
                if not array.shape or not array.shape[0]:
                    raise DataError(sentence(f"{name!r} has no rows", found=f"shape {array.shape}"))
            size = self.batch_size or int(next(iter(tables.values())).shape[0])
            self.batch_size = size
            block = buffer_size or _rows_in_buffer(size)
            self.source = RowSource(tables, size, bool(self.shuffle), self.drop_last, block)
            self.buffer_size = self.source.buffer_size
        else:
            self.arrays = checked_arrays(tables)
            if self.shuffle == "once" and buffer_size is not None:
                raise DataError(
                    sentence(
                        'shuffle="once" has no blocks: rows are shuffled as a whole',
                        found=f"buffer_size={buffer_size}",
                        fix="Leave one of the two out",
                    )
                )
            if buffer_size is not None and buffer_size < length_of(self.arrays):
                self.buffer_size = max(buffer_size, self.batch_size or 1)

    @classmethod
    def from_parquet(
        cls,
        folder: str | Path,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        batch_size: int = 1_024,
        shuffle: bool = True,
        seed: int | None = None,
        drop_last: bool = False,
        *,
        buffer_size: int | None = None,
        prefetch: bool = True,
        cache: str | Path | None = None,
    ) -> DataLoader:
        """Read a folder of Parquet files in batches, with a few row groups in memory at a time.

        Parameters
        ----------
        folder : path
            A folder with ``*.parquet`` files, or one file.
        columns : dict of str to str or list of str, optional
            Which columns make up each array: ``{"X": ["x0", "x1"], "y": "y"}``. If not given, each
            column is an array.
        batch_size : int, default 1_024
            Number of rows in a batch.
        shuffle : bool, default True
            Take row groups in random order, and shuffle the rows within a buffer.
        seed : int, optional
            Seed of the order; the seed of the fit if not given.
        drop_last : bool, default False
            Leave out the last batch of an epoch if it has fewer rows.
        buffer_size : int, optional
            Number of rows that are shuffled together. If not given, those of 100 batches; of fewer,
            but at least 20, if 100 have more than 250,000 rows.
        prefetch : bool, default True
            Read ahead in a background thread, where there are more than two cores in two: one
            reads, one puts rows together.
        cache : path, optional
            A folder in which row groups are kept once they are decoded, as plain numbers: as large
            as the arrays would be in memory. From the second epoch on, and in later fits, they are
            read from there, about as fast as arrays in memory. A file that has changed is decoded
            again.

        Returns
        -------
        DataLoader
            The data.

        Raises
        ------
        DataError
            If there are no files, a column is missing, or a batch is larger than the data.

        Notes
        -----
        Row groups of 64 MB or more are read in parts. Small row groups of continuous columns are
        read faster if they are written without dictionaries, ``pyarrow.parquet.write_table(table,
        file, use_dictionary=False)``, and all are if their schema says ``nullable=False``.
        """
        loader = cls.__new__(cls)
        loader.batch_size = positive_whole(batch_size, "batch_size")
        loader.shuffle = checked_flag(shuffle, "shuffle")
        loader.drop_last = checked_flag(drop_last, "drop_last")
        loader.prefetch = checked_flag(prefetch, "prefetch")
        loader.seed, loader.arrays = checked_seed(seed), None
        if buffer_size is None:
            rows = _rows_in_buffer(loader.batch_size)
        else:
            rows = positive_whole(buffer_size, "buffer_size")
        source = ParquetSource(
            folder,
            columns,
            loader.batch_size,
            loader.shuffle,
            loader.drop_last,
            rows,
            None if cache is None else TableCache(cache),
        )
        if loader.batch_size > source.total_size:
            raise DataError(
                sentence(
                    "A batch is larger than the data",
                    found=f"batch_size={batch_size} of {source.total_size} rows",
                )
            )
        loader.source, loader.buffer_size = source, source.buffer_size
        loader._total_size = source.total_size
        loader._epoch = 0
        return loader

    # --- sizes ---------------------------------------------------------------------------------

    def _known_size(self) -> int | None:
        if self.arrays is not None:
            return length_of(self.arrays)
        assert self.source is not None
        return self.source.total_size

    @property
    def total_size(self) -> int:
        """The number of rows of all data."""
        if self._total_size is None:
            raise DataError(
                sentence(
                    "The number of rows of the stream is not known",
                    fix="Give it: DataLoader(stream, total_size=1_000_000). The terms of a batch "
                    "are weighted by total_size / batch size",
                )
            )
        return self._total_size

    @property
    def in_memory(self) -> bool:
        """Whether the data are arrays in memory, of which any row may come at any place."""
        return self.arrays is not None and self.source is None

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        if self.arrays is not None:
            size = self.batch_size or self.total_size
            whole, rest = divmod(self.total_size, size)
            return whole + (rest > 0 and not self.drop_last)
        assert self.source is not None
        if self.source.n_batches is None:
            raise TypeError(
                sentence(
                    "The number of batches of the stream is not known",
                    fix="Ask for a number of steps, fit(n=10_000)",
                )
            )
        return self.source.n_batches

    def __bool__(self) -> bool:
        """Return True, also for streams of which the length is not known."""
        return True

    def sample(self) -> int | None:
        """Return a checksum of some of the rows, which tells whether data are the same.

        Returns
        -------
        int or None
            None for data that are not in memory.
        """
        if self.arrays is None:
            return None
        number = 0
        for array in self.arrays.values():
            some = array[:: max(1, len(array) // _ROWS_OF_SAMPLE)]
            number = zlib.crc32(np.ascontiguousarray(some).tobytes(), number)
        return number

    # --- batches -------------------------------------------------------------------------------

    def order(
        self, epoch: int, seed: int = 0, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Return the order of the rows in an epoch, or a part of it.

        The order depends on seed and epoch alone.

        Parameters
        ----------
        epoch : int
            The epoch, counted from 0.
        seed : int, default 0
            The seed, if the loader has none of its own.
        start, stop : int, optional
            Which positions of the order; all of them if not given.

        Returns
        -------
        numpy.ndarray
            The numbers of the rows.

        Raises
        ------
        DataError
            If the rows are not in memory.
        """
        if not self.in_memory:
            raise DataError(
                sentence(
                    "The order is known of rows in memory",
                    found=repr(self),
                )
            )
        stop = self.total_size if stop is None else stop
        if not self.shuffle:
            return np.arange(start, stop)
        if self.shuffle == "once":
            positions = (np.arange(start, stop) + self.first_position(epoch)) % self.total_size
            return self.order_of_copy(seed)[positions]
        words = [self.seed if self.seed is not None else seed, epoch]
        if self.buffer_size is not None:
            return rows_in_blocks(self.total_size, self.buffer_size, words, start, stop)
        return rows_in_order(self.total_size, np.random.SeedSequence(words), start, stop)

    def order_of_copy(self, seed: int = 0) -> np.ndarray:
        """Return the order of all rows that are shuffled once.

        Parameters
        ----------
        seed : int, default 0
            The seed, if the loader has none of its own.

        Returns
        -------
        numpy.ndarray
            The numbers of the rows.
        """
        words = [self.seed if self.seed is not None else seed]
        return rows_in_order(self.total_size, np.random.SeedSequence(words), 0, self.total_size)

    def first_position(self, epoch: Any) -> Any:
        """Return where an epoch begins in rows that are shuffled once.

        Parameters
        ----------
        epoch : int or TensorVariable
            The epoch, counted from 0.

        Returns
        -------
        int or TensorVariable
            The position. Two epochs have hardly ever the same batches.
        """
        # The golden section comes least close to where it has been before. Steps of it go through all
        # rows, and not in whole batches.
        n, size = self.total_size, self.batch_size or 1
        stride = round(n * 0.6180339887498949)
        while math.gcd(stride, n) > 1 or (size > 1 and stride % size == 0):
            stride += 1
        return epoch * stride % self.total_size

    def batches(self, epoch: int = 0, seed: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, checked.

        Parameters
        ----------
        epoch : int, default 0
            The epoch, counted from 0.
        seed : int, default 0
            The seed, if the loader has none of its own.

        Yields
        ------
        dict of str to numpy.ndarray
            A batch.
        """
        if not self.in_memory:
            yield from self._streamed(epoch, seed)
            return
        assert self.arrays is not None
        size = self.batch_size or self.total_size
        order = self.order(epoch, seed)
        for start in range(0, len(self) * size, size):
            rows = order[start : start + size]
            yield {name: array[rows] for name, array in self.arrays.items()}

    def _streamed(self, epoch: int, seed: int) -> Iterator[Batch]:
        assert self.source is not None
        seed = self.seed if self.seed is not None else seed
        if isinstance(self.source, TableSource):  # which checks whole tables
            yield from self.source.batches(epoch, seed)
            return
        first: Batch | None = None
        for number, batch in enumerate(self.source.batches(epoch, seed)):
            where = f"Batch {number} of epoch {epoch}"
            if first is None:
                first = checked_arrays(batch, where)
                yield first
            else:
                yield check_batch(batch, first, where)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over an epoch; each time over the next one."""
        epoch, self._epoch = self._epoch, self._epoch + 1
        return self.batches(epoch)

    def __repr__(self) -> str:
        kind = "in memory" if self.in_memory else type(self.source).__name__
        return (
            f"DataLoader({kind}, total_size={self._total_size}, batch_size={self.batch_size}, "
            f"shuffle={self.shuffle})"
        )


def _checked_shuffle(shuffle: Any) -> bool | str:
    if isinstance(shuffle, str):
        if shuffle != "once":
            raise ValueError(
                sentence(
                    "DataLoader: shuffle is one of three values",
                    found=repr(shuffle),
                    expected='True, False or "once"',
                )
            )
        return shuffle
    return checked_flag(shuffle, "shuffle")


def _rows_in_buffer(batch_size: int) -> int:
    """Return how many rows are shuffled together."""
    n_batches = min(_BATCHES_IN_BUFFER, _ROWS_IN_BUFFER // batch_size)
    return batch_size * max(_FEWEST_IN_BUFFER, n_batches)


def _as_tables(data: Any, dim: str | None) -> dict[str, Any] | None:
    """Return data as arrays by name; None for a stream of batches."""
    kinds = kinds_of(data)
    if "xarray.Dataset" in kinds:
        return _xarray_tables(data, dim)
    if dim is not None:
        raise TypeError(
            sentence(
                "DataLoader: dim is for an xarray.Dataset",
                found=f"dim={dim!r} and an object of type {type(data).__name__}",
                fix="Leave dim out",
            )
        )
    columns = frame_columns(data)
    if columns is not None:
        return columns
    refuse_lazy(data)
    if isinstance(data, DataLoader):
        raise TypeError(
            sentence(
                "DataLoader: data are a DataLoader already",
                found=repr(data),
                fix="Use it as it is, or make another one of its data",
            )
        )
    if "zarr.Group" in kinds:
        return {name: array for name, array in data.arrays()}
    if isinstance(data, Mapping):
        _check_indexes(data)
        return dict(data)
    if hasattr(data, "shape") and hasattr(data, "dtype"):  # an array of any kind
        return {"": data}
    if isinstance(data, str | bytes | Path):
        raise TypeError(
            sentence(
                "DataLoader: data are arrays by name, not the path to a file",
                found=repr(data),
                fix="For Parquet files write DataLoader.from_parquet(folder)",
            )
        )
    if not hasattr(data, "__iter__") and (not callable(data) or isinstance(data, type)):
        raise TypeError(
            sentence(
                "DataLoader: data are arrays by name, or an iterable of batches",
                found=f"an object of type {type(data).__name__}",
                fix='Write DataLoader({"X": X, "y": y}, batch_size=128)',
            )
        )
    return None


def _with_names(
    data: Any, tables: dict[str, Any] | None, names: Sequence[str]
) -> dict[str, Any] | None:
    """Return arrays with the names that are given apart from them; None for a stream of batches."""
    if tables is None:
        parts = data if isinstance(data, tuple | list) else ()
        if len(parts) == len(names) and all(len(getattr(part, "shape", ())) > 0 for part in parts):
            return dict(zip(names, parts, strict=True))
        return None
    if list(tables) == [""] and len(names) == 1:
        return {names[0]: tables[""]}
    raise DataError(
        sentence(
            "DataLoader: names are for arrays that have none",
            found=f"names {quoted(names)}, and data with the names {quoted(tables)}",
            fix="Leave names out, or rename the data",
        )
    )


def _check_indexes(data: Mapping[Any, Any]) -> None:
    """Check that pandas objects of the same rows have them in the same order."""
    first_name = first = None
    for name, value in data.items():
        index: Any = getattr(value, "index", None)
        if not hasattr(value, "to_numpy") or not hasattr(index, "equals"):
            continue
        if first is None:
            first_name, first = name, index
            continue
        same = len(index) == len(first) and index.is_unique and first.is_unique
        if same and not index.equals(first) and not len(index.symmetric_difference(first)):
            raise DataError(
                sentence(
                    f"{first_name!r} and {name!r} have the same rows in another order",
                    found=f"the indexes {list(first[:3])}... and {list(index[:3])}...",
                    fix="Align them, y.loc[X.index], or pass arrays: y.to_numpy()",
                )
            )


def _xarray_tables(data: Any, dim: str | None) -> dict[str, Any]:
    """Return the variables of a dataset with rows along a dim."""
    dims = {str(name): variable.dims for name, variable in data.data_vars.items()}
    listed = ", ".join(f"{name!r}: {each}" for name, each in dims.items())
    if dim is None:
        firsts = {each[:1] for each in dims.values()}
        if len(firsts) > 1:
            raise DataError(
                sentence(
                    "The variables of the Dataset have different first dims",
                    found=listed,
                    fix='Say which dim has the rows: DataLoader(dataset, ..., dim="row")',
                )
            )
        return {name: data[name].to_numpy() for name in dims}
    if without := [name for name, each in dims.items() if dim not in each]:
        raise DataError(
            sentence(
                f"{quoted(without)} of the Dataset have no dim {dim!r}, along which the rows lie",
                found=listed,
                fix="Leave them out: dataset[[...]] has the variables that are named",
            )
            + ("" if dim in data.dims else did_you_mean(dim, map(str, data.dims)))
        )
    return {name: data[name].transpose(dim, ...).to_numpy() for name in dims}


def _is_on_disk(array: Any) -> bool:
    return type(array).__module__.split(".")[0] in ("zarr", "h5py")
