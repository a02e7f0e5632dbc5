"""``AutoRegressive``: the prior itself, moved and stretched in unconstrained space."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.xtensor.type import XTensorType

from pymc_svi.constraints import positive, real
from pymc_svi.errors import SiteError, sentence
from pymc_svi.gradients import rsample
from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.normal import check_init_scale
from pymc_svi.guides.prototype import Prototype
from pymc_svi.guides.spaces import (
    constrain,
    log_jac_det,
    prior_center,
    unconstrain,
    unconstrained_center,
)
from pymc_svi.handlers import Site
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.distributions import default_transform_of
from pymc_svi.handlers.imputation import is_partly_observed
from pymc_svi.handlers.log_prob import as_plain_tensor, density_given
from pymc_svi.handlers.values import as_site_value
from pymc_svi.primitives import init_seed, param

__all__ = ["AutoRegressive"]


class AutoRegressive(AutoGuide):
    """Guide that corrects the prior: each site is a draw of it, moved and stretched.

    In unconstrained space a site is ``loc + scale * u``, where ``u`` is a draw of its prior given
    the guide's draws of the sites that it depends on. What the prior says about the shape of a
    site, the coupling of its elements and its dependence on others is kept; ``loc = 0`` and
    ``scale = 1`` give the prior. Good for time series and other models whose sites follow from each
    other. For a site ``x`` the params are ``x_auto_loc`` and ``x_auto_scale``.

    Parameters
    ----------
    model : callable or pymc.Model
        The model. Its priors need differentiable draws, see ``register_rsample``.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the centre of each site starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start: relative to the prior, in unconstrained space.

    Raises
    ------
    NoPathwiseDraw
        When it is run: for a site whose prior has no differentiable draw.
    SiteError
        When it is run: for a site with a transform that is not its distribution's own, such as
        ``ordered``; draws of the prior may be outside of its support.

    References
    ----------
    Ambrogioni et al. (2021), Automatic structured variational inference.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoRegressive
    >>> def model():
    ...     x = 0.0
    ...     for t in range(3):
    ...         x = pm.Normal(f"x{t}", x, 1.0)
    ...     pm.Normal("y", x, 0.5, observed=1.0)
    >>> tr = handlers.trace(AutoRegressive(model)).get_trace()
    >>> tr["x2_auto_loc"].value.eval().item(), tr["x2_auto_scale"].value.eval().item()
    (0.0, 0.1)
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
        """Return the function that draws one site."""
        for latent in prototype.latents.values():
            _check_prior(latent.site)
            _check_transform(latent.site)
        before: list[Site] = []

        has_center = [
            name
            for name, latent in prototype.latents.items()
            if prior_center(latent.site) is not None
        ]

        @lru_cache(maxsize=1)
        def centers():
            return prototype.at_start(init_seed(), unconstrained_center, has_center)

        def start(name: str) -> np.ndarray:
            value = prototype.start(init_seed())[name]
            value = value - self.init_scale * centers().get(name, 0.0)
            return prototype.latents[name].full(value)

        def draw(site: Site):
            latent = prototype.latents[site.name]
            stem = f"{site.name}_{self.prefix}"

            def declare(what: str, start, constraint=real) -> Variable:
                return param(
                    f"{stem}_{what}",
                    start,
                    constraint=constraint,
                    dims=latent.dims,
                    event_dim=latent.event_ndim if site.plates else None,
                )

            def scales() -> np.ndarray:
                return latent.full(np.full(latent.shape, self.init_scale))

            loc = declare("loc", lambda: start(site.name))
            scale = declare("scale", scales, positive)
            upstream = [other.value for other in before]
            before.append(site)

            def log_density(u: Variable) -> Variable:
                return _prior_density(site, u, upstream, -pt.log(scale))

            # For the message if there is no such draw.
            site.dist.name = site.dist.name or site.name
            u = as_plain_tensor(unconstrain(site, rsample(site.dist)))
            return loc + scale * u, log_density(u), lambda value: log_density((value - loc) / scale)

        return draw


def _check_prior(site: Site) -> None:
    """Refuse elements that are missing from a vector: their law is that given the others."""
    if is_partly_observed(site.dist):
        raise SiteError(
            sentence(
                f"AutoRegressive: site {site.name!r} has the missing elements of a vector, of which "
                "there is no draw without the observed ones",
                fix="Use AutoNormal for it, as a part of an AutoGuideList",
            )
        )


def _check_transform(site: Site) -> None:
    """Refuse a transform to whose support the draws of the prior need not belong."""
    if site.transform is None or isinstance(site.dist.type, XTensorType):
        return
    default = default_transform_of(site.dist)
    if type(site.transform) is not type(default):
        raise SiteError(
            sentence(
                f"AutoRegressive: site {site.name!r} has a transform of the model's own, and draws "
                "of its prior may be outside of the transform's support",
                found=type(site.transform).__name__,
                expected="the distribution's default transform",
                fix="Use AutoNormal for it, as a part of an AutoGuideList",
            )
        )


def _prior_density(
    site: Site, u: Variable, upstream: list[Variable], stretched: Variable
) -> Variable:
    """Return the log-density of a stretched draw of the prior, from that of the draw."""
    x = as_site_value(constrain(site, u), site.dist, site.name, site.dims)
    terms = [density_given(site.dist, x, upstream), stretched]
    jacobian = log_jac_det(site, u)
    if jacobian is not None:
        terms.append(jacobian)
    # Elementwise as far as all are: the axes on the left are those of plates.
    ndim = min(term.ndim for term in terms)
    return pt.add(*(term.sum(axis=tuple(range(ndim, term.ndim))) for term in terms))
