"""Draws inside of the open unit interval whose logarithms know what was rounded.

A sigmoid of 20 is 1 in single precision, and one of 40 in double precision: at a low temperature
most relaxed draws are. The value has to be inside of its support, and its density has to
be that of the draw before it was rounded, or an ELBO is off by as much as rounding took.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Variable
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import log, log1p, mul, neg, sigmoid
from pytensor.tensor.rewriting.basic import register_canonicalize
from pytensor.tensor.special import Softmax, log_softmax
from pytensor.tensor.variable import TensorConstant, TensorVariable

__all__ = ["interior"]


class Interior(ps.Clip):
    """The scalar op ``(x, least, most) -> x`` between bounds that nothing but rounding passes.

    As a kind of ``Clip`` it is known to every backend. It is differentiated as if it were ``x``.
    """

    def connection_pattern(self, node):
        return [[True], [False], [False]]

    def pullback(self, inputs, outputs, gout):
        return [gout[0], disconnected_type(), disconnected_type()]


_interior = Elemwise(Interior(ps.upcast_out_no_complex, name="interior"))


def interior(x: Variable) -> TensorVariable:
    """Return the nearest number between 0 and 1, without the two.

    Where ``x`` is a sigmoid or a softmax, ``log(interior(x))`` and ``log1p(-interior(x))`` are computed
    from its argument, in compiled functions and for gradients.

    Parameters
    ----------
    x : TensorVariable
        Probabilities.

    Returns
    -------
    TensorVariable
        The same, inside of the open interval.

    Examples
    --------
    >>> import pytensor
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.gradients.interior import interior
    >>> u = pt.scalar("u")
    >>> x = interior(pt.sigmoid(u))
    >>> bool(x.eval({u: 50.0}) < 1), pt.log1p(-x).eval({u: 50.0}).item()
    (True, -50.0)
    """
    x = pt.as_tensor(x)
    info = np.finfo(x.type.dtype)
    least, most = (pt.constant(bound, dtype=x.type.dtype) for bound in (info.tiny, 1 - info.epsneg))
    return _interior(x, least, most)


@register_canonicalize("fast_compile")
@node_rewriter([log])
def local_log_of_interior(fgraph, node):
    """Replace the logarithm of a sigmoid or a softmax before it was rounded."""

    def from_argument(x: Variable) -> Variable | None:
        if x.owner.op == sigmoid:
            return -pt.softplus(-x.owner.inputs[0])
        if isinstance(x.owner.op, Softmax):
            return log_softmax(x.owner.inputs[0], axis=x.owner.op.axis)
        return None

    return _in_place_of(node.outputs[0], _below_views(node.inputs[0], from_argument))


@register_canonicalize("fast_compile")
@node_rewriter([log1p])
def local_log1p_of_negative_interior(fgraph, node):
    """Replace the logarithm of one less a sigmoid before it was rounded."""

    def from_argument(x: Variable) -> Variable | None:
        return -pt.softplus(x.owner.inputs[0]) if x.owner.op == sigmoid else None

    negative = _negative_of(node.inputs[0])
    if negative is None:
        return None
    return _in_place_of(node.outputs[0], _below_views(negative, from_argument))


def _below_views(
    y: Variable, from_argument: Callable[[Variable], Variable | None]
) -> Variable | None:
    """Return what is made of the argument of an ``interior``, in the shape and dtype of ``y``."""
    views = []
    while y.owner is not None and _is_view(y.owner.op):
        views.append(y.owner.op)
        [y] = y.owner.inputs
    if y.owner is None or y.owner.op != _interior or y.owner.inputs[0].owner is None:
        return None
    made = from_argument(y.owner.inputs[0])
    return None if made is None else functools.reduce(lambda x, view: view(x), views[::-1], made)


def _is_view(op) -> bool:
    return isinstance(op, DimShuffle) or (
        isinstance(op, Elemwise) and isinstance(op.scalar_op, ps.Cast)
    )


def _negative_of(x: Variable) -> Variable | None:
    """Return ``y`` where x is ``-y``, in the form that it has after simplifications too."""
    if x.owner is None:
        return None
    if x.owner.op == neg:
        return x.owner.inputs[0]
    if x.owner.op == mul and len(x.owner.inputs) == 2:
        factor, y = x.owner.inputs
        if isinstance(y, TensorConstant):
            factor, y = y, factor
        if isinstance(factor, TensorConstant) and np.all(factor.data == -1):
            return y
    return None


def _in_place_of(old: Variable, new: Variable | None) -> list[Variable] | None:
    if new is None or new.type.ndim != old.type.ndim:
        return None
    if new.type.dtype != old.type.dtype:
        new = new.astype(old.type.dtype)
    return [new] if old.type.is_super(new.type) else [old.type.filter_variable(new)]
