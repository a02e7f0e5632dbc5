"""``plate``: independent repetitions of the statements inside, in whole or in minibatches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Constant, Variable
from pytensor.xtensor.type import XTensorType

from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.handlers.core import Handler
from pymc_svi.handlers.distributions import (
    batch_shape,
    support_ndim,
    with_batch_shape,
    with_dim_length,
)
from pymc_svi.handlers.frame import Frame, checked_indices
from pymc_svi.handlers.imputation import is_partly_observed
from pymc_svi.handlers.indices import random_subset
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.stack import STACK, active_handlers, apply_stack
from pymc_svi.handlers.values import describe_shape

__all__ = ["block_plate", "get_plates", "plate", "plate_stack", "sized_like_data", "subsample"]


class plate(Handler):
    """Declare that the statements inside are repeated independently.

    The sites inside get a batch dimension of the plate's size, where they do not have one already.
    With ``subsample_size`` only a random part is present, drawn without repetition and anew at each
    evaluation, and log-probabilities inside, of latent sites as well, are multiplied by
    ``size / subsample_size``, so that their sum is an unbiased estimate of the full one.

    ``with plate(...) as indices`` gives the indices of the present repetitions. They are a site:
    a model replayed on its guide takes the guide's, and ``substitute(data={"N": indices})`` fixes
    them. Make a plate inside the program that uses it.

    Parameters
    ----------
    name : str
        Name of the plate. Where it is a dim of the model, its sites get this dim.
    size : int, optional
        Number of repetitions; the length of the dim if not given.
    subsample_size : int, optional
        Number of repetitions in a minibatch.
    dim : int, optional
        The batch dimension, counted from the right: -1, -2... The rightmost that no plate around
        has if not given.

    Raises
    ------
    SiteError
        If the size contradicts the length of the dim of its name.
    TypeError
        If the name is not a string.
    ValueError
        If there is no size, or a size or ``dim`` is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import handlers, plate, subsample
    >>> y = np.arange(6.0)
    >>> def program():
    ...     mu = pm.Normal("mu")
    ...     with plate("N", 6, subsample_size=2):
    ...         pm.Normal("y", mu, 1.0, observed=subsample(y))
    >>> tr = handlers.trace(handlers.substitute(program, data={"N": [0, 5]})).get_trace()
    >>> tr["y"].value.eval(), tr["y"].scale
    (array([0., 5.]), 3.0)
    """

    def __init__(
        self,
        name: str,
        size: int | None = None,
        subsample_size: int | None = None,
        dim: int | None = None,
    ):
        super().__init__(None)
        if not isinstance(name, str) or not name:
            raise TypeError(sentence("plate: the first argument is its name", found=f"{name!r}"))
        if dim is not None and (not isinstance(dim, int) or dim >= 0):
            raise ValueError(
                sentence(
                    f"Plate {name!r}: dim counts from the right",
                    found=f"{dim!r}",
                    expected="-1, -2, ...",
                )
            )
        self.name = name
        self.size, self.dim_name = _size_of(name, size)
        self.subsample_size = self.size if subsample_size is None else int(subsample_size)
        if not 1 <= self.subsample_size <= self.size:
            raise ValueError(
                sentence(
                    f"Plate {name!r}: subsample_size must lie between 1 and the size",
                    found=f"subsample_size={subsample_size} of size {self.size}",
                )
            )
        self.dim = dim
        self.frame: Frame | None = None

    @classmethod
    def inside(cls, frame: Frame) -> plate:
        """Return the plate of a frame, which is all that a built model remembers of it.

        Parameters
        ----------
        frame : Frame
            The frame.

        Returns
        -------
        plate
            The plate, entered already.
        """
        known = cls(frame.name, frame.size, frame.subsample_size, frame.dim)
        known.frame = frame
        return known

    # --- entering ------------------------------------------------------------------------------

    def __enter__(self) -> Any:
        around = [handler.frame for handler in active_handlers() if isinstance(handler, plate)]
        taken = {frame.dim: frame.name for frame in around if frame is not None}
        if self.name in taken.values():
            raise ValueError(
                sentence(f"Plate {self.name!r} is inside itself", fix="Rename one of them")
            )
        dim = self.dim
        if dim is None:
            dim = next(-n for n in range(1, len(taken) + 2) if -n not in taken)
        elif dim in taken:
            raise ValueError(
                sentence(
                    f"Plates {taken[dim]!r} and {self.name!r} collide at dim={dim}",
                    fix="Move one of them to the left with another dim",
                )
            )
        if self.frame is None:
            self.frame = self._emit(dim)
        elif self.frame.dim != dim:
            self.frame = replace(self.frame, dim=dim)
        super().__enter__()
        return self.frame.indices

    def _emit(self, dim: int) -> Frame:
        """Let the handlers see the plate, and get its indices."""

        def default(site: Site) -> None:
            if site.value is None:
                site.value = (
                    random_subset(self.size, self.subsample_size)
                    if self.subsample_size < self.size
                    else np.arange(self.size)
                )

        frame = Frame(self.name, dim, self.size, self.subsample_size, None, self.dim_name)
        site = apply_stack(Site("plate", self.name, plates=(frame,), default=default))
        indices = checked_indices(site.outcome, frame)
        frame = replace(frame, indices=indices)
        site.plates = (frame,)
        if isinstance(indices, Variable) and not isinstance(indices, Constant):
            indices.name = site.name
        return frame

    def is_called(self, name: str | None, dim: int | None) -> bool:
        """Whether this plate is entered and has this name or this dim.

        Parameters
        ----------
        name : str or None
            A name.
        dim : int or None
            A batch dimension, counted from the right.

        Returns
        -------
        bool
            Whether it is.
        """
        return self.frame is not None and (self.name == name or self.frame.dim == dim)

    def __iter__(self) -> Iterator[int]:
        """Repeat one after the other: ``for i in plate("N", 3)``; names inside must differ."""
        if self.subsample_size < self.size:
            raise ValueError(
                sentence(
                    f"Plate {self.name!r}: a plate that is iterated over cannot be subsampled",
                    fix='Use it as a context manager, "with plate(...) as indices"',
                )
            )
        return iter(range(self.size))

    # --- what it does to the sites inside --------------------------------------------------------

    def process_message(self, site: Site) -> None:
        """Broadcast and scale a site."""
        frame = self.frame
        assert frame is not None
        if site.type == "plate":
            return
        if site.emitted_as == "param" and site.type == "sample":
            # Lifted: all of it is sampled, of which a minibatch gets its part.
            if not frame.is_subsampled:
                site.plates = (frame, *site.plates)
            return
        site.plates = (frame, *site.plates)
        if site.type == "sample" and site.part_of is None:
            _broadcast(site, frame)
        elif site.type == "factor":
            site.log_density = _broadcast_factor(site, frame)
        if site.type in ("sample", "factor") and frame.is_subsampled:
            site.scale = site.scale * (frame.size / frame.subsample_size)

    def postprocess_message(self, site: Site) -> None:
        """Hand the present part of a full-size param on to the program."""
        frame = self.frame
        assert frame is not None
        if site.emitted_as != "param" or not frame.is_subsampled:
            return
        axis = _param_axis(site, frame)
        if axis is not None:
            value = as_plain_tensor(site.outcome)
            site.result = _taken(value, frame, axis, f"param {site.name!r}")


def plate_stack(prefix: str, sizes: Sequence[int], rightmost_dim: int = -1):
    """Return a context of nested plates, one for each size, for a whole batch shape.

    Parameters
    ----------
    prefix : str
        The plates are called ``prefix_0``, ``prefix_1``...
    sizes : sequence of int
        Sizes from left to right.
    rightmost_dim : int, default -1
        The batch dimension of the last size.

    Returns
    -------
    context manager
        Enters the plates, and leaves them.

    Raises
    ------
    ValueError
        If ``rightmost_dim`` is not negative.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers, plate_stack
    >>> def program():
    ...     with plate_stack("plates", [2, 3, 4]):
    ...         pm.Normal("x")
    >>> handlers.trace(program).get_trace()["x"].shape
    (2, 3, 4)
    """
    if rightmost_dim >= 0:
        raise ValueError(
            sentence("plate_stack: rightmost_dim counts from the right", found=str(rightmost_dim))
        )
    return _plate_stack(prefix, list(sizes), rightmost_dim)


@contextmanager
def _plate_stack(prefix, sizes, rightmost_dim):
    with ExitStack() as stack:
        for i, size in enumerate(reversed(sizes)):
            stack.enter_context(plate(f"{prefix}_{i}", size, dim=rightmost_dim - i))
        yield


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
            data = _taken(data, frame, axis, "the data")
    return data


def _size_of(name: str, size: Any) -> tuple[int, str | None]:
    """Return the size of a plate, and the PyMC dim that has its name."""
    model = pm.Model.get_context(error_if_none=False)
    lengths = {} if model is None else model.dim_lengths
    length = int(np.asarray(lengths[name].eval())) if name in lengths else None
    if size is None:
        if length is None:
            raise ValueError(
                sentence(
                    f"Plate {name!r} has no size",
                    found=f"the dims {sorted(lengths)}",
                    fix=f"Write plate({name!r}, size), or give it the name of a dim",
                )
            )
        return length, name
    if isinstance(size, Variable):
        size = size.eval(mode="FAST_COMPILE")
    if isinstance(size, bool) or int(size) != size or size < 1:
        raise ValueError(
            sentence(f"Plate {name!r}: the size is a positive whole number", found=f"{size!r}")
        )
    if length is not None and length != size:
        raise SiteError(
            sentence(
                f"Plate {name!r}: dim {name!r} has {length} in the model, {int(size)} in the plate",
                fix="Leave the size out, or rename the plate",
            )
        )
    return int(size), name if length is not None else None


def _taken(value: Any, frame: Frame, axis: int, what: str) -> Variable:
    """Return the part of a full-size value that belongs to a plate's indices."""
    value = pt.as_tensor(value)
    size = value.type.shape[axis]
    if size in (1, frame.subsample_size):
        return value
    if size not in (None, frame.size):
        raise SiteError(
            sentence(
                f"Plate {frame.name!r}: {what} does not have its size",
                found=f"{describe_shape(value.type.shape)}, {size} along axis {axis}",
                expected=f"{frame.size}, or 1",
                fix="Check event_dim, the number of dimensions that plates do not index",
            )
        )
    return pt.take(value, frame.indices, axis=axis + value.ndim)


