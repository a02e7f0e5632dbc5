"""Many independent draws of a graph at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytensor.tensor as pt
from pytensor.compile import view_op
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.traversal import toposort
from pytensor.tensor.random.op import RNGConsumerOp
from pytensor.tensor.random.type import RandomType

from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.gradients.rebuilding import with_known_lengths
from pymc_svi.gradients.vectorize import vectorize
from pymc_svi.handlers.distributions import resized

__all__ = ["random_variables", "vectorize_draws"]


def random_variables(outputs: Sequence[Variable]) -> list[Variable]:
    """Return the random variables that outputs are computed from, in topological order.

    Parameters
    ----------
    outputs : sequence of Variable
        The outputs.

    Returns
    -------
    list of Variable
        The random variables.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.gradients import random_variables
    >>> x = pm.Normal.dist(0.0, 1.0)
    >>> y = pm.Normal.dist(x, 1.0)
    >>> random_variables([2 * y]) == [x, y]
    True
    """
    return [_draw_of(node) for node in toposort(outputs) if isinstance(node.op, RNGConsumerOp)]


def vectorize_draws(
    outputs: Sequence[Variable],
    n: int | Variable,
    batched: Mapping[Variable, Variable] | None = None,
) -> list[Variable]:
    """Return outputs with a leading axis of ``n`` independent evaluations.

    The draws that depend on no other draw get the axis; everything computed from them is
    vectorised over it. Outputs without any randomness are repeated.

    Parameters
    ----------
    outputs : sequence of TensorVariable
        Expressions with random variables in their graphs.
    n : int or scalar int variable
        Number of evaluations.
    batched : dict of Variable to Variable, optional
        Variables of the graph that already have a value for each evaluation.

    Returns
    -------
    list of TensorVariable
        Each output with shape ``(n, *shape)``.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.gradients import vectorize_draws
    >>> x = pm.Normal.dist(0.0, 1.0, shape=3)
    >>> [batch] = vectorize_draws([x.sum()], 5)
    >>> batch.eval().shape
    (5,)
    """
    batched = dict(batched or {})
    outputs = with_known_lengths(without_named_dims(outputs), batched)
    random: set[Variable] = set(batched)
    fixed: set[Variable] = set()
    for node in toposort(outputs, blockers=list(batched)):
        if any(inp in random for inp in node.inputs):
            random.update(_values_of(node))
            # What stays the same for all draws must be said: the size of noise that is only
            # known at run time is not to be vectorised.
            fixed.update(inp for inp in node.inputs if inp not in random)
        elif isinstance(node.op, RNGConsumerOp):
            draw = _draw_of(node)
            batched[draw] = _as_index(resized(draw, (n,), expand=True))
            random.add(draw)
    if batched:
        vectorized = vectorize(outputs, {v: v for v in fixed} | batched)
    else:
        vectorized = outputs
    return [
        new if new.ndim > old.ndim else pt.broadcast_to(new, (n, *old.shape))
        for new, old in zip(vectorized, outputs, strict=True)
    ]


def _as_index(draws: Variable) -> Variable:
    """Return draws of a scalar so that they can be an index.

    ``vectorize_graph`` takes all outputs of the node of an index for the index, and a random
    variable's node has its generator beside the draw.
    """
    whole_numbers = draws.type.ndim == 1 and draws.type.dtype.startswith(("int", "uint"))
    return view_op(draws) if whole_numbers else draws


def _draw_of(node: Apply) -> Variable:
    [draw] = _values_of(node)
    return draw


def _values_of(node: Apply) -> list[Variable]:
    return [out for out in node.outputs if not isinstance(out.type, RandomType)]
