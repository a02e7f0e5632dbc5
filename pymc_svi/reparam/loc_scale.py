"""Partial non-centring of location-scale families."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions.continuous import MoyalRV
from pytensor.graph.basic import Variable
from pytensor.tensor.random.basic import (
    CauchyRV,
    GumbelRV,
    LaplaceRV,
    LogisticRV,
    NormalRV,
    StudentTRV,
)

from pymc_svi.constraints import unit_interval
from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.site import Site
from pymc_svi.primitives import param, sample

__all__ = ["LocScaleReparam", "is_loc_scale", "loc_and_scale"]

# Op -> positions of location and scale among its parameters.
_FAMILIES: dict[type, tuple[int, int]] = {
    NormalRV: (0, 1),
    LaplaceRV: (0, 1),
    LogisticRV: (0, 1),
    CauchyRV: (0, 1),
    GumbelRV: (0, 1),
    MoyalRV: (0, 1),
    StudentTRV: (1, 2),
}


def is_loc_scale(rv: Variable) -> bool:
    """Whether a distribution belongs to a location-scale family that is known here.

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
    >>> from pymc_svi.reparam import is_loc_scale
    >>> is_loc_scale(pm.Normal.dist(0.0, 1.0)), is_loc_scale(pm.LogNormal.dist(0.0, 1.0))
    (True, False)
    """
    return rv.owner is not None and type(rv.owner.op) in _FAMILIES


def loc_and_scale(rv: Variable) -> tuple[Variable, Variable]:
    """Return location and scale of a distribution."""
    loc, scale = _FAMILIES[type(rv.owner.op)]
    params = rv.owner.op.dist_params(rv.owner)
    return params[loc], params[scale]


class LocScaleReparam:
    r"""Move a location-scale site partly out of its prior.

    With centredness :math:`c` the site :math:`x \sim (\mu, \sigma)` becomes

    .. math:: x' \sim (c\mu, \sigma^c), \qquad x = \mu + \sigma^{1-c}(x' - c\mu).

    At 0 the site is non-centred, at 1 unchanged; by default the centredness is learned. Works for
    Normal, StudentT, Laplace, Logistic, Cauchy, Gumbel and Moyal.

    Parameters
    ----------
    centered : float or array_like in [0, 1], optional
        The centredness; if not given, a param ``{name}_centered`` that starts at 0.5.

    Raises
    ------
    ValueError
        If ``centered`` is not between 0 and 1.

    References
    ----------
    Gorinova, Moore and Hoffman (2020), Automatic Reparameterisation of Probabilistic Programs.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import LocScaleReparam, handlers
    >>> def model():
    ...     pm.Normal("x", 3.0, 2.0)
    >>> learned = handlers.reparam(model, config={"x": LocScaleReparam()})
    >>> list(handlers.trace(learned).get_trace())
    ['x_centered', 'x_decentered', 'x']
    """

    keeps_law = False

    def __init__(self, centered: Any = None):
        if centered is not None:
            array = np.asarray(centered, dtype=pytensor.config.floatX)
            if not ((array >= 0) & (array <= 1)).all():
                raise ValueError(
                    sentence(
                        "LocScaleReparam: centered lies between 0 and 1", found=f"{centered!r}"
                    )
                )
            centered = array
        self.centered = centered

    def __call__(self, site: Site) -> Variable | None:
        """Create the decentred site; return the original as an expression of it."""
        if self.centered is not None and (self.centered == 1).all():
            return None
        rv = site.dist
        if not is_loc_scale(rv):
            raise SiteError(
                sentence(
                    f"Site {site.name!r} does not belong to a location-scale family",
                    found=str(rv.owner.op),
                    expected="Normal, StudentT, Laplace, Logistic, Cauchy, Gumbel or Moyal",
                    fix="Use TransformReparam for LogNormal and others",
                )
            )
        centered = self.centered
        if centered is None:
            centered = param(f"{site.name}_centered", 0.5, constraint=unit_interval)
        loc, scale = loc_and_scale(rv)
        family = _with_parameters(rv, centered * loc, scale**centered)
        decentered = sample(f"{site.name}_decentered", family, dims=site.dims)
        return loc + scale ** (1 - centered) * (decentered - centered * loc)

    def __repr__(self) -> str:
        return f"LocScaleReparam({'' if self.centered is None else self.centered})"


def _with_parameters(rv: Variable, loc: Variable, scale: Variable) -> Variable:
    """Return a distribution of the same family and shape with another location and scale."""
    op, node = rv.owner.op, rv.owner
    params = list(op.dist_params(node))
    for position, value in zip(_FAMILIES[type(op)], (loc, scale), strict=True):
        params[position] = pt.as_tensor(value)
    rng = pytensor.shared(np.random.default_rng())
    size = [n if n is not None else rv.shape[i] for i, n in enumerate(rv.type.shape)]
    return op.make_node(rng, size or None, *params).outputs[1]