def _param_axis(site: Site, frame: Frame) -> int | None:
    """Return the axis of a param that a plate indexes, counted from the right."""
    ndim = as_plain_tensor(site.outcome).type.ndim
    if site.dims and frame.dim_name in site.dims:
        return site.dims.index(frame.dim_name) - ndim
    event_dim = site.infer.get("event_dim")
    if event_dim is None or ndim < -(frame.dim - event_dim):
        return None
    return frame.dim - event_dim


def _broadcast(site: Site, frame: Frame) -> None:
    """Give a site the batch dimension of a plate."""
    rv = site.dist
    assert rv is not None
    if is_partly_observed(rv):
        return
    if isinstance(rv.type, XTensorType):
        _fit_named_dim(site, frame)
        return
    n = frame.subsample_size
    old = batch_shape(rv)
    shape: list[Any] = [1] * (-frame.dim - len(old)) + [
        rv.shape[i] if length is None else length for i, length in enumerate(old)
    ]
    added = len(shape) - len(old)
    found = None if added == 0 and old[frame.dim] is None else shape[frame.dim]
    dims = site.dims
    named = dims is not None and frame.dim_name is not None and frame.dim_name in dims
    if named and found is None and frame.is_subsampled:
        found = frame.size  # PyMC took the length of the dim, which is symbolic
    if found not in (None, 1, n) and not (named and found == frame.size):
        raise SiteError(
            sentence(
                f"Site {site.name!r} does not fit plate {frame.name!r}",
                found=f"batch shape {describe_shape(old)}, {found} along dim={frame.dim}",
                expected=f"{n}, or 1 to be broadcast",
                fix="Index its parameters with the plate's indices (or subsample), or give the plate "
                "another dim",
            )
        )
    if found is not None and found != n:
        shape[frame.dim] = n
    if added or (found is not None and found != n):
        site.dist = with_batch_shape(rv, tuple(shape))
        if site.value is not None:
            site.value = pt.broadcast_to(site.value, site.dist.shape)
    if dims is not None or frame.dim_name is not None:
        _name_dims(site, frame, added)


