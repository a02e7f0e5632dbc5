"""What a loop is given: how many steps, a carry of one type, data for each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors

from pymc_svi.enumeration.body import Tree, from_outside, trace_body
from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.log_prob import as_plain_tensor

__all__ = [
    "as_variable",
    "cast",
    "number_of_steps",
    "outside_of",
    "plain",
    "static_length",
    "trace_step",
    "with_known",
]


def trace_step(step, init: Tree, starts: list[Variable], inputs: Tree, xs: Sequence[Variable]):
    """Trace the step on a carry of the type that it hands on."""
    like = [x[0] for x in xs]
    carry_like = starts
    for _ in range(2):
        body = trace_body(step, init, carry_like, inputs, like)
        new = plain(body.new_carry.leaves)
        if len(new) != len(starts):
            raise SiteError(
                sentence(
                    "scan: the step hands on another number of variables than it is given",
                    found=str(len(new)),
                    expected=str(len(starts)),
                )
            )
        if all(_same_type(n, c) for n, c in zip(new, body.carry, strict=True)):
            return body, starts
        carry_like = [
            _wider(n, s, part) for part, (n, s) in enumerate(zip(new, starts, strict=True))
        ]
    found = [f"{n.type.dtype} of shape {n.type.shape}" for n in new]
    raise SiteError(
        sentence(
            "scan: what a step hands on has another type than what it is given",
            found="; ".join(found),
            expected="; ".join(f"{c.type.dtype} of shape {c.type.shape}" for c in body.carry),
            fix="Give the carry the same shape and dtype at each step",
        )
    )


def _wider(new: Variable, start: Variable, part: int) -> Variable:
    """Return what the carry looks like if it starts as a number and goes on as an array."""
    if start.ndim > new.ndim:
        raise SiteError(
            sentence(
                f"scan: part {part} of the carry loses dimensions",
                found=f"shape {new.type.shape} after a step",
                expected=f"shape {start.type.shape}, as at the start",
            )
        )
    for n, m in zip(start.type.shape[::-1], new.type.shape[::-1], strict=False):
        if None not in (n, m) and n not in (1, m):
            raise SiteError(
                sentence(
                    f"scan: part {part} of the carry changes its shape",
                    found=f"shape {new.type.shape} after a step",
                    expected=f"shape {start.type.shape}, as at the start",
                )
            )
    return new


def _same_type(first: Variable, second: Variable) -> bool:
    return (
        first.type.dtype == second.type.dtype
        and all(
            n == m or None in (n, m)
            for n, m in zip(first.type.shape, second.type.shape, strict=False)
        )
        and first.ndim == second.ndim
    )


def number_of_steps(xs: Sequence[Variable], length: int | None, dim: str | None) -> Any:
    """Return the number of steps, and check that all agree about it."""
    if length is not None and (
        isinstance(length, bool) or not isinstance(length, int | np.integer)
    ):
        raise ValueError(sentence("scan: length is a whole number", found=repr(length)))
    for x in xs:
        if x.ndim == 0:
            raise SiteError(
                sentence("scan: xs has one leading entry for each step", found="a number")
            )
    found = {f"xs[{i}]": x.type.shape[0] for i, x in enumerate(xs) if x.type.shape[0] is not None}
    if length is not None:
        found["length"] = int(length)
    if dim is not None:
        model = pm.modelcontext(None)
        if dim in model.dim_lengths and model.coords.get(dim) is not None:
            found[f"dim {dim!r}"] = len(model.coords[dim])
    if len(set(found.values())) > 1:
        raise SiteError(
            sentence(
                "scan: it is not clear how many steps there are",
                found=", ".join(f"{n} by {what}" for what, n in found.items()),
                expected="one number",
            )
        )
    if found:
        return next(iter(found.values()))
    if not xs:
        raise SiteError(
            sentence("scan: it is not clear how many steps there are", fix="Give xs or length")
        )
    return xs[0].shape[0]


def as_variable(value: Any) -> Variable:
    """Return a value as a variable without named dims: int64, or floatX."""
    if isinstance(value, Variable):
        return as_plain_tensor(value)
    array = np.asarray(value)
    if array.dtype.kind in "iu":
        array = array.astype("int64")
    elif array.dtype.kind == "f":
        array = array.astype(pytensor.config.floatX)
    return pt.constant(array)


def static_length(length: Any) -> int | None:
    """Return the number of steps where it is known beforehand."""
    return None if isinstance(length, Variable) else int(length)


def plain(variables: Sequence[Any]) -> list[Variable]:
    """Return variables without named dims."""
    return [as_plain_tensor(as_variable(variable)) for variable in variables]


def cast(variables: Sequence[Variable], like: Sequence[Variable]) -> list[Variable]:
    """Give variables the types of others."""
    return [
        pt.specify_shape(v.astype(c.type.dtype), c.type.shape)
        for v, c in zip(variables, like, strict=True)
    ]


def with_known(variables: list[Variable], known: Mapping[Variable, Variable]) -> list[Variable]:
    """Put what is known by now into expressions."""
    return graph_replace(variables, dict(known), strict=False) if variables else []


def outside_of(outputs: Sequence[Variable], placeholders: Sequence[Variable]) -> list[Variable]:
    """Return what a loop has to be given: it would draw anew what its step only refers to."""
    found = from_outside(outputs, placeholders)
    below = set(placeholders)
    found += [v for v in outputs if v not in below and not below & set(ancestors([v]))]
    return [v for v in dict.fromkeys(found) if not isinstance(v, Constant)]
