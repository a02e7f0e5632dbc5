"""From the sites of traces to tables of log-factors.

A factor is evaluated for all values of the discrete variables it depends on by giving these a
leading axis and vectorising its graph: whatever a program does with a discrete value, indexing,
branching, arithmetic, is done for each of its values.

The elements of a vector of discrete variables are summed over one by one where every factor keeps
them apart, which :func:`~pymc_svi.gradients.independence.follow_axes` reads off the graph. Where
some factor lets them meet, all combinations of those elements are states of one variable. So they
are where the elements of one site meet each of another's, as rows meet columns: with all elements of
the one given, the others are apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.config import complain
from pymc_svi.enumeration.body import vectorized
from pymc_svi.enumeration.marking import is_enumerated
from pymc_svi.enumeration.supports import support_of
from pymc_svi.enumeration.tables import (
    Table,
    clash,
    does_not_factorise,
    is_one,
    same_scale,
    times,
)
from pymc_svi.errors import PairingError, sentence
from pymc_svi.gradients.independence import follow_axes
from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.handlers import Site, Trace
from pymc_svi.handlers.log_prob import log_prob_without_total_size, scaled_and_masked
from pymc_svi.handlers.values import describe_shape

__all__ = ["Factor", "Factors", "Summed"]

# How many combinations of elements are tried together before that is refused.
_MOST_STATES = 4_096


@dataclass
class Factor:
    """A log-factor of a density.

    Attributes
    ----------
    site : Site
        Where it comes from.
    log_prob : TensorVariable
        Elementwise, masked but not scaled.
    of : tuple of str
        The summed sites that it depends on.
    weights : dict of int to number or Variable
        For axes along which the site has a ``total_size``, what an element counts for.
    """

    site: Site
    log_prob: Variable
    of: tuple[str, ...]
    weights: Mapping[int, Any] = field(default_factory=dict)


@dataclass
class Summed:
    """A site that is summed over.

    Attributes
    ----------
    site : Site
        The site.
    placeholder : TensorVariable
        What stands for its value.
    support : numpy.ndarray
        The values that an element can take.
    joint : set of int
        Axes along which elements meet in some factor, so that they are summed over together.
    plates : dict of int to int
        For each axis along which they are summed over one by one the plate it belongs to.
    """

    site: Site
    placeholder: Variable
    support: np.ndarray
    joint: set[int] = field(default_factory=set)
    plates: dict[int, int] = field(default_factory=dict)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the site's value."""
        shape = self.placeholder.type.shape
        if None in shape:
            raise PairingError(
                sentence(
                    f"Site {self.site.name!r} is summed over, but its shape is not known",
                    found=describe_shape(shape, self.site.dims),
                    fix="Give it a shape, or dims with coords; with a DataLoader whose last batch has fewer "
                    "rows, drop_last=True",
                )
            )
        return shape

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """Lengths of the axes along which elements are summed over together."""
        return tuple(self.shape[axis] for axis in sorted(self.joint))

    def n_elements_with(self, axes: Iterable[int]) -> int:
        """Number of elements that are summed over together, if they also were along more axes."""
        return math.prod(self.shape[axis] for axis in self.joint.union(axes))

    @cached_property
    def states(self) -> np.ndarray:
        """The states, of shape ``(states, *inner_shape)``."""
        n_elements = math.prod(self.inner_shape)
        n_states = len(self.support) ** n_elements
        if n_states > _MOST_STATES:
            dims = self.site.dims or tuple(f"axis {a}" for a in range(len(self.shape)))
            along = ", ".join(str(dims[axis]) for axis in sorted(self.joint))
            raise PairingError(
                sentence(
                    f"Site {self.site.name!r} has elements that depend on each other, or share a "
                    f"factor, along {along}: they can only be summed over together",
                    found=f"{len(self.support)} values for each of {n_elements} elements, "
                    f"{_combinations(self, n_elements)} combinations",
                    expected=f"at most {_MOST_STATES:,}",
                    fix="Give a chain one site for each step (for t in markov(range(n))), so that "
                    "it is summed step by step, or sample the site in the guide",
                )
            )
        combinations = itertools.product(self.support, repeat=n_elements)
        states = np.array(list(combinations), dtype=self.placeholder.type.dtype)
        return states.reshape(n_states, *self.inner_shape)

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.states)

    def values(self) -> Variable:
        """Return all states as values of the site, of shape ``(states, *shape)``."""
        inner = iter(self.inner_shape)
        shape = [next(inner) if axis in self.joint else 1 for axis in range(len(self.shape))]
        states = pt.constant(self.states.reshape(-1, *shape))
        return pt.broadcast_to(states, (self.n_states, *self.shape))


