"""Checks of parameters that hold by the way in which the parameters are made.

PyMC checks at every evaluation that probabilities lie between 0 and 1 and add up to 1. Those of a
``softmax`` do, but the check takes as long as the density.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.replace import clone_replace
from pytensor.scalar.math import Sigmoid, Softplus
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import All, Sum
from pytensor.tensor.special import Softmax

from pymc_svi.gradients.rebuilding import rebuilt

__all__ = ["without_certain_checks"]

_UP_TO_ONE = (Sigmoid,)
_FROM_ZERO = (Sigmoid, Softplus, ps.Exp, ps.Sqr, ps.Abs)
_TURNED = {ps.LE: ps.GE, ps.GE: ps.LE}


def without_certain_checks(outputs: Sequence[Variable]) -> list[Variable]:
    """Return outputs without checks whose outcome is certain.

    Parameters
    ----------
    outputs : sequence of Variable
        Expressions.

    Returns
    -------
    list of Variable
        The same, but that NaN for a probability gives NaN, no longer minus infinity.
    """
    return rebuilt(outputs, _certain)


def _certain(node: Apply) -> list[Variable] | None:
    if not isinstance(node.op, All):
        return None
    [condition] = node.inputs
    if not _is_certain(condition):
        return None
    [out] = node.outputs
    if out.type.ndim:
        return None
    return [pt.constant(np.array(True))]


def _is_certain(condition: Variable) -> bool:
    node = condition.owner
    if node is None or not isinstance(node.op, Elemwise):
        return False
    kind = type(node.op.scalar_op)
    if kind in _TURNED:
        x, bound = node.inputs
        if _number(x) is not None:
            x, bound, kind = bound, x, _TURNED[kind]
        number = _number(bound)
        return number is not None and _keeps(x, kind, number)
    return _is_certain_of_sum(condition)


def _keeps(x: Variable, kind: type, bound: float) -> bool:
    """Whether an expression is on one side of a number, whatever it is made of."""
    maker = _base(x).owner
    if maker is None:
        return False
    function = getattr(maker.op, "scalar_op", maker.op)
    if kind is ps.GE:
        return bound <= 0 and isinstance(function, (*_FROM_ZERO, Softmax))
    return bound >= 1 and isinstance(function, (*_UP_TO_ONE, Softmax))


def _is_certain_of_sum(condition: Variable) -> bool:
    """Whether a condition follows from a sum of probabilities alone, which is 1."""
    leaves = _leaves(condition)
    if len(leaves) != 1:
        return False
    [total] = leaves
    node = total.owner
    if node is None or not isinstance(node.op, Sum):
        return False
    maker = _base(node.inputs[0]).owner
    if maker is None or maker is not node.inputs[0].owner or not isinstance(maker.op, Softmax):
        return False
    if node.op.axis != maker.op.axis:
        return False
    one = pt.constant(np.ones((1,) * total.type.ndim, dtype=total.type.dtype))
    at_one = clone_replace(condition, {total: one}, rebuild_strict=False)
    return bool(np.all(pytensor.function([], at_one, mode=Mode("py", None))()))


def _leaves(condition: Variable) -> set[Variable]:
    """Return what an elementwise expression is computed from, but for numbers."""
    if isinstance(condition, Constant):
        return set()
    node = condition.owner
    if node is not None and isinstance(node.op, Alloc):
        return _leaves(node.inputs[0])
    if node is None or not isinstance(node.op, (Elemwise, DimShuffle)):
        return {condition}
    return set().union(*(_leaves(variable) for variable in node.inputs))


def _base(x: Variable) -> Variable:
    while x.owner is not None and isinstance(x.owner.op, DimShuffle):
        [x] = x.owner.inputs
    return x


def _number(x: Variable) -> float | None:
    x = _base(x)
    return float(x.data) if isinstance(x, Constant) and np.ndim(x.data) == 0 else None
