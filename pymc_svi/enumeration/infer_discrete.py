"""``infer_discrete``: draw discrete sites from their posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors

from pymc_svi.enumeration.chains import collapsed
from pymc_svi.enumeration.factors import Factors
from pymc_svi.enumeration.marking import is_enumerated, summed
from pymc_svi.enumeration.tables import Table, eliminate, log_sum, maximum
from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers import Handler, Site, Trace, substitute, trace, uncondition
from pymc_svi.handlers.core import Program, run_program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.stack import STACK
from pymc_svi.handlers.values import as_site_value

__all__ = ["infer_discrete"]


class infer_discrete(Handler):
    """A program whose discrete latent sites are drawn from their posterior, given all others.

    What is observed, and what handlers around or inside give a value, is conditioned on;
    continuous sites without a value are drawn as ever. Data that ``uncondition`` or ``Predictive``
    draw anew around the handler are conditioned on first: the new ones follow from the draw.

    Parameters
    ----------
    program : callable or pymc.Model
        A model with discrete sites of finite support.
    temperature : {1, 0}, default 1
        1 draws from the joint posterior of the discrete sites; 0 gives its mode, by the Viterbi
        algorithm in a chain.

    Raises
    ------
    SiteError
        If what is observed depends on the discrete sites through a continuous one without a value.
    ValueError
        If ``temperature`` is neither 0 nor 1.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import handlers, infer_discrete
    >>> def model(y):
    ...     z = pm.Bernoulli("z", 0.5, shape=len(y))
    ...     pm.Normal("y", 10.0 * z, 1.0, observed=y)
    >>> inferred = infer_discrete(model, temperature=0)
    >>> handlers.trace(inferred).get_trace(np.array([0.2, 9.0, 11.0]))["z"].value.eval()
    array([0, 1, 1])
    """

    def __init__(self, program: Program | None = None, temperature: int = 1):
        super().__init__(program)
        if temperature not in (0, 1):
            raise ValueError(
                sentence(
                    "infer_discrete: temperature is 1, to draw, or 0, for the mode",
                    found=repr(temperature),
                )
            )
        self.temperature = temperature

    def __enter__(self):
        raise TypeError(
            sentence(
                "infer_discrete runs a program twice, so that it cannot be a context manager",
                fix="Wrap the program: infer_discrete(model)(*args)",
            )
        )

    def __call__(self, *args, **kwargs) -> Any:
        """Run the program on values of its discrete sites, or wrap one when used as decorator."""
        if self.program is None:
            return super().__call__(*args, **kwargs)
        # The first run is not to be recorded, and has the data that `uncondition` draws anew in
        # the second; what else is around has its say in both, and leaves to be summed out what it
        # gives no value.
        outside = tuple(h for h in STACK.get() if not isinstance(h, trace | uncondition))
        token = STACK.set((summed(unless=()), *outside))
        names = _names_here(self.program)
        try:
            traced = trace(names).get_trace(*args, **kwargs)
        finally:
            STACK.reset(token)
        following = _drawn_after_the_sums(traced)
        values = {
            name: site.value
            for name, site in traced.latent.items()
            if not is_enumerated(site) and name not in following
        }
        sites = [s for s in traced.sites("sample", "factor") if s.name not in following]
        values |= posterior_draw(Factors(traced), sites, self.temperature)
        with substitute(data={names.of(name): value for name, value in values.items()}):
            return run_program(self.program, *args, **kwargs)


class _names_here(Handler):
    """Keep the names that sites have before handlers around rename them, as ``scope`` does."""

    def __init__(self, program: Program | None = None):
        super().__init__(program)
        self._seen: list[tuple[Site, str]] = []

    def process_message(self, site: Site) -> None:
        """Keep the name."""
        self._seen.append((site, site.name))

    def of(self, name: str) -> str:
        """Return what a site is called here, by its name in a trace."""
        return next((here for site, here in self._seen if site.name == name), name)


def _drawn_after_the_sums(traced: Trace) -> dict[str, Site]:
    """Return the sites without a value whose law depends on summed sites: they say nothing of these.

    They are drawn in the second run, when these sites have a value.

    Raises
    ------
    SiteError
        If what has a value depends on such a site, which would have to be integrated out.
    """
    summed_over = {s.infer["summed_over"]: s.name for s in traced.values() if is_enumerated(s)}
    found: dict[str, Site] = {}
    draws: dict[Variable, str] = {}
    for site in traced.sites("sample", "factor"):
        if is_enumerated(site):
            continue
        latent = site.name in traced.latent
        value = as_plain_tensor(site.value if latent else site.log_prob)
        above = set(ancestors([value]))
        if latent and (parents := above & set(summed_over)):
            found[site.name] = site
            draws[value] = summed_over[next(iter(parents))]
        elif parents := above & set(draws):
            between = next(name for name, s in found.items() if as_plain_tensor(s.value) in parents)
            raise SiteError(
                sentence(
                    f"infer_discrete: site {between!r} has no value, but decides on discrete sites",
                    found=f"{site.name!r} depends on {between!r}, and {between!r} on "
                    f"{draws[next(iter(parents))]!r}",
                    fix=f"Give {between!r} a value, handlers.condition(model, data={{{between!r}: ...}}), "
                    "or posterior samples",
                )
            )
    return found


def posterior_draw(
    factors: Factors, sites: list[Site], temperature: int = 1
) -> dict[str, Variable]:
    """Draw the summed sites from their posterior, or take its mode."""
    sites, chains = collapsed(sites)
    found = factors.of(sites)
    names = list(factors.summed)
    factors.arrange(names)
    record: list[tuple[str, Table]] = []
    eliminate(
        [factors.table(factor) for factor in found],
        factors.variables(names),
        factors.scales(names),
        log_sum if temperature else maximum,
        record=record,
    )
    states: dict[str, Table] = {}
    for name, table in reversed(record):  # each given those that were summed out after it
        logits = _given(name, table, states)
        if temperature:
            logits = logits + pm.Gumbel.dist(pt.zeros_like(logits), 1.0)
        states[name] = Table(logits.argmax(axis=-1), (), table.plates)
    values = {name: _value(factors, name, state) for name, state in states.items()}
    known = {factors.summed[n].placeholder: as_plain_tensor(v) for n, v in values.items()}
    for chain in chains:
        draws = chain.draws(temperature)
        given = graph_replace(list(draws.values()), known, strict=False)
        for name, value in zip(draws, given, strict=True):
            site = chain.outer[name]
            values[site.name] = as_site_value(value, site.dist, site.name, site.dims)
    return values


def _given(name: str, table: Table, states: Mapping[str, Table]) -> Variable:
    """Return a table at the states of its other variables, its own variable as the last axis."""
    others = [v for v in table.variables if v != name]
    plates = table.plates
    own = [*table.variables, *plates]
    order = [own.index(axis) for axis in [*others, *plates, name]]
    value = table.value.dimshuffle(*order)
    if not others:
        return value
    indices = [states[v].spread((), plates) for v in others]
    for place, _ in enumerate(plates):
        axis: list[Any] = ["x"] * len(plates)
        axis[place] = 0
        indices.append(pt.arange(value.shape[len(others) + place]).dimshuffle(*axis))
    return value[tuple(indices)]


def _value(factors: Factors, name: str, state: Table) -> Variable:
    """Return the value of a site, from the states of its elements."""
    s = factors.summed[name]
    joint = sorted(s.joint)
    by_plate = {plate: axis for axis, plate in s.plates.items()}
    picked = pt.constant(s.states)[state.value]
    axes_now = [by_plate[plate] for plate in state.plates] + joint
    order: list[Any] = [
        axes_now.index(axis) if axis in axes_now else "x" for axis in range(len(s.shape))
    ]
    value = picked.dimshuffle(*order).astype(s.placeholder.type.dtype)
    value = pt.specify_shape(value, s.shape) if s.shape else value
    return as_site_value(value, s.site.dist, name, s.site.dims)
