"""Draws within a loop, made of noise that is drawn before it."""

from __future__ import annotations

import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.enumeration.body import Body
from pymc_svi.enumeration.supports import has_finite_support, support_of
from pymc_svi.errors import SiteError, sentence
from pymc_svi.gradients.particles import random_variables
from pymc_svi.gradients.pathwise import NoPathwiseDraw, rsample
from pymc_svi.handlers.log_prob import as_plain_tensor, rv_log_prob

__all__ = ["draw_by_step"]


def draw_by_step(body: Body, name: str) -> Variable:
    """Return a draw of a site, as an expression of noise that depends on nothing."""
    rv = as_plain_tensor(body.traced[name].dist)
    if has_finite_support(rv):
        support = support_of(body.traced[name])
        shape = [n if n is not None else rv.shape[i] for i, n in enumerate(rv.type.shape)]
        by_value = [
            rv_log_prob(rv, pt.full(shape, pt.constant(value, dtype=rv.dtype))) for value in support
        ]
        log_prob = pt.stack([pt.broadcast_to(term, shape) for term in by_value])
        noise = pm.Gumbel.dist(0.0, 1.0, size=(len(support), *shape))
        return pt.constant(support)[(log_prob + noise).argmax(axis=0)]
    try:
        draw = rsample(rv)
    except NoPathwiseDraw as error:
        raise SiteError(
            sentence(
                f"scan: site {name!r} is handed on from step to step and cannot be drawn so",
                found=str(rv.owner.op),
                expected="a discrete site of finitely many values, or one with a differentiable draw",
                fix="Condition on it, or sample it in the guide",
            )
        ) from error
    changing = {*body.carry, *body.inputs, *body.values.values()}
    for noise in random_variables([draw]):
        if changing & set(ancestors([noise])):
            raise SiteError(
                sentence(
                    f"scan: site {name!r} is handed on from step to step, and its random numbers "
                    "depend on the step",
                    fix="Sample it in the guide, or use a distribution of location and scale",
                )
            )
    return draw
