"""What a plate does to the sites inside it: their shapes, their dims, their part of a param."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.xtensor.type import XTensorType

from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.handlers.distributions import (
    batch_shape,
    with_batch_shape,
    with_dim_length,
)
from pymc_svi.handlers.frame import Frame
from pymc_svi.handlers.imputation import is_partly_observed
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.values import describe_shape

__all__ = ["broadcast", "broadcast_factor", "param_axis", "taken"]


def broadcast(site: Site, frame: Frame) -> None:
    """Give a site the batch dimension of a plate."""
    rv = site.dist
    assert rv is not None
    if is_partly_observed(rv):
        return
    if isinstance(rv.type, XTensorType):
        _fit_named_dim(site, frame)
        return
    n = frame.extent if isinstance(frame.extent, int) else None
    whole = batch_shape(rv)
    left = len(whole) - site.event_dim  # what plates are for; the rest makes one element
    old, lengths = (
        whole[:left],
        [rv.shape[i] if length is None else length for i, length in enumerate(whole)],
    )
    shape: list[Any] = [1] * (-frame.dim - len(old)) + lengths[:left]
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
                found=f"{_described(whole, site.event_dim)}, {found} along dim={frame.dim}",
                expected="the rows of a batch, of which there are not as many in each"
                if n is None
                else f"{n}, or 1 to be broadcast",
                fix=_along_its_length(site, frame, old)
                or "Index its parameters with the plate's indices (or subsample), or give the plate "
                "another dim",
            )
        )
    if found is not None and found != n:
        shape[frame.dim] = frame.extent
    if added or (found is not None and found != n):
        site.dist = with_batch_shape(rv, (*shape, *lengths[left:]))
        if site.value is not None:
            site.value = pt.broadcast_to(site.value, site.dist.shape)
    if dims is not None or frame.dim_name is not None:
        _name_dims(site, frame, added)


def _described(shape: Sequence[int | None], event_dim: int) -> str:
    """Describe a batch shape, and what of it makes one element."""
    if not event_dim:
        return f"batch shape {describe_shape(shape)}"
    left = len(shape) - event_dim
    return (
        f"batch shape {describe_shape(shape[:left])} of elements of shape "
        f"{describe_shape(shape[left:])}"
    )


def _along_its_length(site: Site, frame: Frame, shape: Sequence[int | None]) -> str:
    """Say what to do about a plate that stands at another axis than that of its length."""
    dims = [axis - len(shape) for axis, n in enumerate(shape) if n == frame.subsample_size]
    if len(dims) != 1 or dims[0] >= frame.dim:
        return ""
    n = frame.dim - dims[0]
    return (
        f"Its length is that of dim={dims[0]}: give the plate this dim, plate({frame.name!r}, "
        f"{frame.size}, dim={dims[0]}), or say that what is right of it makes one element, with "
        f"handlers.to_event({n}): around the statement or sample({site.name!r}, ..., event_dim="
        f"{site.event_dim + n}), which is .to_event({n}) in Pyro"
    )


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


def _name_dims(site: Site, frame: Frame, added: int) -> None:
    """Set the name of a plate's dimension, unless a minibatch leaves out some of its coords."""
    assert site.dist is not None
    ndim = site.dist.type.ndim
    dims = list((None,) * added + tuple(site.dims or (None,) * (ndim - added)))
    axis = ndim - site.event_ndim + frame.dim
    if frame.is_subsampled:
        if dims[axis] == frame.dim_name:
            dims[axis] = None
    elif frame.dim_name is not None:
        dims[axis] = dims[axis] or frame.dim_name
    site.dims = tuple(dims) if any(dims) else None


def broadcast_factor(site: Site, frame: Frame) -> Variable:
    """A factor inside a plate counts once for each repetition."""
    value = as_plain_tensor(site.value if site.log_density is None else site.log_density)
    value = pt.as_tensor(value)
    shape: list[Any] = [1] * (-frame.dim - value.ndim) + [
        value.shape[i] if n is None else n for i, n in enumerate(value.type.shape)
    ]
    if isinstance(shape[frame.dim], int) and shape[frame.dim] == 1:
        shape[frame.dim] = frame.extent
    elif isinstance(shape[frame.dim], int) and shape[frame.dim] != frame.subsample_size:
        raise SiteError(
            sentence(
                f"Site {site.name!r} does not fit plate {frame.name!r}",
                found=describe_shape(value.type.shape),
                expected=f"{frame.subsample_size} along dim={frame.dim}, or 1 to be broadcast",
            )
        )
    return pt.broadcast_to(value, tuple(shape))


def param_axis(site: Site, frame: Frame) -> int | None:
    """Return the axis of a param that a plate indexes, counted from the right."""
    ndim = as_plain_tensor(site.outcome).type.ndim
    if site.dims and frame.dim_name in site.dims:
        return site.dims.index(frame.dim_name) - ndim
    event_dim = site.infer.get("event_dim")
    if event_dim is None or ndim < -(frame.dim - event_dim):
        return None
    return frame.dim - event_dim


def taken(value: Any, frame: Frame, axis: int, what: str) -> Variable:
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
