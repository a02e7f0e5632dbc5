"""``AutoDelta``: a point for each latent site, the maximum a posteriori."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.xtensor.type import XTensorType

from pymc_svi.constraints import Constraint, as_constraint, real
from pymc_svi.errors import sentence
from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.prototype import Prototype, quick_mode
from pymc_svi.guides.spaces import constrain, log_jac_det, unconstrain
from pymc_svi.handlers import Site
from pymc_svi.handlers.log_prob import as_plain_tensor, zero
from pymc_svi.handlers.values import as_site_value
from pymc_svi.primitives import init_seed, param

__all__ = ["AutoDelta", "SiteSupport"]


class AutoDelta(AutoGuide):
    """Point estimate: the maximum a posteriori, in the supports of the sites.

    The optimum is the mode of the posterior density as the model writes it, without
    log-Jacobians: of ``sigma`` rather than ``log(sigma)``. For a site ``x`` the param is
    ``x_auto_loc``, its value, with the dims of the site. Supports may depend on other sites.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the search starts; see :mod:`pymc_svi.guides.init`.

    References
    ----------
    Gelman et al. (2013), Bayesian Data Analysis, 3rd edition, section 13.1, on posterior modes.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVI, optim
    >>> from pymc_svi.guides import AutoDelta
    >>> def model():
    ...     p = pm.Beta("p", 3.0, 2.0)
    ...     pm.Binomial("y", 10, p, observed=7)
    >>> svi = SVI(model, AutoDelta(model), optim.Adam(0.05))
    >>> result = svi.run(1_000, random_seed=1, progressbar=False)
    >>> round(float(result.params["p_auto_loc"]), 3)  # (3 + 7 - 1) / (3 + 2 + 10 - 2)
    0.692
    """

    def begin(self, prototype: Prototype):
        """Return the function that puts a site at its point."""

        def place(site: Site) -> None:
            latent = prototype.latents[site.name]
            value = param(
                f"{site.name}_{self.prefix}_loc",
                lambda: latent.full(prototype.constrained_start(init_seed())[site.name]),
                constraint=support_constraint(site),
                dims=site.dims,
                event_dim=latent.event_ndim if site.plates else None,
            )
            site.value = as_site_value(value, site.dist, site.name, site.dims)
            site.log_density = zero()

        return place

    def median(self, params, *args, **kwargs):
        """Return the points."""
        latents = self.at(params, *args, **kwargs).prototype().latents
        return {name: np.asarray(params[f"{name}_{self.prefix}_loc"]) for name in latents}

    def quantiles(self, params, q, *args, random_seed: Any = 0, **kwargs):
        """Return the points, once for each of the probabilities."""
        points = self.median(params, *args, **kwargs)
        return {
            name: np.broadcast_to(value, (*np.shape(q), *value.shape)).copy()
            for name, value in points.items()
        }

    def get_posterior(self, params, *args, **kwargs):
        """Return the points as distributions without spread, in the supports of the sites."""
        points = self.median(params, *args, **kwargs)
        return {name: pm.DiracDelta.dist(value) for name, value in points.items()}

    def as_prior(self, model, params, *args, **kwargs):
        """Refuse: a point leaves nothing to learn."""
        raise NotImplementedError(
            sentence(
                "AutoDelta has no law in unconstrained space to serve as a prior",
                fix="Fix the sites with handlers.condition(model, data=guide.median(params)), "
                "or use a guide with spread",
            )
        )

    def to_model(self, params, *args, **kwargs):
        """Return a model whose latent sites are the points."""
        return self.at(params, *args, **kwargs).as_model_of_draws(f"{self.prefix}_draw")


def support_constraint(site: Site) -> Constraint:
    """Return the support of a latent site, as the constraint of a param."""
    if site.transform is None:
        return real
    if isinstance(site.dist.type, XTensorType):
        return SiteSupport(site)  # its transform asks for named dims
    try:
        return as_constraint(site.transform)
    except Exception:  # whatever a transform raises that cannot do without its distribution
        return SiteSupport(site)


class SiteSupport(Constraint):
    """The support of a site by its own transform, given its distribution.

    For bounds that follow from other sites, and for sites with named dims.

    Parameters
    ----------
    site : Site
        The site, on the values of its parents.
    """

    name = "site_support"
    # The map depends on the present values of other params; see ``ParamStore.holding``.
    follows_params = True

    def __init__(self, site: Site):
        self.site = site
        self.event_dim = getattr(site.transform, "ndim_supp", 0) or 0

    def unconstrain(self, value):
        """Map a value to unconstrained space."""
        return self._forward(np.asarray(value, dtype=pytensor.config.floatX))

    def constrain(self, u):
        """Map unconstrained numbers to the support."""
        return as_plain_tensor(constrain(self.site, u))

    def constrain_value(self, u):
        """Map unconstrained numbers to the support in numpy."""
        return self._backward(np.asarray(u, dtype=pytensor.config.floatX))

    def log_jac_det(self, u):
        """Log-determinant of the Jacobian."""
        return log_jac_det(self.site, u)

    @cached_property
    def _forward(self):
        value = as_plain_tensor(self.site.dist).type()
        given = as_site_value(value, self.site.dist, self.site.name)
        u = as_plain_tensor(unconstrain(self.site, given))
        return pytensor.function([value], u, mode=quick_mode())

    @cached_property
    def _backward(self):
        ndim = as_plain_tensor(unconstrain(self.site, self.site.dist)).ndim
        u = pt.tensor("u", dtype=pytensor.config.floatX, shape=(None,) * ndim)
        return pytensor.function([u], self.constrain(u), mode=quick_mode())

    def _violation(self, value):
        with np.errstate(all="ignore"):
            inside = np.isfinite(self.unconstrain(value)).all()
        return "" if inside else f"must be inside the support of site {self.site.name!r}"

    def __eq__(self, other):
        return isinstance(other, SiteSupport) and other.site.name == self.site.name

    def __hash__(self):
        return hash((SiteSupport, self.site.name))

    def __repr__(self):
        return f"SiteSupport({self.site.name!r})"
