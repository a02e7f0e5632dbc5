"""The params of one fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pymc as pm
from pytensor.graph.basic import Variable

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers import Handler, Site, Trace
from pymc_svi.handlers.statistics import next_of
from pymc_svi.handlers.walk import scratch_model

__all__ = ["ParamStore"]


class ParamStore(Handler):
    """Make a param that occurs several times, in guide and model, one param.

    A fit runs its guide and its model inside one store. The first statement of a name decides
    starting value and constraint; later ones get the same variable.

    Attributes
    ----------
    sites : dict of str to Site
        The params by name, in the order they were met. ``site.unconstrained`` is the shared
        variable that the optimizer moves and ``site.value`` the constrained expression.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sites: dict[str, Site] = {}
        self.model = scratch_model(pm.Model.get_context(error_if_none=False))

    def process_message(self, site: Site) -> None:
        """Give a known param its variable."""
        if site.type != "param" or site.value is not None or site.name not in self.sites:
            return
        known = self.sites[site.name]
        if site.constraint != known.constraint:
            raise SiteError(
                sentence(
                    f"Param {site.name!r} is declared with two constraints",
                    found=f"{known.constraint!r} first, then {site.constraint!r}",
                    fix="Use one constraint, or two names",
                )
            )
        if site.dims is not None and known.dims is not None and site.dims != known.dims:
            raise SiteError(
                sentence(
                    f"Param {site.name!r} is declared with different dims",
                    found=f"{known.dims} first, then {site.dims}",
                )
            )
        site.value = known.value
        site.unconstrained = known.unconstrained

    def postprocess_message(self, site: Site) -> None:
        """Remember a new param."""
        if site.type == "param" and site.unconstrained is not None:
            self.sites.setdefault(site.name, site)

    def as_trace(self) -> Trace:
        """Return the params as a trace, with the coords of their dims."""
        params = Trace()
        params.model = self.model
        for site in self.sites.values():
            params.add(site)
        return params

    @property
    def variables(self) -> dict[str, Variable]:
        """The unconstrained shared variables by name."""
        return {name: site.unconstrained for name, site in self.sites.items()}

    @property
    def statistics(self) -> dict[Variable, Variable]:
        """What the statistics of networks become after a step, by their variables."""
        following = {site.unconstrained: next_of(site.value) for site in self.sites.values()}
        return {variable: new for variable, new in following.items() if new is not None}

    def constrained(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return constrained values for unconstrained ones."""
        with self.holding(values):
            return {
                name: np.asarray(self.sites[name].constraint.constrain_value(np.asarray(value)))
                for name, value in values.items()
            }

    @contextmanager
    def holding(self, values: Mapping[str, np.ndarray] | None = None) -> Iterator[None]:
        """Inside, the variables may be set to try values: here, unconstrained ones.

        A constraint may follow other params, as the support of a site in ``Uniform("x", 0, u)``
        does; its numpy maps then look at the variables.
        """
        before = {name: site.unconstrained.get_value() for name, site in self.sites.items()}
        try:
            for name, value in (values or {}).items():
                self.sites[name].unconstrained.set_value(np.array(value))
            yield
        finally:
            for name, value in before.items():
                self.sites[name].unconstrained.set_value(value)
