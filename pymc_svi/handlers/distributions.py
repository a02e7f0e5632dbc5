"""Unnamed distributions: copies with a generator of their own, and with another batch shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions import transforms
from pymc.distributions.custom import CustomSymbolicDistRV
from pymc.distributions.shape_utils import change_dist_size

# PyMC's table of default transforms has no public name.
from pymc.distributions.transforms import _default_transform
from pymc.distributions.truncated import TruncatedRV
from pymc.logprob.transforms import Transform
from pytensor.graph.basic import Variable
from pytensor.scalar.basic import Exp
from pytensor.scalar.math import Sigmoid
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.random.type import RandomType
from pytensor.xtensor.shape import Transpose
from pytensor.xtensor.type import XTensorType
from pytensor.xtensor.vectorization import XRV

__all__ = [
    "batch_shape",
    "default_transform_of",
    "fitting_transform",
    "fresh",
    "is_distribution",
    "pymc_transform_of",
    "resized",
    "support_ndim",
    "with_batch_shape",
    "with_dim_length",
]


def is_distribution(value: Any) -> bool:
    """Whether a value is a random variable, as ``pm.Normal.dist(0, 1)`` makes one."""
    owner = getattr(value, "owner", None)
    return owner is not None and hasattr(owner.op, "ndim_supp")


def default_transform_of(rv: Variable) -> Transform | None:
    """Return the transform that fits the support of a distribution, PyMC's where that does."""
    return fitting_transform(rv, pymc_transform_of(rv))


def pymc_transform_of(rv: Variable) -> Transform | None:
    """Return the transform that PyMC gives a random variable of a distribution."""
    return None if rv.owner is None else _default_transform(rv.owner.op, rv)


def fitting_transform(rv: Variable, transform: Transform | None) -> Transform | None:
    """Return the transform of a site, or what fits the support of its distribution better.

    PyMC gives none to what is written as steps, such as ``pm.LogitNormal`` and
    ``CustomDist(dist=...)``, though steps that end in ``exp`` or ``sigmoid`` say where the values are;
    and of a truncated distribution it knows the bounds of the truncation alone.
    """
    op = None if rv.owner is None else rv.owner.op
    if transform is None and isinstance(op, CustomSymbolicDistRV):
        return _implied_by_the_last_step(rv)
    if isinstance(transform, transforms.Interval) and isinstance(op, TruncatedRV):
        return _within(transform, _default_transform(op.base_rv_op, rv))
    return transform


def _implied_by_the_last_step(rv: Variable) -> Transform | None:
    last = rv.owner.op.fgraph.outputs[rv.owner.outputs.index(rv)].owner
    if last is None or not isinstance(last.op, Elemwise):
        return None
    return {Exp: transforms.log, Sigmoid: transforms.logodds}.get(type(last.op.scalar_op))


def _within(interval: transforms.Interval, untruncated: Transform | None) -> Transform:
    """Return an interval with the bounds of the distribution before it was truncated, too."""
    if not isinstance(untruncated, transforms.LogTransform | transforms.LogOddsTransform):
        return interval
    most = 1.0 if isinstance(untruncated, transforms.LogOddsTransform) else None

    def bounds(*args):
        lower, upper = interval.args_fn(*args)
        return 0.0 if lower is None else lower, most if upper is None else upper

    return transforms.Interval(bounds_fn=bounds)


def support_ndim(rv: Variable) -> int:
    """Return how many dimensions on the right make one value of a distribution."""
    return int(getattr(rv.owner.op, "ndim_supp", 0))


def batch_shape(rv: Variable) -> tuple[int | None, ...]:
    """Return the static shape of a distribution without its support dimensions."""
    return tuple(rv.type.shape[: rv.type.ndim - support_ndim(rv)])


def fresh(rv: Variable) -> Variable:
    """Return a copy of a random variable that draws independently of it."""
    node = rv.owner
    inputs = [
        pytensor.shared(np.random.default_rng()) if isinstance(inp.type, RandomType) else inp
        for inp in node.inputs
    ]
    return node.clone_with_new_inputs(inputs).outputs[node.outputs.index(rv)]


def resized(rv: Variable, shape: tuple[Any, ...], *, expand: bool = False) -> Variable:
    """Return a distribution like ``rv`` with another batch shape, drawing independently of it.

    Parameters
    ----------
    rv : Variable
        The distribution.
    shape : tuple
        The batch shape.
    expand : bool, default False
        Whether the shape comes before that of ``rv``, instead of taking its place.
    """
    new = change_dist_size(rv, shape, expand=expand)
    if not isinstance(rv.owner.op, CustomSymbolicDistRV):
        return new
    # PyMC resizes pm.CustomDist(dist=...) with the parameters that it was made with, not with those
    # that have taken their place since.
    node = new.owner
    inputs = [
        made if i == 0 or isinstance(made.type, RandomType) else own
        for i, (made, own) in enumerate(zip(node.inputs, rv.owner.inputs, strict=True))
    ]
    with_own = node.clone_with_new_inputs(inputs).outputs[node.outputs.index(new)]
    with_own.name = new.name
    return with_own


def with_batch_shape(rv: Variable, shape: tuple[Any, ...]) -> Variable:
    """Return a distribution like ``rv`` with another batch shape, drawing independently of it."""
    if isinstance(rv.type, XTensorType):
        return fresh(rv)
    if batch_shape(rv) == tuple(shape):
        return fresh(rv)
    return resized(rv, tuple(shape))


def with_dim_length(rv: Variable, dim: str, length: int) -> Variable:
    """Return a distribution with named dims and another length of one of them.

    Where the dim is that of a parameter its length is the parameter's, and ``rv`` is returned.
    """
    node = rv.owner
    if isinstance(node.op, Transpose):
        return node.op(with_dim_length(node.inputs[0], dim, length))
    if not isinstance(node.op, XRV) or dim not in node.op.extra_dims:
        return rv
    inputs = list(fresh(rv).owner.inputs)
    inputs[1 + node.op.extra_dims.index(dim)] = pt.constant(length, dtype="int64")
    return node.op.make_node(*inputs).outputs[node.outputs.index(rv)]
