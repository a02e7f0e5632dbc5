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
    """Distribution on the unit sphere: the direction of a Normal vector around ``concentration``.

    It has draws but no density of its own; use it with :class:`ProjectedNormalReparam`.

    Parameters
    ----------
    name : str
        Name of the variable.
    concentration : array_like of shape (..., d)
        Mean of the Normal vector, in d dimensions.
    """

    def __new__(cls, name: str, concentration: Any, **kwargs):
        """Register a variable in the model of the context."""
        return pm.CustomDist(name, pt.as_tensor(concentration), **cls._options(), **kwargs)

    @classmethod
    def dist(cls, concentration: Any, **kwargs):
        """Return an unnamed distribution."""
        return pm.CustomDist.dist(pt.as_tensor(concentration), **cls._options(), **kwargs)

    @staticmethod
    def _options():
        return {"dist": _direction, "signature": "(d)->(d)", "class_name": "ProjectedNormal"}


def _direction(concentration, size):
    size = () if size is None or getattr(size, "data", size) is None else tuple(size)
    shape = (*size, concentration.shape[-1]) if size else None
    return _normalized(pm.Normal.dist(concentration, 1.0, shape=shape))


def _normalized(vector):
    return vector / pt.sqrt((vector**2).sum(axis=-1, keepdims=True))


class ProjectedNormalReparam:
    """Draw a :class:`ProjectedNormal` site as the direction of a Normal site ``{name}_normal``."""

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
