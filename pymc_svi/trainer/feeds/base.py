"""What a fit reads its batches from, and the placeholders that a program is built on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.type import TensorType

from pymc_svi.data import DataLoader
from pymc_svi.data.checks import Batch
from pymc_svi.engine.arguments import DataVariable, computed_dtype
from pymc_svi.errors import sentence

__all__ = ["BatchVariable", "DataFeed", "placeholder"]


class BatchVariable(DataVariable):
    """An array of a batch whose number of rows is known only when a step runs."""

    rows_differ = True

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape: an expression for the rows, numbers for the rest."""
        return (pt.shape(self)[0], *self.type.shape[1:])

    @property
    def size(self):
        """The number of elements, an expression."""
        return pt.shape(self)[0] * int(np.prod(self.type.shape[1:]))

    def __len__(self) -> int:
        raise TypeError(
            sentence(
                f"The number of rows of {self.name!r} differs from batch to batch",
                fix=f"Write {self.name}.shape[0], which is symbolic, instead of "
                f"len({self.name}), or use DataLoader(..., drop_last=True)",
            )
        )


def placeholder(name: str, value: np.ndarray, rows: int | None) -> DataVariable:
    """Return the variable that a program is built on; ``rows`` is None where they differ."""
    kind = DataVariable if rows is not None else BatchVariable
    value = value.astype(computed_dtype(value.dtype), copy=False)
    return kind(
        type=TensorType(value.dtype, shape=(rows, *value.shape[1:])),
        value=value,
        strict=False,
        name=name or "data",
    )


class DataFeed(ABC):
    """What a fit reads its batches from.

    Attributes
    ----------
    counter : SharedVariable
        Number of the present step.
    placeholders : dict of str to DataVariable
        What programs are built on; they hold the first batch.
    expressions : dict of str to TensorVariable
        The rows of the present step.
    rows : int or None
        Rows of a batch; None where they differ from batch to batch.
    usual_rows : float
        Rows of a batch on average; those of the first one of a stream, of which more is not known.
    first : dict of str to numpy.ndarray
        The first batch.
    starts_anew : bool
        Whether it can be read from the beginning again, in the order of another seed.
    """

    starts_anew = True
    loaded: tuple[int, int]
    placeholders: dict[str, DataVariable]
    expressions: dict[str, Variable]
    rows: int | None
    usual_rows: float
    first: Batch

    def __init__(self, loader: DataLoader, seed: int):
        self.loader, self.seed = loader, seed
        self.counter = pytensor.shared(np.array(0, dtype="int64"), name="data/step")
        self.offset = pytensor.shared(np.array(0, dtype="int64"), name="data/offset")

    @abstractmethod
    def prepare(self, step: int, n_steps: int) -> int:
        """Load data for the steps from ``step`` on; return how many of ``n_steps`` they cover."""

    def begin(self, step: int, n_steps: int) -> None:  # noqa: B027
        """Say which steps a fit will take."""

    def close(self) -> None:  # noqa: B027
        """End what runs in the background."""

    def start_anew(self, seed: int) -> None:
        """Go back to the beginning, with the order of a seed."""
        self.close()
        self.seed = seed
        self.loaded = (0, 0)

    def batch_at(self, step: int) -> Batch:
        """Return the batch of a step."""
        self.prepare(step, 1)
        before = self.counter.get_value()
        self.counter.set_value(np.array(step))
        arrays = self._rows_of_step()
        self.counter.set_value(before)
        return dict(zip(self.expressions, arrays, strict=True))

    @cached_property
    def _rows_of_step(self) -> Callable[[], list[np.ndarray]]:
        mode = pytensor.compile.mode.Mode(linker="py", optimizer=None)
        return pytensor.function([], list(self.expressions.values()), mode=mode)