def _fit_named_dim(site: Site, frame: Frame) -> None:
    """Give the dim of a plate its length, at a site of ``pymc.dims``, which has it by name."""
    name, n = frame.dim_name or frame.name, frame.subsample_size
    if name not in site.dist.type.dims:
        raise SiteError(
            sentence(
                f"Site {site.name!r} does not have the dim of plate {name!r}",
                found=f"the dims {quoted(site.dist.type.dims)}",
                fix=f"Give it dims=({name!r}, ...) or a parameter that has the dim; a plate stands for "
                "the dim of pymc.dims that has its name",
            )
        )
    length = site.dist.type.shape[site.dist.type.dims.index(name)]
    if length != n:
        site.dist = with_dim_length(site.dist, name, n)
        length = site.dist.type.shape[site.dist.type.dims.index(name)]
    if length not in (None, n):
        raise SiteError(
            sentence(
                f"Site {site.name!r} does not fit plate {frame.name!r}",
                found=f"{length} along dim {name!r}, of its parameters",
                expected=str(n),
                fix="Index its parameters with the plate's indices: x.isel({dim: indices})",
            )
        )
    if frame.is_subsampled and site.dims:
        site.dims = tuple(None if dim == name else dim for dim in site.dims)


def sized_like_data(rv: Variable, data: Variable) -> Variable:
    """Return a distribution with named dims, in the minibatch's size where its data are so.

    ``pymc.dims`` takes the lengths of dims from the model, where a minibatch has fewer.
    """
    for handler in active_handlers():
        frame = handler.frame if isinstance(handler, plate) else None
        if frame is None or not frame.is_subsampled:
            continue
        name = frame.dim_name or frame.name
        if (
            name in rv.type.dims
            and data.type.shape[rv.type.dims.index(name)] == frame.subsample_size
        ):
            rv = with_dim_length(rv, name, frame.subsample_size)
    return rv


