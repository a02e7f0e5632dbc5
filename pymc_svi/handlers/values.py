"""Values that handlers put in the place of a site's own."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.tensor as pt
import xarray as xr
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.tensor.type import TensorType
from pytensor.tensor.variable import TensorConstant
from pytensor.xtensor import as_xtensor
from pytensor.xtensor.type import XTensorType

from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.widening import in_type_of_site

__all__ = [
    "Drawn",
    "as_observed_value",
    "as_site_value",
    "as_tensor_variable",
    "describe_shape",
    "known_shape",
]


class Drawn(TensorConstant):
    """A number or an array that a program drew, where it runs on concrete values.

    It is a symbolic constant that can do what a number can: a program may branch on it, loop
    over it, compare it and compute with it. (As with all symbolic variables ``==`` compares
    identity; write ``float(x) == 1``.)

    Examples
    --------
    >>> from pymc_svi.handlers.values import Drawn
    >>> n = Drawn.of(3)
    >>> [i for i in range(n)], bool(n > 2), float(n + 0.5)
    ([0, 1, 2], True, 3.5)
    """

    @classmethod
    def of(cls, value: Any) -> Drawn:
        """Return a value as a drawn one."""
        array = np.asarray(value)
        return cls(TensorType(str(array.dtype), shape=array.shape), array)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.data, dtype=dtype)

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __index__(self) -> int:
        return operator.index(self.data.item())

    def __iter__(self):
        return map(Drawn.of, self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __format__(self, spec: str) -> str:
        return format(self.data.item() if self.data.ndim == 0 else self.data, spec)

    def __repr__(self) -> str:
        return repr(self.data)

    def item(self, *args) -> Any:
        """Return the number."""
        return self.data.item(*args)

    def eval(self, *args, **kwargs) -> np.ndarray:
        """Return the values."""
        return self.data


def _eager(name: str) -> Callable[..., Any]:
    """Make an operator that computes at once where all it is given are numbers."""
    symbolic = getattr(TensorConstant, name)
    on_arrays = getattr(np.ndarray, name)

    def operate(self, *others):
        if any(isinstance(o, Variable) and not isinstance(o, Constant) for o in others):
            return symbolic(self, *others)
        arrays = [o.data if isinstance(o, Constant) else o for o in others]
        result = on_arrays(self.data, *arrays)
        if result is NotImplemented:
            return symbolic(self, *others)
        return Drawn.of(result)

    return operate


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
for _name in (
    *(f"__{side}{op}__" for op in _BINARY for side in ("", "r")),
    *(f"__{op}__" for op in ("lt", "le", "gt", "ge", "neg", "abs", "getitem")),
    *("sum", "mean", "max", "min", "prod", "any", "all"),
):
    if hasattr(TensorConstant, _name) and hasattr(np.ndarray, _name):
        setattr(Drawn, _name, _eager(_name))


def as_tensor_variable(value: Any) -> Variable:
    """Return a value as a variable; numbers that were drawn as constants."""
    if isinstance(value, Variable):
        return value
    return pt.as_tensor(np.asarray(value))


def describe_shape(shape, dims=None) -> str:
    """Return a shape for a message, with dim names where known: ``(city=12, 3)``."""
    dims = dims or (None,) * len(shape)
    sizes = ["?" if n is None else str(n) for n in shape]
    named = [
        size if dim is None else f"{dim}={size}" for dim, size in zip(dims, sizes, strict=True)
    ]
    return f"({', '.join(named)}{',' if len(named) == 1 else ''})"


def known_shape(variable: Variable) -> tuple[int, ...]:
    """Return a variable's shape, evaluating the sizes that are not known statically."""
    variable = as_plain_tensor(variable)
    static = variable.type.shape
    if None not in static:
        return tuple(static)
    return tuple(int(n) for n in np.atleast_1d(evaluate(variable.shape)))


