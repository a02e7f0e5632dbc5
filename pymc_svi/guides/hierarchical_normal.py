"""``AutoHierarchicalNormal``: independent Normals whose means follow those of the prior."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.op import io_connection_pattern
from pytensor.graph.traversal import ancestors

from pymc_svi.constraints import positive, real
from pymc_svi.errors import SiteError, did_you_mean, quoted, sentence
from pymc_svi.gradients import rsample
from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.normal import check_init_scale, normal_log_density
from pymc_svi.guides.prototype import Latent, Prototype, refuse_local
from pymc_svi.guides.spaces import unconstrained_center
from pymc_svi.handlers import Site
from pymc_svi.handlers.core import Program
from pymc_svi.primitives import init_seed, param

__all__ = ["AutoHierarchicalNormal"]


class AutoHierarchicalNormal(AutoGuide):
    """Mean-field guide whose means follow the prior's: for hierarchical models as they are written.

    In unconstrained space a site is Normal with the mean ``loc + weight * center``, where
    ``center`` is the support point of its prior (the mean, for most) given the guide's draws of
    the sites that it depends on. So the members of a group move with the mean of their group,
    which independent Normals cannot do, at one more param an element. Sites whose prior depends on
    no other site have no weight.

    For a site ``x`` the params are ``x_auto_loc``, ``x_auto_scale`` and ``x_auto_weight``.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    hierarchical_sites : collection of str, optional
        The sites whose means follow their prior's. By default all whose prior depends on others.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the means start; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start, in unconstrained space.
    init_weight : float, default 1.0
        Where the weights start.

    Raises
    ------
    SiteError
        When it is run: if a name is not that of a site whose prior depends on others.
    TypeError
        If ``hierarchical_sites`` is a single string.

    References
    ----------
    Ambrogioni et al. (2021), Automatic structured variational inference.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoHierarchicalNormal
    >>> def model():
    ...     mu = pm.Normal("mu")
    ...     theta = pm.Normal("theta", mu, 0.5, shape=3)
    ...     pm.Normal("y", theta, 1.0, observed=[0.0, 1.0, 2.0])
    >>> tr = handlers.trace(AutoHierarchicalNormal(model)).get_trace()
    >>> [name for name in tr if tr[name].type == "param"]
    ['mu_auto_loc', 'mu_auto_scale', 'theta_auto_loc', 'theta_auto_scale', 'theta_auto_weight']
    """

    def __init__(
        self,
        model: Program,
        *,
        hierarchical_sites: Collection[str] | None = None,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
        init_weight: float = 1.0,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        self.init_scale = check_init_scale(type(self).__name__, init_scale)
        if isinstance(hierarchical_sites, str):
            raise TypeError(
                sentence(
                    f"{type(self).__name__}: hierarchical_sites are several names",
                    found=repr(hierarchical_sites),
                    fix=f"Write [{hierarchical_sites!r}]",
                )
            )
        self.hierarchical_sites = hierarchical_sites
        self.init_weight = float(init_weight)

    def begin(self, prototype: Prototype):
        """Return the function that draws one site."""
        following = self._following(prototype.latents)

        @lru_cache(maxsize=1)
        def centers():
            return prototype.at_start(init_seed(), unconstrained_center, following)

        def start(name: str) -> np.ndarray:
            value = prototype.start(init_seed())[name]
            if name in following:
                value = value - self.init_weight * centers()[name]
            return prototype.latents[name].full(value)

        def draw(site: Site):
            name, latent = site.name, prototype.latents[site.name]
            stem = f"{name}_{self.prefix}"

            def full(number: float) -> np.ndarray:
                return latent.full(np.full(latent.shape, number))

            def declare(what: str, start, constraint=real) -> Variable:
                return param(
                    f"{stem}_{what}",
                    start,
                    constraint=constraint,
                    dims=latent.dims,
                    event_dim=latent.event_ndim if site.plates else None,
                )

            loc = declare("loc", lambda: start(name))
            scale = declare("scale", lambda: full(self.init_scale), positive)
            if name in following:
                loc = loc + declare(
                    "weight", lambda: full(self.init_weight)
                ) * unconstrained_center(site)
            eps = rsample(pm.Normal.dist(0.0, 1.0, shape=latent.shape))
            log_density = normal_log_density(eps, 0.0, 1.0) - pt.log(scale)
            return loc + scale * eps, log_density, lambda u: normal_log_density(u, loc, scale)

        return draw

    def get_posterior(self, params, *args, **kwargs):
        """Return the fitted Normal of each site in unconstrained space, given the sites before it.

        The means of later Normals are expressions of the earlier ones.
        """
        fitted = self.at(params, *args, **kwargs)
        latents = fitted.prototype().latents
        refuse_local(latents)
        following = self._following(latents)

        def law(site: Site) -> Variable:
            stem = f"{site.name}_{self.prefix}"
            loc = pt.as_tensor(np.asarray(params[f"{stem}_loc"]))
            if site.name in following:
                loc = loc + np.asarray(params[f"{stem}_weight"]) * unconstrained_center(site)
            shape = latents[site.name].shape
            return pm.Normal.dist(loc, np.asarray(params[f"{stem}_scale"]), shape=shape)

        return fitted.chained(law)

    def _following(self, latents: dict[str, Latent]) -> list[str]:
        """Return the sites whose means follow the prior's."""
        depending = [name for name in latents if _depends_on_others(name, latents)]
        if self.hierarchical_sites is None:
            return depending
        for name in self.hierarchical_sites:
            if name not in depending:
                raise SiteError(
                    sentence(
                        f"{type(self).__name__}: hierarchical_sites has {name!r}, which is not a "
                        "latent site whose prior's centre depends on another",
                        expected=f"names among {quoted(depending)}",
                    )
                    + did_you_mean(name, depending)
                )
        return [name for name in depending if name in self.hierarchical_sites]


def _depends_on_others(name: str, latents: dict[str, Latent]) -> bool:
    site = latents[name].site
    center = unconstrained_center(site)
    # Some support points are zeros of the shape of the variable itself.
    if center is None or site.dist in ancestors([center]):
        return False
    others = {latent.site.value for latent in latents.values() if latent.name != name}
    upstream = [value for value in ancestors([center]) if value in others]
    # Not those it only takes its shape from, as the zeros of a vector with a random covariance do.
    return any(connected for [connected] in io_connection_pattern(upstream, [center]))
