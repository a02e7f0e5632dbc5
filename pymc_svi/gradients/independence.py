"""Which elements of an expression depend on which elements of a draw.

The elements of a vector of draws often go separate ways: each observation has its own latent
class, say. An expression ``log_prob[i]`` then depends on ``z[i]`` and on no other element of
``z``. Estimators use it: what an element cannot change is not part of its cost, and a sum over
all values of ``z`` is one sum for each element. :func:`follow_axes` reads it off the graph,
operation by operation; what it does not know it counts as dependent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import numpy as np
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.ops import ViewOp
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.traversal import ancestors, toposort
from pytensor.raise_op import CheckAndRaise
from pytensor.tensor.basic import Alloc, ARange, Join
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.shape import Reshape, Shape, Shape_i, SpecifyShape
from pytensor.tensor.special import LogSoftmax, Softmax
from pytensor.tensor.subtensor import (
    AdvancedSubtensor,
    Subtensor,
    indices_from_subtensor,
)

__all__ = ["Axes", "depends_on", "follow_axes", "reduced_along"]

# For each axis of a source the axis that runs along with it; None where elements are mixed.
Axes = tuple[int | None, ...]


def depends_on(target: Variable, source: Variable) -> bool:
    """Return whether an expression is computed from a variable."""
    return source in set(ancestors([target], blockers=[source]))


def follow_axes(source: Variable, target: Variable) -> Axes | None:
    """Return which axes of an expression run along with the axes of a variable.

    Parameters
    ----------
    source : TensorVariable
        A variable that the expression is computed from.
    target : TensorVariable
        The expression.

    Returns
    -------
    tuple of (int or None), or None
        For each axis of ``source`` the axis of ``target`` whose element ``i`` depends on no
        element of ``source`` other than those at ``i``; None for an axis whose elements meet.
        None alone if ``target`` does not depend on ``source``.

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.gradients.independence import follow_axes
    >>> z = pt.vector("z", shape=(3,))
    >>> follow_axes(z, pt.exp(z)[:, None] * pt.ones((3, 2)))
    (0,)
    >>> follow_axes(z, z - z.sum()), follow_axes(z, pt.ones(3))
    ((None,), None)
    """
    # An axis of length one is broadcast against others, and follows none of them.
    start = tuple(None if n == 1 else axis for axis, n in enumerate(source.type.shape))
    known: dict[Variable, Axes] = {source: start}
    _follow(known, [target], source.ndim)
    return known.get(target)


def _follow(known: dict[Variable, Axes], targets: Sequence[Variable], ndim: int) -> None:
    """Add the axes of what is computed from variables whose axes are known."""
    for node in toposort(targets, blockers=list(known)):
        inputs = [known.get(inp) for inp in node.inputs]
        if all(axes is None for axes in inputs):
            continue
        axes = _through(node.op, node, inputs, ndim)
        if axes is None:
            continue
        for out in node.outputs:
            if not isinstance(out.type, RandomType):
                known[out] = axes


def reduced_along(term: Variable, axes: Axes, ndim: int) -> Variable:
    """Return a term summed over everything but the elements of a source.

    Parameters
    ----------
    term : TensorVariable
        An expression that depends on the source.
    axes : tuple of (int or None)
        What :func:`follow_axes` returned for it.
    ndim : int
        How many leading axes of the source to keep.

    Returns
    -------
    TensorVariable
        With ``ndim`` axes; of length one where elements of the source share the term.
    """
    kept = axes[:ndim]
    others = [axis for axis in range(term.ndim) if axis not in kept]
    if others:
        term = term.sum(axis=others)
    left = sorted(axis for axis in kept if axis is not None)
    return term.dimshuffle(*("x" if axis is None else left.index(axis) for axis in kept))


def _agree(candidates: list[Axes], ndim: int) -> Axes:
    """Merge the axes of several inputs: where they disagree, elements meet."""
    merged: list[int | None] = []
    for axis in range(ndim):
        places = {axes[axis] for axes in candidates}
        merged.append(places.pop() if len(places) == 1 else None)
    # One axis of the output cannot run along with two axes of the source.
    return tuple(
        place if place is not None and merged.count(place) == 1 else None for place in merged
    )


def _moved(axes: Axes, move) -> Axes:
    return tuple(None if axis is None else move(axis) for axis in axes)


@singledispatch
def _through(op, node: Apply, inputs: list[Axes | None], ndim: int) -> Axes | None:
    """Return the axes of the outputs, given those of the inputs; by default elements meet."""
    return (None,) * ndim


@_through.register(Shape)
@_through.register(Shape_i)
def _(op, node, inputs, ndim):
    return None  # a shape does not depend on values


@_through.register(Elemwise)
def _(op, node, inputs, ndim):
    return _agree([axes for axes in inputs if axes is not None], ndim)


@_through.register(DimShuffle)
def _(op, node, inputs, ndim):
    order = list(op.new_order)
    return _moved(inputs[0], lambda axis: order.index(axis) if axis in order else None)


@_through.register(CAReduce)
def _(op, node, inputs, ndim):
    gone = range(node.inputs[0].ndim) if op.axis is None else op.axis
    return _moved(
        inputs[0],
        lambda axis: None if axis in gone else axis - sum(other < axis for other in gone),
    )


@_through.register(OpFromGraph)
def _(op, node, inputs, ndim):
    pairs = zip(op.inner_inputs, inputs, strict=True)
    known = {inner: axes for inner, axes in pairs if axes is not None}
    _follow(known, op.inner_outputs, ndim)
    found = [known[out] for out in op.inner_outputs if out in known]
    return _agree(found, ndim) if found else None


@_through.register(CheckAndRaise)
@_through.register(SpecifyShape)
@_through.register(ViewOp)
def _(op, node, inputs, ndim):
    # Conditions and lengths do not change the value.
    return inputs[0]


@_through.register(Alloc)
def _(op, node, inputs, ndim):
    if inputs[0] is None:
        return (None,) * ndim
    shift = node.outputs[0].ndim - node.inputs[0].ndim
    return _moved(inputs[0], lambda axis: axis + shift)


@_through.register(Join)
def _(op, node, inputs, ndim):
    along = op.axis % node.outputs[0].ndim
    merged = _agree([axes for axes in inputs if axes is not None], ndim)
    return _moved(merged, lambda axis: None if axis == along else axis)


@_through.register(Dot)
def _through_products(op, node, inputs, ndim):
    left, right = (inp.ndim for inp in node.inputs)
    out = node.outputs[0].ndim
    found = []
    if inputs[0] is not None:  # its last axis is summed over
        shift = out - left + (right == 1)
        found.append(_moved(inputs[0], lambda a: None if a == left - 1 else a + shift))
    if inputs[1] is not None:  # its last but one, or its only one
        gone = max(right - 2, 0)
        found.append(_moved(inputs[1], lambda a: None if a == gone else a + out - right))
    return _agree(found, ndim)


@_through.register(Softmax)
@_through.register(LogSoftmax)
def _(op, node, inputs, ndim):
    if op.axis is None:
        return (None,) * ndim
    along = {axis % node.inputs[0].ndim for axis in np.atleast_1d(op.axis)}
    return _moved(inputs[0], lambda axis: None if axis in along else axis)


@_through.register(Blockwise)
def _(op, node, inputs, ndim):
    batch = op.batch_ndim(node)
    if isinstance(op.core_op, Dot):
        return _through_products(op.core_op, node, inputs, ndim)
    merged = _agree([axes for axes in inputs if axes is not None], ndim)
    return _moved(merged, lambda axis: axis if axis < batch else None)


@_through.register(RandomVariable)
def _(op, node, inputs, ndim):
    # Given its parameters, the elements of a draw are independent.
    batch = node.outputs[1].ndim - op.ndim_supp
    found = []
    for param, core in zip(op.dist_params(node), op.ndims_params, strict=True):
        axes = inputs[node.inputs.index(param)]
        if axes is not None:
            own = param.ndim - core
            found.append(_moved(axes, lambda a, own=own: a + batch - own if a < own else None))
    return _agree(found, ndim) if found else None


@_through.register(Subtensor)
def _(op, node, inputs, ndim):
    if any(axes is not None for axes in inputs[1:]):
        return (None,) * ndim
    place, moved = 0, {}
    indices = indices_from_subtensor(node.inputs[1:], op.idx_list)
    for axis in range(node.inputs[0].ndim):
        index = indices[axis] if axis < len(indices) else slice(None)
        if isinstance(index, slice):
            if _is_full(index):
                moved[axis] = place
            place += 1
    return _moved(inputs[0], moved.get)


@_through.register(AdvancedSubtensor)
def _(op, node, inputs, ndim):
    table, *_ = inputs
    indices = list(indices_from_subtensor(node.inputs[1:], op.idx_list))
    arrays = [i for i, index in enumerate(indices) if not isinstance(index, slice)]
    if any(not _is_full(i) for i in indices if isinstance(i, slice)):
        return (None,) * ndim
    if any(indices[i].type.dtype == "bool" for i in arrays):
        return (None,) * ndim
    if arrays != list(range(arrays[0], arrays[-1] + 1)):
        return (None,) * ndim
    width = max(indices[i].ndim for i in arrays)
    found = [] if table is None else [_moved(table, _moves_of_table(indices, arrays, width).get)]
    for variable, axes in zip(node.inputs[1:], inputs[1:], strict=True):
        if axes is not None:
            shift = arrays[0] + width - variable.ndim
            found.append(_moved(axes, lambda axis, shift=shift: axis + shift))
    return _agree(found, ndim)


def _moves_of_table(indices: list, arrays: list[int], width: int) -> dict[int, int]:
    """Return where the axes of a table go that are taken along, element by element."""
    moves = {i: arrays[0] + width + i - arrays[-1] - 1 for i in range(arrays[-1] + 1, len(indices))}
    moves |= {i: i for i in range(arrays[0])}
    for i in arrays:
        place = _counts_along(indices[i])
        if place is not None:
            moves[i] = arrays[0] + width - indices[i].ndim + place
    return moves


def _counts_along(index: Variable) -> int | None:
    """Return the axis along which an index is 0, 1, 2...; None for any other index."""
    node = index.owner
    if node is None:
        return None
    if isinstance(node.op, ARange):
        start, _, step = node.inputs
        from_zero = isinstance(start, Constant) and int(start.data) == 0
        return 0 if from_zero and isinstance(step, Constant) and int(step.data) == 1 else None
    if isinstance(node.op, DimShuffle):
        axis = _counts_along(node.inputs[0])
        return None if axis is None else list(node.op.new_order).index(axis)
    if isinstance(node.op, Reshape):
        axis, lengths = _counts_along(node.inputs[0]), node.inputs[1]
        if axis == 0 and node.inputs[0].ndim == 1 and isinstance(lengths, Constant):
            others = [i for i, n in enumerate(lengths.data) if n != 1]
            return int(others[0]) if len(others) == 1 else None
    return None


def _is_full(index: slice) -> bool:
    return all(
        part is None or (isinstance(part, Constant) and part.data is None)
        for part in (index.start, index.stop, index.step)
    )
