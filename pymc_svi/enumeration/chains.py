"""Sums over the discrete states of a chain, from one step of it.

The log-factors of a step are tables over the states before and after it, made for all steps at
once. Going through them from the last step to the first, every value of a state is given the
log-probability of all that comes after it: the backward algorithm, in a loop whose compile time
does not depend on the number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.enumeration.body import Body, over_time
from pymc_svi.enumeration.factors import Factors, Summed
from pymc_svi.enumeration.tables import log_sum, maximum, product, same_scale
from pymc_svi.errors import PairingError, SiteError, quoted, sentence
from pymc_svi.handlers import Site, Trace
from pymc_svi.handlers.log_prob import as_plain_tensor

__all__ = ["Chain", "collapsed"]


class Chain:
    """The discrete sites of a ``scan`` that are summed out.

    Parameters
    ----------
    body : Body
        One step.
    names : sequence of str
        Its sites that are summed over.
    carried : dict of int to str
        Which parts of the carry hold the state of one of them, and of which: that of the step
        before, or of an earlier one.
    starts : dict of int to Variable
        What these parts are before the first step.
    batched : dict of Variable to Variable
        The values of all other placeholders of the step, at all steps.
    length : int or Variable
        Number of steps.
    outer : dict of str to Site
        The sites of all steps, as the program around has them.
    """

    def __init__(
        self,
        body: Body,
        names: Sequence[str],
        carried: Mapping[int, str],
        starts: Mapping[int, Variable],
        batched: Mapping[Variable, Variable],
        length: Any,
        outer: Mapping[str, Site],
    ):
        self.body, self.names, self.carried = body, list(names), dict(carried)
        self.starts, self.batched, self.length, self.outer = starts, batched, length, outer
        # What is added to the log-factors of the states, to differentiate by.
        self.field: Variable | None = None
        before, now = Trace(), Trace()
        for part, name in self.carried.items():
            before.add(self._standing_for(name, f"{name} in carry {part}", body.carry[part]))
        for site in body.traced.values():
            if site.name in self.names:
                site = self._standing_for(site.name, site.name, body.values[site.name])
            now.add(site)
        self.factors = Factors(before, now)
        self.found = self.factors.of(now.sites("sample", "factor"))
        for factor in self.found:
            if factor.weights:
                raise PairingError(
                    sentence(
                        f"scan: site {factor.site.name!r} has a total_size, and belongs to a chain that is "
                        "summed out as a whole",
                        fix="Leave it out, and put the whole loop under handlers.scale(scale=total / rows), "
                        "or let a Trainer with a DataLoader weight the rows of its batches",
                    )
                )
        self._arrange()

    def _standing_for(self, name: str, as_name: str, placeholder: Variable) -> Site:
        site = self.body.traced[name]
        copy = site.copy(name=as_name, value=placeholder)
        copy.infer["summed_over"] = placeholder
        return copy

    def _arrange(self) -> None:
        """Sum a state over in the same way before and after a step."""
        summed = self.factors.summed
        again = True
        while again:
            self.factors.arrange()
            again = False
            for part, name in self.carried.items():
                first, second = summed[f"{name} in carry {part}"], summed[name]
                if first.joint != second.joint:
                    first.joint |= second.joint
                    second.joint |= first.joint
                    again = True
        plates = {tuple(sorted(summed[name].plates.values())) for name in self.names}
        if len(plates) > 1:
            raise PairingError(
                sentence(
                    f"scan: the discrete sites {quoted(self.names)} depend on each other, but do "
                    "not have the same independent elements",
                    fix="Give them the same shape",
                )
            )
        [self.plates] = plates

    # --- the sites it is made of ------------------------------------------------------------

    @property
    def parts(self) -> list[str]:
        """Names of the sites whose log-probabilities are in the sum."""
        return [factor.site.name for factor in self.found]

    @property
    def placeholders(self) -> list[Variable]:
        """What stands for the summed sites in the program around."""
        return [self.outer[name].infer["summed_over"] for name in self.names]

    @cached_property
    def scale(self) -> Any:
        """The scale of its sites."""
        sites = [self.outer[name] for name in self.parts if name in self.outer]
        for site in sites[1:]:
            if not same_scale(site.scale, sites[0].scale):
                raise PairingError(
                    sentence(
                        f"scan: sites {sites[0].name!r} and {site.name!r} are summed out together "
                        "but have different scales",
                        fix="Put the whole loop under one scale",
                    )
                )
        return sites[0].scale

    def as_site(self) -> Site:
        """Return one site in the place of all: the log of the sum over all paths."""
        site = Site("factor", " and ".join(self.names), scale=self.scale, infer={"chain": self})
        observed = [self.outer[n] for n in self.parts if n in self.outer and self.outer[n].observed]
        if observed:
            site.name, site.observed = observed[0].name, True
        site.value = self.evidence()
        return site

    # --- tables -----------------------------------------------------------------------------

    def _before(self) -> list[Summed]:
        return [self.factors.summed[f"{n} in carry {part}"] for part, n in self.carried.items()]

    def _now(self) -> list[Summed]:
        return [self.factors.summed[name] for name in self.names]

    @cached_property
    def _n_before(self) -> list[int]:
        return [s.n_states for s in self._before()]

    @cached_property
    def _n_now(self) -> list[int]:
        return [s.n_states for s in self._now()]

    @cached_property
    def _plate_sizes(self) -> list[int]:
        s = self._now()[0]
        sizes = {plate: s.shape[axis] for axis, plate in s.plates.items()}
        return [sizes[plate] for plate in self.plates]

    @cached_property
    def transitions(self) -> Variable:
        """Log-factors of each step, of shape ``(steps, before, *plates, now)``."""
        tables = [replace(self.factors.table(factor), scale=1.0) for factor in self.found]
        joint = product(tables)
        names = [f"{n} in carry {part}" for part, n in self.carried.items()] + self.names
        value = joint.spread(names, self.plates)
        full = (*self._n_before, *self._n_now, *self._plate_sizes)
        value = pt.broadcast_to(value, full)
        n_before, n_now = int(np.prod(self._n_before)), int(np.prod(self._n_now))
        value = value.reshape((n_before, n_now, *self._plate_sizes))
        value = value.dimshuffle(0, *range(2, value.ndim), 1)
        return over_time([value], self.batched, self.length)[0]

    @cached_property
    def _next(self) -> np.ndarray:
        """Which state comes before the next step, for each state before and within this one."""
        n_before, n_now = int(np.prod(self._n_before)), int(np.prod(self._n_now))
        before = np.unravel_index(np.arange(n_before), self._n_before or (1,))
        now = np.unravel_index(np.arange(n_now), self._n_now)
        parts = list(self.carried)
        indices = []
        for part in parts:
            new = self.body.new_carry.leaves[part]
            place = next((i for i, n in enumerate(self.names) if new is self.body.values[n]), None)
            if place is not None:
                indices.append(np.broadcast_to(now[place][None, :], (n_before, n_now)))
            else:
                source = parts.index(next(p for p in parts if new is self.body.carry[p]))
                indices.append(np.broadcast_to(before[source][:, None], (n_before, n_now)))
        if not indices:
            return np.zeros((n_before, n_now), dtype="int64")
        return np.ravel_multi_index(tuple(indices), tuple(self._n_before))

    def _after(self, message: Variable) -> Variable:
        """Return what follows, by the state before (broadcasting) and the state within a step."""
        following = self._next
        if np.all(following == following[:1]):
            n_before = len(following)
            in_order = np.array_equal(following[0], np.arange(n_before))
            picked = message if in_order else message[following[0]]
            return picked.dimshuffle("x", *range(1, picked.ndim), 0)
        picked = message[following]  # (before, now, *plates)
        return picked.dimshuffle(0, *range(2, picked.ndim), 1)

    def _messages(self, transitions: Variable, reduction=log_sum) -> tuple[Variable, Variable]:
        """Return the log-probability of what follows each step, and of all steps, by state."""
        n_before = int(np.prod(self._n_before))
        # Observed counts have made double precision of single precision, which a loop keeps.
        transitions = transitions.astype(pytensor.config.floatX)
        nothing = pt.zeros((n_before, *self._plate_sizes))
        axis = 1 + len(self._plate_sizes)

        def step(factors, following):
            return reduction(factors + self._after(following), axis)

        backwards = pytensor.scan(
            step,
            sequences=[transitions],
            outputs_info=[nothing],
            go_backwards=True,
            return_updates=False,
        )
        following = pt.concatenate([nothing[None], backwards[:-1]])[::-1]
        return following, backwards[-1]

    @cached_property
    def _start(self) -> Variable:
        """Index of the state before the first step, for each element of the plates."""
        index: Variable = pt.zeros(self._plate_sizes, dtype="int64")
        for part, s, n_states in zip(self.carried, self._before(), self._n_before, strict=True):
            index = index * n_states + self._state_of(part, s)
        return index

    def _state_of(self, part: int, s: Summed) -> Variable:
        """Return the index of the state that a part of the carry starts in."""
        start = self.starts[part]
        if isinstance(start, Constant) and not np.isin(start.data, s.support).all():
            name = self.carried[part]
            raise SiteError(
                sentence(
                    f"scan: the carry of site {name!r} starts at a value that it cannot take",
                    found=str(np.setdiff1d(start.data, s.support).tolist()),
                    expected=f"one of {s.support.tolist()}",
                )
            )
        now = self.factors.summed[self.carried[part]]
        value = pt.broadcast_to(start, s.shape)
        own = sorted(now.plates, key=lambda axis: now.plates[axis])
        joint = sorted(s.joint)
        single = [axis for axis in range(len(s.shape)) if axis not in own and axis not in joint]
        value = value.dimshuffle(*single, *own, *joint)
        for _ in single:
            value = value[0]
        states = pt.constant(s.states)
        equal = pt.eq(
            value[..., None] if not joint else _before_last(value, len(joint)),
            _aligned(states, len(own)),
        )
        if joint:
            equal = equal.all(axis=tuple(range(equal.ndim - len(joint), equal.ndim)))
        return equal.argmax(axis=-1)

    def evidence(self) -> Variable:
        """Return the log of the sum over all paths, for each element of the plates."""
        transitions = self.transitions
        if self.field is not None:
            transitions = transitions + self.field.dimshuffle(0, "x", *range(1, self.field.ndim))
        _, value = self._messages(transitions)
        return _picked(value, self._start)

    def new_field(self) -> Variable:
        """Return zeros, of shape ``(steps, *plates, states)``."""
        return pt.zeros((self.length, *self._plate_sizes, int(np.prod(self._n_now))))

    # --- what the states are ----------------------------------------------------------------

    def draws(self, temperature: int = 1) -> dict[str, Variable]:
        """Return the sites' values at all steps: drawn from their posterior, or its mode."""
        transitions = self.transitions
        following, _ = self._messages(transitions, log_sum if temperature else maximum)
        noise = self.new_field()
        if temperature:
            noise = pm.Gumbel.dist(0.0, 1.0, size=noise.shape)
        successor = pt.constant(self._next)

        def step(factors, after, extra, state):
            by_state = factors + self._after(after)
            now = (_picked(by_state, state) + extra).argmax(axis=-1)
            return now, successor[state, now]

        now, _ = pytensor.scan(
            step,
            sequences=[transitions, following, noise],
            outputs_info=[None, self._start],
            return_updates=False,
        )
        return self._values(now)

    def _values(self, states: Variable) -> dict[str, Variable]:
        values = {}
        for s in reversed(self._now()):
            states, index = states // s.n_states, states % s.n_states
            values[s.site.name] = self._value(s, index)
        return {name: values[name] for name in self.names}

    def _value(self, s: Summed, index: Variable) -> Variable:
        picked = pt.constant(s.states)[index]  # (steps, *plates, *joint)
        axes = sorted(s.plates, key=lambda axis: s.plates[axis]) + sorted(s.joint)
        order: list[Any] = [
            axes.index(axis) + 1 if axis in axes else "x" for axis in range(len(s.shape))
        ]
        return picked.dimshuffle(0, *order).astype(s.placeholder.type.dtype)

    def probabilities(self, of_states: Variable) -> dict[str, Variable]:
        """Return probabilities of the values of each element, from those of the joint states."""
        n_plates = len(self._plate_sizes)
        split = of_states.reshape((*_shape(of_states, 1 + n_plates), *self._n_now))
        found = {}
        for place, s in enumerate(self._now()):
            others = [1 + n_plates + i for i in range(len(self._n_now)) if i != place]
            own = split.sum(axis=others) if others else split
            indicators = (s.states[..., None] == s.support).astype(
                float
            )  # (states, *joint, values)
            both = pt.tensordot(own, pt.constant(indicators), axes=[[own.ndim - 1], [0]])
            axes = sorted(s.plates, key=lambda axis: s.plates[axis]) + sorted(s.joint)
            order: list[Any] = [
                axes.index(axis) + 1 if axis in axes else "x" for axis in range(len(s.shape))
            ]
            found[s.site.name] = both.dimshuffle(0, *order, both.ndim - 1)
        return found