def as_site_value(value: Any, like: Variable, name: str, dims=None) -> Variable:
    """Return ``value`` as a variable that can stand where ``like`` stood.

    It gets the dtype of ``like`` (Python numbers would otherwise become float32), is broadcast
    to its shape if it has fewer dimensions, and is an xtensor where ``like`` is one.

    Parameters
    ----------
    value : array_like or Variable
        The value a handler gives.
    like : Variable
        The site's random variable or expression.
    name : str
        The name of the site, for messages.
    dims : tuple of str, optional
        The dims of the site, for messages.

    Raises
    ------
    SiteError
        If the shapes do not agree, or the dtypes cannot (a float for a discrete site).
    """
    plain_type = as_plain_tensor(like).type
    expected = plain_type.shape
    if isinstance(value, Variable):
        value = as_plain_tensor(value)
    else:
        value = _as_constant(_in_order(value, name, dims), plain_type.dtype, name)
    if value.ndim > len(expected):
        raise SiteError(_shape_message(name, value.type.shape, expected, dims))
    pairs = zip(value.type.shape[::-1], expected[::-1], strict=False)
    for found_size, size in pairs:
        if None not in (found_size, size) and found_size != size:
            # A size-1 value axis stands for all of a longer one only when it has to be
            # broadcast anyway; with as many dimensions as the site it is a mistake.
            if not (found_size == 1 and value.ndim < len(expected)):
                raise SiteError(_shape_message(name, value.type.shape, expected, dims))
    if value.type.dtype != plain_type.dtype:
        if value.type.dtype.startswith("float") and not plain_type.dtype.startswith("float"):
            raise SiteError(
                sentence(
                    f"Site {name!r} is discrete ({plain_type.dtype}) but was given a continuous value",
                    found=f"a value of dtype {value.type.dtype}",
                    fix="Give it integers",
                )
            )
        value = in_type_of_site(value, plain_type.dtype)
    if value.ndim < len(expected):
        value = pt.broadcast_to(value, as_plain_tensor(like).shape)
    if isinstance(like.type, XTensorType):
        value = as_xtensor(value, dims=like.type.dims)
    return value


def as_observed_value(data: Any, like: Variable, name: str, dims=None) -> Variable:
    """Return data as the value of an observed site, as :func:`as_site_value` does.

    A discrete site takes whole numbers that are stored as floats, as data frames and files often
    have them, in symbolic data too. What such data hold now is checked at once; a fraction that they
    hold later has probability zero, which the fit reports with the name of the site.

    Parameters
    ----------
    data : array_like or Variable
        The data.
    like : Variable
        The site's random variable.
    name : str
        The name of the site, for messages.
    dims : tuple of str, optional
        The dims of the site, for messages.

    Raises
    ------
    SiteError
        If the shapes do not agree, or a discrete site is given fractions.
    """
    dtype = as_plain_tensor(like).type.dtype
    if not isinstance(data, Variable) or dtype.startswith("float"):
        return as_site_value(data, like, name, dims)
    plain = as_plain_tensor(data)
    if not plain.type.dtype.startswith("float"):
        return as_site_value(data, like, name, dims)
    if isinstance(data, SharedVariable):
        _check_whole(np.asarray(data.get_value(borrow=True)), dtype, name)
    # Far outside every support, yet far from overflow.
    whole = pt.where(pt.eq(plain, pt.floor(plain)), plain, np.iinfo("int32").min)
    return as_site_value(whole.astype(dtype), like, name, dims)


def _in_order(value: Any, name: str, dims) -> Any:
    """Return an array with named dims in the order of the site's."""
    if not isinstance(value, xr.DataArray) or not dims or None in dims:
        return value
    order = tuple(dim for dim in dims if dim in value.dims)
    # Fewer dims are repeated over those on the left.
    if set(value.dims) != set(order) or order != tuple(dims[len(dims) - len(order) :]):
        raise SiteError(
            sentence(
                f"Site {name!r} was given a value with other dims",
                found=describe_shape(value.shape, value.dims),
                expected=f"the dims {quoted(dims)}",
                fix="Rename its dims, or give its values: x.to_numpy()",
            )
        )
    return value.transpose(*order)


def _as_constant(value: Any, dtype: str, name: str) -> Variable:
    if np.ma.is_masked(value):
        raise SiteError(
            sentence(
                f"Site {name!r} was given missing values",
                found=f"{int(np.ma.getmaskarray(value).sum())} of {np.size(value)}",
                fix="Say what is known with sample(..., obs=..., obs_mask=...), or give the data to the "
                "statement, observed=..., where PyMC imputes what is missing",
            )
        )
    array = np.asarray(value)
    if array.dtype == object:
        raise SiteError(
            sentence(
                f"Site {name!r} was given a value that is not numeric",
                found=f"{value!r} of type {type(value).__name__}",
                expected=f"an array of dtype {dtype}",
            )
        )
    if np.issubdtype(array.dtype, np.floating) and not dtype.startswith("float"):
        _check_whole(array, dtype, name)
    return pt.constant(array.astype(dtype))


def _check_whole(array: np.ndarray, dtype: str, name: str) -> None:
    fractions = array[array != np.floor(array)]
    if fractions.size:
        raise SiteError(
            sentence(
                f"Site {name!r} is discrete ({dtype}) but was given a continuous value",
                found=f"{fractions[0]}",
                fix="Give it integers",
            )
        )


def _shape_message(name, found, expected, dims) -> str:
    return sentence(
        f"Site {name!r} was given a value of the wrong shape",
        found=describe_shape(found),
        expected=describe_shape(expected, dims),
        fix="Give a value of the shape of the site, or one that broadcasts to it",
    )
