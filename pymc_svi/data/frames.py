"""Frames: tables in memory whose columns have names, of pandas, polars and pyarrow."""

from __future__ import annotations

from typing import Any

import numpy as np

from pymc_svi.data.checks import FIX_MISSING, DataError
from pymc_svi.errors import quoted, sentence

__all__ = ["arrow_column", "frame_columns", "kinds_of", "refuse_lazy"]


def kinds_of(value: Any) -> set[str]:
    """Return the classes of an object with their packages, such as ``"pandas.DataFrame"``.

    So that none of the packages has to be imported.
    """
    return {f"{c.__module__.split('.')[0]}.{c.__name__}" for c in type(value).__mro__}


def frame_columns(data: Any, where: str = "The data") -> dict[str, np.ndarray] | None:
    """Return the columns of a frame by name; None for what is not one.

    A series is called ``""`` if it has no name.

    Raises
    ------
    DataError
        If two columns have one name, or a column of pyarrow has missing values.
    """
    kinds = kinds_of(data)
    if kinds & {"pandas.Series", "polars.Series"}:
        return {"" if data.name is None else str(data.name): data.to_numpy()}
    of_arrow = bool(kinds & {"pyarrow.Table", "pyarrow.RecordBatch"})
    if not of_arrow and not kinds & {"pandas.DataFrame", "polars.DataFrame"}:
        return None
    labels = list(data.column_names if of_arrow else data.columns)
    names = [str(label) for label in labels]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise DataError(
            sentence(
                "The frame has columns of the same name",
                found=quoted(sorted(repeated)),
                fix="Rename them",
            )
        )
    if of_arrow:
        columns = zip(names, data.columns, strict=True)
        return {name: arrow_column(column, name, where) for name, column in columns}
    return {str(label): data[label].to_numpy() for label in labels}


def arrow_column(column: Any, name: str, where: str) -> np.ndarray:
    """Return a column of pyarrow as an array.

    Raises
    ------
    DataError
        If it has missing values.
    """
    if column.null_count:
        raise DataError(
            sentence(
                f"{where}: column {name!r} has missing values",
                found=f"{column.null_count} of {len(column)}",
                fix=FIX_MISSING,
            )
        )
    return column.to_numpy(zero_copy_only=False)


def refuse_lazy(data: Any) -> None:
    """Refuse tables that are not in memory, and say how to read them.

    Raises
    ------
    TypeError
        If they are a lazy frame of polars or a dataset of pyarrow.
    """
    kinds = kinds_of(data)
    if "polars.LazyFrame" in kinds:
        fix = (
            "Write DataLoader(frame.collect(), batch_size=128). What does not fit into memory goes to disk "
            "first: frame.sink_parquet(file), and DataLoader.from_parquet(file, batch_size=128)"
        )
    elif "pyarrow.Dataset" in kinds:
        fix = (
            "Write DataLoader.from_parquet(folder, batch_size=128) if it is of Parquet files, or else "
            "DataLoader(lambda: dataset.to_batches(), total_size=dataset.count_rows())"
        )
    else:
        return
    raise TypeError(
        sentence(
            "DataLoader: the rows have not been read yet",
            found=f"an object of type {type(data).__name__}",
            fix=fix,
        )
    )
