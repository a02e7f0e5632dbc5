"""What follows from the rows of a batch, and what from its other axes alone."""

from __future__ import annotations

import numpy as np
from pytensor.graph.basic import Constant, Variable
from pytensor.tensor.shape import Shape, Shape_i
from pytensor.tensor.subtensor import Subtensor, get_idx_list

__all__ = ["follows"]


def follows(target: Variable, known: dict[Variable, bool]) -> bool:
    """Return whether an expression follows from the rows of arrays.

    What follows from other axes does not: ``shape=X.shape[1]``.

    Parameters
    ----------
    target : Variable
        The expression.
    known : dict of Variable to bool
        The arrays with True, and what else is known; it is completed.
    """
    pending = [target]
    while pending:
        variable = pending[-1]
        if variable in known:
            pending.pop()
            continue
        inputs = _inputs_that_count(variable)
        unknown = [v for v in inputs if v not in known]
        if unknown:
            pending.extend(unknown)
        else:
            known[variable] = any(known[v] for v in inputs)
    return known[target]


def _inputs_that_count(variable: Variable) -> list[Variable]:
    node = variable.owner
    if node is None:
        return []
    if isinstance(node.op, Shape_i):
        return node.inputs if node.op.i == 0 else []
    if isinstance(node.op, Subtensor):
        of = node.inputs[0].owner
        if of is not None and isinstance(of.op, Shape):
            [index] = get_idx_list(node.inputs, node.op.idx_list)
            axis = index.data if isinstance(index, Constant) else index
            if isinstance(axis, int | np.integer) and axis != 0:
                return []
    return node.inputs
