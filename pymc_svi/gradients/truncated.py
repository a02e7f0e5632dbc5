"""Rules for truncated and censored distributions."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.censored import CensoredRV
from pymc.distributions.continuous import TruncatedNormalRV
from pymc.distributions.truncated import TruncatedRV
from pytensor.graph.basic import Variable
from pytensor.tensor.variable import TensorVariable

from pymc_svi.gradients.pathwise import no_pathwise_draw, noise, register_rsample, rsample
from pymc_svi.gradients.stand_in import detached, with_gradient_of

__all__ = ["draw_by_cdf"]


@register_rsample(TruncatedNormalRV)
def _truncated_normal(op, rv, mu, sigma, lower, upper):
    a, b = (lower - mu) / sigma, (upper - mu) / sigma
    # Mirrored if necessary, so that the interval reaches below the mean: there the distribution
    # function and its logarithm keep their precision.
    mirrored = a > 0
    low, high = pt.switch(mirrored, -b, a), pt.switch(mirrored, -a, b)
    u = noise(rv, pt.random.uniform)
    log_high = _log_normal_cdf(high)
    inside = -pt.expm1(_log_normal_cdf(low) - log_high)
    x = pt.ndtri_exp(log_high + pt.log1p(-u * inside))
    x = pt.clip(pt.switch(mirrored, -x, x), a, b)
    # At a fixed quantile q: phi(x) dx = (1 - q) phi(a) da + q phi(b) db.
    q = pt.switch(mirrored, u, 1 - u)
    by_mu, by_sigma, by_bounds = 1.0, x, 0.0
    for bound, standardized, weight in ((lower, a, 1 - q), (upper, b, q)):
        # Bounds at infinity, whose products with zero are not numbers, do not move anything.
        infinite = pt.isinf(bound)
        bound, standardized = (pt.switch(infinite, 0.0, y) for y in (bound, standardized))
        ratio = pt.exp((x - standardized) * (x + standardized) / 2)
        by_bound = pt.switch(infinite, 0.0, weight * ratio)
        by_mu, by_sigma = by_mu - by_bound, by_sigma - by_bound * standardized
        by_bounds = by_bounds + bound * detached(by_bound)
    carrier = mu * detached(by_mu) + sigma * detached(by_sigma) + by_bounds
    # Rounding may lead out of the interval again.
    return with_gradient_of(pt.clip(mu + sigma * x, lower, upper), carrier)


def _log_normal_cdf(x):
    # The branch that does not count gets a harmless argument.
    tail = pt.minimum(x, 0.0)
    safe_tail = pt.switch(pt.isinf(tail), 0.0, tail)
    log_tail = pt.log(pt.erfcx(-safe_tail / np.sqrt(2)) / 2) - safe_tail**2 / 2
    log_tail = pt.switch(pt.isinf(tail), -np.inf, log_tail)
    return pt.switch(x < 0, log_tail, pt.log1p(-pt.erfc(pt.maximum(x, 0.0) / np.sqrt(2)) / 2))


@register_rsample(CensoredRV)
def _censored(op, rv, dist, lower, upper):
    [draw] = op.fgraph.bind([rsample(dist), lower, upper])
    return draw


@register_rsample(TruncatedRV)
def _truncated(op, rv, *params):
    try:
        return draw_by_cdf(rv)
    except NotImplementedError as error:
        raise no_pathwise_draw(rv, inside=str(error)) from error


def draw_by_cdf(rv: Variable) -> TensorVariable:
    """Return a random variable itself, with the implicit gradient of its distribution function.

    PyMC needs to know its ``logcdf``, and PyTensor the derivative of that. The distribution must
    be univariate. It is what to register for such a distribution if nothing better is known.

    Parameters
    ----------
    rv : TensorVariable
        A univariate random variable.

    Examples
    --------
    >>> import pymc as pm
    >>> import pytensor
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.gradients.truncated import draw_by_cdf
    >>> scale = pt.scalar("scale")
    >>> x = draw_by_cdf(pm.Exponential.dist(scale=scale))
    >>> x_value, gradient = pytensor.function([scale], [x, pytensor.grad(x, scale)])(2.0)
    >>> bool(abs(gradient - x_value / 2.0) < 1e-9)
    True
    """
    value = detached(rv)
    log_density = pm.logp(rv, value, warn_rvs=False)
    cdf = pt.exp(pm.logcdf(rv, value, warn_rvs=False))
    return with_gradient_of(rv, -cdf * detached(pt.exp(-log_density)))
