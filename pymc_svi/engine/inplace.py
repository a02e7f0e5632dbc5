"""Reusing the memory of large arrays only.

PyTensor overwrites the input of an elementwise operation with its output where nobody else needs
it. It tries each pair of an input and an output, and checks the order of the whole graph after each,
which for a model of many scalar sites is most of the time to compile. Memory for a few numbers costs
next to nothing.
"""

from __future__ import annotations

import math

from pytensor.compile.mode import Mode, optdb
from pytensor.graph.basic import Variable

# PyTensor's own rewrite, which has no public name.
from pytensor.tensor.rewriting.elemwise import InplaceElemwiseOptimizer

__all__ = ["with_large_arrays_in_place"]

_SMALL = 1_000


class _LargeInplace(InplaceElemwiseOptimizer):
    def filter_candidate_pairs(self, fgraph, node, protected_inputs):
        if all(_is_small(output) for output in node.outputs):
            return []
        return super().filter_candidate_pairs(fgraph, node, protected_inputs)


def _is_small(variable: Variable) -> bool:
    shape = variable.type.shape
    return None not in shape and math.prod(shape) < _SMALL


# Where PyTensor has its own.
optdb.register("pymc_svi_inplace_elemwise", _LargeInplace(), position=50.5)


def with_large_arrays_in_place(mode: Mode) -> Mode:
    """Return the mode with only arrays of at least a thousand elements (or unknown size) in place.

    Parameters
    ----------
    mode : Mode

    Returns
    -------
    Mode
    """
    return mode.excluding("inplace_elemwise").including("pymc_svi_inplace_elemwise")
