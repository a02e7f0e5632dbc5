"""Evaluating an expression a few times, without compiling code for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Variable

__all__ = ["evaluate", "evaluation_mode"]


def evaluation_mode() -> Mode:
    """Return a mode that runs a graph with numpy, node by node.

    PyTensor's own ``"FAST_COMPILE"`` calls a C compiler for each new kind of node, which takes
    seconds on a machine that has not seen it; this takes milliseconds.
    """
    return Mode(linker="py", optimizer="fast_compile")


def evaluate(variable: Any) -> np.ndarray:
    """Return the value of an expression that depends on no inputs."""
    if not isinstance(variable, Variable):
        return np.asarray(variable)
    return np.asarray(variable.eval(mode=evaluation_mode()))
