"""Gradients at probabilities of zero, on which nothing depends.

What is certain not to be (the dead do not come back, ``p = phi * alive``) has the log-probability
``log(0)``. In a sum over discrete values its weight is zero, and in the density of data it is the
branch that is not taken: the loss does not depend on it. The chain rule finds ``0 / 0`` there.
"""

from __future__ import annotations

import pytensor.scalar as ps
from pytensor.compile.mode import Mode, optdb
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.graph.rewriting.utils import rewrite_graph
from pytensor.tensor.elemwise import Elemwise

__all__ = ["with_gradients_at_zero", "with_plain_logarithms"]


def _unless_zero(gradient, quotient):
    """Return a quotient of a gradient; zero, whatever it is divided by, if the gradient is."""
    return ps.switch(ps.eq(gradient, 0.0), quotient.zeros_like(), quotient)


class _Log(ps.Log):
    def pullback(self, inputs, outputs, gout):
        return [
            _unless_zero(gout[0], quotient) for quotient in super().pullback(inputs, outputs, gout)
        ]


class _Log1p(ps.Log1p):
    def pullback(self, inputs, outputs, gout):
        return [
            _unless_zero(gout[0], quotient) for quotient in super().pullback(inputs, outputs, gout)
        ]


_OPS = {
    ps.Log: _Log(ps.upgrade_to_float, name="log"),
    ps.Log1p: _Log1p(ps.upgrade_to_float, name="log1p"),
}
_PLAIN = {_Log: ps.log, _Log1p: ps.log1p}


@node_rewriter([Elemwise])
def _guarded(fgraph: FunctionGraph, node: Apply):
    op = _OPS.get(type(node.op.scalar_op))
    if op is None or not node.outputs[0].type.dtype.startswith("float"):
        return None
    return [Elemwise(op)(*node.inputs)]


@node_rewriter([Elemwise])
def _plain(fgraph: FunctionGraph, node: Apply):
    op = _PLAIN.get(type(node.op.scalar_op))
    return None if op is None else [Elemwise(op)(*node.inputs)]


_guard = dfs_rewriter(_guarded)
# Before anything else is rewritten (0): the loss has the same logarithms, to be computed once.
optdb.register("pymc_svi_logarithms", dfs_rewriter(_plain), "pymc_svi_zeros", position=-0.03)


def with_gradients_at_zero(value: Variable) -> Variable:
    """Return an expression whose gradient through ``log(0)`` is zero where nothing depends on it.

    Parameters
    ----------
    value : TensorVariable
        The expression, which has been simplified: no rule knows the logarithms that it gets.

    Returns
    -------
    TensorVariable
        The same, to be differentiated and compiled :func:`with_plain_logarithms`.
    """
    return rewrite_graph(value, include=(), custom_rewrite=_guard)


def with_plain_logarithms(mode: Mode) -> Mode:
    """Return the mode with PyTensor's own logarithms in the place of these."""
    return mode.including("pymc_svi_zeros")