class Factors:
    """The factors of some traces, with the sites that they are to be summed over.

    Parameters
    ----------
    traces : Trace
        Traces, the later ones on values of the earlier ones.
    """

    def __init__(self, *traces: Trace):
        self.summed: dict[str, Summed] = {}
        for traced in traces:
            for site in traced.values():
                chained = "chain" in site.infer  # summed out by itself: see Chain
                if is_enumerated(site) and not chained and site.name not in self.summed:
                    self.summed[site.name] = Summed(
                        site, site.infer["summed_over"], support_of(site)
                    )
        self._by_placeholder = {s.placeholder: name for name, s in self.summed.items()}
        self._factors: list[Factor] = []

    def of(self, sites: Iterable[Site]) -> list[Factor]:
        """Return the factors of sites that depend on summed sites.

        What makes one element for plates is kept apart here, where it can be summed over apart.
        """
        found = []
        for site in sites:
            # What is summed out of rows is the law of one row, which is weighted afterwards.
            unweighted, weights = log_prob_without_total_size(site)
            # Named dims first: what vectorises and follows axes knows tensors only.
            [log_prob] = without_named_dims([unweighted])
            above = set(ancestors([log_prob], blockers=list(self._by_placeholder)))
            names = tuple(n for p, n in self._by_placeholder.items() if p in above)
            if names:
                _check_one_scale(site)
                found.append(Factor(site, self._masked(site, log_prob), names, weights))
        self._factors += found
        return found

    def arrange(self, names: Iterable[str] = (), staying: Iterable[str] = ()) -> None:
        """Find out along which axes elements are summed over one by one, in the same plates.

        Parameters
        ----------
        names : iterable of str, optional
            Sites that are to be summed out one after the other. Where plates cross, the elements
            of one of their sites are summed over together, so that this can be done.
        staying : iterable of str, optional
            Sites that stay when they are summed out.
        """
        names, staying = list(names), list(staying)
        while True:
            while self._arrange_once():  # an axis that is joint in one factor is so in all
                pass
            found = clash(
                [factor.of for factor in self._factors],
                self.variables(names),
                self.variables(staying),
            )
            if found is None:
                return
            self._uncross(*found, other_stays=found[1] in staying)

    def table(self, factor: Factor) -> Table:
        """Evaluate a factor for all values of its summed sites."""
        summed = [self.summed[name] for name in factor.of]
        batched = {}
        for place, s in enumerate(summed):
            values = s.values()
            order = ["x"] * len(summed) + list(range(1, values.ndim))
            order[place] = 0
            batched[s.placeholder] = values.dimshuffle(*order)
        [value] = vectorized([factor.log_prob], batched)
        n = len(summed)
        shape = [s.n_states for s in summed]
        if value.ndim == factor.log_prob.ndim:  # it turned out to be the same for all
            value = value[(None,) * n]
        value = pt.broadcast_to(
            value, (*shape, *(value.shape[n + i] for i in range(factor.log_prob.ndim)))
        )
        plate_of = self.plates_of(factor)
        others = [n + axis for axis in range(factor.log_prob.ndim) if axis not in plate_of]
        if others:
            value = value.sum(axis=others)
        left = [plate_of[axis] for axis in sorted(plate_of)]
        order = np.argsort(left).tolist()
        value = value.dimshuffle(*range(n), *(n + i for i in order))
        scale = self._weighted(factor.site.scale, plate_of.values())
        for axis, weight in factor.weights.items():
            if axis not in plate_of:
                scale = times(scale, weight)
        return Table(value, factor.of, tuple(sorted(left)), scale)

    def variables(self, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Return the plates of some summed sites."""
        return {name: tuple(sorted(self.summed[name].plates.values())) for name in names}

    def scales(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the scales of some summed sites."""
        summed = {name: self.summed[name] for name in names}
        return {name: self._weighted(s.site.scale, s.plates.values()) for name, s in summed.items()}

    def check_scales(self, factor: Factor) -> None:
        """Complain of rows that are weighted while their labels, which are summed out, are not."""
        if is_one(factor.site.scale):
            return
        plates = set(self.plates_of(factor).values())
        for name in factor.of:
            s = self.summed[name]
            if is_one(s.site.scale) and plates.intersection(s.plates.values()):
                complain(
                    sentence(
                        f"Site {factor.site.name!r} is scaled, and {name!r}, which is summed out element by "
                        "element, is not: the density is raised to a power before the sum",
                        fix="To weight a minibatch put both under the scale, or say total_size= at the data",
                    ),
                    PairingError,
                    default="warn",
                )

    def _weighted(self, scale: Any, plates: Iterable[int]) -> Any:
        """Return a scale times what an element of some plates counts for."""
        for plate in plates:
            scale = times(scale, self._weights.get(plate, 1.0))
        return scale

    @cached_property
    def _weights(self) -> dict[int, Any]:
        """What an element of each plate counts for: the ``total_size`` of data is that of their labels."""
        found: dict[int, tuple[Any, str]] = {}
        for factor in self._factors:
            plate_of = self.plates_of(factor) if factor.weights else {}
            for axis, weight in factor.weights.items():
                if axis not in plate_of:
                    continue
                known, name = found.setdefault(plate_of[axis], (weight, factor.site.name))
                if not same_scale(known, weight):
                    raise PairingError(
                        sentence(
                            f"Sites {name!r} and {factor.site.name!r} depend on the same summed sites, row "
                            "by row, but have different total sizes",
                            fix="Give both the same total_size",
                        )
                    )
        return {plate: weight for plate, (weight, _) in found.items()}

    # --- axes -------------------------------------------------------------------------------

    def _masked(self, site: Site, log_prob: Variable) -> Variable:
        """Apply a mask: a summed site that is masked has the uniform law, which sums to one."""
        mask = site.mask
        if mask is None or mask is True:
            return log_prob
        if parts := site.parts_of_element(log_prob):
            mask = pt.as_tensor(mask)[(..., *[None] * parts)]
        if is_enumerated(site):
            n_values = len(self.summed[site.name].support)
            return pt.switch(pt.as_tensor(mask), log_prob, -np.log(n_values))
        return scaled_and_masked(log_prob, 1.0, mask)

    def _axes(self, factor: Factor) -> dict[str, dict[int, int | None]]:
        """Return for each summed site which axes of the factor run along with which of its."""
        found = {}
        for name in factor.of:
            s = self.summed[name]
            axes = follow_axes(s.placeholder, factor.log_prob) or ()
            found[name] = {
                axis: axes[axis] for axis, n in enumerate(s.shape) if n != 1 and axis < len(axes)
            }
        return found

    def _arrange_once(self) -> bool:
        groups = _Groups()
        changed = False
        for factor in self._factors:
            at: dict[int, list[tuple[str, int]]] = {}
            for name, axes in self._axes(factor).items():
                for axis, place in axes.items():
                    if axis in self.summed[name].joint:
                        continue
                    groups.add((name, axis))
                    if place is None:
                        self.summed[name].joint.add(axis)
                        changed = True
                    else:
                        at.setdefault(place, []).append((name, axis))
            for along in at.values():
                for other in along[1:]:
                    groups.join(along[0], other)
        if changed:
            return True
        numbers: dict[Any, int] = {}
        for name, s in self.summed.items():
            s.plates = {
                axis: numbers.setdefault(groups.root((name, axis)), len(numbers))
                for axis, n in enumerate(s.shape)
                if n != 1 and axis not in s.joint
            }
            # One plate along two axes of a site would make its elements meet after all.
            if len(set(s.plates.values())) < len(s.plates):
                s.joint.update(s.plates)
                return True
        return self._part_axes_of_one_plate()

    def _uncross(self, name: str, other: str, other_stays: bool) -> None:
        """Sum over the elements of one of two sites together, so that the other's are apart."""

        def only_of(first: str, second: str) -> tuple[str, set[int]]:
            shared = set(self.summed[second].plates.values())
            axes = {axis for axis, p in self.summed[first].plates.items() if p not in shared}
            return first, axes

        # A site can also give way itself: then the other one is summed out before it.
        pairs = [(other, name)] if other_stays else [(other, name), (name, other)]
        choices = [(site, axes) for site, axes in (only_of(*pair) for pair in pairs) if axes]
        sizes = {site: self.summed[site].n_elements_with(axes) for site, axes in choices}
        states = {site: len(self.summed[site].support) ** n for site, n in sizes.items()}
        site, axes = min(choices, key=lambda choice: states[choice[0]])
        if states[site] > _MOST_STATES:
            counts = " and ".join(
                f"{_combinations(self.summed[site], n)} combinations of the elements of {site!r}"
                for site, n in sizes.items()
            )
            raise PairingError(
                does_not_factorise(name, other, f"{counts}; at most {_MOST_STATES:,} are tried")
            )
        self.summed[site].joint |= axes

    def _part_axes_of_one_plate(self) -> bool:
        """Sum a site over together that has one plate along another axis than the rest."""
        for factor in self._factors:
            places: dict[int, int] = {}
            for name, axes in self._axes(factor).items():
                s = self.summed[name]
                for axis, plate in s.plates.items():
                    place = axes[axis]
                    assert place is not None  # or the axis would be joint
                    if places.setdefault(plate, place) != place:
                        s.joint.add(axis)
                        return True
        return False

    def plates_of(self, factor: Factor) -> dict[int, int]:
        """Return the plate of each axis of a factor that is not its own affair."""
        found: dict[int, int] = {}
        for name, axes in self._axes(factor).items():
            plates = self.summed[name].plates
            for axis, place in axes.items():
                if axis in plates and place is not None:
                    found[place] = plates[axis]
        return found


class _Groups:
    """Sets that can be joined."""

    def __init__(self):
        self._parent: dict[Any, Any] = {}

    def add(self, item: Any) -> None:
        self._parent.setdefault(item, item)

    def root(self, item: Any) -> Any:
        self.add(item)
        while self._parent[item] != item:
            item = self._parent[item]
        return item

    def join(self, first: Any, second: Any) -> None:
        self._parent[self.root(second)] = self.root(first)


def _combinations(summed: Summed, n_elements: int) -> str:
    """Return how many combinations of values there are, which need not fit a float."""
    digits = n_elements * math.log10(len(summed.support))
    return f"{len(summed.support) ** n_elements:,}" if digits < 7 else f"10^{digits:.0f}"


def _check_one_scale(site: Site) -> None:
    scale = site.scale
    if scale.ndim if isinstance(scale, Variable) else np.ndim(scale):
        raise PairingError(
            sentence(
                f"Site {site.name!r} depends on a site that is summed over, and its elements have "
                "scales of their own",
                expected="one scale for all its elements",
                fix="Use handlers.mask to leave elements out, or handlers.scale with a number",
            )
        )


def unsummed(sites: Sequence[Site], factors: Sequence[Factor]) -> list[Site]:
    """Return the sites that none of the factors comes from."""
    taken = {id(factor.site) for factor in factors}
    return [site for site in sites if id(site) not in taken]
