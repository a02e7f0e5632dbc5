"""Values of expressions of constants, such as shapes and places, without running a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.tensor.basic import Alloc
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.rewriting.basic import unconditional_constant_folding
from pytensor.tensor.shape import Shape, SpecifyShape
from pytensor.tensor.subtensor import Subtensor

__all__ = ["KnownValues"]


class KnownValues:
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
