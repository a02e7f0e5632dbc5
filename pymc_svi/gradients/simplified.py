"""An expression simplified before it is differentiated, in a copy."""

from __future__ import annotations

from pymc.pytensorf import rewrite_pregrad
from pytensor.graph.basic import Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType

from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.gradients.narrow import narrowed

__all__ = ["simplified"]


def simplified(value: Variable) -> Variable:
    """Return an expression of plain tensors with PyMC's simplifications, and leave its nodes as they are.

    Rewriting changes the nodes of a graph, and those of a built model are among them: what it
    computes from data alone. Draws stay the same variables, since a copy would be another draw.

    Parameters
    ----------
    value : Variable
        The expression.
    """
    draws = {
        variable: variable.type()
        for variable in ancestors([value])
        if variable.owner is not None
        and any(isinstance(parent.type, RandomType) for parent in variable.owner.inputs)
    }
    above = graph_replace([value], draws, strict=False) if draws else [value]
    copy = FunctionGraph(outputs=above, clone=True, copy_inputs=False).outputs
    # Before the simplifications, which write down each change to double precision.
    simple = rewrite_pregrad(*narrowed(without_named_dims(copy)))
    if not draws:
        return simple
    back = {place: draw for draw, place in draws.items()}
    return graph_replace([simple], back, strict=False)[0]
