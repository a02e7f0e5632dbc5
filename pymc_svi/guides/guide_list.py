"""``AutoGuideList``: a guide made of parts, each for some of the latent sites."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import pymc as pm
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.continuous import AutoContinuous
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.laplace import AutoLaplaceApproximation
from pymc_svi.guides.prototype import Prototype
from pymc_svi.handlers import Handler, Site
from pymc_svi.handlers.core import Program, run_program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.values import as_site_value
from pymc_svi.handlers.walk import scratch_model

__all__ = ["AutoGuideList"]

_QUANTILE_DRAWS = 20_000


class AutoGuideList(AutoGuide):
    """A guide of several parts, each for some of the latent sites.

    A part is an automatic guide of the model with the other sites hidden, or a program of one's
    own. The parts are independent of each other, and run in the order they were appended: a
    site whose support depends on another comes in the same part or in a later one.

    Parameters
    ----------
    model : callable or pymc.Model
        The model, with all its sites.
    prefix : str, default "auto"
        Part of the names of the guide's params; those of the parts are their own.
    init_loc_fn : callable, default ``init_to_initial_point``
        Not used by the parts, which have their own.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoDelta, AutoGuideList, AutoNormal
    >>> def model():
    ...     mu = pm.Normal("mu")
    ...     s = pm.HalfNormal("s")
    ...     pm.Normal("y", mu, s, observed=1.0)
    >>> guide = AutoGuideList(model)
    >>> guide.append(AutoNormal(handlers.block(model, hide=["s"])))
    AutoGuideList(model, [AutoNormal(model)])
    >>> guide.append(AutoDelta(handlers.block(model, expose=["s"])))
    AutoGuideList(model, [AutoNormal(model), AutoDelta(model)])
    >>> list(handlers.trace(guide).get_trace().latent)
    ['mu', 's']
    """

    step_up = "a richer guide for its parts, or one for all sites, so that they are not independent"

    def __init__(
        self,
        model: Program,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        self.parts: list[Program] = []
        # Values of sites that the parts of a list around this one drew before.
        self._known: dict[str, Variable] = {}

    def append(self, part: Program) -> Self:
        """Add a part; return the list, so that calls can be chained.

        Parameters
        ----------
        part : AutoGuide, callable or pymc.Model
            A guide for some of the latent sites.

        Returns
        -------
        AutoGuideList
            The list.

        Raises
        ------
        TypeError
            If it is not a guide, or one that cannot be a part.
        ValueError
            If it is the list itself, or has the prefix of another joint guide.
        """
        if isinstance(part, type) or not (callable(part) or isinstance(part, pm.Model)):
            raise TypeError(
                sentence(
                    "AutoGuideList: a part is a guide",
                    found=repr(part),
                    fix="For example append(AutoDelta(handlers.block(model, expose=['s'])))",
                )
            )
        if isinstance(part, AutoLaplaceApproximation):
            raise TypeError(
                sentence(
                    "AutoGuideList: a Laplace approximation cannot be a part",
                    expected="a guide whose law follows from its params; the curvature of a part "
                    "would depend on where the other parts are",
                    fix="Use AutoMultivariateNormal for the part",
                )
            )
        if isinstance(part, AutoGuide) and part.follows_model:
            raise TypeError(
                sentence(
                    f"AutoGuideList: {type(part).__name__} cannot be a part",
                    expected="parts for some of the sites; its dynamics follow the density of "
                    "the whole model",
                    fix="Use it alone, or a flow for the part",
                )
            )
        if part is self:
            raise ValueError(sentence("AutoGuideList: a list cannot be a part of itself"))
        if isinstance(part, AutoContinuous):
            for other in self.parts:
                if isinstance(other, AutoContinuous) and other.prefix == part.prefix:
                    raise ValueError(
                        sentence(
                            f"AutoGuideList: two parts would share the params {part.prefix!r}",
                            found=f"{other!r} and {part!r}",
                            fix=f"Give one another prefix: {type(part).__name__}(..., "
                            f"prefix='{part.prefix}_{len(self.parts)}')",
                        )
                    )
        self.parts.append(part)
        return self

    def run(self, args: tuple, kwargs: Mapping[str, Any]) -> Mapping[str, Variable]:
        """Run the parts in their order; return the values of their sites."""
        if not self.parts:
            raise SiteError(
                sentence(
                    "AutoGuideList has no parts",
                    fix="Append guides: append(AutoNormal(handlers.block(model, expose=['x'])))",
                )
            )
        values = dict(self._known)
        drawn_by: dict[str, Program] = {}
        for part in self.parts:
            before = _Given(values)
            # Each part has a context of its own: parts create variables of the same names.
            context = pm.Model.get_context(error_if_none=False)
            with _Record() as record, scratch_model(context):
                _run_part(part, before, values, args, kwargs)
            for name, site in record.latents.items():
                if name in drawn_by:
                    _drawn_twice(name, part)
                before.check_known(site, part)
                drawn_by[name] = part
                values[name] = as_plain_tensor(site.value)
        self.latent_names = tuple(name for name in drawn_by)
        return {name: values[name] for name in drawn_by}

    def begin(self, prototype: Prototype):
        """Not used: each part begins on its own."""
        raise NotImplementedError

    def fitted(self, params, *args, **kwargs) -> Program:
        """Return the program to draw from when the params are those of a fit."""
        return lambda *args, **kwargs: self.run(args, kwargs)

    def median(self, params, *args, **kwargs):
        """Return the median of each element of each site, from 20,000 draws."""
        return self.quantiles(params, 0.5, *args, **kwargs)

    def quantiles(self, params, q, *args, random_seed: Any = 0, **kwargs):
        """Return quantiles of each element of each site, from 20,000 draws."""
        draws = self.at(params, *args, **kwargs).draws(_QUANTILE_DRAWS, random_seed)
        return {name: np.quantile(values, q, axis=0) for name, values in draws.items()}

    def get_posterior(self, params, *args, **kwargs):
        """Return the fitted law of each part in unconstrained space, in their order.

        Only if all parts are automatic guides that have one; ``to_model`` and ``as_prior`` follow
        from it.
        """
        fitted = self.at(params, *args, **kwargs)
        fitted.traces()  # a run tells the parts their sites
        laws = []
        for part in self.parts:
            if not isinstance(part, AutoGuide):
                raise NotImplementedError(
                    sentence(
                        "AutoGuideList: a part of one's own has no law in unconstrained space",
                        found=repr(part),
                        fix="Use draws: sample_posterior(params)",
                    )
                )
            laws.append(part.get_posterior(params, *fitted.args, **fitted.kwargs))
        return laws

    def register_posterior(self, model, posterior, latents):
        """Make the laws of the parts part of a model; return each site's unconstrained value."""
        points: dict[str, Variable] = {}
        for part, law in zip(self.parts, posterior, strict=True):
            own = {name: latents[name] for name in latents if name in part.latent_names}
            points |= part.register_posterior(model, law, own)
        return points

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self.parts!r})"


