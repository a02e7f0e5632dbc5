"""A guide at fixed params: its draws as numbers, and points of unconstrained space as values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import find_rng_nodes, reseed_rngs
from pytensor.compile import view_op
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.errors import SiteError, did_you_mean, quoted, sentence
from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.gradients.particles import random_variables, vectorize_draws
from pymc_svi.gradients.vectorize import vectorize
from pymc_svi.guides.prototype import Latent, Prototype, quick_mode
from pymc_svi.guides.spaces import acts_on_elements, constrain, log_jac_det
from pymc_svi.handlers import Handler, Site, Trace, replay, trace
from pymc_svi.handlers.core import run_program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.stack import no_handlers
from pymc_svi.handlers.walk import scratch_model

if TYPE_CHECKING:
    from pymc_svi.guides.base import AutoGuide  # which imports this module

__all__ = ["FittedGuide", "GivenParams"]


class GivenParams(Handler):
    """Give params their values; one that has none is an error.

    Parameters
    ----------
    values : dict of str to array_like
        Constrained values by name.
    constant : bool, default False
        Put them into the graph, for expressions that become a part of an op.
    """

    def __init__(self, values: Mapping[str, Any], *, constant: bool = False):
        super().__init__()
        self.values = values
        self.constant = constant

    def process_message(self, site: Site) -> None:
        """Set the value of a param."""
        if site.type != "param" or site.value is not None:
            return
        if site.name not in self.values:
            raise SiteError(
                sentence(
                    f"There is no value for param {site.name!r}",
                    found=f"values of {quoted(self.values)}",
                    fix="Pass the params of a fit of this guide, such as result.params",
                )
                + did_you_mean(site.name, self.values)
            )
        value = np.asarray(self.values[site.name], dtype=pytensor.config.floatX)
        if self.constant:
            site.value = pt.constant(value, name=site.name)
        else:
            site.value = pytensor.shared(value, name=site.name, shape=value.shape)


class FittedGuide:
    """A guide and its model at fixed params and arguments.

    Parameters
    ----------
    guide : AutoGuide
        The guide.
    params : dict of str to array_like
        Constrained values of its params.
    args, kwargs
        Arguments of guide and model.
    context : pymc.Model
        An empty model with the coords that they use.
    """

    def __init__(self, guide: AutoGuide, params: Mapping[str, Any], args, kwargs, context):
        self.guide = guide
        self.params = params
        self.args, self.kwargs = args, kwargs
        self.context = context

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Inside, programs run at the fixed params and apart from everything outside."""
        with no_handlers(), scratch_model(self.context), GivenParams(self.params):
            yield

    def prototype(self) -> Prototype:
        """Return the latent sites."""
        with self.apart():
            return Prototype(
                self.guide.visible_model(), self.guide.init_loc_fn, self.args, self.kwargs
            )

    def traces(self) -> tuple[Trace, Trace, Mapping[str, Variable]]:
        """Return one run of guide and model, and the guide's draws in unconstrained space."""
        with self.apart():
            with trace() as guide_trace:
                unconstrained = self.guide.run(self.args, self.kwargs)
            model = replay(self.guide.model, trace=guide_trace)
            model_trace = trace(model).get_trace(*self.args, **self.kwargs)
        return guide_trace, model_trace, unconstrained

    def draws(
        self, n: int, random_seed: Any, *, unconstrained: bool = False, deterministics: bool = False
    ) -> dict[str, np.ndarray]:
        """Draw from the guide; arrays of shape ``(n, *shape)`` by site name."""
        guide_trace, model_trace, values = self.traces()
        outputs = dict(values)
        if not unconstrained:
            outputs = {n: model_trace[n].value for n in guide_trace.latent if n in model_trace}
        if deterministics:
            outputs |= {site.name: site.value for site in model_trace.sites("deterministic")}
        n_draws = pt.lscalar("n_draws")
        plain = [as_plain_tensor(value) for value in outputs.values()]
        function = pytensor.function(
            [n_draws],
            vectorize_draws(plain, n_draws),
            mode=quick_mode(),
            on_unused_input="ignore",  # a guide of points that draws nothing
        )
        reseed_rngs(find_rng_nodes(function.maker.fgraph.outputs), random_seed)
        return dict(zip(outputs, map(np.asarray, function(n)), strict=True))

    def at(self, latents: Mapping[str, Latent]) -> tuple[dict[str, Variable], Place]:
        """Run the model on placeholders in unconstrained space; return them and the run."""
        points = {
            name: pt.tensor(name, dtype=pytensor.config.floatX, shape=latent.shape)
            for name, latent in latents.items()
        }
        return points, self.placed(points)

    def placed(self, points: Mapping[str, Variable]) -> Place:
        """Run the model with its sites at points of unconstrained space."""
        place = Place(points)
        with self.apart(), place:
            run_program(self.guide.visible_model(), *self.args, **self.kwargs)
        return place

    def constrained(
        self, latents: Mapping[str, Latent], values: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Map points of unconstrained space, stacked along a first axis, to values of the sites."""
        points, place = self.at(latents)
        outputs = place.values
        stacked = {
            name: pt.tensor(name, dtype=point.type.dtype, shape=(None, *point.type.shape))
            for name, point in points.items()
        }
        vectorized = vectorize(
            without_named_dims([as_plain_tensor(outputs[name]) for name in points]),
            {points[name]: stacked[name] for name in points},
        )
        function = pytensor.function(
            list(stacked.values()), vectorized, mode=quick_mode(), on_unused_input="ignore"
        )
        arrays = function(*(np.asarray(values[name], pytensor.config.floatX) for name in points))
        return dict(zip(points, map(np.asarray, arrays), strict=True))

    def as_model(self, latents: Mapping[str, Latent], register, posterior: Any) -> pm.Model:
        """Return a model of a law of the unconstrained elements; see ``AutoGuide.to_model``."""
        with no_handlers(), self._empty_model() as model:
            points = register(model, posterior, latents)
        place = self.placed(points)
        values = {name: (v, latents[name].site.dims) for name, v in place.values.items()}
        values |= {name: (site.value, site.dims) for name, site in place.deterministics.items()}
        return _with_deterministics(model, values)

    def as_model_of_draws(self, name: str) -> pm.Model:
        """Return a model of whatever the guide draws, and of the values that follow from it.

        Parameters
        ----------
        name : str
            What the random variables are called, before their number.
        """
        guide_trace, model_trace, _ = self.traces()
        sites = [model_trace[name] for name in guide_trace.latent if name in model_trace]
        sites += model_trace.sites("deterministic")
        values = {site.name: (site.value, site.dims) for site in sites}
        model = self._empty_model()
        with no_handlers():
            draws = random_variables([as_plain_tensor(value) for value, _ in values.values()])
            for number, draw in enumerate(draws):
                model.register_rv(draw, f"{name}_{number}", default_transform=None)
        return _with_deterministics(model, values)

    def chained(self, law: Callable[[Site], Variable]) -> dict[str, Variable]:
        """Draw each latent site from a law in unconstrained space, given the sites before it.

        Parameters
        ----------
        law : callable
            ``law(site)`` is an unnamed distribution.
        """
        chain = _Chain(law)
        with self.apart(), chain:
            run_program(self.guide.visible_model(), *self.args, **self.kwargs)
        return chain.laws

    def _empty_model(self) -> pm.Model:
        coords = {dim: values for dim, values in self.context.coords.items() if values is not None}
        return pm.Model(coords=coords, model=None)

    def on_their_own(self, latents: Mapping[str, Latent]) -> set[str]:
        """Return the sites each of whose elements is a monotone function of one of their own."""
        points, place = self.at(latents)
        own = set()
        for name, value in place.values.items():
            others = {point for other, point in points.items() if other != name}
            transform = latents[name].site.transform
            wraps = getattr(transform, "name", None) == "circular"
            if (
                acts_on_elements(transform)
                and not wraps
                and not others.intersection(ancestors([value]))
            ):
                own.add(name)
        return own


def _with_deterministics(model: pm.Model, values: Mapping[str, tuple[Variable, Any]]) -> pm.Model:
    with no_handlers(), model:
        for name, (value, dims) in values.items():
            # A view: PyMC names what it is given.
            pm.Deterministic(name, view_op(as_plain_tensor(value)), dims=dims)
    return model


class _Chain(Handler):
    """Put each latent site at a draw of its law, which may depend on the sites before it."""

    def __init__(self, law: Callable[[Site], Variable]):
        super().__init__()
        self.law = law
        self.laws: dict[str, Variable] = {}

    def process_message(self, site: Site) -> None:
        """Set the value of a latent site."""
        if site.is_latent and site.value is None:
            self.laws[site.name] = self.law(site)
            site.value = constrain(site, self.laws[site.name])


class Place(Handler):
    """Put the latent sites of a model at points of unconstrained space."""

    def __init__(self, points: Mapping[str, Variable]):
        super().__init__()
        self.points = points
        self.values: dict[str, Variable] = {}
        self.deterministics: dict[str, Site] = {}
        self.scored: list[Site] = []
        self.log_jacobians: dict[str, Variable] = {}

    def process_message(self, site: Site) -> None:
        """Set the value of a latent site."""
        if site.is_latent and site.value is None and site.name in self.points:
            point = self.points[site.name]
            site.value = self.values[site.name] = constrain(site, point)
            jacobian = log_jac_det(site, point)
            if jacobian is not None:
                self.log_jacobians[site.name] = jacobian

    def postprocess_message(self, site: Site) -> None:
        """Collect the sites with a log-probability, and the deterministics."""
        if site.type == "deterministic":
            self.deterministics[site.name] = site
        elif site.type in ("sample", "factor"):
            self.scored.append(site)

    def log_density(self) -> Variable:
        """Return the model's joint log-density at the points, in unconstrained space."""
        terms = [site.log_prob for site in self.scored]
        for site in self.scored:
            if site.name in self.log_jacobians:
                # The density of a site is that of its unconstrained value as a whole.
                terms.append(site.scale * self.log_jacobians[site.name])
        return pt.add(*(term.sum() for term in terms), 0.0)
