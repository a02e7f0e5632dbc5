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
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.traversal import toposort
from pytensor.scalar import Switch
from pytensor.tensor.basic import Alloc, Join
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import All
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.rewriting.basic import unconditional_constant_folding
from pytensor.tensor.shape import Shape, SpecifyShape
from pytensor.tensor.subtensor import AdvancedSubtensor, Subtensor
from pytensor.tensor.type import discrete_dtypes

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
    known = _Known()
    replaced: dict[Variable, Variable] = {}
    for node in toposort(outputs, blockers=inputs):
        old = node.outputs
        if any(variable in replaced for variable in node.inputs):
            new_inputs = [replaced.get(variable, variable) for variable in node.inputs]
            node = node.clone_with_new_inputs(new_inputs, strict=False)
        new: Sequence[Variable] = node.outputs
        for rule in (_number, _whole, _chosen, _read, _all_of_each):
            found = rule(node, known)
            if found is not None:
                new = [found]
                break
        replaced |= zip(old, new, strict=True) if new is not old else ()
    return [replaced.get(output, output) for output in outputs]


class _Known:
    """The values of expressions of constants, with length 1 along axes they are repeated along."""

    def __init__(self) -> None:
        self._found: dict[Variable, Constant | None] = {}
        self._repeated: set[Variable] = set()

    def of(self, variable: Variable) -> Constant | None:
        """Return the value, or None if the expression isn't one of constants."""
        if isinstance(variable, Constant):
            return variable
        if variable not in self._found:
            self._found[variable] = None if variable.owner is None else self._of(variable.owner)
        return self._found[variable]

    def repeats(self, variable: Variable) -> bool:
        """Whether what is known is repeated to give the value."""
        self.of(variable)
        return variable in self._repeated

    def _of(self, node: Apply) -> Constant | None:
        op, [output, *more] = node.op, node.outputs
        if more or any(isinstance(variable.type, RandomType) for variable in node.inputs):
            return None
        if isinstance(op, Shape):
            shape = node.inputs[0].type.shape
            return None if None in shape else pt.constant(np.array(shape, dtype="int64"))
        if isinstance(op, Alloc | SpecifyShape):
            value = self.of(node.inputs[0])
            if value is None:
                return None
            if isinstance(op, Alloc) or node.inputs[0] in self._repeated:
                self._repeated.add(output)
            return pt.constant(value.data[(None,) * (output.type.ndim - value.data.ndim)])
        values = []
        for variable in node.inputs:
            value = self.of(variable)
            if value is None:
                return None
            values.append(value)
        if any(variable in self._repeated for variable in node.inputs):
            self._repeated.add(output)
            if isinstance(op, Subtensor):
                return _indexed(node, values)
            if not isinstance(op, DimShuffle | Elemwise | Blockwise):
                return None
        if isinstance(op, DimShuffle):
            data = values[0].data.transpose([*op.shuffle, *op.drop])
            data = data.reshape(data.shape[: len(op.shuffle)])
            return pt.constant(
                data[tuple(None if axis == "x" else slice(None) for axis in op.new_order)]
            )
        if isinstance(op, Blockwise):
            return _of_one_block(node, values)
        return _folded(op.make_node(*values))


def _folded(node: Apply) -> Constant | None:
    """Return the value of a function of constants."""
    found = unconditional_constant_folding.transform(None, node)
    return found[0] if found else None


def _of_one_block(node: Apply, values: Sequence[Constant]) -> Constant | None:
    """Return what is computed for each block, if it is the same for all."""
    n_batch = node.op.batch_ndim(node)
    for value, variable in zip(values, node.inputs, strict=True):
        same = value.data.shape[n_batch:] == variable.type.shape[n_batch:]
        if not same or any(n != 1 for n in value.data.shape[:n_batch]):
            return None
    cores = [pt.constant(value.data[(0,) * n_batch]) for value in values]
    core = _folded(node.op.core_op.make_node(*cores))
    return None if core is None else pt.constant(core.data[(None,) * n_batch])


def _indexed(node: Apply, values: Sequence[Constant]) -> Constant | None:
    """Return an element of what is known, or some along whole axes."""
    data, numbers = values[0].data, [value.data for value in values[1:]]
    where: list[Any] = []
    for axis, entry in enumerate(node.op.idx_list):
        if isinstance(entry, int):
            repeated = data.shape[axis] == 1
            where.append(0 if repeated else int(numbers[entry]))
        elif entry == slice(None):
            where.append(entry)
        else:
            return None
    return pt.constant(data[tuple(where)])


def _read(node: Apply, known: _Known) -> Variable | None:
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


def _number(node: Apply, known: _Known) -> Variable | None:
    """Return whole numbers that are known: shapes, places."""
    [output, *_] = node.outputs
    if getattr(output.type, "dtype", None) not in discrete_dtypes or isinstance(output, Constant):
        return None
    return None if known.repeats(output) else known.of(output)


def _whole(node: Apply, known: _Known) -> Variable | None:
    """Return what is repeated to the shape it has."""
    value = node.inputs[0]
    same = isinstance(node.op, Alloc) and value.type.shape == node.outputs[0].type.shape
    return value if same and None not in value.type.shape else None


def _chosen(node: Apply, known: _Known) -> Variable | None:
    """Return one of two, if it is known which."""
    if not isinstance(node.op, Elemwise) or not isinstance(node.op.scalar_op, Switch):
        return None
    condition = known.of(node.inputs[0])
    if condition is None or condition.data.all() != condition.data.any():
        return None
    chosen = node.inputs[1 if condition.data.all() else 2]
    return _as_large_as(node.outputs[0], chosen.astype(node.outputs[0].type.dtype))


def _all_of_each(node: Apply, known: _Known) -> Variable | None:
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
