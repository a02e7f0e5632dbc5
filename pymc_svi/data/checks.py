"""What data must be like to be trained on, and the errors if they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytensor

from pymc_svi.data.columns import Columns
from pymc_svi.errors import DataError, did_you_mean, quoted, sentence

__all__ = [
    "FIX_MISSING",
    "Batch",
    "as_numbers",
    "check_batch",
    "check_kinds",
    "check_names",
    "checked_arrays",
    "length_of",
]

Batch = dict[str, np.ndarray]

FIX_MISSING = (
    "Remove the rows, impute them before the fit, or put any number there and leave the term out "
    "with handlers.mask, the mask being another column"
)
_FIX_INFINITE = (
    "Remove the rows. Bounds that are not there can be made in the model from another column: "
    "pm.math.switch(is_censored, upper, np.inf)"
)


def as_numbers(
    value: Any, name: str, where: str = "The data", *, finite: bool = True
) -> np.ndarray:
    """Return an array in the dtype it is computed in, without missing values.

    With ``finite=False`` numbers that are not finite are left to be found later.
    """
    if hasattr(value, "detach"):  # a torch tensor
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ma.MaskedArray) and value.mask.any():
        raise DataError(
            sentence(
                f"{where}: {name!r} has missing values",
                found=f"{int(value.mask.sum())} masked entries",
                fix=FIX_MISSING,
            )
        )
    array = np.asarray(value)
    if array.dtype == object:
        array = _without_objects(array, name, where)
    if array.dtype.kind not in "biuf":
        sparse = hasattr(value, "toarray")
        raise DataError(
            sentence(
                f"{where}: {repr(name) if name else 'the array'} is not numeric",
                found="a sparse matrix" if sparse else f"dtype {array.dtype}",
                fix="Pass it as .toarray()" if sparse else _how_to_convert(array.dtype, name),
            )
        )
    if array.ndim == 0:
        raise DataError(
            sentence(f"{where}: {name!r} has no rows", found="a single number", expected="an array")
        )
    if array.dtype.kind == "f":
        if finite and not _surely_finite(array) and not (ok := np.isfinite(array)).all():
            rows = np.flatnonzero(~ok.all(axis=tuple(range(1, array.ndim))))
            raise DataError(
                sentence(
                    f"{where}: {name!r} has values that are NaN or infinite",
                    found=f"{len(rows)} of {len(array)} rows, the first is row {rows[0]}",
                    fix=FIX_MISSING if np.isnan(array).any() else _FIX_INFINITE,
                )
            )
        array = array.astype(pytensor.config.floatX, copy=False)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _how_to_convert(dtype: np.dtype, name: str) -> str:
    name = name if name.isidentifier() else "x"
    if dtype.kind in "Mm":
        since = f"({name} - {name}.min())" if dtype.kind == "M" else name
        return f'Make numbers of it, such as days: {since} / np.timedelta64(1, "D")'
    if dtype.names:
        return (
            "Give its fields one by one, such as "
            + f'{{"{dtype.names[0]}": x["{dtype.names[0]}"]}}'
        )
    if dtype.kind == "O":
        return f"Convert it to numbers first, {name}.astype(float) if it holds some of another kind"
    return (
        "Convert it to numbers first, categories to whole numbers from 0 on: "
        f"np.unique({name}, return_inverse=True)[1]"
    )


def _without_objects(array: np.ndarray, name: str, where: str) -> np.ndarray:
    """Return an array of Python objects that are numbers, or arrays of one shape, as numbers."""
    kinds = {"NoneType", "NAType", "NaTType"}
    if missing := sum(type(item).__name__ in kinds for item in array.flat):
        raise DataError(
            sentence(
                f"{where}: {name!r} has missing values",
                found=f"{missing} of {array.size} entries",
                fix=FIX_MISSING,
            )
        )
    try:
        return np.array(array.tolist())
    except ValueError:  # arrays of several shapes
        return array


def _surely_finite(array: np.ndarray) -> bool:
    """Whether the sum is finite, which takes a third of the time of looking at each number."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(array.sum()))


