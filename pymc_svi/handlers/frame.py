"""A plate as the sites inside it know it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.values import describe_shape

__all__ = ["Frame", "check_same_plate", "checked_indices", "differs_by_batch"]


@dataclass(frozen=True, eq=False)
class Frame:
    """A plate around a site.

    Attributes
    ----------
    name : str
        Name of the plate.
    dim : int
        The batch dimension it stands for, counted from the right: -1, -2...
    size : int
        How many repetitions there are.
    subsample_size : int
        How many of them a minibatch has; ``size`` where there is none.
    indices : numpy.ndarray or Variable
        Which ones these are.
    dim_name : str or None
        The PyMC dim it stands for.
    length : Variable or None
        How many repetitions there are as an expression, where that is another number at each step;
        ``size`` is then that of the first one.

    Examples
    --------
    >>> from pymc_svi import handlers, plate
    >>> with plate("rows", 100, subsample_size=10, dim=-1):
    ...     [frame] = handlers.get_plates()
    >>> frame.name, frame.dim, frame.size, frame.subsample_size, frame.is_subsampled
    ('rows', -1, 100, 10, True)
    """

    name: str
    dim: int
    size: int
    subsample_size: int
    indices: Any
    dim_name: str | None = None
    length: Variable | None = None

    def renamed(self, name: str) -> Frame:
        """Return the same plate under another name.

        Parameters
        ----------
        name : str
            The name.

        Returns
        -------
        Frame
            The plate.
        """
        return replace(self, name=name)

    @property
    def is_subsampled(self) -> bool:
        """Whether only a part of the repetitions is present."""
        return self.subsample_size != self.size

    @property
    def extent(self) -> Any:
        """How many repetitions are present: a number, or an expression where it is not always the same."""
        return self.subsample_size if self.length is None or self.is_subsampled else self.length


def differs_by_batch(size: Any) -> bool:
    """Whether a size is an expression of arrays that do not have as many rows in each batch."""
    return isinstance(size, Variable) and any(
        getattr(variable, "rows_differ", False) for variable in ancestors([size])
    )


def check_same_plate(first: Frame, second: Frame) -> None:
    """Check that two plates of one name are one plate, entered twice.

    Raises
    ------
    SiteError
        If they have different sizes, or would have different minibatches.
    """
    if (first.size, first.subsample_size) != (second.size, second.subsample_size):
        raise SiteError(
            sentence(
                f"Plate {first.name!r} has two sizes in one program",
                found=f"{first.subsample_size} of {first.size} at first, then "
                f"{second.subsample_size} of {second.size}",
                fix="Rename one of them",
            )
        )
    if first.is_subsampled and not _same(first.indices, second.indices):
        raise SiteError(
            sentence(
                f"Plate {first.name!r} is made twice and has two minibatches",
                fix=f"Make it once, rows = plate({first.name!r}, ...), and enter it twice, with rows: ...",
            )
        )


def checked_indices(value: Any, frame: Frame) -> Any:
    """Check indices that a handler gave; the full ones stay plain numbers."""
    indices: Any = value if isinstance(value, Variable) else np.asarray(value)
    numbers = value.data if isinstance(value, Constant) else indices
    if isinstance(numbers, np.ndarray):
        if (
            numbers.dtype.kind not in "iu"
            or numbers.size
            and (numbers.min() < 0 or numbers.max() >= frame.size)
        ):
            raise SiteError(
                sentence(
                    f"Plate {frame.name!r} was given indices that it does not have",
                    found=f"{numbers.tolist()}",
                    expected=f"whole numbers from 0 to {frame.size - 1}",
                )
            )
    shape = indices.type.shape if isinstance(indices, Variable) else indices.shape
    if len(shape) != 1 or shape[0] not in (None, frame.subsample_size):
        raise SiteError(
            sentence(
                f"Plate {frame.name!r} was given indices of another number",
                found=describe_shape(shape),
                expected=f"({frame.subsample_size},)",
                fix="Use the same size and subsample_size in model and guide",
            )
        )
    if frame.is_subsampled and not isinstance(indices, Variable):
        indices = pt.constant(indices.astype("int64"))
    return indices


def _same(first: Any, second: Any) -> bool:
    if first is second:
        return True
    values = [v.data if isinstance(v, Constant) else v for v in (first, second)]
    known = all(isinstance(v, np.ndarray | list | tuple) for v in values)
    return known and np.array_equal(*values)
