"""The plates around a statement: which there are, their part of data, and leaving one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from pytensor.graph.basic import Variable
from pytensor.xtensor.type import XTensorType

from pymc_svi.errors import quoted, sentence
from pymc_svi.handlers.distributions import batch_shape, with_batch_shape, with_dim_length
from pymc_svi.handlers.frame import Frame
from pymc_svi.handlers.in_plate import taken
from pymc_svi.handlers.plate import plate
from pymc_svi.handlers.stack import STACK, active_handlers

__all__ = ["block_plate", "get_plates", "sized_like_data", "subsample"]


def get_plates() -> tuple[Frame, ...]:
    """Return the plates around, outermost first.

    Returns
    -------
    tuple of Frame
        The plates.

    Examples
    --------
    >>> from pymc_svi import plate
    >>> from pymc_svi.handlers import get_plates
    >>> with plate("rows", 3), plate("columns", 2):
    ...     print([(frame.name, frame.dim) for frame in get_plates()])
    [('rows', -1), ('columns', -2)]
    """
    entered = (handler.frame for handler in active_handlers() if isinstance(handler, plate))
    return tuple(frame for frame in entered if frame is not None)


@contextmanager
def block_plate(
    name: str | None = None, dim: int | None = None, *, strict: bool = True
) -> Iterator[None]:
    """Leave one of the plates around for a while, for a statement that is not repeated in it.

    Parameters
    ----------
    name : str, optional
        Name of the plate.
    dim : int, optional
        Instead of the name, its batch dimension, counted from the right: -1, -2...
    strict : bool, default True
        Raise if there is no such plate.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    ValueError
        If both or none of ``name`` and ``dim`` are given, or there is no such plate.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers, plate
    >>> def program():
    ...     with plate("rows", 3):
    ...         with handlers.block_plate("rows"):
    ...             mu = pm.Normal("mu")
    ...         pm.Normal("x", mu)
    >>> tr = handlers.trace(program).get_trace()
    >>> tr["mu"].shape, tr["x"].shape
    ((), (3,))
    """
    if (name is None) == (dim is None):
        raise ValueError(sentence("block_plate takes exactly one of name and dim"))
    stack = active_handlers()
    rest = tuple(h for h in stack if not (isinstance(h, plate) and h.is_called(name, dim)))
    if strict and len(rest) == len(stack):
        raise ValueError(
            sentence(
                f"block_plate: there is no plate {name!r} around"
                if dim is None
                else f"block_plate: there is no plate with dim={dim} around",
                found=f"the plates {quoted(frame.name for frame in get_plates())}",
                fix="Remove the block_plate, or allow it with strict=False",
            )
        )
    token = STACK.set(rest)
    try:
        yield
    finally:
        STACK.reset(token)


def subsample(data: Any, event_dim: int = 0) -> Any:
    """Return the part of data that belongs to the present repetitions of the plates around.

    Parameters
    ----------
    data : array_like or TensorVariable
        Data of full size.
    event_dim : int, default 0
        How many dimensions on the right are not indexed by plates.

    Returns
    -------
    array_like or TensorVariable
        The data as they are outside of subsampled plates.

    Raises
    ------
    SiteError
        If the data do not have the size of a plate.
    ValueError
        If ``event_dim`` is not a whole number from 0 on.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi import plate, subsample
    >>> with plate("N", 100, subsample_size=5):
    ...     print(subsample(np.ones((100, 3)), event_dim=1).type.shape)
    (5, 3)
    """
    if not isinstance(event_dim, int) or event_dim < 0:
        raise ValueError(sentence("subsample: event_dim counts dimensions", found=f"{event_dim!r}"))
    for handler in reversed(active_handlers()):
        if not isinstance(handler, plate) or handler.frame is None:
            continue
        frame = handler.frame
        axis = frame.dim - event_dim
        if frame.is_subsampled and np.ndim(data) >= -axis:
            data = taken(data, frame, axis, "the data")
    return data


def sized_like_data(rv: Variable, data: Any, dims: Sequence[str | None] | None) -> Variable:
    """Return a distribution with dims, in the minibatch's size where its data are so.

    PyMC takes the lengths of dims from the model, where a minibatch has fewer.
    """
    found = getattr(data, "type", data).shape
    is_named = isinstance(rv.type, XTensorType)
    dims = rv.type.dims if is_named else (dims or ())[: len(batch_shape(rv))]
    for frame in get_plates():
        name, length = frame.dim_name or frame.name, frame.subsample_size
        if not frame.is_subsampled or name not in dims:
            continue
        axis = dims.index(name)
        if len(found) != rv.type.ndim or found[axis] != length:
            continue
        if is_named:
            rv = with_dim_length(rv, name, length)
        elif rv.type.shape[axis] in (None, frame.size):
            lengths = [rv.shape[i] if n is None else n for i, n in enumerate(batch_shape(rv))]
            rv = with_batch_shape(rv, (*lengths[:axis], length, *lengths[axis + 1 :]))
    return rv
