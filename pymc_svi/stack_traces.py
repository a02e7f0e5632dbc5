"""The records of where variables were made, kept from growing.

PyTensor's rewrites add those of the variables that they replace to the new one's. A constant is not
cloned when a graph is compiled, and those of an operation's inner graph live as long as any graph has
that operation: so a constant has the records of all compilations before, and ``local_useless_switch``,
which replaces ``switch(c, 0, 0)`` by ``0``, doubles them at each. After some thirty fits in one process
they fill the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytensor.compile.mode import optdb
from pytensor.graph.basic import Constant
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import HasInnerGraph
from pytensor.graph.rewriting.basic import GraphRewriter

__all__ = ["UNTRACED_CONSTANTS"]

UNTRACED_CONSTANTS = "pymc_svi_untraced_constants"


class _NoTraces(list):
    """An empty list that stays so."""

    def __add__(self, other: Any) -> _NoTraces:
        return self


class _UntraceConstants(GraphRewriter):
    """Leave the constants of a graph, and of the graphs inside it, without records."""

    def apply(self, fgraph: FunctionGraph) -> None:
        for constant in _constants(fgraph):
            constant.tag.trace = _NoTraces()


def _constants(fgraph: Any) -> Iterator[Constant]:
    """Yield the constants of a graph, and of the graphs inside it."""
    for node in fgraph.apply_nodes:
        yield from (variable for variable in node.inputs if isinstance(variable, Constant))
        if isinstance(node.op, HasInnerGraph):
            yield from _constants(node.op.fgraph)


# Before the first of PyTensor's.
optdb.register("pymc_svi_untrace", _UntraceConstants(), UNTRACED_CONSTANTS, position=-1)
