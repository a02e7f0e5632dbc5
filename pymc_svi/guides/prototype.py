"""The latent sites of a model, found by one run of it, and where a guide starts on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import find_rng_nodes, reseed_rngs
from pytensor.compile.executor import Function
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.type import TensorType

from pymc_svi.enumeration import has_finite_support
from pymc_svi.errors import LABELS, InitializationError, SiteError, sentence
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.gradients.rewritten import rewritten
from pymc_svi.guides.init import InitStrategy
from pymc_svi.guides.spaces import acts_on_elements, unconstrain
from pymc_svi.handlers import Handler, Site, trace
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.dependence import direct_parents
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.stack import no_handlers
from pymc_svi.handlers.values import as_site_value

__all__ = ["Latent", "Prototype", "quick_mode", "refuse_local"]

# How often a strategy that draws is asked for a start with a finite log-density.
_TRIES = 100


@dataclass(frozen=True)
class Latent:
    """A latent site of the model, as a guide sees it.

    Attributes
    ----------
    name : str
        Its name.
    shape : tuple of int
        Its shape in unconstrained space.
    dims : tuple of (str or None), optional
        Its dims, if the unconstrained value has them too.
    site : Site
        The site of the run that found it, with its distribution, transform and plates.
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[str | None, ...] | None
    site: Site

    @property
    def size(self) -> int:
        """Number of unconstrained elements."""
        return int(np.prod(self.shape))

    @property
    def event_ndim(self) -> int:
        """Number of dimensions on the right that are not indexed by plates."""
        return self.site.event_ndim

    def full(self, value: np.ndarray) -> np.ndarray:
        """Return an array of the site at the full size of its subsampled plates.

        What the present repetitions have is repeated for the others.
        """
        for frame in self.site.plates:
            axis = value.ndim - self.event_ndim + frame.dim
            if frame.is_subsampled and value.shape[axis] == frame.subsample_size:
                repeated = np.resize(np.arange(frame.subsample_size), frame.size)
                value = np.take(value, repeated, axis=axis)
        return value


@dataclass(frozen=True)
class _Start:
    """One start: values by name in both spaces, and the log-probability of every site there."""

    unconstrained: dict[str, np.ndarray]
    constrained: dict[str, np.ndarray]
    log_probs: dict[str, float]

    @property
    def impossible(self) -> list[str]:
        """Names of the sites whose log-probability is not finite."""
        return [name for name, value in self.log_probs.items() if not np.isfinite(value)]

    def fault(self) -> str:
        """Say at which site the start is not usable; nothing if it is."""
        for name, value in self.unconstrained.items():
            if not np.isfinite(value).all():
                return (
                    f"Site {name!r} starts outside its support: "
                    f"at {_short(self.constrained[name])}, which is {_short(value)} unconstrained"
                )
        for name, log_prob in self.log_probs.items():
            if name in self.impossible:
                start = ", ".join(f"{n} = {_short(v)}" for n, v in self.constrained.items())
                return f"Site {name!r} has log-probability {log_prob} at the start: {start}"
        return ""


