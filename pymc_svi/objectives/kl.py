"""Kullback-Leibler divergences in closed form, and the registry of their formulas.

A formula is registered for the types of two random variable ops by :func:`register_kl`; the
package's own are registered in the same way. The base class of an op serves its subclasses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.linalg import cholesky, solve_triangular

from pymc_svi.errors import sentence
from pymc_svi.gradients.pathwise import draw_shape

__all__ = ["has_kl", "kl_divergence", "register_kl"]

_FORMULAS: dict[tuple[type, type], Callable[..., Variable]] = {}


def register_kl(q: type, p: type | None = None) -> Callable[[Callable], Callable]:
    """Register the formula of a divergence.

    Parameters
    ----------
    q, p : type
        The two families: PyMC distributions, such as ``pm.Normal``, or the types of their ops.
        Without ``p`` both are the same.

    Returns
    -------
    callable
        A decorator of ``formula(q_params, p_params) -> TensorVariable``, which gets the
        parameters of the two ops, in the op's order and convention (``pm.Gamma`` hands
        ``1 / beta`` to its op), and returns the divergence elementwise.

    Raises
    ------
    TypeError
        If an argument is not a family of distributions.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.objectives import has_kl, kl_divergence, register_kl
    >>> has_kl(pm.Geometric.dist(0.5), pm.Geometric.dist(0.2))
    False
    >>> @register_kl(pm.Geometric)
    ... def geometric(q, p):
    ...     (a,), (b,) = q, p
    ...     return pt.log(a / b) + (1 - a) / a * pt.log((1 - a) / (1 - b))
    >>> round(float(kl_divergence(pm.Geometric.dist(0.5), pm.Geometric.dist(0.2)).eval()), 4)
    0.4463
    """
    types = _op_type(q), _op_type(q if p is None else p)

    def register(formula: Callable) -> Callable:
        _FORMULAS[types] = formula
        return formula

    return register


def has_kl(q: Variable, p: Variable) -> bool:
    """Return whether the divergence of two random variables has a formula.

    Parameters
    ----------
    q, p : TensorVariable
        Random variables.

    Returns
    -------
    bool
        Whether it has.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.objectives import has_kl
    >>> normal = pm.Normal.dist(0.0, 1.0)
    >>> has_kl(normal, normal), has_kl(normal, pm.StudentT.dist(4.0))
    (True, False)
    """
    return _formula(q, p) is not None


def kl_divergence(q: Variable, p: Variable) -> Variable:
    """Return the divergence of one random variable from another, for each independent element.

    Parameters
    ----------
    q, p : TensorVariable
        Random variables of one shape.

    Returns
    -------
    TensorVariable
        ``E_q[log q - log p]``, of the shape of their log-probabilities.

    Raises
    ------
    NotImplementedError
        If no formula is registered for their families.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.objectives import kl_divergence
    >>> q, p = pm.Normal.dist(1.0, 1.0, shape=2), pm.Normal.dist(0.0, 1.0, shape=2)
    >>> kl_divergence(q, p).eval()
    array([0.5, 0.5])
    """
    formula = _formula(q, p)
    if formula is None:
        raise NotImplementedError(
            sentence(
                f"There is no formula for the divergence of {q.owner.op} from {p.owner.op}",
                fix="Register one with register_kl, or use Trace_ELBO",
            )
        )
    value = formula(_params(q), _params(p))
    batch = draw_shape(q)[: q.type.ndim - q.owner.op.ndim_supp]
    return pt.broadcast_to(value, batch) if batch else value


def _formula(q: Variable, p: Variable) -> Callable[..., Variable] | None:
    if q.owner is None or p.owner is None:
        return None
    for q_type in type(q.owner.op).__mro__:
        for p_type in type(p.owner.op).__mro__:
            if (q_type, p_type) in _FORMULAS:
                return _FORMULAS[q_type, p_type]
    return None


def _params(rv: Variable) -> list[Variable]:
    # Short constants, such as 2.0, have float32; a formula is not to be evaluated in it.
    return [param.astype("floatX") for param in rv.owner.op.dist_params(rv.owner)]


def _op_type(family: Any) -> type:
    if isinstance(family, type) and issubclass(family, pm.Distribution):
        return getattr(family, "rv_type", None) or type(getattr(family, "rv_op", None))
    if isinstance(family, type):
        return family
    raise TypeError(
        sentence(
            "register_kl: not a family of distributions",
            found=f"{family!r}",
            fix="Pass a PyMC distribution such as pm.Normal, or the type of an op",
        )
    )


# --- the formulas -----------------------------------------------------------------------------


def _betaln(a: Variable, b: Variable) -> Variable:
    return pt.gammaln(a) + pt.gammaln(b) - pt.gammaln(a + b)


def _xlog_ratio(a: Variable, b: Variable) -> Variable:
    """Return ``a log(a / b)``, which is 0 where ``a`` is."""
    return pt.switch(pt.eq(a, 0), 0.0, a * pt.log(a / b))


@register_kl(pm.Normal)
@register_kl(pm.LogNormal)
def _normal(q, p):
    (m, s), (loc, scale) = q, p
    return pt.log(scale / s) + ((s / scale) ** 2 + ((m - loc) / scale) ** 2 - 1) / 2


@register_kl(pm.HalfNormal)
def _half_normal(q, p):
    (loc, s), (other_loc, scale) = q, p
    same = pt.log(scale / s) + ((s / scale) ** 2 - 1) / 2
    # Both start at zero in PyMC; elsewhere there is no closed form of this simplicity.
    return pt.switch(pt.eq(loc, other_loc), same, np.nan)


@register_kl(pm.MvNormal)
def _mv_normal(q, p):
    (m, cov), (loc, other_cov) = q, p
    factor, other = cholesky(cov), cholesky(other_cov)
    whitened = solve_triangular(other, factor, lower=True, b_ndim=2)
    shift = solve_triangular(other, (loc - m)[..., None], lower=True, b_ndim=2)[..., 0]
    log_dets = [pt.log(pt.diagonal(f, axis1=-2, axis2=-1)).sum(axis=-1) for f in (factor, other)]
    quadratic = (whitened**2).sum(axis=(-2, -1)) + (shift**2).sum(axis=-1) - m.shape[-1]
    return log_dets[1] - log_dets[0] + quadratic / 2


@register_kl(pm.Gamma)
def _gamma(q, p):
    (a, scale), (b, other) = q, p
    return (
        (a - b) * pt.digamma(a)
        - pt.gammaln(a)
        + pt.gammaln(b)
        + b * pt.log(other / scale)
        + a * (scale / other - 1)
    )


@register_kl(pm.InverseGamma)
def _inverse_gamma(q, p):
    (a, rate), (b, other) = q, p  # the inverses are Gamma with these rates
    return _gamma((a, 1 / rate), (b, 1 / other))


@register_kl(pm.Exponential)
def _exponential(q, p):
    (scale,), (other,) = q, p
    return pt.log(other / scale) + scale / other - 1


@register_kl(pm.Gamma, pm.Exponential)
def _gamma_exponential(q, p):
    return _gamma(q, (pt.ones_like(p[0]), p[0]))


@register_kl(pm.Exponential, pm.Gamma)
def _exponential_gamma(q, p):
    return _gamma((pt.ones_like(q[0]), q[0]), p)


@register_kl(pm.Beta)
def _beta(q, p):
    (a, b), (c, d) = q, p
    return (
        _betaln(c, d)
        - _betaln(a, b)
        + (a - c) * pt.digamma(a)
        + (b - d) * pt.digamma(b)
        + (c - a + d - b) * pt.digamma(a + b)
    )


@register_kl(pm.Dirichlet)
def _dirichlet(q, p):
    (a,), (b,) = q, p
    total = a.sum(axis=-1)
    return (
        pt.gammaln(total)
        - pt.gammaln(b.sum(axis=-1))
        + (pt.gammaln(b) - pt.gammaln(a)).sum(axis=-1)
        + ((a - b) * (pt.digamma(a) - pt.digamma(total)[..., None])).sum(axis=-1)
    )


@register_kl(pm.Laplace)
def _laplace(q, p):
    (m, b), (loc, scale) = q, p
    distance = abs(m - loc)
    return pt.log(scale / b) + (b * pt.exp(-distance / b) + distance) / scale - 1


@register_kl(pm.Uniform)
def _uniform(q, p):
    (low, high), (lower, upper) = q, p
    inside = (low >= lower) & (high <= upper)
    return pt.switch(inside, pt.log((upper - lower) / (high - low)), np.inf)


@register_kl(pm.Bernoulli)
def _bernoulli(q, p):
    (a,), (b,) = q, p
    return _xlog_ratio(a, b) + _xlog_ratio(1 - a, 1 - b)


@register_kl(pm.Categorical)
def _categorical(q, p):
    (a,), (b,) = q, p
    return _xlog_ratio(a, b).sum(axis=-1)


@register_kl(pm.Poisson)
def _poisson(q, p):
    (a,), (b,) = q, p
    return _xlog_ratio(a, b) - a + b
