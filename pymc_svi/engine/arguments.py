"""Arguments of a program: arrays become data that a compiled step reads anew, the rest is fixed."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from typing import Any

import numpy as np
import pytensor
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.type import TensorType

from pymc_svi.errors import sentence

__all__ = ["Arguments", "DataVariable", "computed_dtype"]


class DataVariable(TensorSharedVariable):
    """An array argument inside a program: symbolic values, but a shape of plain numbers.

    A step is compiled for one shape, so that ``X.shape[1]`` and ``len(y)`` can be used wherever
    Python wants a number: ``np.zeros(X.shape[1])``, ``range(len(y))``.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as numbers."""
        return self.type.shape

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.type.shape))

    def __len__(self) -> int:
        if not self.type.shape:
            raise TypeError("a scalar has no length")
        return self.type.shape[0]


class Arguments:
    """The arguments of one call of a program, split into data and fixed values.

    Arrays of numbers are data: their values can change without compiling again. Everything
    else is fixed: numbers, strings, None, data frames, arrays with missing values (which PyMC
    imputes and must therefore see) and symbolic variables.

    Parameters
    ----------
    args, kwargs
        The arguments.

    Attributes
    ----------
    key : tuple
        Equal for calls that can use the same compiled step.

    Raises
    ------
    TypeError
        If one of them gives batches, which a program does not know about.
    """

    def __init__(self, args: tuple, kwargs: dict[str, Any]):
        self.n_positional = len(args)
        self.names = tuple(kwargs)
        self.values = [_as_data(value) for value in (*args, *kwargs.values())]
        for value in self.values:
            _refuse_batches(value)
        self.key = (
            self.n_positional,
            self.names,
            *(_signature(value) for value in self.values),
        )

    def variables(self, program: Any = None) -> list[Any]:
        """Return the arguments with a new :class:`DataVariable` for each array.

        Parameters
        ----------
        program : callable or pymc.Model, optional
            Whose arguments they are, for the names of those that are passed by place.
        """
        labels = [*_names_by_place(program, self.n_positional), *self.names]
        return [
            _data_variable(value, label) if is_data(value) else value
            for value, label in zip(self.values, labels, strict=True)
        ]

    def split(self, values: list[Any]) -> tuple[tuple, dict[str, Any]]:
        """Return a list of arguments as positional and keyword arguments."""
        positional, keyword = values[: self.n_positional], values[self.n_positional :]
        return tuple(positional), dict(zip(self.names, keyword, strict=True))

    def load(self, variables: list[Any]) -> None:
        """Put this call's arrays into the variables of a compiled step."""
        for variable, value in zip(variables, self.values, strict=True):
            if isinstance(variable, DataVariable):
                variable.set_value(value, borrow=True)


def is_data(value: Any) -> bool:
    """Whether an argument is an array of numbers none of which is missing."""
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        return False
    return value.dtype.kind in "biu" or (value.dtype.kind == "f" and not np.isnan(value).any())


def _refuse_batches(value: Any) -> None:
    """Refuse a data loader, of this package or another, and what has one."""
    kind = type(value)
    is_loader = hasattr(kind, "__iter__") and _has(value, "batch_size")
    if is_loader or hasattr(kind, "fit") and _has(value, "dataloader"):
        raise TypeError(
            sentence(
                "The arguments of a program are arrays, not what gives them in batches",
                found=f"an object of type {type(value).__name__}",
                fix="To fit to batches, write Trainer(SVI(model, guide), dataloader=loader).fit(n=10_000) or "
                "fit(model, dataloader=loader). Elsewhere pass the arrays themselves: X=X, y=y",
            )
        )


def _names_by_place(program: Any, n: int) -> list[str]:
    """Return what a program calls its first arguments."""
    try:
        known = list(inspect.signature(program).parameters.values())[:n]
    except (TypeError, ValueError):  # not a function, or not one of Python
        known = []
    names = [p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [*names, *(f"arg{i}" for i in range(len(names), n))]


def _has(value: Any, name: str) -> bool:
    """Whether an object has an attribute of its own; a frame has its columns as attributes too."""
    missing = object()
    return inspect.getattr_static(value, name, missing) is not missing


def _as_data(value: Any) -> Any:
    """Return data in the dtype it is computed in; anything else unchanged."""
    if not is_data(value):
        return value
    dtype = pytensor.config.floatX if value.dtype.kind == "f" else computed_dtype(value.dtype)
    return np.ascontiguousarray(value, dtype=dtype).reshape(value.shape)


def computed_dtype(dtype: np.dtype | str) -> np.dtype:
    """Return what whole numbers are computed in: with a sign, and room for more than a byte.

    Columns of a table are stored in as few bytes as they need. In these, ``y - n`` of unsigned
    numbers would be a large number, and the square of a small one another.

    Parameters
    ----------
    dtype : numpy.dtype or str
        What they are stored in. Floats and booleans stay what they are.

    Returns
    -------
    numpy.dtype

    Examples
    --------
    >>> from pymc_svi.engine.arguments import computed_dtype
    >>> [str(computed_dtype(dtype)) for dtype in ("uint8", "int16", "uint32", "int64", "bool")]
    ['int32', 'int32', 'int64', 'int64', 'bool']
    """
    dtype = np.dtype(dtype).newbyteorder("=")
    if dtype.kind not in "iu" or dtype == np.dtype("int64"):
        return dtype
    return np.dtype("int32" if np.can_cast(dtype, "int32") else "int64")


def _signature(value: Any) -> Any:
    if not is_data(value):
        try:
            hash(value)
        except TypeError:
            return _ByContent(value)
        return (type(value), value)
    return (value.dtype.str, value.shape)


class _ByContent:
    """Compare an unhashable argument by its content when it was passed.

    Lists and data frames can change between two fits, which must then not share a step.
    """

    def __init__(self, value: Any):
        self.value = value  # kept alive, so that no other object gets its id
        try:
            self.content: Any = hashlib.sha256(pickle.dumps(value)).digest()
        except Exception:  # pickling can fail in any way; then by identity
            self.content = id(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByContent) and other.content == self.content

    def __hash__(self) -> int:
        return hash(self.content)


def _data_variable(value: np.ndarray, name: str) -> DataVariable:
    return DataVariable(
        type=TensorType(value.dtype, shape=value.shape), value=value, strict=False, name=name
    )
