"""A fitted guide in the place of a model's prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pymc as pm
from pytensor.graph.basic import Variable

from pymc_svi.guides.prototype import Latent
from pymc_svi.guides.spaces import constrain
from pymc_svi.handlers import Handler, Site
from pymc_svi.handlers.core import Program

if TYPE_CHECKING:
    from pymc_svi.guides.base import AutoGuide  # which imports this module

__all__ = ["FittedPrior"]


class FittedPrior(Handler):
    """Replace the prior of a model by the law of a fitted guide; see ``AutoGuide.as_prior``.

    The unconstrained elements become the latent sites, and the latent sites of the model, in
    their supports, follow from them.

    Parameters
    ----------
    program : callable or pymc.Model
        The model.
    guide : AutoGuide
        The guide.
    posterior : TensorVariable or dict of them
        Its law, as ``guide.get_posterior`` gives it.
    latents : dict of str to Latent
        The sites it is the law of.
    """

    def __init__(
        self,
        program: Program | None,
        guide: AutoGuide,
        posterior: Any,
        latents: Mapping[str, Latent],
    ):
        super().__init__(program)
        self.guide = guide
        self.posterior = posterior
        self.latents = latents

    def __enter__(self):
        self.points: Mapping[str, Variable] = {}
        super().__enter__()
        try:
            model = pm.modelcontext(None)
            points = self.guide.register_posterior(model, self.posterior, self.latents)
        except BaseException:
            super().__exit__(None, None, None)
            raise
        self.points = points
        return self

    def process_message(self, site: Site) -> None:
        """Let a latent site follow from its unconstrained elements."""
        if site.is_latent and site.value is None and site.name in self.points:
            site.value = constrain(site, self.points[site.name])
            site.type = "deterministic"
