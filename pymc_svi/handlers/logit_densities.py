"""Log-densities of counts and labels in the logits or probits of their probabilities.

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
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.basic import get_underlying_scalar_constant_value
from pytensor.tensor.math import erfc, mul, sigmoid, true_div
from pytensor.tensor.random.basic import BernoulliRV, BinomialRV, CategoricalRV, MultinomialRV
from pytensor.tensor.special import Softmax

from pymc_svi.evaluation import evaluate

__all__ = ["log_prob_in_logits"]


def log_prob_in_logits(rv: Variable, value: Variable) -> Variable | None:
    """Return a log-probability written in logits or probits.

    Parameters
    ----------
    rv : Variable
        A random variable.
    value : Variable
        Its value.

    Returns
    -------
    Variable or None
        The elementwise log-probability, if the probability of the variable is a ``sigmoid`` or
        ``invprobit`` of something (Bernoulli, Binomial) or a ``softmax`` of its last axis (Categorical,
        Multinomial); otherwise None.
    """
    node = rv.owner
    if node is None or type(node.op) not in _WRITTEN_IN_LOGITS:
        return None
    *counts, p = node.op.dist_params(node)
    p = _seen_through(p)
    for argument_of, log_prob in _WRITTEN_IN_LOGITS[type(node.op)]:
        argument = None if p.owner is None else argument_of(p.owner)
        if argument is not None:
            return log_prob(value, *counts, argument)
    return None


def _of_sigmoid(node: Apply) -> Variable | None:
    return node.inputs[0] if node.op == sigmoid else None


def _of_normal_cdf(node: Apply) -> Variable | None:
    """Return the argument of ``0.5 * erfc(-x / sqrt(2))``, which is how PyMC writes ``invprobit``."""
    if node.op != mul or len(node.inputs) != 2:
        return None
    half, inner = node.inputs
    if inner.owner is None or inner.owner.op != erfc:
        half, inner = inner, half
    if inner.owner is None or inner.owner.op != erfc:
        return None
    if get_underlying_scalar_constant_value(half, raise_not_constant=False) != 0.5:
        return None
    [scaled] = inner.owner.inputs
    node = scaled.owner
    if node is None or node.op != true_div or not _is_root_of_two(node.inputs[1]):
        return None
    return -node.inputs[0]


def _is_root_of_two(x: Variable) -> bool:
    """Whether an expression is the square root of 2, in double or single precision."""
    if not all(isinstance(variable, Constant) for variable in graph_inputs([x])):
        return False
    return bool(np.allclose(evaluate(x), np.sqrt(2.0), rtol=1e-7, atol=0))


def _of_softmax(node: Apply) -> Variable | None:
    last = node.outputs[0].type.ndim - 1
    return node.inputs[0] if isinstance(node.op, Softmax) and node.op.axis == (last,) else None


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
    # One product, which is also good at infinite logits.
    return pt.switch(outside, -np.inf, -pt.softplus((1 - 2 * value) * logits))


def _bernoulli_probit(value: Variable, probit: Variable) -> Variable:
    outside = pt.or_(pt.lt(value, 0), pt.gt(value, 1))
    return pt.switch(outside, -np.inf, _log_normal_cdf(pt.switch(value, probit, -probit)))


def _binomial_probit(value: Variable, n: Variable, probit: Variable) -> Variable:
    log_p, log_q = _log_normal_cdf(probit), _log_normal_cdf(-probit)
    return _in_binomial_support(value, n, _times(value, log_p) + _times(n - value, log_q))


def _log_normal_cdf(x: Variable) -> Variable:
    """Return the logarithm of the standard normal's distribution function."""
    # PyMC's ``normal_lcdf`` has the root of 2 in single precision.
    one, root = (np.asarray(number, dtype=x.type.dtype) for number in (1.0, np.sqrt(0.5)))
    # Each formula is computed where it is good only: the first is infinite far on the other side.
    in_tail = pt.lt(x, -one)
    tail, rest = pt.switch(in_tail, x, -one), pt.switch(in_tail, -one, x)
    log_tail = pt.log(pt.erfcx(-tail * root) / 2) - tail**2 / 2
    return pt.switch(in_tail, log_tail, pt.log1p(-pt.erfc(rest * root) / 2))


def _binomial(value: Variable, n: Variable, logits: Variable) -> Variable:
    # What is counted is the less likely outcome, whose logit may be minus infinity only.
    likely = pt.gt(logits, 0)
    count, logits = pt.switch(likely, n - value, value), pt.switch(likely, -logits, logits)
    return _in_binomial_support(value, n, _times(count, logits) - n * pt.softplus(logits))


def _times(count: Variable, log_p: Variable) -> Variable:
    """Return the log-probability of some outcomes: an outcome that has not come counts nothing."""
    return pt.switch(pt.eq(count, 0), 0.0, count * log_p)


def _in_binomial_support(value: Variable, n: Variable, log_prob: Variable) -> Variable:
    log_prob += _log_factorial(n) - _log_factorial(value) - _log_factorial(n - value)
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
    each = _times(value, log_p) - _log_factorial(value)
    outside = pt.or_(pt.any(pt.lt(value, 0), axis=-1), pt.neq(pt.sum(value, axis=-1), n))
    log_prob = _log_factorial(n) + pt.sum(each, axis=-1)
    return check_parameters(pt.switch(outside, -np.inf, log_prob), n >= 0, msg="n >= 0")


_WRITTEN_IN_LOGITS: dict[type, tuple[tuple[Callable, Callable], ...]] = {
    BernoulliRV: ((_of_sigmoid, _bernoulli), (_of_normal_cdf, _bernoulli_probit)),
    BinomialRV: ((_of_sigmoid, _binomial), (_of_normal_cdf, _binomial_probit)),
    CategoricalRV: ((_of_softmax, _categorical),),
    MultinomialRV: ((_of_softmax, _multinomial),),
}
