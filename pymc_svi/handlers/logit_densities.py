"""Log-densities of counts and labels in the logits of their probabilities.

PyMC writes them in the probabilities. Those of outcomes that a model all but excludes round to zero,
whose logarithm is infinite, and computing probabilities, their logarithms and checks on them takes
several times as long.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions.dist_math import check_parameters, factln
from pytensor.compile.ops import ViewOp
from pytensor.graph.basic import Variable
from pytensor.tensor.math import sigmoid
from pytensor.tensor.random.basic import BernoulliRV, BinomialRV, CategoricalRV, MultinomialRV
from pytensor.tensor.special import Softmax

__all__ = ["log_prob_in_logits"]


def log_prob_in_logits(rv: Variable, value: Variable) -> Variable | None:
    """Return a log-probability written in logits.

    Parameters
    ----------
    rv : Variable
        A random variable.
    value : Variable
        Its value.

    Returns
    -------
    Variable or None
        The elementwise log-probability, if the probability of the variable is a ``sigmoid`` of logits
        (Bernoulli, Binomial) or a ``softmax`` of them (Categorical, Multinomial); otherwise None.
    """
    node = rv.owner
    if node is None or type(node.op) not in _WRITTEN_IN_LOGITS:
        return None
    written, logits_of = _WRITTEN_IN_LOGITS[type(node.op)]
    *counts, p = node.op.dist_params(node)
    logits = logits_of(p)
    return None if logits is None else written(value, *counts, logits)


def _of_sigmoid(p: Variable) -> Variable | None:
    node = _seen_through(p).owner
    return node.inputs[0] if node is not None and node.op == sigmoid else None


def _of_softmax(p: Variable) -> Variable | None:
    node = _seen_through(p).owner
    if (
        node is None
        or not isinstance(node.op, Softmax)
        or node.op.axis not in ((p.type.ndim - 1,), -1)
    ):
        return None
    return node.inputs[0]


def _seen_through(p: Variable) -> Variable:
    """Return what a ``pm.Deterministic`` records."""
    while p.owner is not None and isinstance(p.owner.op, ViewOp):
        [p] = p.owner.inputs
    return p


def _log_factorial(count: Variable) -> Variable:
    # PyMC's own of a small constant, such as a number of trials, is in single precision.
    return factln(count.astype(pytensor.config.floatX))


def _bernoulli(value: Variable, logits: Variable) -> Variable:
    outside = pt.or_(pt.lt(value, 0), pt.gt(value, 1))
    return pt.switch(outside, -np.inf, value * logits - pt.softplus(logits))


def _binomial(value: Variable, n: Variable, logits: Variable) -> Variable:
    ways = _log_factorial(n) - _log_factorial(value) - _log_factorial(n - value)
    log_prob = ways + value * logits - n * pt.softplus(logits)
    outside = pt.or_(pt.lt(value, 0), pt.gt(value, n))
    return check_parameters(pt.switch(outside, -np.inf, log_prob), n >= 0, msg="n >= 0")


def _categorical(value: Variable, logits: Variable) -> Variable:
    # Without an axis for each of the value's, the logits are the same along it, and the other way round.
    missing = logits.type.ndim - 1 - value.type.ndim
    value = pt.shape_padleft(value, max(missing, 0))
    logits = pt.shape_padleft(logits, max(-missing, 0))
    last = logits.shape[-1] - 1
    place = pt.clip(value, 0, last).astype(int)
    chosen = pt.take_along_axis(logits, place[..., None], axis=-1).squeeze(-1)
    outside = pt.or_(pt.lt(value, 0), pt.gt(value, last))
    return pt.switch(outside, -np.inf, chosen - pt.logsumexp(logits, axis=-1))


def _multinomial(value: Variable, n: Variable, logits: Variable) -> Variable:
    log_p = pt.special.log_softmax(logits, axis=-1)
    # An outcome that has not come counts nothing, even if it cannot come.
    each = pt.switch(pt.eq(value, 0), 0.0, value * log_p) - _log_factorial(value)
    outside = pt.or_(pt.any(pt.lt(value, 0), axis=-1), pt.neq(pt.sum(value, axis=-1), n))
    log_prob = _log_factorial(n) + pt.sum(each, axis=-1)
    return check_parameters(pt.switch(outside, -np.inf, log_prob), n >= 0, msg="n >= 0")


_WRITTEN_IN_LOGITS: dict[type, tuple[Callable, Callable]] = {
    BernoulliRV: (_bernoulli, _of_sigmoid),
    BinomialRV: (_binomial, _of_sigmoid),
    CategoricalRV: (_categorical, _of_softmax),
    MultinomialRV: (_multinomial, _of_softmax),
}
