"""``scan``: a loop whose steps are sites, written once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.enumeration.body import Tree, over_time
from pymc_svi.enumeration.carry import HandedOn, carried_states
from pymc_svi.enumeration.chains import Chain
from pymc_svi.enumeration.marking import is_enumerated
from pymc_svi.enumeration.step_draws import draw_by_step
from pymc_svi.enumeration.steps import (
    as_variable,
    cast,
    number_of_steps,
    outside_of,
    plain,
    static_length,
    trace_step,
    with_known,
)
from pymc_svi.enumeration.supports import has_finite_support
from pymc_svi.errors import SiteError, sentence
from pymc_svi.gradients.particles import random_variables
from pymc_svi.handlers import Site
from pymc_svi.handlers.distributions import resized
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.stack import active_handlers, apply_stack
from pymc_svi.handlers.values import Drawn, as_site_value

__all__ = ["scan"]


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    *,
    dim: str | None = None,
) -> tuple[Any, Any]:
    """Repeat a step that creates PyMC variables, each time on what the last one handed on.

    Each variable of the step is one site with a leading axis, its values at all steps. The step
    is run once, on placeholders, so that neither the time to build a model nor the time to
    compile it grows with the number of steps.

    Under :class:`~pymc_svi.TraceEnum_ELBO` discrete sites that the guide leaves out are summed
    out by the backward algorithm: a hidden Markov model of any length, of any order (hand on the
    states of more steps than one), with several chains, and for many sequences at once (give the
    sites of the step a shape). :class:`~pymc_svi.infer_discrete` draws their paths or finds the
    likeliest (Viterbi), :func:`~pymc_svi.compute_marginals` gives their probabilities.

    Parameters
    ----------
    step : callable
        ``step(carry, x) -> (carry, y)``, with ``carry`` what the step before handed on, ``x`` the
        part of ``xs`` that belongs to this step, and ``y`` what is to be collected, or None.
    init : number, array, Variable, or tuple, list or dict of these
        What the first step is given.
    xs : array, Variable, or tuple, list or dict of these, optional
        Data with one leading entry for each step.
    length : int, optional
        Number of steps; needed without ``xs``.
    dim : str, optional
        Name of the dimension of the steps.

    Returns
    -------
    carry
        What the last step handed on.
    ys
        What was collected, with a leading axis.

    Raises
    ------
    SiteError
        If the number of steps is not clear, if the carry changes its type from step to step, or
        if what a step hands on of a summed site is not the site itself.

    Examples
    --------
    A hidden Markov model, its states summed out:

    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import SVI, TraceEnum_ELBO, infer_discrete, handlers, optim, scan
    >>> from pymc_svi.guides import AutoNormal
    >>> def model(ys):
    ...     means = pm.Normal("means", [-1.0, 1.0], 1.0)
    ...     stay = pm.Beta("stay", 5.0, 2.0)
    ...
    ...     def step(z, y):
    ...         z = pm.Bernoulli("z", pm.math.switch(z, stay, 1 - stay))
    ...         pm.Normal("y", means[z], 0.5, observed=y)
    ...         return z, None
    ...
    ...     scan(step, 0, ys, dim="time")
    >>> ys = np.array([-1.1, -0.8, -1.2, 0.9, 1.3, 1.0, 0.8, -1.0])
    >>> coords = {"time": range(8)}
    >>> svi = SVI(model, AutoNormal(model), optim.Adam(0.02), TraceEnum_ELBO(), coords=coords)
    >>> result = svi.run(1_000, ys, random_seed=0, progressbar=False)
    >>> posterior = result.sample_posterior(100, random_seed=1).posterior
    >>> posterior["z"].dims, posterior["z"].mean(("chain", "draw")).values.round().astype(int)
    (('chain', 'draw', 'time'), array([0, 0, 0, 1, 1, 1, 1, 0]))
    """
    if not active_handlers():
        raise SiteError(
            sentence(
                "scan: there is no handler around",
                expected="a function program, run by SVI, Predictive or a handler such as trace",
                fix="In a pm.Model use a loop, or pm.CustomDist with pytensor.scan",
            )
        )
    return _Scan(step, init, xs, length, dim).run()


class _Scan:
    """One loop: its sites, their draws, and what of them is summed out."""

    def __init__(self, step: Callable, init: Any, xs: Any, length: int | None, dim: str | None):
        self.dim = dim
        self.inputs = Tree(xs)
        self.xs = [as_variable(leaf) for leaf in self.inputs.leaves]
        self.length = number_of_steps(self.xs, length, dim)
        init_tree = Tree(init)
        starts = [as_plain_tensor(as_variable(leaf)) for leaf in init_tree.leaves]
        self.body, self.starts = trace_step(step, init_tree, starts, self.inputs, self.xs)
        body = self.body
        # What stands for the values of the sites at all steps, until they are known.
        self.stacked: dict[str, Variable] = {}
        for name, placeholder in body.values.items():
            shape = (static_length(self.length), *placeholder.type.shape)
            self.stacked[name] = pt.tensor(name, dtype=placeholder.type.dtype, shape=shape)
        self.handed_on = HandedOn(body, self.starts, self.xs, self.stacked, self.length)
        self.given: dict[str, Variable] = {}
        # The law of each site as the handlers around see it, and in terms of what is stacked.
        self.laws: dict[str, tuple[Variable, Variable]] = {}
        self.batched = dict(zip(body.inputs, self.xs, strict=True))
        self.batched |= {body.values[name]: value for name, value in self.stacked.items()}
        self.batched |= dict(zip(body.carry, self.handed_on.before(), strict=True))

    def run(self) -> tuple[Any, Any]:
        """Emit the sites and return the last carry and what was collected."""
        outer = {site.name: self._emit(site) for site in self.body.samples}
        values = self._drawn(outer)
        known = {self.stacked[name]: value for name, value in values.items()}
        for name, site in outer.items():
            if name in values and not is_enumerated(site):
                site.value = as_site_value(values[name], site.dist, name, site.dims)
        for name, site in outer.items():
            if site.dist is self.laws[name][0]:
                [site.dist] = with_known([self.laws[name][1]], known)
            if site.log_density is None and site.log_density_at is None:
                site.log_density_at = self._density(self.body.traced[name], known)
            if isinstance(site.mask, Variable):
                [site.mask] = with_known([site.mask], known)
        self._add_chain(outer, known)
        self._emit_rest(outer, known)
        carry = _last(self.handed_on.after, self.length)
        collected = over_time(self.body.outputs.leaves, self.batched, self.length)
        found = with_known([*carry, *collected], known)
        return (
            self.body.new_carry.filled(found[: len(carry)]),
            self.body.outputs.filled(found[len(carry) :]),
        )

    # --- sites ------------------------------------------------------------------------------

    def _emit(self, site: Site) -> Site:
        """Offer a site of the step, at all steps, to the handlers around."""
        name = site.name
        [law] = over_time([site.dist], self.batched, self.length)
        dist = law if site.observed or has_finite_support(site.dist) else self._closed(law)
        self.laws[name] = dist, law
        value = None
        if site.observed:
            [value] = over_time([self.body.data[name]], self.batched, self.length)
        mask = site.mask
        if isinstance(mask, Variable):
            [mask] = over_time([mask], self.batched, self.length)

        def default(outer: Site) -> None:
            if outer.value is None:
                outer.value = self.stacked[name]

        emitted = Site(
            "sample",
            _full_name(name),
            dist=dist,
            value=value,
            observed=site.observed,
            dims=_with_dim(self.dim, site),
            transform=site.transform,
            scale=site.scale,
            mask=mask,
            infer=dict(site.infer),
            event_dim=site.event_dim,
            draw=lambda: self._draw_all()[name],
            default=default,
        )
        apply_stack(emitted)
        if emitted.result is not None and not isinstance(emitted.result, Drawn):
            raise SiteError(
                sentence(
                    f"scan: site {name!r} is intervened on for all steps at once",
                    fix="Use condition or substitute, or write the loop out and use do on its steps",
                )
            )
        if emitted.value is not self.stacked[name] and not is_enumerated(emitted):
            self.given[name] = as_plain_tensor(emitted.value)
        return emitted

    def _closed(self, law: Variable) -> Variable:
        """Return a law with draws for all that is not known yet: a handler may start from it."""
        if not set(self.stacked.values()) & set(ancestors([law])):
            return law
        known = {self.stacked[n]: v for n, v in {**self.given, **self._draw_all()}.items()}
        return with_known([law], known)[0]

    def _density(self, site: Site, known: Mapping[Variable, Variable]) -> Callable:
        """Return the log-density of a site of the step, at all steps, as a function of its value."""
        [density] = over_time([site.unscaled_log_prob], self.batched, self.length)
        own = self.stacked[site.name]

        def at(value: Any) -> Variable:
            return with_known([density], {**known, own: as_plain_tensor(value)})[0]

        return at

    def _emit_rest(self, outer: Mapping[str, Site], known: Mapping[Variable, Variable]) -> None:
        for site in self.body.traced.sites("deterministic", "factor"):
            [value] = over_time([site.value], self.batched, self.length)
            [value] = with_known([value], known)
            dims = _with_dim(self.dim, site)
            if site.type == "deterministic":
                pm.Deterministic(site.name, value, dims=dims)
                continue
            factor = Site("factor", _full_name(site.name), value=value, dims=dims, scale=site.scale)
            apply_stack(factor)
            for chain in dict.fromkeys(s.infer.get("chain") for s in outer.values()):
                if chain is not None and site.name in chain.parts:
                    factor.infer["chain"] = chain
                    chain.outer[site.name] = factor

    # --- draws ------------------------------------------------------------------------------

    def _drawn(self, outer: Mapping[str, Site]) -> dict[str, Variable]:
        """Return the values of all sites."""
        missing = [name for name, site in outer.items() if site.value is self.stacked[name]]
        values = dict(self.given)
        values |= {n: as_plain_tensor(s.value) for n, s in outer.items() if is_enumerated(s)}
        if missing:
            values |= self._draw_all(values)
        return values

    def _draw_all(self, values: Mapping[str, Variable] | None = None) -> dict[str, Variable]:
        """Draw the sites that have no value, each step given the one before."""
        body = self.body
        values = dict(self.given if values is None else values)
        names = [name for name in body.values if name not in values]
        # Only what is handed on has to be drawn step by step.
        needed = set(ancestors(plain(body.new_carry.leaves)))
        by_step = [name for name in names if body.values[name] in needed]
        for name in reversed(names):  # and what it is computed from
            above = set(ancestors([body.traced[n].dist for n in by_step]))
            if name not in by_step and body.values[name] in above:
                by_step.append(name)
        if by_step:
            values |= self._loop([name for name in names if name in by_step], values)
        for name in names:
            if name not in values:
                known = {self.stacked[n]: v for n, v in values.items()}
                [dist] = over_time([body.traced[name].dist], self.batched, self.length)
                [values[name]] = with_known([dist], known)
        return {name: values[name] for name in names}

    def _loop(self, names: Sequence[str], values: Mapping[str, Variable]) -> dict[str, Variable]:
        """Draw some sites step by step, with random numbers that are made beforehand."""
        body = self.body
        exprs = {name: draw_by_step(body, name) for name in names}
        # What the parameters are computed from was drawn outside.
        laws = [as_plain_tensor(body.traced[name].dist).owner.inputs for name in names]
        drawn_before = set(ancestors([parameter for law in laws for parameter in law]))
        noise = [rv for rv in random_variables(list(exprs.values())) if rv not in drawn_before]
        stacked_noise = [resized(rv, (self.length,), expand=True) for rv in noise]
        other = [name for name in values if name in body.values]
        placeholders = [*body.inputs, *(body.values[name] for name in other), *noise]
        read = [*self.xs, *(values[name] for name in other), *stacked_noise]
        new = plain(body.new_carry.leaves)
        known = [*placeholders, *body.carry]
        own = [body.values[name] for name in names]
        outside = outside_of([*exprs.values(), *new], [*known, *own])

        def step(*now):
            replaced = dict(zip([*known, *outside], now, strict=True))
            drawn = []
            for name in names:
                [draw] = with_known([exprs[name]], replaced)
                draw = draw.astype(body.values[name].type.dtype)
                replaced[body.values[name]] = draw
                drawn.append(draw)
            return [*cast(with_known(new, replaced), body.carry), *drawn]

        found = pytensor.scan(
            step,
            sequences=read,
            outputs_info=[*self.handed_on.starts, *[None] * len(names)],
            non_sequences=outside,
            n_steps=self.length,
            return_updates=False,
        )
        found = found if isinstance(found, list) else [found]
        drawn = found[len(body.carry) :]
        return {
            name: pt.specify_shape(draw, self.stacked[name].type.shape)
            for name, draw in zip(names, drawn, strict=True)
        }

    # --- sums -------------------------------------------------------------------------------

    def _add_chain(self, outer: Mapping[str, Site], known: Mapping[Variable, Variable]) -> None:
        """Find out what is to be summed out together, and mark its sites."""
        names = [name for name, site in outer.items() if is_enumerated(site)]
        if not names:
            return
        body = self.body
        carried = carried_states(body, names)
        others = [part for part in range(len(body.carry)) if part not in carried]
        before = self.handed_on.before()
        batched = dict(zip(body.inputs, self.xs, strict=True))
        batched |= {body.carry[part]: before[part] for part in others}
        batched |= {body.values[n]: self.stacked[n] for n in body.values if n not in names}
        values = list(batched.values())
        batched = dict(zip(batched, with_known(values, known), strict=True))
        starts = {part: self.starts[part] for part in carried}
        chain = Chain(body, names, carried, starts, batched, self.length, dict(outer))
        for name in chain.parts:
            if name in outer:
                site = outer[name]
                expected = body.traced[name].mask
                if site.mask is not None and expected is None:
                    raise SiteError(
                        sentence(
                            f"scan: site {name!r} is summed over and has a mask from outside",
                            fix="Use handlers.mask within the step",
                        )
                    )
                site.infer = {**site.infer, "chain": chain}


def _last(trajectories: Sequence[Variable], length: Any) -> list[Variable]:
    return [trajectory[-1] for trajectory in trajectories]


def _with_dim(dim: str | None, site: Site) -> tuple[str | None, ...] | None:
    if dim is None and site.dims is None:
        return None
    value = as_plain_tensor(site.value)
    return (dim, *(site.dims or (None,) * value.ndim))


def _full_name(name: str) -> str:
    model = pm.Model.get_context(error_if_none=False)
    return name if model is None else model.name_for(name)
