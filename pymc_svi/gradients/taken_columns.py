"""One column of an expression, computed without the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import pytensor.tensor as pt
from pytensor.compile.ops import ViewOp
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.raise_op import CheckAndRaise
from pytensor.tensor.basic import Alloc, Join
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.exceptions import NotScalarConstantError
from pytensor.tensor.math import Dot
from pytensor.tensor.special import LogSoftmax, Softmax
from pytensor.tensor.subtensor import Subtensor, get_constant_idx

__all__ = ["FEW_COLUMNS", "Columns", "is_long", "log_add_exp"]

# Up to how many columns there are graphs of their own for, which have to be compiled.
FEW_COLUMNS = 8
# From how many rows on it is worth it.
_MANY_ROWS = 64
# Up to how many columns a product of matrices takes no longer column by column.
_FEW_PRODUCTS = 4


def is_long(shape: Sequence[int | None]) -> bool:
    """Return whether an array of a shape has many elements, or may have."""
    return None in shape or math.prod(n for n in shape if n is not None) >= _MANY_ROWS


def log_add_exp(x: Variable, y: Variable) -> Variable:
    """Return the logarithm of the sum of the exponentials of two arrays.

    Its gradient takes no part of the maximum, as that of PyTensor's does, and what is infinite itself takes
    nothing from infinity.
    """
    first = x > y
    larger, smaller = pt.switch(first, x, y), pt.switch(first, y, x)
    distance = pt.switch(pt.isinf(larger), pt.zeros((), dtype=larger.dtype), smaller - larger)
    return larger + pt.softplus(distance)


class Columns:
    """Takes arrays at one place of an axis, by computing nothing else.

    Each is computed once, however often it is asked for.
    """

    def __init__(self) -> None:
        self.taken: dict[tuple[Variable, int, int], Variable | None] = {}

    def take(self, x: Variable, axis: int, place: int) -> Variable | None:
        """Return an array at a place of an axis, or None if that takes all of it."""
        key = x, axis, place
        if key not in self.taken:
            self.taken[key] = self._of_operation(x, axis, place)
        return self.taken[key]

    def of_joined(self, node: Apply, axis: int, place: int) -> Variable | None:
        """Return one place of arrays that are joined, or None if it is not known which has it."""
        if node.op.axis != axis:
            return None
        for part in node.inputs:
            length = part.type.shape[axis]
            if length is None:
                return None
            if place < length:
                return self.take(part, axis, place)
            place -= length
        return None

    def _of_operation(self, x: Variable, axis: int, place: int) -> Variable | None:
        shape = x.type.shape
        if isinstance(x, Constant) or not is_long((*shape[:axis], *shape[axis + 1 :])):
            return x[(slice(None),) * axis + (place,)]
        node = x.owner
        if node is None:
            return None
        if isinstance(node.op, Elemwise):
            return self._of_elementwise(node, x, axis, place)
        if isinstance(node.op, Softmax):
            value = self._of_log_softmax(node, axis, place)
            return None if value is None else pt.exp(value)
        if isinstance(node.op, LogSoftmax):
            return self._of_log_softmax(node, axis, place)
        if isinstance(node.op, DimShuffle):
            return self._of_shuffled(node, axis, place)
        if isinstance(node.op, Join):
            return self.of_joined(node, axis, place)
        if isinstance(node.op, Alloc):
            return self._of_repeated(node, axis, place)
        if isinstance(node.op, Subtensor):
            return self._of_part(node, axis, place)
        if isinstance(node.op, Blockwise) and isinstance(node.op.core_op, Dot):
            return self._of_product(node, axis, place)
        if isinstance(node.op, CheckAndRaise | ViewOp):
            value = self.take(node.inputs[0], axis, place)
            return None if value is None else node.op(value, *node.inputs[1:])
        return None

    def _of_elementwise(self, node: Apply, x: Variable, axis: int, place: int) -> Variable | None:
        argument = node.inputs[0].owner
        if node.op == pt.log and argument is not None and isinstance(argument.op, Softmax):
            return self._of_log_softmax(argument, axis, place)
        inputs = []
        for variable in node.inputs:
            length = variable.type.shape[axis]
            # Of an unknown length nobody knows whether it is repeated.
            taken = length and self.take(variable, axis, 0 if length == 1 else place)
            if taken is None or length is None:
                return None
            inputs.append(taken)
        return node.op.make_node(*inputs).outputs[node.outputs.index(x)]

    def _of_log_softmax(self, node: Apply, axis: int, place: int) -> Variable | None:
        [x] = node.inputs
        n_columns = x.type.shape[axis]
        if node.op.axis != (axis,) or n_columns is None or n_columns > FEW_COLUMNS:
            return None
        parts = [self.take(x, axis, column) for column in range(n_columns)]
        found = [part for part in parts if part is not None]
        return found[place] - reduce(log_add_exp, found) if len(found) == n_columns else None

    def _of_shuffled(self, node: Apply, axis: int, place: int) -> Variable | None:
        [x] = node.inputs
        order = list(node.op.new_order)
        source = order.pop(axis)
        if source == "x":
            return x.dimshuffle(order)
        value = self.take(x, source, place)
        if value is None:
            return None
        return value.dimshuffle([o if o == "x" or o < source else o - 1 for o in order])

    def _of_repeated(self, node: Apply, axis: int, place: int) -> Variable | None:
        value, *shape = node.inputs
        own = axis - len(shape) + value.type.ndim
        if own >= 0:
            if value.type.shape[own] is None:
                return None
            value = self.take(value, own, 0 if value.type.shape[own] == 1 else place)
        rest = shape[:axis] + shape[axis + 1 :]
        return None if value is None else pt.alloc(value, *rest)

    def _of_part(self, node: Apply, axis: int, place: int) -> Variable | None:
        try:
            index = get_constant_idx(node.op.idx_list, node.inputs)
        except NotScalarConstantError:
            return None
        x = node.inputs[0]
        index += [slice(None)] * (x.type.ndim - len(index))
        kept = [source for source, entry in enumerate(index) if isinstance(entry, slice)]
        source = kept[axis]
        length = x.type.shape[source]
        if length is None:
            return None
        value = self.take(x, source, range(length)[index.pop(source)][place])
        return None if value is None else value[tuple(index)]

    def _of_product(self, node: Apply, axis: int, place: int) -> Variable | None:
        x, y = node.inputs
        if x.type.ndim != 2 or axis != 1 or node.outputs[0].type.shape[1] > _FEW_PRODUCTS:
            return None
        return pt.dot(x, y[:, place])
