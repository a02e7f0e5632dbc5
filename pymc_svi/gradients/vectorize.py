"""Graphs evaluated at many values at once, with gradients that are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytensor.graph.basic import Apply, Variable
from pytensor.graph.replace import vectorize_graph
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedSubtensor

from pymc_svi.gradients.rebuilding import rebuilt

__all__ = ["vectorize"]


def vectorize(outputs: Sequence[Variable], replace: Mapping[Variable, Variable]) -> list[Variable]:
    """Return outputs for values that have more dimensions on the left.

    This is PyTensor's ``vectorize_graph`` for graphs that are differentiated: its gradient of
    ``x[i, j]``, where ``i`` is a vector and ``j`` is a matrix, is wrong if ``j`` gets another
    dimension, since it takes ``i[:, None]`` for ``i[None, :]``. Such indices are given the
    same number of dimensions before.

    Parameters
    ----------
    outputs : sequence of Variable
        Expressions.
    replace : mapping of Variable to Variable
        The variables that they are computed from, and their values with further dimensions.
    """
    aligned = rebuilt(outputs, _aligned, list(replace))
    return vectorize_graph(aligned, replace=dict(replace))


def _aligned(node: Apply) -> Sequence[Variable] | None:
    """Return what is read or written at indices with as many dimensions as the longest has."""
    if isinstance(node.op, AdvancedSubtensor):
        n_before = 1
    elif isinstance(node.op, AdvancedIncSubtensor):
        n_before = 2
    else:
        return None
    inputs = list(node.inputs)
    places = [n_before + entry for entry in node.op.idx_list if isinstance(entry, int)]
    indices = [inputs[place] for place in places]
    n = max(index.type.ndim for index in indices)
    if any(index.type.dtype == "bool" for index in indices):
        return None
    if all(index.type.ndim == n for index in indices):
        return None
    for place, index in zip(places, indices, strict=True):
        own = range(index.type.ndim)
        inputs[place] = index.dimshuffle(*["x"] * (n - len(own)), *own)
    return node.op.make_node(*inputs).outputs
