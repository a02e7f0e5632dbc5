"""Reparameterisations of directions and angles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.random.basic import VonMisesRV

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.site import Site
from pymc_svi.primitives import sample

__all__ = ["CircularReparam", "ProjectedNormal", "ProjectedNormalReparam"]


class CircularReparam:
    """Give an angle a site on the whole real line, wrapped around the circle.

    The site ``{name}_unwrapped`` is flat, and the original keeps its law, taken at the wrapped
    value. For ``VonMises``.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.reparam import CircularReparam
    >>> def model():
    ...     pm.VonMises("x", 0.0, 2.0)
    >>> run = handlers.reparam(model, config={"x": CircularReparam()})
    >>> tr = handlers.trace(handlers.condition(run, data={"x_unwrapped": 7.0})).get_trace()
    >>> round(float(tr["x"].value.eval()), 4)
    0.7168
    """

    keeps_law = True

    def __call__(self, site: Site) -> Variable:
        """Create the unwrapped site; return the angle."""
        rv = site.dist
        if not isinstance(rv.owner.op, VonMisesRV):
            raise SiteError(
                sentence(
                    f"Site {site.name!r} is not an angle",
                    found=str(rv.owner.op),
                    expected="VonMises",
                )
            )
        shape = tuple(rv.shape[i] if n is None else n for i, n in enumerate(rv.type.shape))
        unwrapped = sample(f"{site.name}_unwrapped", pm.Flat.dist(shape=shape), dims=site.dims)
        return pt.mod(unwrapped + np.pi, 2 * np.pi) - np.pi

    def __repr__(self) -> str:
        return "CircularReparam()"


class ProjectedNormal:
    r"""Distribution on the unit sphere: the direction of a Normal vector around ``concentration``.

    Its density, for the surface of the sphere, is an integral over the length of the vector that
    a recurrence in the dimension solves [1]_; opposite to a long concentration in many dimensions,
    where it is negligible, its logarithm has few digits. As a latent site it has no unconstrained space of
    its own; use :class:`ProjectedNormalReparam`.

    Parameters
    ----------
    name : str
        Name of the variable.
    concentration : array_like of shape (..., d)
        Mean of the Normal vector, in d dimensions.

    References
    ----------
    .. [1] Hernandez-Stumpfhauser, Breidt and van der Woerd (2017), The General Projected Normal
       Distribution of Arbitrary Dimension. Bayesian Analysis 12.

    Examples
    --------
    The uniform distribution on the circle:

    >>> import pymc as pm
    >>> from pymc_svi.reparam import ProjectedNormal
    >>> direction = ProjectedNormal.dist([0.0, 0.0])
    >>> float(pm.logp(direction, [0.6, 0.8]).exp().eval())
    0.159155
    """

    def __new__(cls, name: str, concentration: Any, **kwargs):
        """Register a variable in the model of the context."""
        return pm.CustomDist(name, pt.as_tensor(concentration), **cls._options(), **kwargs)

    @classmethod
    def dist(cls, concentration: Any, **kwargs):
        """Return an unnamed distribution.

        Parameters
        ----------
        concentration : array_like of shape (..., d)
            Mean of the Normal vector, in d dimensions.
        **kwargs
            As for any PyMC distribution: ``shape``.

        Returns
        -------
        TensorVariable
            The variable.
        """
        return pm.CustomDist.dist(pt.as_tensor(concentration), **cls._options(), **kwargs)

    @staticmethod
    def _options():
        return {
            "dist": _direction,
            "logp": _direction_logp,
            "signature": "(d)->(d)",
            "class_name": "ProjectedNormal",
        }


def _direction_logp(value, concentration):
    d = value.type.shape[-1] or concentration.type.shape[-1]
    if d is None or d < 2:
        raise SiteError(
            sentence(
                "ProjectedNormal: the number of dimensions is not known, or less than 2",
                found=f"a concentration of shape {concentration.type.shape}",
                fix="Give it a concentration of known shape (..., d)",
            )
        )
    along = (value * concentration).sum(axis=-1)
    log_prob = _log_moment(along, d) - 0.5 * (concentration**2).sum(axis=-1)
    on_sphere = pt.abs(pt.sqrt((value**2).sum(axis=-1)) - 1) < 1e-5
    return pt.switch(on_sphere, log_prob - 0.5 * d * np.log(2 * np.pi), -np.inf)


def _log_moment(t, d: int):
    r"""Logarithm of :math:`\int_0^\infty r^{d-1} \exp(r t - r^2 / 2) dr`.

    By parts, :math:`I_{d} = t I_{d-1} + (d-2) I_{d-2}`, so that it is a polynomial in t plus
    another times :math:`I_1 = \Phi(t) / \phi(t)`; which of the two factors is taken out decides
    that nothing overflows.
    """
    plain, times = [pt.zeros_like(t), pt.ones_like(t)], [pt.ones_like(t), t]
    for k in range(3, d + 1):
        plain.append(t * plain[-1] + (k - 2) * plain[-2])
        times.append(t * times[-1] + (k - 2) * times[-2])
    plain, times = plain[d - 1], times[d - 1]
    up, down = pt.maximum(t, 0.0), pt.minimum(t, 0.0)
    root = np.sqrt(2 * np.pi)
    above = 0.5 * up**2 + pt.log(plain * pt.exp(-0.5 * up**2) + times * root * _normal_cdf(up))
    below = pt.log(plain + times * np.sqrt(np.pi / 2) * pt.erfcx(-down / np.sqrt(2)))
    return pt.switch(t > 0, above, below)


def _normal_cdf(t):
    return 0.5 * pt.erfc(-t / np.sqrt(2))


def _direction(concentration, size):
    size = () if size is None or getattr(size, "data", size) is None else tuple(size)
    shape = (*size, concentration.shape[-1]) if size else None
    return _normalized(pm.Normal.dist(concentration, 1.0, shape=shape))


def _normalized(vector):
    return vector / pt.sqrt((vector**2).sum(axis=-1, keepdims=True))


class ProjectedNormalReparam:
    """Draw a :class:`ProjectedNormal` site as the direction of a Normal site ``{name}_normal``.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi import handlers
    >>> from pymc_svi.reparam import ProjectedNormal, ProjectedNormalReparam
    >>> def model():
    ...     ProjectedNormal("x", np.array([1.0, 0.0]))
    >>> run = handlers.reparam(model, config={"x": ProjectedNormalReparam()})
    >>> given = handlers.condition(run, data={"x_normal": np.array([3.0, 4.0])})
    >>> handlers.trace(given).get_trace()["x"].value.eval()
    array([0.6, 0.8])
    """

    keeps_law = False

    def __call__(self, site: Site) -> Variable:
        """Create the Normal site; return its direction."""
        rv = site.dist
        if not is_projected_normal(rv):
            raise SiteError(
                sentence(
                    f"Site {site.name!r} is not a ProjectedNormal",
                    found=str(rv.owner.op),
                )
            )
        concentration = rv.owner.op.dist_params(rv.owner)[0]
        shape = tuple(rv.shape[i] if n is None else n for i, n in enumerate(rv.type.shape))
        normal = pm.Normal.dist(concentration, 1.0, shape=shape)
        return _normalized(sample(f"{site.name}_normal", normal, dims=site.dims))

    def __repr__(self) -> str:
        return "ProjectedNormalReparam()"


def is_projected_normal(rv: Variable) -> bool:
    """Whether a distribution is a :class:`ProjectedNormal`."""
    return rv.owner is not None and "ProjectedNormal" in type(rv.owner.op).__name__
