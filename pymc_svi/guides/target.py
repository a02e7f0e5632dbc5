"""The log-density of a program as a function of the guide's position, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import rewrite_pregrad
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace

from pymc_svi.guides.fitted import Place
from pymc_svi.handlers import Site
from pymc_svi.handlers.core import Program, run_program
from pymc_svi.handlers.values import as_site_value
from pymc_svi.handlers.walk import scratch_model

__all__ = ["Target", "gradient_of"]


class Target(Place):
    """Run a program inside a guide with its latent sites at given points.

    Its params are those of the fit and pass to the handlers outside; nothing else does.

    Parameters
    ----------
    points : dict of str to TensorVariable
        Points of unconstrained space by site name.
    values : dict of str to Variable, optional
        Values of other latent sites, and indices of plates.
    """

    def __init__(self, points: Mapping[str, Variable], values: Mapping[str, Any] | None = None):
        super().__init__(points)
        self.known = values or {}

    def process_message(self, site: Site) -> None:
        """Decide the value of a site, and hide it."""
        if site.type == "param":
            return
        super().process_message(site)
        if site.value is None and site.name in self.known:
            value = self.known[site.name]
            site.value = value
            if site.is_latent:
                site.value = as_site_value(value, site.dist, site.name, site.dims)
        site.stop = True

    def run(self, program: Program, args: tuple, kwargs: Mapping[str, Any]) -> Variable:
        """Run a program, in a context of its own; return its log-density."""
        with scratch_model(pm.Model.get_context(error_if_none=False)), self:
            run_program(program, *args, **kwargs)
        return self.log_density()


def gradient_of(log_density: Variable, point: Variable) -> Callable[[Variable], Variable]:
    """Return the gradient of a log-density, as a function of the value of a placeholder."""
    gradient = pytensor.grad(rewrite_pregrad(log_density), point, disconnected_inputs="ignore")

    def at(position: Variable) -> Variable:
        [there] = graph_replace([gradient], {point: position}, strict=False)
        return pt.as_tensor(there)

    return at
