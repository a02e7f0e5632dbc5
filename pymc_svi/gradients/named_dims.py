"""Graphs of models written with ``pymc.dims``, as plain tensors."""

from __future__ import annotations

from collections.abc import Sequence

from pytensor.compile import ViewOp
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.rewriting.utils import rewrite_graph
from pytensor.graph.traversal import ancestors
from pytensor.xtensor.type import XTensorType

__all__ = ["without_named_dims"]


def without_named_dims(outputs: Sequence[Variable]) -> list[Variable]:
    """Return outputs whose graphs have plain tensors only.

    Operations on named dims have neither gradients nor a vectorisation rule of their own; they
    are lowered to the operations on tensors that they stand for.
    """
    graph = list(ancestors(outputs))
    if not any(isinstance(variable.type, XTensorType) for variable in graph):
        return list(outputs)
    # A deterministic's view has no lowering: it is the same value under another name.
    views = {
        variable: variable.owner.inputs[0]
        for variable in graph
        if isinstance(variable.type, XTensorType)
        and variable.owner is not None
        and isinstance(variable.owner.op, ViewOp)
    }
    outputs = graph_replace(list(outputs), views, strict=False) if views else list(outputs)
    # A copy: rewriting changes the nodes of a graph, of which others may be part.
    return rewrite_graph(outputs, include=("lower_xtensor",), clone=True)