def _name_dims(site: Site, frame: Frame, added: int) -> None:
    """Set the name of a plate's dimension, unless a minibatch leaves out some of its coords."""
    assert site.dist is not None
    ndim = site.dist.type.ndim
    dims = list((None,) * added + tuple(site.dims or (None,) * (ndim - added)))
    axis = ndim - support_ndim(site.dist) + frame.dim
    if frame.is_subsampled:
        if dims[axis] == frame.dim_name:
            dims[axis] = None
    elif frame.dim_name is not None:
        dims[axis] = dims[axis] or frame.dim_name
    site.dims = tuple(dims) if any(dims) else None


def _broadcast_factor(site: Site, frame: Frame) -> Variable:
    """A factor inside a plate counts once for each repetition."""
    value = as_plain_tensor(site.value if site.log_density is None else site.log_density)
    value = pt.as_tensor(value)
    shape: list[Any] = [1] * (-frame.dim - value.ndim) + [
        value.shape[i] if n is None else n for i, n in enumerate(value.type.shape)
    ]
    if shape[frame.dim] == 1:
        shape[frame.dim] = frame.subsample_size
    elif isinstance(shape[frame.dim], int) and shape[frame.dim] != frame.subsample_size:
        raise SiteError(
            sentence(
                f"Site {site.name!r} does not fit plate {frame.name!r}",
                found=describe_shape(value.type.shape),
                expected=f"{frame.subsample_size} along dim={frame.dim}, or 1 to be broadcast",
            )
        )
    return pt.broadcast_to(value, tuple(shape))
