"""``AutoNormal``: independent Normals in unconstrained space."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.constraints import positive
from pymc_svi.errors import sentence
from pymc_svi.gradients import rsample
from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.prototype import Prototype
from pymc_svi.handlers import Site
from pymc_svi.handlers.core import Program
from pymc_svi.primitives import param

__all__ = ["AutoNormal", "check_init_scale", "normal_log_density"]


class AutoNormal(AutoGuide):
    """Mean-field guide: a Normal for every latent element, in unconstrained space.

    The family and the optimum of ``pm.fit(method="advi")``. For a site ``x`` its params are
    ``x_auto_loc`` and ``x_auto_scale``, with the dims of the site.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the locations start; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start, in unconstrained space.

    References
    ----------
    Kucukelbir et al. (2017), Automatic Differentiation Variational Inference.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoNormal
    >>> def model():
    ...     sigma = pm.HalfNormal("sigma")
    ...     pm.Normal("y", 0.0, sigma, observed=1.0)
    >>> list(handlers.trace(AutoNormal(model)).get_trace())
    ['sigma_auto_loc', 'sigma_auto_scale', 'sigma']
    """

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

    def begin(self, prototype: Prototype):
        """Draw the noise of all sites at once; return the function that makes one site of it."""
        latents = prototype.latents
        noise = rsample(pm.Normal.dist(0.0, 1.0, shape=sum(x.size for x in latents.values())))
        ends = dict(zip(latents, np.cumsum([x.size for x in latents.values()]), strict=True))

        def draw(site: Site) -> tuple[Variable, Variable, Callable]:
            latent = prototype.latents[site.name]
            stem = f"{site.name}_{self.prefix}"
            event_dim = latent.event_ndim if site.plates else None
            loc = param(
                f"{stem}_loc",
                self.start_of(prototype, site.name),
                dims=latent.dims,
                event_dim=event_dim,
            )
            scale = param(
                f"{stem}_scale",
                lambda: latent.full(np.full(latent.shape, self.init_scale)),
                constraint=positive,
                dims=latent.dims,
                event_dim=event_dim,
            )
            end = ends[site.name]
            eps = noise[end - latent.size : end].reshape(latent.shape)
            # The density of loc + scale * eps, written in eps: fewer operations a step.
            log_density = -0.5 * eps**2 - pt.log(scale) - 0.5 * np.log(2 * np.pi)
            return loc + scale * eps, log_density, lambda u: normal_log_density(u, loc, scale)

        return draw

    def marginals(self, params, latents):
        """Return mean and standard deviation of each unconstrained element."""
        stems = {name: f"{name}_{self.prefix}" for name in latents}
        return {
            name: (np.asarray(params[f"{stem}_loc"]), np.asarray(params[f"{stem}_scale"]))
            for name, stem in stems.items()
        }

    def get_posterior(self, params, *args, **kwargs):
        """Return the fitted Normal of each site, in unconstrained space."""
        latents = self.at(params, *args, **kwargs).prototype().latents
        return {
            name: pm.Normal.dist(loc, scale)
            for name, (loc, scale) in self.marginals(params, latents).items()
        }


def normal_log_density(value: Variable, loc: Variable, scale: Variable) -> Variable:
    """Return the log-density of a Normal, elementwise."""
    return -0.5 * ((value - loc) / scale) ** 2 - pt.log(scale) - 0.5 * np.log(2 * np.pi)


def check_init_scale(guide: str, init_scale: float) -> float:
    """Return a starting scale as a float if it is a positive number."""
    if isinstance(init_scale, Mapping) or np.ndim(init_scale) != 0:
        raise TypeError(
            sentence(
                f"{guide}: init_scale is one number, in unconstrained space",
                found=repr(init_scale),
                fix="For a scale of each site, start the params there: "
                "run(n, init_params={'x_auto_scale': 0.5})",
            )
        )
    if not init_scale > 0:
        raise ValueError(sentence(f"{guide}: init_scale must be positive", found=repr(init_scale)))
    return float(init_scale)
