"""One value with the gradient of another: how a draw gets a gradient that its formula has not."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Variable
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.scalar.basic import Second
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.rewriting.basic import register_specialize
from pytensor.tensor.variable import TensorVariable

__all__ = ["detached", "with_gradient_of"]


class StandIn(Second):
    """The scalar op ``(carrier, value) -> value`` whose gradient goes to the carrier.

    As a kind of ``Second`` it is known to every backend. ``pytensor.gradient.disconnected_grad``
    does not serve here: it is canonicalized away, which PyMC does to a loss before differentiating.
    """

    def connection_pattern(self, node):
        return [[True], [False]]

    def pullback(self, inputs, outputs, gout):
        return [gout[0], disconnected_type()]


_stand_in = Elemwise(StandIn(name="stand_in"))


@register_specialize("fast_compile")
@node_rewriter([_stand_in])
def local_drop_stand_in(fgraph, node):
    """Replace a stand-in by its value: gradients were taken before a graph is specialized."""
    [out] = node.outputs
    _, value = node.inputs
    if value.type.dtype == out.type.dtype and value.type.broadcastable == out.type.broadcastable:
        return [value]
    return None


def with_gradient_of(value: Variable, carrier: Variable) -> TensorVariable:
    """Return ``value``, which is differentiated as if it were ``carrier``.

    It survives the rewrites that PyMC applies before differentiation, vectorizes as any
    elementwise operation, and costs nothing in a compiled function, where ``carrier`` is not
    computed.

    Parameters
    ----------
    value : TensorVariable
        What is computed.
    carrier : TensorVariable
        What is differentiated. It broadcasts to the shape of ``value``.

    Returns
    -------
    TensorVariable
        The values of the one with the gradient of the other.

    Examples
    --------
    >>> import pytensor
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.gradients import with_gradient_of
    >>> x = pt.scalar("x")
    >>> y = with_gradient_of(pt.round(x), x**2)
    >>> y.eval({x: 1.4}).item(), pytensor.grad(y, x).eval({x: 1.4}).item()
    (1.0, 2.8)
    """
    value = pt.as_tensor(value)
    carrier = pt.as_tensor(carrier)
    if carrier.type.dtype != value.type.dtype:
        carrier = carrier.astype(value.type.dtype)
    return _stand_in(carrier, value)


def detached(x: Variable) -> TensorVariable:
    """Return ``x`` as a constant in the eyes of differentiation.

    Parameters
    ----------
    x : TensorVariable
        Any expression of floats.

    Returns
    -------
    TensorVariable
        The same values.

    Examples
    --------
    >>> import pytensor
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.gradients import detached
    >>> x = pt.scalar("x")
    >>> pytensor.grad(x * detached(x), x).eval({x: 3.0}).item()
    3.0
    """
    x = pt.as_tensor(x)
    return with_gradient_of(x, np.zeros((), dtype=x.type.dtype))
