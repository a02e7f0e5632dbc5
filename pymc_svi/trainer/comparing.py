"""Whether two runs of a program computed the same."""

from __future__ import annotations

from collections.abc import Mapping

from pytensor.graph.basic import Constant, Variable
from pytensor.graph.op import HasInnerGraph, Op
from pytensor.tensor.random.type import RandomType

__all__ = ["same_computation"]


def same_computation(one: Variable, other: Variable, pairs: Mapping[Variable, Variable]) -> bool:
    """Return whether two expressions compute the same, of variables that correspond.

    Parameters
    ----------
    one, other : Variable
        The expressions.
    pairs : dict of Variable to Variable
        What corresponds: variables of ``one`` and those of ``other``. So do random generators.
    """
    pending, seen = [(one, other)], set()
    while pending:
        pair = a, b = pending.pop()
        if a is b or pair in seen:
            continue
        seen.add(pair)
        if a in pairs:
            if pairs[a] is not b:
                return False
        elif a.owner is None or b.owner is None:
            if not _same_inputs(a, b):
                return False
        else:
            same_place = a.owner.outputs.index(a) == b.owner.outputs.index(b)
            if not same_place or not _same_op(a.owner.op, b.owner.op):
                return False
            if len(a.owner.inputs) != len(b.owner.inputs):
                return False
            pending += zip(a.owner.inputs, b.owner.inputs, strict=True)
    return True


def _same_inputs(a: Variable, b: Variable) -> bool:
    if isinstance(a, Constant) and isinstance(b, Constant):
        return bool(a.equals(b))
    both = a.owner is None and b.owner is None
    return both and isinstance(a.type, RandomType) and isinstance(b.type, RandomType)


def _same_op(a: Op, b: Op) -> bool:
    if a == b:
        return True
    # Distributions that are graphs of others are equal only to themselves, and those of a
    # CustomDist have a class each.
    if not isinstance(a, HasInnerGraph) or not isinstance(b, HasInnerGraph):
        return False
    if type(a).__name__ != type(b).__name__:
        return False
    pairs = dict(zip(a.inner_inputs, b.inner_inputs, strict=False))
    outputs = a.inner_outputs, b.inner_outputs
    if len(a.inner_inputs) != len(b.inner_inputs) or len(outputs[0]) != len(outputs[1]):
        return False
    return all(same_computation(x, y, pairs) for x, y in zip(*outputs, strict=True))