def length_of(arrays: Mapping[str, np.ndarray], where: str = "The data") -> int:
    """Return the number of rows that all arrays have."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(
            sentence(
                f"{where}: the arrays have different numbers of rows",
                found=", ".join(f"{n} of {name!r}" for name, n in lengths.items()),
                fix="Rows belong together across arrays: give all of them the same number",
            )
        )
    return next(iter(lengths.values()))


def checked_arrays(arrays: Mapping[str, Any], where: str = "The data") -> Batch:
    """Return arrays that are numeric, complete and of one length."""
    checked: dict[str, Any] = {}
    for name, value in arrays.items():
        if isinstance(value, Columns):
            checked[str(name)] = _checked_columns(value, str(name), where)
        else:
            checked[str(name)] = as_numbers(value, str(name), where)
    if not checked or length_of(checked, where) == 0:
        raise DataError(
            sentence(
                f"{where}: there is nothing in it",
                found=f"the columns {quoted(checked)} with no rows" if checked else "no columns",
            )
        )
    return checked


def _checked_columns(value: Columns, name: str, where: str) -> Columns:
    def parts(finite: bool) -> list[np.ndarray]:
        return [as_numbers(column, name, where, finite=finite) for column in value.columns]

    return Columns(parts(finite=False), check=lambda: parts(finite=True))


def check_batch(batch: Mapping[str, Any], like: Mapping[str, np.ndarray], where: str) -> Batch:
    """Return a batch of a stream if it has the columns, dtypes and shapes of the first one."""
    check_names(batch, like, where)
    checked = check_kinds(checked_arrays(batch, where), like, where)
    return {name: checked[name] for name in like}


def check_names(batch: Mapping[str, Any], like: Mapping[str, np.ndarray], where: str) -> None:
    """Check that a batch has the columns of the first one."""
    if set(batch) != set(like):
        missing = [name for name in like if name not in batch]
        extra = [name for name in batch if name not in like]
        hint = did_you_mean(extra[0], missing) if extra else ""
        raise DataError(
            sentence(
                f"{where} has other columns than the first",
                found=quoted(batch),
                expected=quoted(like),
            )
            + hint
        )


def check_kinds(checked: Batch, like: Mapping[str, np.ndarray], where: str) -> Batch:
    """Return arrays if their dtypes, and the shapes of their rows, are those of the first."""
    for name, array in checked.items():
        first = like[name]
        if array.dtype != first.dtype:
            raise DataError(
                sentence(
                    f"{where}: {name!r} has another dtype than in the first",
                    found=str(array.dtype),
                    expected=str(first.dtype),
                )
            )
        if array.shape[1:] != first.shape[1:]:
            raise DataError(
                sentence(
                    f"{where}: the rows of {name!r} have another shape than in the first",
                    found=str(array.shape[1:]),
                    expected=str(first.shape[1:]),
                )
            )
    return checked


def positive_whole(value: Any, what: str) -> int:
    """Return a positive whole number, or say what it should have been."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole:
        raise TypeError(sentence(f"{what} is a whole number", found=repr(value)))
    if value < 1:
        raise ValueError(sentence(f"{what} must be at least 1", found=repr(value)))
    return int(value)


def checked_flag(value: Any, what: str) -> bool:
    """Return True or False, or say that it should have been one."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(sentence(f"DataLoader: {what} is True or False", found=repr(value)))
    return bool(value)


def checked_names(names: Any) -> list[str]:
    """Return a list of names."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(
            sentence(
                "DataLoader: names is a list of words",
                found=repr(names),
                fix='Write names=["X", "y"]',
            )
        )
    return [str(name) for name in names]


def checked_seed(seed: Any) -> int | None:
    """Return the seed of an order: a whole number or None."""
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(sentence("DataLoader: seed is a whole number", found=repr(seed)))
    if seed < 0:
        raise ValueError(sentence("DataLoader: seed must not be negative", found=repr(seed)))
    return int(seed)


def columns_of(columns: Mapping[str, str | Sequence[str]]) -> list[str]:
    """Return all column names of a ``{name: column or columns}`` table."""
    names: list[str] = []
    for value in columns.values():
        names += [value] if isinstance(value, str) else list(value)
    return list(dict.fromkeys(names))
