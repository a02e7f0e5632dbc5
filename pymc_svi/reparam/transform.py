"""Sites as transformations of a site without parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.continuous import HalfCauchyRV, HalfStudentTRV, WeibullBetaRV
from pytensor.graph.basic import Variable
from pytensor.tensor.random import basic as families

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.site import Site
from pymc_svi.primitives import sample

__all__ = ["TransformReparam", "has_transform", "register_transform"]

# From the parameters and the shape of a distribution: the base, and the map from it.
Rule = Callable[..., tuple[Variable, Callable[[Variable], Variable]]]
_RULES: dict[type, Rule] = {}


def register_transform(op_type: type) -> Callable[[Rule], Rule]:
    """Register how distributions of an op are made from a base.

    The rule is called with the shape and the parameters, and returns an unnamed base distribution
    and the function that maps its value.

    Parameters
    ----------
    op_type : type
        The op: ``type(MyDist.dist(...).owner.op)``.

    Returns
    -------
    callable
        A decorator that returns the rule unchanged.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc.distributions.continuous import KumaraswamyRV
    >>> from pymc_svi.reparam import has_transform, register_transform
    >>> @register_transform(KumaraswamyRV)
    ... def kumaraswamy(shape, a, b):
    ...     base = pm.Uniform.dist(0.0, 1.0, shape=shape)
    ...     return base, lambda u: (1 - (1 - u) ** (1 / b)) ** (1 / a)
    >>> has_transform(pm.Kumaraswamy.dist(2.0, 2.0))
    True
    """

    def register(rule: Rule) -> Rule:
        _RULES[op_type] = rule
        return rule

    return register


def has_transform(rv: Variable) -> bool:
    """Whether :class:`TransformReparam` knows a distribution.

    Parameters
    ----------
    rv : TensorVariable
        A random variable.

    Returns
    -------
    bool
        Whether it does.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.reparam import has_transform
    >>> has_transform(pm.LogNormal.dist(0.0, 1.0)), has_transform(pm.Beta.dist(1.0, 1.0))
    (True, False)
    """
    return rv.owner is not None and type(rv.owner.op) in _RULES


class TransformReparam:
    """Draw a site from a base that does not depend on its scale, and transform it.

    ``LogNormal`` becomes the exponential of a Normal; scale families a scaled standard variable;
    ``MvNormal`` a linear map of independent standard Normals; ``Uniform`` and location-scale
    families affine maps of standard ones. The base is a site ``{name}_base``.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import TransformReparam, handlers
    >>> def model():
    ...     pm.LogNormal("x", 1.0, 0.5)
    >>> run = handlers.reparam(model, config={"x": TransformReparam()})
    >>> tr = handlers.trace(handlers.condition(run, data={"x_base": 0.0})).get_trace()
    >>> float(tr["x"].value.eval())
    1.0
    """

    keeps_law = False

    def __call__(self, site: Site) -> Variable:
        """Create the base site; return the original as a function of it."""
        rv = site.dist
        if not has_transform(rv):
            raise SiteError(
                sentence(
                    f"Site {site.name!r} has no known transformation from a base",
                    found=str(rv.owner.op),
                    expected=", ".join(sorted(op.__name__ for op in _RULES)),
                    fix="Add one with pymc_svi.reparam.register_transform",
                )
            )
        node = rv.owner
        shape = tuple(rv.shape[i] if n is None else n for i, n in enumerate(rv.type.shape))
        base, transform = _RULES[type(node.op)](shape, *node.op.dist_params(node))
        return transform(sample(f"{site.name}_base", base, dims=site.dims))

    def __repr__(self) -> str:
        return "TransformReparam()"


@register_transform(families.LogNormalRV)
def _(shape, mu, sigma):
    return pm.Normal.dist(mu, sigma, shape=shape), pt.exp


@register_transform(families.UniformRV)
def _(shape, lower, upper):
    return pm.Uniform.dist(0.0, 1.0, shape=shape), lambda u: lower + (upper - lower) * u


@register_transform(families.HalfNormalRV)
def _(shape, loc, sigma):
    return pm.HalfNormal.dist(1.0, shape=shape), lambda x: loc + sigma * x


@register_transform(HalfCauchyRV)
def _(shape, beta):
    return pm.HalfCauchy.dist(1.0, shape=shape), lambda x: beta * x


@register_transform(HalfStudentTRV)
def _(shape, nu, sigma):
    return pm.HalfStudentT.dist(nu=nu, sigma=1.0, shape=shape), lambda x: sigma * x


@register_transform(families.ExponentialRV)
def _(shape, scale):
    return pm.Exponential.dist(1.0, shape=shape), lambda x: scale * x


@register_transform(families.GammaRV)
def _(shape, alpha, scale):
    return pm.Gamma.dist(alpha, 1.0, shape=shape), lambda x: scale * x


@register_transform(families.InvGammaRV)
def _(shape, alpha, beta):
    return pm.InverseGamma.dist(alpha, 1.0, shape=shape), lambda x: beta * x


@register_transform(WeibullBetaRV)
def _(shape, alpha, beta):
    return pm.Exponential.dist(1.0, shape=shape), lambda x: beta * x ** (1 / alpha)


@register_transform(families.MvNormalRV)
def _(shape, mu, cov):
    factor = pt.linalg.cholesky(cov)
    base = pm.Normal.dist(0.0, 1.0, shape=shape)
    return base, lambda z: mu + (factor * z[..., None, :]).sum(axis=-1)


for _op, _standard in (
    (families.NormalRV, pm.Normal),
    (families.LaplaceRV, pm.Laplace),
    (families.LogisticRV, pm.Logistic),
    (families.CauchyRV, pm.Cauchy),
    (families.GumbelRV, pm.Gumbel),
):

    @register_transform(_op)
    def _(shape, loc, scale, standard=_standard):
        return standard.dist(0.0, 1.0, shape=shape), lambda x: loc + scale * x


@register_transform(families.StudentTRV)
def _(shape, nu, loc, scale):
    base = pm.StudentT.dist(nu=nu, mu=np.float64(0.0), sigma=1.0, shape=shape)
    return base, lambda x: loc + scale * x
