r"""Rules whose gradient is that of the quantile function at the draw's own quantile.

A draw :math:`z = F^{-1}(u; \theta)` has the derivative
:math:`dz / d\theta = -\partial_\theta F(z; \theta) / f(z; \theta)`, which does not need the
quantile function, nor how z was drawn [1]_.

References
----------
.. [1] Figurnov, M., Mohamed, S. and Mnih, A. (2018). Implicit Reparameterization Gradients.
   NeurIPS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions.continuous import SkewStudentTRV, WaldRV
from pymc.distributions.multivariate import StickBreakingWeightsRV
from pytensor.graph.basic import Constant, Variable
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.random import basic as rvs
from pytensor.tensor.variable import TensorVariable

from pymc_svi.gradients.gamma import dlog_gamma_draw
from pymc_svi.gradients.pathwise import draw_shape, fresh_rng, noise, register_rsample
from pymc_svi.gradients.stand_in import detached, with_gradient_of

__all__ = ["log_gamma_draw", "positive_exp"]


# --- the Gamma family -----------------------------------------------------------------------


def log_gamma_draw(
    rv: Variable,
    alpha: Variable,
    *,
    shape: Sequence[int | Variable] | None = None,
    rng: Variable | None = None,
) -> TensorVariable:
    r"""Return the logarithm of a standard Gamma draw, differentiable in its shape parameter.

    The logarithm exists where the draw itself underflows, as most draws do for a shape parameter
    of 0.001. It is made of a draw with a shape parameter larger by one, which does not underflow:
    :math:`\log z = \log g + \log(u) / \alpha`.

    Parameters
    ----------
    rv : TensorVariable
        The random variable that is to be drawn; it lends its shape, dtype and generator.
    alpha : TensorVariable
        Shape parameter.
    shape : sequence of int or TensorVariable, optional
        If not the shape of ``rv``.
    rng : RandomGeneratorVariable, optional
        If not the generator of ``rv``.

    Examples
    --------
    >>> import pymc as pm
    >>> import pytensor
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.gradients.implicit import log_gamma_draw
    >>> alpha = pt.scalar("alpha")
    >>> log_z = log_gamma_draw(pm.Gamma.dist(alpha, 1.0), alpha)
    >>> bool(pytensor.grad(log_z, alpha).eval({alpha: 0.001}) > 0)
    True
    """
    value = _constant_value(alpha)
    if value is not None and np.all(value > 0.1):
        # Nothing to differentiate, and no underflow.
        return pt.log(noise(rv, _standard_gamma, alpha, shape=shape, rng=rng))
    boosted = noise(rv, _standard_gamma, alpha + 1, shape=shape, rng=rng)
    exponential = noise(rv, pt.random.exponential, shape=shape, rng=fresh_rng())
    log_z = pt.log(boosted) - exponential / alpha
    if value is not None:
        return log_z
    return with_gradient_of(log_z, alpha * detached(dlog_gamma_draw(alpha, log_z)))


@register_rsample(rvs.GammaRV)
def _gamma(op, rv, alpha, scale):
    return scale * positive_exp(log_gamma_draw(rv, alpha))


@register_rsample(rvs.InvGammaRV)
def _inverse_gamma(op, rv, alpha, beta):
    return beta * positive_exp(-log_gamma_draw(rv, alpha))


@register_rsample(rvs.BetaRV)
def _beta(op, rv, alpha, beta):
    logit = _logit_beta_draw(rv, alpha, beta)
    # The largest number below one is closer to one than the smallest is to zero.
    info = np.finfo(rv.type.dtype)
    return pt.sigmoid(pt.clip(logit, 0.98 * np.log(info.tiny), -np.log(1.5 * info.epsneg)))


@register_rsample(rvs.DirichletRV)
def _dirichlet(op, rv, alpha):
    log_draw = pt.special.log_softmax(log_gamma_draw(rv, alpha), axis=-1)
    return positive_exp(log_draw)


@register_rsample(rvs.StudentTRV)
def _student_t(op, rv, nu, mu, sigma):
    normal = noise(rv, pt.random.normal)
    log_gamma = log_gamma_draw(rv, nu / 2, rng=fresh_rng())
    return mu + sigma * normal * positive_exp((pt.log(nu / 2) - log_gamma) / 2)


@register_rsample(SkewStudentTRV)
def _skew_student_t(op, rv, a, b, mu, sigma):
    # Jones and Faddy (2003), A skew extension of the t-distribution, with applications: their
    # function of a Beta draw, in terms of its logit.
    half_logit = _logit_beta_draw(rv, a, b) / 2
    tails = positive_exp(half_logit) - positive_exp(-half_logit)
    return mu + sigma * pt.sqrt(a + b) * tails / 2


@register_rsample(StickBreakingWeightsRV)
def _stick_breaking_weights(op, rv, alpha, k):
    # What is left of the stick after each break, 1 - Beta(1, alpha), is exp(-noise / alpha).
    *batch, length = draw_shape(rv)
    breaks = noise(rv, pt.random.exponential, shape=(*batch, length - 1)) / alpha[..., None]
    left = pt.exp(-pt.cumsum(breaks, axis=-1))
    before = pt.concatenate([pt.ones_like(left[..., :1]), left[..., :-1]], axis=-1)
    return pt.concatenate([-before * pt.expm1(-breaks), left[..., -1:]], axis=-1)


def _logit_beta_draw(rv, alpha, beta):
    return log_gamma_draw(rv, alpha) - log_gamma_draw(rv, beta, rng=fresh_rng())


def _standard_gamma(alpha, **kwargs):
    return rvs.GammaRV()(alpha, 1.0, **kwargs)


def positive_exp(log_draw: TensorVariable) -> TensorVariable:
    """Return exp without 0 and infinity, which are in no support."""
    # Of the narrower of the two types: what is computed in double precision ends in floatX.
    narrower = min(np.finfo(log_draw.type.dtype).max, np.finfo(pytensor.config.floatX).max)
    largest = 0.98 * float(np.log(narrower))
    return pt.exp(pt.clip(log_draw, -largest, largest))


def _constant_value(x: Variable) -> np.ndarray | None:
    """Return the value of a constant parameter, which its op may have given more dimensions."""
    while x.owner and isinstance(x.owner.op, DimShuffle):
        [x] = x.owner.inputs
    return x.data if isinstance(x, Constant) else None


# --- Wald -----------------------------------------------------------------------------------


@register_rsample(WaldRV)
def _wald(op, rv, mu, lam, shift):
    # Michael, Schucany and Haas (1976), Generating random variates using transformations with
    # multiple roots: one of the two roots whose product is mu^2.
    y = mu * noise(rv, pt.random.normal) ** 2 / (2 * lam)
    u = noise(rv, pt.random.uniform, rng=fresh_rng())
    ratio = 1 + y + pt.sqrt(y * (y + 2))
    x = mu * pt.switch(u * (1 + ratio) < ratio, 1 / ratio, ratio)
    # The choice of the root jumps, so the gradient is the implicit one. In the derivative of the
    # distribution function by mu all terms cancel but one, 2 lam / mu^2 exp(2 lam / mu) Phi(-b);
    # that by lam follows from mu and lam being on the scale of x.
    b = pt.sqrt(lam / x) * (x / mu + 1)
    mills_ratio = np.sqrt(np.pi / 2) * pt.erfcx(b / np.sqrt(2))
    by_mu = 2 * pt.sqrt(lam * x) * x / mu**2 * mills_ratio
    by_lam = (x - mu * by_mu) / lam
    return shift + with_gradient_of(x, mu * detached(by_mu) + lam * detached(by_lam))