class Prototype:
    """The latent sites of a model, found by one run of it, and where they start.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    init_loc_fn : callable
        The strategy that gives each site its starting value.
    args, kwargs
        Arguments of the model.

    Attributes
    ----------
    latents : dict of str to Latent
        The latent sites by name, in the order of the model.
    """

    def __init__(self, model: Program, init_loc_fn: InitStrategy, args, kwargs):
        self._model, self._arguments = model, (args, kwargs)
        self._init_loc_fn = init_loc_fn
        self._run = _Run(model, init_loc_fn, args, kwargs)
        sites = self._run.trace
        self.latents = {
            name: Latent(name, shape, _unconstrained_dims(sites[name], len(shape)), sites[name])
            for name, shape in self._run.shapes().items()
        }

    @property
    def size(self) -> int:
        """Number of unconstrained elements of all sites."""
        return sum(latent.size for latent in self.latents.values())

    def refuse_discrete(self, guide: str) -> None:
        """Refuse discrete sites in a guide that evaluates the density of the whole model."""
        for name in self._run.left_out:
            raise SiteError(
                sentence(
                    f"Site {name!r} is discrete; {guide} is for models of continuous sites",
                    fix="Use another guide, such as AutoNormal, with TraceEnum_ELBO(), marginalise "
                    "the site out of the model, or condition on it",
                )
            )

    def start(self, seed: int) -> Mapping[str, np.ndarray]:
        """Return the starting values in unconstrained space."""
        return self._start(seed).unconstrained

    def constrained_start(self, seed: int) -> Mapping[str, np.ndarray]:
        """Return the starting values in the supports of the sites."""
        return self._start(seed).constrained

    def at_start(
        self, seed: int, expression: Callable[[Site], Variable], names: Iterable[str]
    ) -> dict[str, np.ndarray]:
        """Evaluate an expression of a site with its parents at their starting values, by site."""
        start, found = self.constrained_start(seed), dict.fromkeys(names, pt.constant(0.0))

        def give(site: Site) -> Variable:
            if site.name in found:
                found[site.name] = as_plain_tensor(expression(site))
            return pt.constant(start[site.name])

        args, kwargs = self._arguments
        with no_handlers(), _GiveStart(give):
            trace(self._model).get_trace(*args, **kwargs)
        values = pytensor.function([], list(found.values()), mode=quick_mode())()
        return dict(zip(found, map(np.asarray, values), strict=True))

    def factors(self) -> list[tuple[Site, list[str]]]:
        """Return the sites with a log-probability, each with the latent sites that it is of."""
        args, kwargs = self._arguments
        with no_handlers():
            run = trace(self._model).get_trace(*args, **kwargs)
        sites = run.sites("sample", "factor")
        parents = direct_parents(sites, [run[name] for name in self.latents])
        return [
            (site, [n for n in self.latents if n in parents[site.name] or n == site.name])
            for site in sites
        ]

    @lru_cache(maxsize=2)  # noqa: B019, as short-lived as the guide's run that made it
    def _start(self, seed: int) -> _Start:
        """Return the first start at which the log-density of the model is finite."""
        generated = hasattr(self._init_loc_fn, "generate")
        tries = _TRIES if self._run.is_random or generated else 1
        run, fault = self._run, ""
        for attempt in range(tries):
            start = run(seed + attempt)
            fault = start.fault()
            if not fault:
                return start
            if generated:
                args, kwargs = self._arguments
                run = _Run(self._model, self._init_loc_fn, args, kwargs)
        which = run.impossible_data(start.impossible[:1], start.constrained)
        found = [*which, *([f"no better start in {tries} tries"] if tries > 1 else [])]
        raise InitializationError(
            sentence(
                fault,
                found="; ".join(found),
                fix=(
                    "Check that its distribution can have such values. Else choose"
                    if which
                    else "Choose"
                )
                + " another init_loc_fn, such as init_to_sample, init_to_uniform or "
                "init_to_value(values={...})",
            )
        )