def collapsed(sites: Sequence[Site], with_fields: bool = False) -> tuple[list[Site], list[Chain]]:
    """Replace the sites of each chain by one site.

    Parameters
    ----------
    sites : sequence of Site
        Sites of a trace.
    with_fields : bool, default False
        Give each chain a ``field`` to differentiate by.

    Returns
    -------
    sites : list of Site
        The others, and one for each chain.
    chains : list of Chain

    Raises
    ------
    PairingError
        If another site depends on a state of a chain.
    """
    chains = list(dict.fromkeys(c for site in sites if (c := site.infer.get("chain")) is not None))
    rest = [site for site in sites if site.infer.get("chain") is None]
    standing = {p: name for c in chains for p, name in zip(c.placeholders, c.names, strict=True)}
    for site in rest if standing else ():
        for variable in ancestors([as_plain_tensor(site.unscaled_log_prob)]):
            if variable in standing:
                raise PairingError(
                    sentence(
                        f"Site {site.name!r} depends on {standing[variable]!r}, which is summed out "
                        "within a scan",
                        fix="Create it within the step, or sample the chain in the guide",
                    )
                )
    for chain in chains:
        chain.field = chain.new_field() if with_fields else None
    return [*rest, *(chain.as_site() for chain in chains)], chains


def _picked(values: Variable, index: Variable) -> Variable:
    """Return the values at an index of the first axis, for each element of the axes that follow."""
    n = index.ndim
    grid = []
    for place in range(n):
        order: list[Any] = ["x"] * n
        order[place] = 0
        grid.append(pt.arange(values.shape[1 + place]).dimshuffle(*order))
    return values[(index, *grid)]


def _before_last(value: Variable, n_last: int) -> Variable:
    """Insert an axis before the last few."""
    n = value.ndim - n_last
    return value.dimshuffle(*range(n), "x", *range(n, value.ndim))


def _aligned(states: Variable, n_plates: int) -> Variable:
    """Return states with leading axes for plates."""
    return states.dimshuffle(*["x"] * n_plates, *range(states.ndim))


def _shape(variable: Variable, n: int) -> list[Any]:
    return [variable.shape[axis] for axis in range(n)]
