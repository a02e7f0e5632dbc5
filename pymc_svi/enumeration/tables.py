"""Tables of log-factors, and sums over their variables.

A table holds a factor of a density for every value of the discrete variables it depends on, and
for every element of the plates it is repeated in. Summing variables out one after the other, and
plates as soon as nothing inside them is left, is *tensor variable elimination* [1]_: its cost is
linear in the length of a chain and in the size of a plate.

References
----------
.. [1] Obermeyer et al. (2019), Tensor Variable Elimination for Plated Factor Graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable, equal_computations

from pymc_svi.errors import PairingError, sentence
from pymc_svi.gradients.stand_in import detached

__all__ = [
    "Table",
    "clash",
    "does_not_factorise",
    "eliminate",
    "is_one",
    "log_sum",
    "maximum",
    "product",
    "same_scale",
    "times",
    "total",
]


@dataclass(frozen=True)
class Table:
    """A log-factor as a tensor.

    Attributes
    ----------
    value : TensorVariable
        Its axes are the variables and then the plates.
    variables : tuple of str
        The discrete variables it depends on.
    plates : tuple of int
        The plates it is repeated in, in increasing order.
    scale : number or scalar Variable
        What it is still to be multiplied by. Within a subsampled plate, what is summed over is
        the law of one element; the scale comes after.
    """

    value: Variable
    variables: tuple[str, ...]
    plates: tuple[int, ...]
    scale: Any = 1.0

    def spread(self, variables: Sequence[str], plates: Sequence[int]) -> Variable:
        """Return the value with an axis for each of the variables and plates."""
        own = [*self.variables, *self.plates]
        order = [own.index(axis) if axis in own else "x" for axis in [*variables, *plates]]
        return self.value.dimshuffle(*order)

    def summed_over_plates(self, keep: Collection[int]) -> Table:
        """Return the product over all plates but some."""
        gone = [p for p in self.plates if p not in keep]
        if not gone:
            return self
        first = len(self.variables)
        axes = [first + self.plates.index(plate) for plate in gone]
        left = tuple(p for p in self.plates if p not in gone)
        return replace(self, value=self.value.sum(axis=axes), plates=left)

    def scaled(self) -> Table:
        """Return the table with its scale applied."""
        if is_one(self.scale):
            return self
        return replace(self, value=self.value * self.scale, scale=1.0)


Reduction = Callable[[Variable, int], Variable]


def log_sum(value: Variable, axis: int) -> Variable:
    """Return ``log(sum(exp(value)))``; where all values are ``-inf``, that, with a gradient of 0."""
    largest = value.max(axis=axis, keepdims=True)
    shift = detached(pt.switch(pt.isinf(largest), 0.0, largest))
    summed = pt.exp(value - shift).sum(axis=axis)
    possible = pt.gt(summed, 0.0)
    return pt.switch(
        possible, pt.log(pt.switch(possible, summed, 1.0)) + shift.squeeze(axis), -np.inf
    )


def maximum(value: Variable, axis: int) -> Variable:
    """Return the largest value."""
    return value.max(axis=axis)


def product(tables: Sequence[Table]) -> Table:
    """Return the product of factors of one scale: the sum of their logarithms."""
    variables = tuple(dict.fromkeys(v for table in tables for v in table.variables))
    plates = tuple(sorted({p for table in tables for p in table.plates}))
    values = [table.spread(variables, plates) for table in tables]
    value = pt.add(*values) if len(values) > 1 else values[0]
    return Table(value, variables, plates, tables[0].scale)


def eliminate(
    tables: Sequence[Table],
    variables: Mapping[str, tuple[int, ...]],
    scales: Mapping[str, Any],
    reduction: Reduction = log_sum,
    others: Mapping[str, tuple[int, ...]] | None = None,
    record: list[tuple[str, Table]] | None = None,
) -> list[Table]:
    """Sum variables out of a product of factors.

    Parameters
    ----------
    tables : sequence of Table
        The factors.
    variables : dict of str to tuple of int
        The variables to sum over, with the plates each is in.
    scales : dict of str to number or Variable
        The scale of each variable.
    reduction : callable, default ``log_sum``
        What to do along the axis of a variable.
    others : dict of str to tuple of int, optional
        Variables that stay, with their plates.
    record : list, optional
        Gets each variable with the table it was summed out of, in that order.

    Returns
    -------
    list of Table
        Factors that depend on none of the variables.

    Raises
    ------
    PairingError
        If the sum does not factorise over the plates.
    """
    found = clash([table.variables for table in tables], variables, others)
    if found is not None:
        raise PairingError(does_not_factorise(*found))
    tables, left = list(tables), dict(variables)
    while left:
        name = _next([table.variables for table in tables], left)
        plates = left.pop(name)
        holding = [table for table in tables if name in table.variables]
        rest = [table for table in tables if name not in table.variables]
        ready = []
        for table in holding:
            if not same_scale(table.scale, scales[name]):
                if not is_one(scales[name]):
                    raise PairingError(
                        sentence(
                            f"Site {name!r} is summed out together with a factor of another scale",
                            found=f"{_describe(scales[name])} and {_describe(table.scale)}",
                            fix="Put the sites that depend on each other under one scale or plate",
                        )
                    )
                table = table.summed_over_plates(plates).scaled()
            ready.append(table.summed_over_plates(plates))
        joint = product([replace(table, scale=scales[name]) for table in ready])
        if record is not None:
            record.append((name, joint))
        axis = joint.variables.index(name)
        others_left = tuple(v for v in joint.variables if v != name)
        value = reduction(joint.value, axis)
        tables = [*rest, Table(value, others_left, joint.plates, joint.scale)]
    return tables


def total(table: Table) -> Variable:
    """Return a factor without variables as a scalar."""
    return table.summed_over_plates(()).scaled().value


def clash(
    factors: Iterable[Collection[str]],
    variables: Mapping[str, tuple[int, ...]],
    others: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[str, str] | None:
    """Return a variable that can't be summed out, and one in the way, or None.

    A sum does not factorise where a variable meets another one that is repeated along an axis
    that it is not repeated along itself: what stands for all elements of the one would depend on
    each element of the other.

    Parameters
    ----------
    factors : iterable of collection of str
        The variables of each factor.
    variables, others : dict of str to tuple of int
        As for :func:`eliminate`.
    """
    inside = {**(others or {}), **variables}
    factors, left = list(factors), dict(variables)
    while left:
        name = _next(factors, left)
        plates = left.pop(name)
        holding = [factor for factor in factors if name in factor]
        joined = dict.fromkeys(v for factor in holding for v in factor if v != name)
        for other in joined:
            if not set(inside[other]).issubset(plates):
                return name, other
        factors = [*(factor for factor in factors if name not in factor), tuple(joined)]
    return None


def does_not_factorise(name: str, other: str, found: str = "") -> str:
    """Say that a sum does not factorise over the plates."""
    return sentence(
        f"The sum over {name!r} does not factorise: it meets {other!r}, which is repeated along "
        "an axis that it is not repeated along itself",
        found=found,
        fix="Draw one of them in the guide, as a site of the same name",
    )


def _next(factors: Sequence[Collection[str]], left: Mapping[str, tuple[int, ...]]) -> str:
    """Return the variable to sum out: in the innermost plates, where that makes least work."""

    def work(name: str) -> tuple[int, int]:
        joined = {v for factor in factors if name in factor for v in factor}
        return -len(left[name]), len(joined)

    return min(left, key=work)


def is_one(scale: Any) -> bool:
    """Return whether a scale is known to be one."""
    return not isinstance(scale, Variable) and bool(np.all(np.equal(scale, 1)))


def same_scale(first: Any, second: Any) -> bool:
    """Return whether two scales are known to be equal."""
    if isinstance(first, Variable) and isinstance(second, Variable):
        return first is second or equal_computations([first], [second])
    if isinstance(first, Variable) or isinstance(second, Variable):
        return False
    return bool(np.array_equal(first, second))


def times(first: Any, second: Any) -> Any:
    """Return the product of two scales: one of them as it is, where the other is one."""
    if is_one(first):
        return second
    return first if is_one(second) else first * second


def _describe(scale: Any) -> str:
    return "a scale that is computed" if isinstance(scale, Variable) else f"scale {scale}"
