"""Logarithms of probabilities of the contrary, of the contrary again.

PyMC computes how likely it is that a Weibull or an exponential time is longer than the one at which it
was censored as ``log(1 - exp(log(1 - exp(-hazard))))``, which is minus infinity from a hazard of 37 on;
it is minus the hazard.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.raise_op import CheckAndRaise
from pytensor.scalar.math import Log1mexp
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import DimShuffle, Elemwise

from pymc_svi.gradients.rebuilding import rebuilt

__all__ = ["without_double_complements"]


def without_double_complements(outputs: Sequence[Variable]) -> list[Variable]:
    """Return outputs in which ``log(1 - exp(x))`` of another complement is what that is the complement of.

    Parameters
    ----------
    outputs : sequence of Variable
        Expressions, to be differentiated.

    Returns
    -------
    list of Variable
        Their values are the same, but where rounding made them infinite.
    """
    return rebuilt(outputs, _simpler)


def _simpler(node: Apply) -> list[Variable] | None:
    if not _is_elementwise(node, Log1mexp):
        return None
    found = _complement(node.inputs[0])
    return None if found is None else [found]


def _complement(x: Variable) -> Variable | None:
    """Return ``log(1 - exp(x))`` if ``x`` is such a logarithm itself, in some place at least."""
    node = x.owner
    if node is None:
        return None
    if isinstance(node.op, Alloc | CheckAndRaise | DimShuffle):
        inner = _complement(node.inputs[0])
        return None if inner is None else node.op(inner, *node.inputs[1:])
    if _is_elementwise(node, ps.Switch):
        condition, *branches = node.inputs
        known = [_complement(branch) for branch in branches]
        if known == [None, None]:
            return None
        chosen = [
            _complement_of_any(branch) if found is None else found
            for branch, found in zip(branches, known, strict=True)
        ]
        return pt.switch(condition, *chosen)
    if _is_elementwise(node, Log1mexp):
        return node.inputs[0]
    if _is_elementwise(node, ps.Log1p):
        return _log_of_negative(node.inputs[0])
    return None


def _complement_of_any(x: Variable) -> Variable:
    value = x.owner.inputs[0] if x.owner and isinstance(x.owner.op, DimShuffle) else x
    if isinstance(value, Constant) and np.all(np.isneginf(value.data)):
        return pt.zeros_like(x)
    return pt.log1mexp(x)


def _log_of_negative(x: Variable) -> Variable | None:
    """Return ``log(u)`` of ``-u``."""
    node = x.owner
    return pt.log(node.inputs[0]) if node is not None and _is_elementwise(node, ps.Neg) else None


def _is_elementwise(node: Apply, scalar_op: type) -> bool:
    return isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, scalar_op)
