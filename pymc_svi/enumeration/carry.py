"""What the steps of a loop hand on to each other, at all steps at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.enumeration.body import Body, over_time
from pymc_svi.enumeration.steps import cast, outside_of, plain, static_length, with_known
from pymc_svi.errors import SiteError, sentence

__all__ = ["HandedOn", "carried_states"]


class HandedOn:
    """What each step is given and hands on, in terms of the values of the sites at all steps.

    Parameters
    ----------
    body : Body
        The step.
    starts : list of Variable
        What the first step is given.
    xs : list of Variable
        The data of all steps.
    stacked : dict of str to Variable
        The values of the sites at all steps.
    length : int or Variable
        Number of steps.
    """

    def __init__(
        self,
        body: Body,
        starts: Sequence[Variable],
        xs: Sequence[Variable],
        stacked: Mapping[str, Variable],
        length: Any,
    ):
        self.body, self.xs, self.stacked, self.length = body, xs, stacked, length
        # In the type that steps hand on.
        self.starts = [
            pt.broadcast_to(start, tuple(like.type.shape)).astype(like.type.dtype)
            for start, like in zip(starts, body.carry, strict=True)
        ]

    @cached_property
    def after(self) -> list[Variable]:
        """What each step hands on, in terms of the values of the sites at all steps."""
        body = self.body
        new = plain(body.new_carry.leaves)
        carried = set(body.carry)
        read = [carried & set(ancestors([variable])) for variable in new]
        fixed = dict(zip(body.inputs, self.xs, strict=True))
        fixed |= {body.values[name]: value for name, value in self.stacked.items()}
        simple = [part for part in range(len(new)) if not read[part]]
        values = over_time([new[part] for part in simple], fixed, self.length)
        found = dict(zip(simple, values, strict=True))
        self._pass_on(found, new)
        left = [part for part in range(len(new)) if part not in found]
        if left:  # what needs a loop: sums, averages, whatever accumulates
            found |= self._accumulated(left, new, found)
        return [found[part] for part in range(len(new))]

    def _pass_on(self, found: dict[int, Variable], new: Sequence[Variable]) -> None:
        """Add what is passed on as it is, from an earlier step or from before the first."""
        body = self.body
        for _ in new:
            for part, variable in enumerate(new):
                if part not in found and variable in body.carry:
                    source = body.carry.index(variable)
                    if source == part:
                        start = self.starts[part]
                        found[part] = pt.broadcast_to(start, (self.length, *start.shape))
                    elif source in found:
                        found[part] = self._shifted(source, found[source])

    def _accumulated(
        self, parts: Sequence[int], new: Sequence[Variable], found: Mapping[int, Variable]
    ) -> dict[int, Variable]:
        """Return what has to be computed step by step."""
        body = self.body
        outputs = [new[part] for part in parts]
        above = set(ancestors(outputs))
        read = dict(zip(body.inputs, self.xs, strict=True))
        read |= {body.values[name]: value for name, value in self.stacked.items()}
        read |= {body.carry[p]: self._shifted(p, found[p]) for p in found if body.carry[p] in above}
        read = {placeholder: value for placeholder, value in read.items() if placeholder in above}
        own = [body.carry[part] for part in parts]
        outside = outside_of(outputs, [*read, *own])

        def step(*now):
            known = dict(zip([*read, *own, *outside], now, strict=True))
            return cast(with_known(outputs, known), own)

        values = pytensor.scan(
            step,
            sequences=list(read.values()),
            outputs_info=[self.starts[part] for part in parts],
            non_sequences=outside,
            n_steps=self.length,
            return_updates=False,
        )
        return dict(zip(parts, values if isinstance(values, list) else [values], strict=True))

    def before(self) -> list[Variable]:
        """Return what each step is given."""
        return [self._shifted(part, after) for part, after in enumerate(self.after)]

    def _shifted(self, part: int, after: Variable) -> Variable:
        start = self.starts[part]
        shifted = pt.concatenate([start[None], after[:-1].astype(start.dtype)])
        return pt.specify_shape(shifted, (static_length(self.length), *start.type.shape))


def carried_states(body: Body, names: Sequence[str]) -> dict[int, str]:
    """Return which parts of the carry are states of summed sites, and check the others."""
    new = plain(body.new_carry.leaves)
    found: dict[int, str] = {}
    for part, variable in enumerate(new):
        for name in names:
            if variable is body.values[name]:
                found[part] = name
    for _ in new:
        for part, variable in enumerate(new):
            if part not in found and variable in body.carry:
                source = body.carry.index(variable)
                if source in found:
                    found[part] = found[source]
    states = {body.values[name]: name for name in names}
    states |= {body.carry[part]: name for part, name in found.items()}
    for part, variable in enumerate(new):
        if part not in found:
            for above in ancestors([variable]):
                if above in states:
                    raise SiteError(
                        sentence(
                            f"scan: part {part} of the carry is computed from {states[above]!r}, "
                            "which is summed out",
                            expected="the site itself",
                            fix="Hand on the site, and compute with it in the next step",
                        )
                    )
    return found
