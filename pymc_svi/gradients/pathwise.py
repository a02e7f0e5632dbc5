"""Differentiable draws (interim: location-scale families only)."""

from __future__ import annotations

from collections.abc import Callable

import pytensor.tensor as pt
from pytensor.graph.basic import Variable

__all__ = ["NoPathwiseDraw", "has_rsample", "register_rsample", "rsample"]

_RULES: dict[type, Callable] = {}


class NoPathwiseDraw(NotImplementedError):
    """A distribution has no differentiable draw."""


def register_rsample(op_type):
    """Register the differentiable draw of an op type."""

    def register(rule):
        _RULES[op_type] = rule
        return rule

    return register


def _rule(rv):
    for cls in type(rv.owner.op).__mro__:
        if cls in _RULES:
            return _RULES[cls]
    return None


def has_rsample(rv: Variable) -> bool:
    """Whether a random variable has a differentiable draw."""
    return _rule(rv) is not None


def rsample(rv: Variable) -> Variable:
    """Return a differentiable draw of a random variable."""
    rule = _rule(rv)
    if rule is None:
        raise NoPathwiseDraw(
            f"Site {rv.name!r} ({rv.owner.op}) has no differentiable draw. "
            "Add one with register_rsample, or use another distribution."
        )
    return rule(rv.owner.op, rv, *rv.owner.op.dist_params(rv.owner))


def _shape(rv):
    return rv.type.shape if None not in rv.type.shape else rv.shape


def _normal(rv):
    return pt.random.normal(0.0, 1.0, size=_shape(rv), rng=rv.owner.inputs[0])


def _uniform(rv):
    return pt.random.uniform(0.0, 1.0, size=_shape(rv), rng=rv.owner.inputs[0])


from pytensor.tensor.random import basic as ptr  # noqa: E402

register_rsample(ptr.NormalRV)(lambda op, rv, mu, s: mu + s * _normal(rv))
register_rsample(ptr.LogNormalRV)(lambda op, rv, mu, s: pt.exp(mu + s * _normal(rv)))
register_rsample(ptr.HalfNormalRV)(lambda op, rv, mu, s: mu + s * pt.abs(_normal(rv)))
register_rsample(ptr.UniformRV)(lambda op, rv, a, b: a + (b - a) * _uniform(rv))
register_rsample(ptr.ExponentialRV)(lambda op, rv, s: -s * pt.log1p(-_uniform(rv)))
