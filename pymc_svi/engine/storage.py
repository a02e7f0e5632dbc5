"""Where the learned params live in a compiled step: each by itself, or all in one vector.

Most of a step of a small model is spent on handling many small arrays. An optimizer whose rule
is the same for every element can move one vector that holds all params: one loop instead of
one for each of them and of their moments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace

__all__ = ["OneVector", "Separate", "storage_for"]

# Joining the gradients costs a copy, which for long vectors is more than the loops it saves.
_LONGEST = 10_000


def storage_for(variables: Mapping[str, SharedVariable], rule: object) -> Separate | OneVector:
    """Return the storage that suits the params and the optimizer."""
    sizes = [variable.get_value(borrow=True).size for variable in variables.values()]
    same_dtype = len({variable.type.dtype for variable in variables.values()}) == 1
    if len(sizes) > 1 and sum(sizes) <= _LONGEST and same_dtype:
        if getattr(rule, "treats_elements_alike", False):
            return OneVector(variables)
    return Separate(variables)


class Separate:
    """Each param in a shared variable of its own.

    Attributes
    ----------
    moved : list of SharedVariable
        What the optimizer moves.
    """

    def __init__(self, variables: Mapping[str, SharedVariable]):
        self.variables = dict(variables)
        self.moved = list(variables.values())

    def live(self, outputs: Sequence[Variable]) -> list[Variable]:
        """Return expressions of the params on what the optimizer moves."""
        return list(outputs)

    def gradients(self, gradients: Sequence[Variable]) -> list[Variable]:
        """Return the gradients of what the optimizer moves."""
        return list(gradients)

    def load(self, values: Mapping[str, np.ndarray]) -> None:
        """Set the params."""
        for name, variable in self.variables.items():
            variable.set_value(np.array(values[name]))

    def save(self) -> dict[str, np.ndarray]:
        """Return copies of the params."""
        return {name: np.array(var.get_value()) for name, var in self.variables.items()}


class OneVector:
    """All params in one shared vector; see :class:`Separate`."""

    def __init__(self, variables: Mapping[str, SharedVariable]):
        self.shapes = {n: v.get_value(borrow=True).shape for n, v in variables.items()}
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()])
        starts = [0, *ends[:-1]]
        self.slices = {
            name: slice(int(start), int(end))
            for name, start, end in zip(variables, starts, ends, strict=True)
        }
        dtype = next(iter(variables.values())).type.dtype
        self.vector = pytensor.shared(
            np.zeros(ends[-1], dtype=dtype), name="params", shape=(int(ends[-1]),)
        )
        self.moved = [self.vector]
        self.views = {variable: self._view(name) for name, variable in variables.items()}

    def _view(self, name: str) -> Variable:
        shape, part = self.shapes[name], self.slices[name]
        if shape == ():
            return self.vector[part.start]
        view = self.vector[part]
        return view if len(shape) == 1 else view.reshape(shape)

    def live(self, outputs: Sequence[Variable]) -> list[Variable]:
        """Return expressions of the params on the vector."""
        return graph_replace(list(outputs), self.views, strict=False)

    def gradients(self, gradients: Sequence[Variable]) -> list[Variable]:
        """Return the gradient of the vector."""
        parts = [pt.atleast_1d(g) if g.ndim < 2 else g.ravel() for g in gradients]
        return [pt.concatenate(parts)]

    def load(self, values: Mapping[str, np.ndarray]) -> None:
        """Set the params."""
        parts = [np.ravel(values[name]) for name in self.shapes]
        self.vector.set_value(np.concatenate(parts).astype(self.vector.type.dtype))

    def save(self) -> dict[str, np.ndarray]:
        """Return copies of the params."""
        vector = self.vector.get_value()
        return {n: vector[part].reshape(self.shapes[n]) for n, part in self.slices.items()}
