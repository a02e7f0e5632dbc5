"""The log-density of a program as a function of the guide's position, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace

from pymc_svi.gradients.differentiated import differentiated
from pymc_svi.gradients.simplified import simplified
from pymc_svi.guides.fitted import Place
from pymc_svi.handlers import Handler, Site
from pymc_svi.handlers.core import Program, run_program
from pymc_svi.handlers.values import as_site_value
from pymc_svi.handlers.walk import scratch_model

__all__ = ["Known", "Target", "gradient_of"]


class Known(Handler):
    """Give latent sites and plates that were emitted before their values, and hide them.

    Parameters
    ----------
    values : dict of str to Variable
        Values of latent sites and indices of plates, by name.
    """

    def __init__(self, values: Mapping[str, Any]):
        super().__init__()
        self.values = values

    def process_message(self, site: Site) -> None:
        """Decide the value of a known site."""
        if _give(site, self.values):
            site.stop = True


def _give(site: Site, values: Mapping[str, Any]) -> bool:
    """Give a latent site or a plate its value, if there is one; return whether there is."""
    if not (site.is_latent or site.type == "plate") or site.name not in values:
        return False
    if site.value is None:
        value = values[site.name]
        latent = site.type == "sample"
        site.value = as_site_value(value, site.dist, site.name, site.dims) if latent else value
    return True


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
        _give(site, self.known)
        site.stop = True

    def run(self, program: Program, args: tuple, kwargs: Mapping[str, Any]) -> Variable:
        """Run a program, in a context of its own; return its log-density."""
        with scratch_model(pm.Model.get_context(error_if_none=False)), self:
            run_program(program, *args, **kwargs)
        return self.log_density()


def gradient_of(log_density: Variable, point: Variable) -> Callable[[Variable], Variable]:
    """Return the gradient of a log-density, as a function of the value of a placeholder."""
    [gradient] = differentiated(simplified(log_density), [point], disconnected="ignore")

    def at(position: Variable) -> Variable:
        [there] = graph_replace([gradient], {point: position}, strict=False)
        return pt.as_tensor(there)

    return at