def _run_part(part: Program, given: _Given, values: dict[str, Variable], args, kwargs) -> None:
    if not isinstance(part, AutoGuide):
        run_program(part, *args, **kwargs)
        return
    # A copy whose model has the values of the parts before, inside of what hides them.
    run = copy.copy(part)
    run.model = _Watch(_innermost(part.model, given.around), part, set(values))
    if isinstance(run, AutoGuideList):
        run._known = dict(values)
    run.run(args, kwargs)
    part.latent_names = run.latent_names
    part.last_run = args, dict(kwargs), scratch_model(pm.Model.get_context(error_if_none=False))


def _drawn_twice(name: str, part: Program) -> None:
    raise SiteError(
        sentence(
            f"AutoGuideList: site {name!r} is drawn by two parts",
            found=f"{part!r} and one before it",
            fix="Hide it from one of them with handlers.block",
        )
    )


def _innermost(program: Program, wrap: Callable[[Program], Program]) -> Program:
    """Return a program with something put around it, inside of the handlers that it is in."""
    if isinstance(program, Handler) and program.program is not None:
        return program.around(_innermost(program.program, wrap))
    return wrap(program)


class _Given(Handler):
    """Give sites their values, and remember which latent sites got one from the prior."""

    def __init__(self, values: Mapping[str, Variable]):
        super().__init__()
        self.values = dict(values)
        self.prior: dict[Variable, str] = {}

    def process_message(self, site: Site) -> None:
        if site.is_latent and site.value is None and site.name in self.values:
            value = self.values[site.name]
            site.value = as_site_value(value, site.dist, site.name, site.dims)

    def postprocess_message(self, site: Site) -> None:
        if site.is_latent and site.value is site.dist:
            self.prior[site.dist] = site.name

    def check_known(self, site: Site, part: Program) -> None:
        """Refuse a site whose support follows another that no part has drawn."""
        made_of = [v for v in (site.value, site.log_density) if isinstance(v, Variable)]
        unknown = {self.prior[v] for v in ancestors(made_of) if v in self.prior} - {site.name}
        if unknown:
            raise SiteError(
                sentence(
                    f"AutoGuideList: the support of site {site.name!r} depends on "
                    f"{quoted(sorted(unknown))}, which no part has drawn before {part!r}",
                    fix="Append the part with these sites first, or put them in one part",
                )
            )


class _Watch(Handler):
    """Refuse a part that shows a site which an earlier one has drawn."""

    def __init__(self, program: Program, part: Program, drawn: set[str]):
        super().__init__(program)
        self.part = part
        self.drawn = drawn

    def process_message(self, site: Site) -> None:
        if site.is_latent and site.name in self.drawn:
            _drawn_twice(site.name, self.part)


class _Record(Handler):
    """Collect the latent sites of a part."""

    def __init__(self) -> None:
        super().__init__()
        self.latents: dict[str, Site] = {}

    def postprocess_message(self, site: Site) -> None:
        if site.is_latent and not site.infer.get("is_auxiliary"):
            self.latents[site.name] = site
