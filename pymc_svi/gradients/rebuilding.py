"""Graphs in which some operations are replaced by others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence

import numpy as np
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.traversal import toposort
from pytensor.tensor.basic import Split
from pytensor.tensor.type import discrete_dtypes

from pymc_svi.gradients.known_values import KnownValues

__all__ = ["known_number", "rebuilt", "with_known_lengths"]


def rebuilt(
    outputs: Sequence[Variable],
    rule: Callable[[Apply], Sequence[Variable] | None],
    inputs: Collection[Variable] = (),
) -> list[Variable]:
    """Return outputs in which a rule has replaced what some operations return.

    Whatever does not depend on what is replaced stays the same variable.

    Parameters
    ----------
    outputs : sequence of Variable
        Expressions.
    rule : callable
        ``rule(node)`` is what replaces the outputs of an operation, or None.
    inputs : collection of Variable, optional
        What the outputs are computed from, which is left alone.
    """
    replaced: dict[Variable, Variable] = {}
    for node in toposort(outputs, blockers=inputs):
        old = node.outputs
        if any(variable in replaced for variable in node.inputs):
            new_inputs = [replaced.get(variable, variable) for variable in node.inputs]
            node = node.clone_with_new_inputs(new_inputs, strict=False)
        new = rule(node) or node.outputs
        if new is not old:
            replaced |= zip(old, new, strict=True)
    return [replaced.get(output, output) for output in outputs]


def with_known_lengths(
    outputs: Sequence[Variable], inputs: Collection[Variable] = ()
) -> list[Variable]:
    """Return outputs in which lengths that are known are numbers, and parts of arrays slices.

    What is computed from the shape of a draw is computed anew for each draw when it is vectorised,
    and PyTensor no longer knows it. The gradient of a concatenation splits an array by such
    lengths; vectorised, that is run by Python, and fails where a part of length one broadcasts.

    Parameters
    ----------
    outputs : sequence of Variable
        Expressions.
    inputs : collection of Variable, optional
        What they are computed from, which is left alone.
    """
    known = KnownValues()

    def simpler(node: Apply) -> list[Variable] | None:
        number = known_number(node, known)
        if number is not None:
            return [number]
        lengths = known.of(node.inputs[1]) if isinstance(node.op, Split) else None
        if lengths is None:
            return None
        before = (slice(None),) * node.op.axis
        ends = [0, *np.cumsum(lengths.data).tolist()]
        array = node.inputs[0]
        return [array[(*before, slice(start, end))] for start, end in itertools.pairwise(ends)]

    return rebuilt(outputs, simpler, inputs)


def known_number(node: Apply, known: KnownValues) -> Constant | None:
    """Return the whole numbers that an operation returns, if they are known: shapes, places."""
    [output, *_] = node.outputs
    if getattr(output.type, "dtype", None) not in discrete_dtypes:
        return None
    return None if known.repeats(output) else known.of(output)
