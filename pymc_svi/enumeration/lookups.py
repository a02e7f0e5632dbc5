"""Reading tables at all states of a variable.

A factor that indexes an array by a discrete variable, ``means[z]``, becomes ``means[[0, 1, 2]]`` when
it is evaluated for all values of the variable: that is ``means``, and needs neither a gather now nor
a scatter in the gradient. Such reads are replaced by the array itself, its axes in another order.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.scalar import Switch
from pytensor.tensor.basic import Alloc, Join
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.math import All
from pytensor.tensor.subtensor import AdvancedSubtensor, Subtensor

from pymc_svi.gradients.known_values import KnownValues
from pymc_svi.gradients.rebuilding import known_number, rebuilt

__all__ = ["without_lookups"]


def without_lookups(outputs: Sequence[Variable], inputs: Collection[Variable]) -> list[Variable]:
    """Return equal outputs in which reads at known indices are replaced by what is read.

    Parameters
    ----------
    outputs : sequence of Variable
        Expressions.
    inputs : collection of Variable
        What they are computed from, which is left alone.
    """
    known = KnownValues()
    rules = (known_number, _whole, _chosen, _read, _read_at_once, _all_of_each)

    def simpler(node: Apply) -> list[Variable] | None:
        found = (rule(node, known) for rule in rules)
        return next(([new] for new in found if new is not None), None)

    return rebuilt(outputs, simpler, inputs)


def _read(node: Apply, known: KnownValues) -> Variable | None:
    """Return what is read, if each index is known and goes along an axis of its own."""
    blockwise = isinstance(node.op, Blockwise)
    core = node.op.core_op if blockwise else node.op
    if not isinstance(core, AdvancedSubtensor) and not (blockwise and isinstance(core, Subtensor)):
        return None
    source, *variables = node.inputs
    n_batch = node.op.batch_ndim(node) if blockwise else 0
    places = [place for place, entry in enumerate(core.idx_list) if isinstance(entry, int)]
    others = [entry for entry in core.idx_list if not isinstance(entry, int)]
    if any(entry != slice(None) for entry in others) or np.any(np.diff(places) != 1):
        return None
    indices = [known.of(variable) for variable in variables]
    if any(index is None or index.data.dtype == bool for index in indices):
        return None
    n_index = max(index.ndim for index in indices) - n_batch  # type: ignore[union-attr]
    if n_index and isinstance(core, Subtensor):
        return None
    # Which axis of the array each axis of the result is, before an index moves one there.
    group = n_batch + places[0]
    order: list[Any] = [*range(group), *["x"] * n_index]
    order += range(group + len(places), source.type.ndim)
    taken: set[int] = set()
    value = source
    for place, index in zip(places, indices, strict=True):
        axis, data = n_batch + place, index.data  # type: ignore[union-attr]
        length = source.type.shape[axis]
        along = [i for i, n in enumerate(data.shape) if n != 1]
        if length is None or len(along) > 1 or data.size == 0:
            return None
        if data.min() < -length or data.max() >= length:
            return None  # it raises when it is computed
        wanted = data.ravel() % length
        if not np.array_equal(wanted, np.arange(length)):
            value = pt.take(value, wanted, axis=axis)
        for to in along:
            if to >= n_batch:  # the axes of several indices are aligned at their ends
                to = group + n_index + to - data.ndim
            elif source.type.shape[to] != 1:
                return None
            if to in taken:
                return None
            taken.add(to)
            order[to] = axis
    return _as_large_as(node.outputs[0], value.dimshuffle(*order))


def _read_at_once(node: Apply, known: KnownValues) -> Variable | None:
    """Return a repeated read of one and the same array as a single read.

    PyTensor mistakes the shape of the repeated one where its indices differ in their dimensions, and
    is slow with its gradient.
    """
    core = node.op.core_op if isinstance(node.op, Blockwise) else None
    if not isinstance(core, AdvancedSubtensor | Subtensor):
        return None
    source, *indices = node.inputs
    n_batch = node.op.batch_ndim(node)
    places = [place for place, entry in enumerate(core.idx_list) if isinstance(entry, int)]
    if any(not isinstance(entry, int) and entry != slice(None) for entry in core.idx_list):
        return None
    if not places or not all(source.type.broadcastable[:n_batch]):
        return None
    if any(index.type.dtype == "bool" for index in indices):
        return None
    n_index = max(index.type.ndim for index in indices) - n_batch
    entries: list[Any] = list(core.idx_list)
    for place, index in zip(places, indices, strict=True):
        data = known.of(index)  # without the axes along which it is repeated
        value = index if data is None else data
        n_missing = n_index - (index.type.ndim - n_batch)
        entries[place] = value.dimshuffle(
            *range(n_batch), *["x"] * n_missing, *range(n_batch, index.type.ndim)
        )
    value = source.squeeze(tuple(range(n_batch)))[tuple(entries)]
    first = places[0] if np.all(np.diff(places) == 1) else 0  # where NumPy puts indexed axes
    value = pt.moveaxis(value, range(first, first + n_batch), range(n_batch))
    return _as_large_as(node.outputs[0], value)


def _whole(node: Apply, known: KnownValues) -> Variable | None:
    """Return what is repeated to the shape it has."""
    value = node.inputs[0]
    same = isinstance(node.op, Alloc) and value.type.shape == node.outputs[0].type.shape
    return value if same and None not in value.type.shape else None


def _chosen(node: Apply, known: KnownValues) -> Variable | None:
    """Return one of two, if it is known which."""
    if not isinstance(node.op, Elemwise) or not isinstance(node.op.scalar_op, Switch):
        return None
    condition = known.of(node.inputs[0])
    if condition is None or condition.data.all() != condition.data.any():
        return None
    chosen = node.inputs[1 if condition.data.all() else 2]
    return _as_large_as(node.outputs[0], chosen.astype(node.outputs[0].type.dtype))


def _all_of_each(node: Apply, known: KnownValues) -> Variable | None:
    """Return whether all of some things hold without joining them first."""
    joined = node.inputs[0].owner if isinstance(node.op, All) else None
    if joined is None or not isinstance(joined.op, Join):
        return None
    axis, parts = joined.op.axis, joined.inputs
    if node.op.axis != (axis,) or any(part.type.shape[axis] != 1 for part in parts):
        return None
    return functools.reduce(pt.and_, [part.squeeze(axis) for part in parts])


def _as_large_as(old: Variable, new: Variable) -> Variable | None:
    """Return a new variable repeated to the shape of an old one, where that is known."""
    shape: list[Any] = [new.shape[axis] for axis in range(new.type.ndim)]
    repeated = False
    for axis, (before, now) in enumerate(zip(old.type.shape, new.type.shape, strict=True)):
        if now == 1 and before != 1:
            if before is None:
                return None
            shape[axis], repeated = before, True
    return pt.broadcast_to(new, shape) if repeated else new