class _Run:
    """One run of a model on the starting values of its sites."""

    def __init__(self, model: Program, init_loc_fn: InitStrategy, args, kwargs):
        # Run apart from the handlers around: this run is not part of the guide's.
        given = _GiveStart(getattr(init_loc_fn, "generate", lambda: init_loc_fn)())
        with no_handlers(), given:
            self.trace = trace(model).get_trace(*args, **kwargs)
        self.left_out = given.left_out
        self.unconstrained = given.unconstrained
        self.names = list(given.unconstrained)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the latent sites in unconstrained space.

        They are found without the data of observed sites, which may still be those of before
        where a fitted guide is to predict for new rows.
        """
        known = {name: value.type.shape for name, value in self.unconstrained.items()}
        unknown = {n: self.unconstrained[n].shape for n, shape in known.items() if None in shape}
        if unknown:
            values = pytensor.function([], list(unknown.values()), mode=quick_mode())()
            known |= {n: tuple(map(int, v)) for n, v in zip(unknown, values, strict=True)}
        return known

    @cached_property
    def scored(self) -> list[Site]:
        """The sites whose log-probability at the start is to be finite."""
        # That a site is impossible at one draw of what will be summed out says nothing.
        drawn = {as_plain_tensor(self.trace[name].value) for name in self.left_out}
        return [
            site
            for site in self.trace.sites("sample", "factor")
            if drawn.isdisjoint(ancestors([site.log_prob]) if drawn else ())
        ]

    @cached_property
    def _compute(self) -> Function:
        outputs = [
            *self.unconstrained.values(),
            *(as_plain_tensor(self.trace[name].value) for name in self.names),
            *(site.log_prob.sum() for site in self.scored),
        ]
        return pytensor.function([], outputs, mode=quick_mode())

    @cached_property
    def _compute_stably(self) -> Function:
        """The log-probabilities, as they are compiled for a fit, where the quick ones are not finite."""
        return self._stably([site.log_prob.sum() for site in self.scored])

    def _stably(self, outputs: Sequence[Variable]) -> Function:
        """Return a function of the values of the sites, whose numbers PyTensor does not see."""
        values = [as_plain_tensor(self.trace[name].value) for name in self.names]
        places = [value.type() for value in values]
        outputs = graph_replace(outputs, dict(zip(values, places, strict=True)), strict=False)
        mode, unused = stable_mode(), "ignore"
        return pytensor.function(places, rewritten(outputs), mode=mode, on_unused_input=unused)

    @cached_property
    def _rngs(self) -> list[Variable]:
        return find_rng_nodes(self._compute.maker.fgraph.outputs)

    @property
    def is_random(self) -> bool:
        return bool(self._rngs)

    def impossible_data(self, names: Iterable[str], start: Mapping[str, np.ndarray]) -> list[str]:
        """Describe the elements of observed sites whose log-probability is not finite."""
        found = []
        for site in (self.trace[name] for name in names if self.trace[name].observed):
            compute = self._stably([site.log_prob, as_plain_tensor(site.value)])
            log_prob, data = compute(*start.values())
            log_prob, data = map(np.asarray, (log_prob, data))
            at = np.argwhere(~np.isfinite(log_prob))
            if len(at) and log_prob.ndim:
                first = tuple(map(int, at[0]))
                found.append(
                    f"{len(at)} of {log_prob.size} observations, the first "
                    f"{_short(data[first])} at {list(first)}"
                )
        return found

    def __call__(self, seed: int) -> _Start:
        if self._rngs:
            reseed_rngs(self._rngs, seed)
        try:
            values = list(map(np.asarray, self._compute()))
            n = len(self.names)
            log_probs = values[2 * n :]
            if not np.isfinite(log_probs).all():
                log_probs = self._compute_stably(*values[n : 2 * n])
        except Exception as error:
            self._name_site(error)
            raise
        return _Start(
            dict(zip(self.names, values[:n], strict=True)),
            dict(zip(self.names, values[n : 2 * n], strict=True)),
            {site.name: float(v) for site, v in zip(self.scored, log_probs, strict=True)},
        )

    def _name_site(self, error: Exception) -> None:
        """Raise an error with the first site that cannot be computed, if there is one."""
        for site in self.scored:
            try:
                pytensor.function([], site.log_prob, mode=quick_mode())()
            except Exception as own:
                raise SiteError(
                    sentence(
                        f"Site {site.name!r} cannot be computed at the start",
                        found=f"{type(own).__name__}: {str(own).splitlines()[0]}",
                        fix=LABELS if isinstance(own, IndexError) else "",
                    )
                ) from error


class _GiveStart(Handler):
    """Give each latent site its starting value."""

    def __init__(self, init_loc_fn: InitStrategy):
        super().__init__()
        self.init_loc_fn = init_loc_fn
        self.unconstrained: dict[str, Variable] = {}
        self.left_out: list[str] = []

    def process_message(self, site: Site) -> None:
        if not site.is_latent or site.value is not None:
            return
        if has_finite_support(site.dist):
            self.left_out.append(site.name)
            return
        check_continuous(site)
        value = self.init_loc_fn(site)
        value = as_site_value(value, site.dist, site.name, site.dims)
        if isinstance(value.type, TensorType):
            # A transform forgets the lengths; some distributions below ask for them.
            value = pt.specify_shape(value, site.dist.type.shape)
        site.value = value
        self.unconstrained[site.name] = as_plain_tensor(unconstrain(site, site.value))


def quick_mode() -> Mode:
    """Return the mode for graphs that are evaluated a few times only."""
    mode = evaluation_mode()
    # Parameters outside their domain give log-probabilities of -inf, as in ``pm.compile``.
    rewrites = mode.provided_optimizer.including("local_check_parameter_to_ninf_switch")
    return Mode(linker=mode.linker, optimizer=rewrites)


def stable_mode() -> Mode:
    """Return the mode for logarithms of what rounds to zero, such as ``log(1 - sigmoid(50))``.

    It takes PyTensor longer to find them, as it does for a fit.
    """
    quick = quick_mode()
    rewrites = quick.provided_optimizer.including("stabilize", "specialize")
    return Mode(linker=quick.linker, optimizer=rewrites)


def check_continuous(site: Site) -> None:
    """Refuse a discrete latent site that cannot be summed out either."""
    dtype = as_plain_tensor(site.dist).type.dtype
    if not dtype.startswith("float"):
        raise SiteError(
            sentence(
                f"Site {site.name!r} is discrete ({dtype}); this guide is for continuous sites",
                fix="Marginalise it out of the model, condition on it, or write a guide for it",
            )
        )


def _unconstrained_dims(site: Site, ndim: int):
    same_ndim = site.dims is not None and len(site.dims) == ndim
    return site.dims if same_ndim and acts_on_elements(site.transform) else None


def _short(value: np.ndarray) -> str:
    return np.array2string(np.asarray(value), precision=4, threshold=6)


def refuse_local(latents: Mapping[str, Latent]) -> None:
    """Refuse sites of which a run has only those of a minibatch."""
    for latent in latents.values():
        for frame in latent.site.plates:
            if frame.is_subsampled:
                raise SiteError(
                    sentence(
                        f"Site {latent.name!r} is local to the subsampled plate {frame.name!r}: a "
                        "run has only those of one minibatch",
                        fix="Ask a guide of the same model without subsample_size; its params "
                        "have the same names and shapes",
                    )
                )
