"""Values that handlers put in the place of a site's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.xtensor import as_xtensor
from pytensor.xtensor.type import XTensorType

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.log_prob import as_plain_tensor

__all__ = ["Drawn", "as_site_value", "as_tensor_variable", "describe_shape"]


class Drawn(np.ndarray):
    """A number or an array that a program drew, where it runs on concrete values.

    It is a numpy array: a program can branch on it, loop over it and index with it. It can do what
    a symbolic variable can as well, ``x.dimshuffle(...)``, ``x.eval()``.

    Examples
    --------
    >>> from pymc_svi.handlers.values import Drawn
    >>> x = Drawn.of([1.0, 2.0])
    >>> float((x + 1).sum()), x.dimshuffle("x", 0).eval().shape
    (5.0, (1, 2))
    """

    @classmethod
    def of(cls, value: Any) -> Drawn:
        """Return a value as a drawn one."""
        return np.array(value).view(cls)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name.startswith("_array"):
            raise AttributeError(name)
        return getattr(pt.as_tensor(np.asarray(self)), name)

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return np.asarray(array).view(type(self))

    def copy(self, name: Any = None) -> Any:
        """Copy as numpy does, or with a name as a variable, as ``pm.Deterministic`` asks for."""
        if isinstance(name, str):
            return pt.as_tensor(np.asarray(self)).copy(name=name)
        return np.array(self).view(type(self))

    def eval(self, *args, **kwargs) -> np.ndarray:
        """Return the values."""
        return np.asarray(self)


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
        value = _as_constant(value, plain_type.dtype, name)
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
        value = value.astype(plain_type.dtype)
    if value.ndim < len(expected):
        value = pt.broadcast_to(value, as_plain_tensor(like).shape)
    if isinstance(like.type, XTensorType):
        value = as_xtensor(value, dims=like.type.dims)
    return value


def _as_constant(value: Any, dtype: str, name: str) -> Variable:
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
        as_ints = array.astype(dtype)
        if not np.array_equal(as_ints, array):
            raise SiteError(
                sentence(
                    f"Site {name!r} is discrete ({dtype}) but was given a continuous value",
                    found=f"{value!r}",
                    fix="Give it integers",
                )
            )
    return pt.constant(array.astype(dtype))


def _shape_message(name, found, expected, dims) -> str:
    return sentence(
        f"Site {name!r} was given a value of the wrong shape",
        found=describe_shape(found),
        expected=describe_shape(expected, dims),
        fix="Give a value of the shape of the site, or one that broadcasts to it",
    )
