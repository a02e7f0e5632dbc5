"""Evaluating an expression a few times, without compiling code for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor import config
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Variable
from pytensor.link.basic import PerformLinker

from pymc_svi.stack_traces import UNTRACED_CONSTANTS

__all__ = ["evaluate", "evaluation_mode"]


def evaluation_mode() -> Mode:
    """Return a mode that runs a graph with numpy, node by node.

    PyTensor's own ``"FAST_COMPILE"`` calls a C compiler for each new kind of node, which takes
    seconds on a machine that has not seen it; this takes milliseconds.

    Returns
    -------
    Mode
        For ``pytensor.function(..., mode=...)`` and ``compile_kwargs``.

    Examples
    --------
    >>> import pytensor
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.evaluation import evaluation_mode
    >>> x = pt.vector("x")
    >>> double = pytensor.function([x], 2 * x, mode=evaluation_mode())
    >>> double([1.0, 2.0])
    array([2., 4.])
    """
    mode = Mode(linker=_NumpyLinker(), optimizer="fast_compile")
    return mode.including(UNTRACED_CONSTANTS)


class _NumpyLinker(PerformLinker):
    """PyTensor's ``"py"`` linker, for what is inside a node too: a ``Scan`` would compile its step."""

    def make_all(self, *args: Any, **kwargs: Any) -> Any:
        with config.change_flags(cxx=""):
            return super().make_all(*args, **kwargs)


def evaluate(variable: Any) -> np.ndarray:
    """Return the value of an expression that depends on no inputs.

    Parameters
    ----------
    variable : Variable or array_like
        The expression; anything else is its own value.

    Returns
    -------
    numpy.ndarray
        The value.

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.evaluation import evaluate
    >>> evaluate(pt.arange(3) ** 2)
    array([0, 1, 4])
    """
    if not isinstance(variable, Variable):
        return np.asarray(variable)
    return np.asarray(variable.eval(mode=evaluation_mode()))
