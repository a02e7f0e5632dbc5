"""``AutoDiagonalNormal``: independent Normals, drawn as one vector."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.constraints import positive
from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.continuous import AutoGaussianVector, standard_normal
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.normal import check_init_scale, normal_log_density
from pymc_svi.guides.prototype import Prototype
from pymc_svi.handlers.core import Program
from pymc_svi.primitives import param

__all__ = ["AutoDiagonalNormal"]


class AutoDiagonalNormal(AutoGaussianVector):
    """Mean-field guide whose params are two vectors over all latent elements.

    The family of :class:`AutoNormal`, with ``auto_loc`` and ``auto_scale`` of length D, the
    number of unconstrained elements, in place of two params for each site.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the location starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start, in unconstrained space.

    References
    ----------
    Kucukelbir et al. (2017), Automatic Differentiation Variational Inference.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoDiagonalNormal
    >>> def model():
    ...     mu = pm.Normal("mu", shape=2)
    ...     sigma = pm.HalfNormal("sigma")
    ...     pm.Normal("y", mu, sigma, observed=[0.0, 1.0])
    >>> tr = handlers.trace(AutoDiagonalNormal(model)).get_trace()
    >>> list(tr), tr["auto_scale"].shape
    (['auto_loc', 'auto_scale', '_auto_latent', 'mu', 'sigma'], (3,))
    """

    step_up = AutoGuide.step_up

    def __init__(
        self,
        model: Program,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        self.init_scale = check_init_scale(type(self).__name__, init_scale)

    def draw_joint(self, prototype: Prototype) -> tuple[Variable, ...]:
        """Declare location and scale; draw."""
        size = prototype.size
        loc = param(f"{self.prefix}_loc", lambda: self.start_vector(prototype))
        scale = param(
            f"{self.prefix}_scale",
            lambda: np.full(size, self.init_scale),
            constraint=positive,
        )
        noise = standard_normal(size)
        log_density = -0.5 * (noise**2).sum() - pt.log(scale).sum() - 0.5 * size * np.log(2 * np.pi)
        joint = loc + scale * noise
        return joint, log_density, lambda u: normal_log_density(u, loc, scale).sum()

    def moments(self, params):
        """Return mean and standard deviation of the vector."""
        loc, scale = (np.asarray(params[f"{self.prefix}_{p}"]) for p in ("loc", "scale"))
        return loc, scale

    def noise_map(self, params, *args, **kwargs):
        """Return the map of noise to the fitted vector."""
        loc, scale = self.moments(params)
        return lambda noise: (loc + scale * noise, pt.constant(np.log(scale).sum()))

    def get_posterior(self, params, *args, **kwargs):
        """Return the fitted Normal, in unconstrained space."""
        return pm.Normal.dist(*self.moments(params))
