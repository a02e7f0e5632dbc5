"""A strategy that chooses a reparameterisation site by site."""

from __future__ import annotations

from typing import Any

from pytensor.graph.basic import Constant, Variable

from pymc_svi.handlers.site import Site
from pymc_svi.reparam.directional import (
    CircularReparam,
    ProjectedNormalReparam,
    VonMisesRV,
    is_projected_normal,
)
from pymc_svi.reparam.loc_scale import LocScaleReparam, is_loc_scale
from pymc_svi.reparam.transform import TransformReparam, has_transform

__all__ = ["AutoReparam"]


class AutoReparam:
    """Choose a reparameterisation for each latent site.

    Location-scale sites are partly non-centred, others transformed from a base, directions and
    angles unwrapped. Sites whose parameters are constants stay as they are: there is nothing to
    decouple them from. The choice for a name is made once.

    Parameters
    ----------
    centered : float in [0, 1], optional
        Centredness of location-scale sites; learned if not given.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.reparam import AutoReparam
    >>> def model():
    ...     tau = pm.HalfNormal("tau", 5.0)
    ...     theta = pm.Normal("theta", 0.0, tau)
    ...     pm.LogNormal("x", theta, 1.0)
    >>> auto = handlers.reparam(model, config=AutoReparam(centered=0.0))
    >>> list(handlers.trace(auto).get_trace())
    ['tau', 'theta_decentered', 'theta', 'x_base', 'x']
    """

    def __init__(self, centered: Any = None):
        self.centered = centered
        self._choices: dict[str, Any] = {}

    def __call__(self, site: Site) -> Any:
        """Return the reparameterisation of a site, or None."""
        if not site.is_latent:
            return None
        if site.name not in self._choices:
            self._choices[site.name] = self._choose(site.dist)
        return self._choices[site.name]

    def _choose(self, rv: Variable) -> Any:
        if isinstance(rv.owner.op, VonMisesRV):
            return CircularReparam()
        if is_projected_normal(rv):
            return ProjectedNormalReparam()
        params = getattr(rv.owner.op, "dist_params", lambda node: node.inputs)(rv.owner)
        if all(isinstance(p, Constant) for p in params):
            return None
        if is_loc_scale(rv):
            return LocScaleReparam(self.centered)
        return TransformReparam() if has_transform(rv) else None
