"""``AutoDiscreteParallel``: learned probabilities for discrete sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.random.basic import BernoulliRV, CategoricalRV

from pymc_svi.constraints import simplex, unit_interval
from pymc_svi.errors import SiteError, sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.emit import emit_latents
from pymc_svi.guides.prototype import Prototype
from pymc_svi.handlers import Site, trace
from pymc_svi.handlers.core import Program, run_program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.primitives import param

__all__ = ["AutoDiscreteParallel"]

_QUANTILE_DRAWS = 20_000


class AutoDiscreteParallel(AutoGuide):
    """Guide for discrete sites: independent elements with learned probabilities.

    For a Bernoulli site ``x`` the param is ``x_auto_probs`` of its shape; for a categorical one it
    has the categories as a last axis. Elements start with equal probabilities. A model's
    continuous sites have a guide of their own, joined to this one in an
    :class:`~pymc_svi.guides.AutoGuideList`.

    Gradients are score-function ones where the objective draws the sites. A site keeps the
    ``infer`` options that it has in the model: under ``TraceEnum_ELBO``, ``config_enumerate`` around
    the model or the guide has them summed out exactly.

    Parameters
    ----------
    model : callable or pymc.Model
        The model, or the part of it that has the discrete sites.
    prefix : str, default "auto"
        Part of the names of the params.

    Raises
    ------
    SiteError
        For a latent site that is neither Bernoulli nor categorical.

    References
    ----------
    Ranganath, Gerrish and Blei (2014), Black Box Variational Inference.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoDiscreteParallel, AutoGuideList, AutoNormal
    >>> def model():
    ...     loc = pm.Normal("loc", shape=2)
    ...     k = pm.Categorical("k", [0.3, 0.7], shape=5)
    ...     pm.Normal("y", loc[k], 1.0, observed=[0.1, 3.2, 2.9, 3.0, -0.2])
    >>> guide = AutoGuideList(model)
    >>> guide = guide.append(AutoNormal(handlers.block(model, hide=["k"])))
    >>> guide = guide.append(AutoDiscreteParallel(handlers.block(model, expose=["k"])))
    >>> handlers.trace(guide).get_trace()["k_auto_probs"].shape
    (5, 2)
    """

    def __init__(self, model: Program, *, prefix: str = "auto"):
        super().__init__(model, prefix=prefix)

    def run(self, args: tuple, kwargs: Mapping[str, Any]) -> Mapping[str, Variable]:
        """Emit the discrete sites; return their draws by name."""
        with trace() as record, emit_latents(self._draw, discrete=True):
            run_program(self.visible_model(), *args, **kwargs)
        if not record.latent:
            raise SiteError(
                sentence(
                    f"{type(self).__name__} found no latent sites in the model",
                    fix="Use a guide that does nothing: lambda *args, **kwargs: None",
                )
            )
        self.latent_names = tuple(record.latent)
        return {name: as_plain_tensor(site.value) for name, site in record.latent.items()}

    def begin(self, prototype: Prototype):
        """Not used: discrete sites have no unconstrained space."""
        raise NotImplementedError

    def _draw(self, site: Site) -> None:
        """Put a law with learned probabilities in the place of a site's prior."""
        rv = as_plain_tensor(site.dist)
        op = rv.owner and rv.owner.op
        if not isinstance(op, BernoulliRV | CategoricalRV):
            discrete = not rv.type.dtype.startswith("float")
            kind = "discrete" if discrete else "continuous"
            raise SiteError(
                sentence(
                    f"{type(self).__name__}: site {site.name!r} is neither Bernoulli nor categorical",
                    found=f"a {kind} site, {getattr(op, 'name', None) or op}",
                    fix="Write a guide for it"
                    if discrete
                    else "Hide it with handlers.block, and give it a guide of its own in an "
                    "AutoGuideList",
                )
            )
        shape = tuple(int(n) for n in np.atleast_1d(evaluate(rv.shape)))
        for frame in site.plates:  # as for Latent.full: params are of the full size
            if frame.is_subsampled:
                axis = len(shape) - site.event_dim + frame.dim
                shape = (*shape[:axis], frame.size, *shape[axis + 1 :])
        name = f"{site.name}_{self.prefix}_probs"
        local = bool(site.plates)
        if isinstance(op, BernoulliRV):
            half = np.full(shape, 0.5)
            event_dim = site.event_dim if local else None
            probs = param(name, half, constraint=unit_interval, dims=site.dims, event_dim=event_dim)
            site.dist = pm.Bernoulli.dist(p=probs)
            return
        [*_, weights] = op.dist_params(rv.owner)
        n = weights.type.shape[-1] or int(evaluate(weights.shape[-1]))
        equal = np.full((*shape, n), 1 / n)
        dims = site.dims and (*site.dims, None)
        event_dim = site.event_dim + 1 if local else None
        probs = param(name, equal, constraint=simplex, dims=dims, event_dim=event_dim)
        site.dist = pm.Categorical.dist(p=pt.as_tensor(probs))

    def median(self, params, *args, **kwargs):
        """Return the median of each element of each site, from 20,000 draws."""
        return self.quantiles(params, 0.5, *args, **kwargs)

    def quantiles(self, params, q, *args, random_seed: Any = 0, **kwargs):
        """Return quantiles of each element of each site, from 20,000 draws."""
        draws = self.at(params, *args, **kwargs).draws(_QUANTILE_DRAWS, random_seed)
        return {
            name: np.quantile(values, q, axis=0, method="inverted_cdf")
            for name, values in draws.items()
        }
