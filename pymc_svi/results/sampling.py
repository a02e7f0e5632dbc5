"""Draws from programs, many at once."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions.custom import CustomDistRV
from pymc.distributions.simulator import SimulatorRV
from pymc.pytensorf import collect_default_updates
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors, toposort
from pytensor.scan.op import Scan
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.sharedvar import TensorSharedVariable

from pymc_svi.engine.arguments import Arguments
from pymc_svi.engine.graph import own_generators, share_large_constants
from pymc_svi.engine.missing_places import naming_places
from pymc_svi.engine.seeds import seed_sequence, spawn_generators
from pymc_svi.engine.training import training_mode
from pymc_svi.enumeration import has_finite_support, infer_discrete
from pymc_svi.errors import SiteError, did_you_mean, quoted, sentence
from pymc_svi.evaluation import evaluate, evaluation_mode
from pymc_svi.gradients.particles import vectorize_draws
from pymc_svi.guides import AutoGuide
from pymc_svi.handlers import Handler, Site, Trace, replay, trace, uncondition
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import as_plain_tensor

__all__ = ["FixedParams", "GuidedRun", "draw_function", "guided_run"]

# Draws are evaluated in batches of at most this many numbers for the largest output.
_BATCH_ELEMENTS = 20_000_000
# From how many draws on a compiled loop over them, where they have loops of their own, is worth
# the time to compile.
_MANY_DRAWS = 100


class FixedParams(Handler):
    """Give params their fitted values.

    Parameters
    ----------
    values : dict of str to numpy.ndarray
        Constrained values by name. If empty, params keep their starting values.
    """

    def __init__(self, values: Mapping[str, Any]):
        super().__init__()
        self.values = values

    def process_message(self, site: Site) -> None:
        """Set the value of a param."""
        if site.type == "param" and site.value is None and self.values:
            if site.name not in self.values:
                raise SiteError(
                    sentence(
                        f"There is no value for param {site.name!r}",
                        found=f"values of {quoted(self.values)}",
                        fix="Pass the params of the fit of this guide and model",
                    )
                    + did_you_mean(site.name, self.values)
                )
            value = np.asarray(self.values[site.name], dtype=pytensor.config.floatX)
            site.value = pytensor.shared(value, name=site.name, shape=value.shape)


@dataclass(frozen=True)
class GuidedRun:
    """One run of a model on draws of its guide.

    Attributes
    ----------
    trace : Trace
        The model's.
    guided : tuple of str
        The latent sites that the guide draws, and the discrete ones that follow from it: those
        that are summed out in the fit are drawn from their posterior given the others.
    observed : dict of str to Variable
        The data of sites that are drawn although they are observed.
    """

    trace: Trace
    guided: tuple[str, ...]
    observed: Mapping[str, Variable] = MappingProxyType({})


class _KeepObserved(Handler):
    """Remember the data of observed sites."""

    def __init__(self, program: Program):
        super().__init__(program)
        self.values: dict[str, Variable] = {}

    def process_message(self, site: Site) -> None:
        """Remember the data of a site."""
        if site.type == "sample" and site.observed:
            self.values[site.name] = site.value


def guided_run(
    model: Program,
    guide: Program,
    params: Mapping[str, Any],
    args: tuple,
    kwargs: Mapping[str, Any],
    *,
    predictive: bool = False,
    fitted_on: Arguments | None = None,
) -> GuidedRun:
    """Run a model on draws of its guide at fitted params.

    Parameters
    ----------
    model, guide : callable or pymc.Model
        The programs, both called with ``args`` and ``kwargs``.
    params : dict of str to array_like
        Constrained values of the params.
    predictive : bool, default False
        Draw the observed sites too, instead of giving them their data.
    fitted_on : Arguments, optional
        The arguments of the fit, for guides that compute something from them once it is over.
    """
    guide = fitted_guide(guide, params, fitted_on)
    with FixedParams(params):
        guide_trace = trace(guide).get_trace(*args, **kwargs)
        kept = _KeepObserved(model)
        program = replay(uncondition(kept) if predictive else model, trace=guide_trace)
        model_trace = trace(program).get_trace(*args, **kwargs)
        summed_out = [
            name
            for name, site in model_trace.latent.items()
            if name not in guide_trace and has_finite_support(site.dist)
        ]
        if summed_out and not predictive:
            model_trace = trace(infer_discrete(program)).get_trace(*args, **kwargs)
    guided = [name for name in guide_trace.latent if name in model_trace]
    return GuidedRun(model_trace, (*guided, *([] if predictive else summed_out)), kept.values)


def fitted_guide(guide: Program, params: Mapping[str, Any], arguments: Arguments | None) -> Program:
    """Return what to draw from when the params are those of a fit; see ``AutoGuide.fitted``."""
    if isinstance(guide, Handler) and guide.program is not None:
        return guide.around(fitted_guide(guide.program, params, arguments))
    if not isinstance(guide, AutoGuide) or not params:
        return guide
    args, kwargs = ((), {}) if arguments is None else arguments.split(arguments.variables())
    return guide.fitted(params, *args, **kwargs)


def as_arguments(
    program: Program, args: tuple, kwargs: Mapping[str, Any]
) -> tuple[tuple, dict[str, Any]]:
    """Return arguments as a program gets them, arrays as variables of known shape."""
    arguments = Arguments(args, dict(kwargs))
    return arguments.split(arguments.variables(program))


def prediction_names(run: GuidedRun, return_sites: Sequence[str] | None) -> list[str]:
    """Return the names of the sites to predict: by default all that the guide does not draw."""
    sites = run.trace.sites("sample", "deterministic")
    if return_sites is None:
        return [site.name for site in sites if site.name not in run.guided]
    known = [site.name for site in sites]
    for name in return_sites:
        if name not in known:
            raise SiteError(
                sentence(f"return_sites: the model has no site {name!r}", found=quoted(known))
                + did_you_mean(name, known)
            )
    return list(return_sites)


def draw_function(
    outputs: Mapping[str, Variable],
    batched: Mapping[str, Variable] | None = None,
    mode: Mode | None = None,
) -> Callable[..., dict[str, np.ndarray]]:
    """Compile a function that draws expressions jointly.

    Parameters
    ----------
    outputs : dict of str to Variable
        Expressions; together they are one draw.
    batched : dict of str to Variable, optional
        Placeholders that get one given value for each draw.
    mode : Mode, optional
        How to compile. By default not for speed, which would take longer than a few vectorised
        evaluations.

    Returns
    -------
    callable
        ``draw(n, random_seed, values={}) -> dict`` of arrays of shape ``(n, *shape)``.
    """
    placeholders = dict(batched or {})
    stacked = {
        name: pt.tensor(name, dtype=var.type.dtype, shape=(None, *var.type.shape))
        for name, var in placeholders.items()
    }
    plain = _with_constant_sizes([as_plain_tensor(variable) for variable in outputs.values()])
    pairs = {placeholders[name]: stacked[name] for name in placeholders}
    nodes = list(toposort(plain))
    loops = any(isinstance(node.op, Scan) for node in nodes)
    # What a user's function makes of parameters with another axis is not known.
    user_functions = any(isinstance(node.op, CustomDistRV | SimulatorRV) for node in nodes)
    n_draws = pt.lscalar("n_draws")
    vectorized: list[Variable] | None
    try:
        vectorized = None if user_functions else vectorize_draws(plain, n_draws, pairs)
    except (NotImplementedError, TypeError, ValueError):
        # PyTensor cannot give a batch axis to every random variable: not to a mixture that depends
        # on draws, nor to a multinomial one of fixed size.
        vectorized = None

    @functools.cache
    def compiled(many: bool) -> tuple[Callable, list[Variable]]:
        # Draws of a loop, vectorised, are a loop in Python for each draw.
        if vectorized is not None and not (loops and many):
            values, generators = own_generators(vectorized)
            slow = True
        else:
            values, generators = _one_after_the_other(plain, pairs, n_draws)
            slow = user_functions or not many  # which stay Python
        quickly_compiled = evaluation_mode() if slow else None
        function = pytensor.function(
            [n_draws, *stacked.values()],
            values,
            mode=training_mode(quickly_compiled) if mode is None else mode,
            on_unused_input="ignore",
        )
        return function, generators

    def draw(n: int, random_seed: Any, values: Mapping[str, np.ndarray] = MappingProxyType({})):
        function, generators = compiled(n > _MANY_DRAWS)
        seed = seed_sequence(random_seed)
        sizes = [np.prod([s or 1 for s in var.type.shape], dtype=float) for var in plain]
        batch = int(max(1, min(n, _BATCH_ELEMENTS // max([1.0, *sizes]))))
        parts = []
        for start in range(0, n, batch):
            size = min(batch, n - start)
            for variable, generator in zip(
                generators, spawn_generators(seed, len(generators)), strict=True
            ):
                variable.set_value(generator)
            given = [
                np.asarray(values[name][start : start + size], dtype=var.type.dtype)
                for name, var in stacked.items()
            ]
            with naming_places(plain, "A draw"):
                parts.append(function(size, *given))
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(outputs)}

    return draw


def _one_after_the_other(
    outputs: Sequence[Variable], stacked: Mapping[Variable, Variable], n_draws: Variable
) -> tuple[list[Variable], list[Variable]]:
    """Return outputs as a loop over draws gives them, and its generators."""
    values, generators = own_generators(share_large_constants(outputs))

    def step(*given: Variable):
        found = graph_replace(values, dict(zip(stacked, given, strict=True)), strict=False)
        advanced = collect_default_updates(outputs=found)
        return found, {rng: new for rng, new in advanced.items() if rng in set(generators)}

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Scan return signature will change")
        found, _ = pytensor.scan(
            step, sequences=list(stacked.values()), n_steps=n_draws, return_list=True
        )
    return found, generators


def _with_constant_sizes(outputs: Sequence[Variable]) -> list[Variable]:
    """Return outputs whose draws have constants for sizes that follow from data alone.

    PyTensor gives a vectorised draw its new axis only where it meets the old size unchanged,
    and it does not recognise a size such as ``X.shape[0]`` after rebuilding it.
    """
    sizes = {}
    for node in toposort(outputs):
        if not isinstance(node.op, RandomVariable):
            continue
        size = node.op.size_param(node)
        if isinstance(size, Constant) or size in sizes:
            continue
        if all(
            isinstance(source, Constant | TensorSharedVariable)
            for source in ancestors([size])
            if source.owner is None
        ):
            sizes[size] = pt.constant(evaluate(size), dtype="int64")
    return graph_replace(list(outputs), sizes, strict=False) if sizes else list(outputs)
