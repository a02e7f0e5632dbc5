"""Rows of a few elements, such as the components of a mixture, computed column by column.

A loop over rows of three elements makes no vector instructions: of 10,000 such rows the logarithms of
the sums of the exponentials take ten times as long as those of three vectors of 10,000 elements. Taken
apart before anything is differentiated, densities and gradients are computed for such vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce

import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.basic import ARange, Join, get_underlying_scalar_constant_value
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import All, Sum
from pytensor.tensor.shape import Reshape, Shape
from pytensor.tensor.special import LogSumExp
from pytensor.tensor.subtensor import AdvancedSubtensor, Subtensor

from pymc_svi.gradients.rebuilding import rebuilt
from pymc_svi.gradients.taken_columns import FEW_COLUMNS, Columns, is_long, log_add_exp

__all__ = ["by_columns"]


def by_columns(outputs: Sequence[Variable]) -> list[Variable]:
    """Return outputs in which what is made of short rows is computed from their columns.

    That is the logarithm of the sum of the exponentials of each row, its sum, its element at the place
    of a label, and whether a condition holds for all of them.

    Parameters
    ----------
    outputs : sequence of Variable
        Expressions, to be differentiated.

    Returns
    -------
    list of Variable
        Their values are the same, up to rounding, and so are their gradients. Where a column cannot be
        computed without the others, the rows stay together.
    """
    return rebuilt(outputs, partial(_by_columns, columns=Columns()))


def _by_columns(node: Apply, columns: Columns) -> list[Variable] | None:
    for operation, rule in _RULES.items():
        if isinstance(node.op, operation):
            result = rule(node, columns)
            return None if result is None else [result]
    return None


def _log_sum_exp(node: Apply, columns: Columns) -> Variable | None:
    parts = _columns(node.inputs[0], columns) if _is_of_rows(node) else None
    return parts and reduce(log_add_exp, parts)


def _sum(node: Apply, columns: Columns) -> Variable | None:
    [x] = node.inputs
    same_type = x.type.dtype == node.outputs[0].type.dtype
    parts = _columns(x, columns) if same_type and _is_of_rows(node) else None
    return parts and reduce(pt.add, parts)


def _all(node: Apply, columns: Columns) -> Variable | None:
    parts = _columns(node.inputs[0], columns) if node.outputs[0].type.ndim == 0 else None
    return parts and reduce(pt.and_, [pt.all(part) for part in parts])


def _of_labels(node: Apply, columns: Columns) -> Variable | None:
    """Return the element of each row at the place of its label, as ``take_along_axis`` finds it."""
    x, *index = node.inputs
    if x.type.ndim != 2 or len(index) != 2 or not _counts_rows(index[0], x):
        return None
    place = index[1]
    if place.type.shape[1] != 1 or not _is_within(place, x.type.shape[1]):
        return None
    parts = _columns(x, columns)
    if parts is None:
        return None
    place = place[:, 0]
    *before, chosen = enumerate(parts)
    element = chosen[1]
    for number, part in reversed(before):
        element = pt.switch(pt.eq(place, number), part, element)
    return pt.expand_dims(element, 1)


def _part(node: Apply, columns: Columns) -> Variable | None:
    """Return one of the arrays of a ``stack``, of which PyTensor sees what it is made of too late."""
    [x, *_], index = node.inputs, node.op.idx_list
    places = [axis for axis, entry in enumerate(index) if entry != slice(None)]
    if x.owner is None or not isinstance(x.owner.op, Join) or places != [x.owner.op.axis]:
        return None
    place = _number(node.inputs[-1]) if isinstance(index[-1], int) else None
    return (
        columns.of_joined(x.owner, places[0], place) if place is not None and place >= 0 else None
    )


_RULES: dict[type, Callable[[Apply, Columns], Variable | None]] = {
    LogSumExp: _log_sum_exp,
    Sum: _sum,
    All: _all,
    AdvancedSubtensor: _of_labels,
    Subtensor: _part,
}


def _is_of_rows(node: Apply) -> bool:
    return node.op.axis == (node.inputs[0].type.ndim - 1,)


def _columns(x: Variable, columns: Columns) -> list[Variable] | None:
    """Return all columns of an expression, if they are few and long and each can be computed alone."""
    *rest, n_columns = x.type.shape or (None,)
    if n_columns is None or not 1 < n_columns <= FEW_COLUMNS or not is_long(rest):
        return None
    parts = [columns.take(x, x.type.ndim - 1, column) for column in range(n_columns)]
    found = [part for part in parts if part is not None]
    return found if len(found) == n_columns else None


def _counts_rows(place: Variable, x: Variable) -> bool:
    """Whether places are 0, 1, ... for the rows of a matrix, as a column."""
    if place.owner is None or not isinstance(place.owner.op, Reshape) or place.type.ndim != 2:
        return False
    counted = place.owner.inputs[0].owner
    if place.type.shape[1] != 1 or counted is None or not isinstance(counted.op, ARange):
        return False
    start, stop, step = counted.inputs
    if _number(start) != 0 or _number(step) != 1:
        return False
    length = stop.owner
    if length is None or not isinstance(length.op, Subtensor) or _number(length.inputs[1]) != 0:
        return False
    shape = length.inputs[0].owner
    return shape is not None and isinstance(shape.op, Shape) and shape.inputs[0] is x


def _is_within(place: Variable, n_columns: int | None) -> bool:
    """Whether places are clipped to those of the columns."""
    node = place.owner
    while node is not None and (
        isinstance(node.op, DimShuffle)
        or (isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, ps.Cast))
    ):
        node = node.inputs[0].owner
    if (
        node is None
        or not isinstance(node.op, Elemwise)
        or not isinstance(node.op.scalar_op, ps.Clip)
    ):
        return False
    _, lowest, highest = node.inputs
    return n_columns is not None and _number(lowest) == 0 and _number(highest) == n_columns - 1


def _number(x: Variable) -> int | None:
    found = get_underlying_scalar_constant_value(x, raise_not_constant=False)
    return int(found) if not isinstance(found, Variable) else None
