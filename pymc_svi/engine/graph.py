"""Preparing a loss for compilation: its own nodes and generators, its data out of the graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor
from pymc.pytensorf import find_rng_nodes
from pytensor.graph.basic import Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.variable import TensorConstant

__all__ = ["own_generators", "own_nodes", "share_large_constants"]

# Constants with more elements become shared variables: compiled code that contains data cannot
# be found in the compile cache again, and takes long to generate.
_LARGE = 64


def own_nodes(outputs: Sequence[Variable]) -> list[Variable]:
    """Return outputs computed by nodes that nothing else uses.

    What a program computes from data alone, of a built model its own nodes, is a part of the loss
    as it is. Rewriting the loss changes its nodes, and the model must not change with it.
    """
    return FunctionGraph(outputs=list(outputs), clone=True, copy_inputs=False).outputs


def own_generators(outputs: Sequence[Variable]) -> tuple[list[Variable], list[Variable]]:
    """Return outputs with random generators that nothing else uses, and these generators.

    A built model's variables carry generators of their own, which a fit must not advance.
    """
    theirs = find_rng_nodes(outputs)
    ours = [pytensor.shared(np.random.Generator(np.random.PCG64(0))) for _ in theirs]
    if not theirs:
        return list(outputs), []
    return graph_replace(list(outputs), dict(zip(theirs, ours, strict=True)), strict=False), ours


def share_large_constants(outputs: Sequence[Variable]) -> list[Variable]:
    """Return outputs with large constants, such as observed data, as shared variables."""
    replace = {}
    for variable in ancestors(outputs):
        if isinstance(variable, TensorConstant) and variable.data.size > _LARGE:
            replace[variable] = pytensor.shared(
                variable.data, name=variable.name, shape=variable.type.shape
            )
    return graph_replace(list(outputs), replace, strict=False) if replace else list(outputs)
