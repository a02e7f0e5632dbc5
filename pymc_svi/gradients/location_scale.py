"""Rules for univariate distributions that are elementary functions of noise."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.continuous import (
    InterpolatedRV,
    KumaraswamyRV,
    MoyalRV,
    RiceRV,
    SkewNormalRV,
)
from pytensor.tensor.random import basic as rvs

from pymc_svi.gradients.pathwise import draw_shape, noise, register_rsample

__all__: list[str] = []


@register_rsample(rvs.NormalRV)
def _normal(op, rv, mu, sigma):
    return mu + sigma * noise(rv, pt.random.normal)


@register_rsample(rvs.LogNormalRV)
def _log_normal(op, rv, mu, sigma):
    return pt.exp(mu + sigma * noise(rv, pt.random.normal))


@register_rsample(rvs.HalfNormalRV)
def _half_normal(op, rv, loc, sigma):
    return loc + sigma * pt.abs(noise(rv, pt.random.normal))


@register_rsample(rvs.UniformRV)
def _uniform(op, rv, lower, upper):
    return lower + (upper - lower) * noise(rv, pt.random.uniform)


@register_rsample(rvs.LaplaceRV)
def _laplace(op, rv, mu, b):
    return mu + b * noise(rv, pt.random.laplace)


@register_rsample(rvs.LogisticRV)
def _logistic(op, rv, mu, s):
    return mu + s * noise(rv, pt.random.logistic)


@register_rsample(rvs.GumbelRV)
def _gumbel(op, rv, mu, beta):
    return mu - beta * pt.log(noise(rv, pt.random.exponential))


@register_rsample(rvs.CauchyRV)
def _cauchy(op, rv, alpha, beta):
    return alpha + beta * noise(rv, pt.random.cauchy)


@register_rsample(rvs.HalfCauchyRV)
def _half_cauchy(op, rv, loc, beta):
    return loc + beta * pt.abs(noise(rv, pt.random.cauchy))


@register_rsample(rvs.ExponentialRV)
def _exponential(op, rv, scale):
    return scale * noise(rv, pt.random.exponential)


@register_rsample(rvs.ParetoRV)
def _pareto(op, rv, alpha, m):
    return m * pt.exp(noise(rv, pt.random.exponential) / alpha)


@register_rsample(rvs.WeibullRV)
def _weibull(op, rv, alpha):
    return pt.exp(pt.log(noise(rv, pt.random.exponential)) / alpha)


@register_rsample(rvs.TriangularRV)
def _triangular(op, rv, lower, mode, upper):
    u = noise(rv, pt.random.uniform)
    width, left, right = upper - lower, mode - lower, upper - mode
    below = u * width < left
    # Each root gets a harmless argument where the other one counts: a mode on an edge would give
    # the derivative of a root at zero, whose infinity survives multiplication by zero.
    rising = pt.sqrt(pt.switch(below, u * width * left, 1.0))
    falling = pt.sqrt(pt.switch(below, 1.0, (1 - u) * width * right))
    return pt.switch(below, lower + rising, upper - falling)


@register_rsample(MoyalRV)
def _moyal(op, rv, mu, sigma):
    # Minus the logarithm of a chi-squared variable with one degree of freedom.
    return mu - 2 * sigma * pt.log(pt.abs(noise(rv, pt.random.normal)))


def _two_normals(rv):
    both = noise(rv, pt.random.normal, shape=(2, *draw_shape(rv)))
    return both[0], both[1]


@register_rsample(RiceRV)
def _rice(op, rv, b, sigma):
    # The length of a normal vector in the plane whose mean has length b.
    x, y = _two_normals(rv)
    return sigma * pt.sqrt((b + x) ** 2 + y**2)


@register_rsample(SkewNormalRV)
def _skew_normal(op, rv, mu, sigma, alpha):
    # Azzalini (1985), A class of distributions which includes the normal ones.
    x, y = _two_normals(rv)
    return mu + sigma * (alpha * pt.abs(x) + y) / pt.sqrt(1 + alpha**2)


@register_rsample(KumaraswamyRV)
def _kumaraswamy(op, rv, a, b):
    # Like PyMC's formula, with 1 - u = exp(-noise) to stay exact near both edges.
    log_draw = pt.log(-pt.expm1(-noise(rv, pt.random.exponential) / b)) / a
    return pt.minimum(pt.exp(log_draw), 1 - np.finfo(rv.type.dtype).epsneg)


@register_rsample(InterpolatedRV)
def _interpolated(op, rv, *points):
    # PyMC computes its parameters in numpy: there is nothing to differentiate.
    return rv
