"""What a posterior of the benchmark consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.accuracy.database import Database, stacked

__all__ = ["Moments", "Problem"]

type Arrays = Mapping[str, np.ndarray]
# Mean and standard deviation of each reported scalar.
type Moments = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Problem:
    """A posterior: a model in PyMC, and what is known about it.

    Parameters
    ----------
    name : str
        The model's name in posteriordb.
    data : str
        The name of its data.
    make : callable
        Makes the model of the data: a ``pm.Model``, or a program if discrete sites are summed out.
    reported : tuple of str
        The variables that are compared.
    exact : callable, optional
        Computes the moments of the data; without it those of reference draws are taken.
    reference : str, optional
        Whose draws these are, if not those of ``{data}-{name}``.
    latent : callable, optional
        Computes the latent variables of the reported ones, if they are others.
    enumerated : bool
        Whether discrete sites are to be summed out.
    """

    name: str
    data: str
    make: Callable[[Arrays], object]
    reported: tuple[str, ...]
    exact: Callable[[Arrays], Moments] | None = None
    reference: str | None = None
    latent: Callable[[Arrays], dict[str, np.ndarray]] = dict
    enumerated: bool = False

    def model(self, database: Database) -> object:
        """Return the model with its data."""
        return self.make(database.data(self.data))

    def draws(self, database: Database) -> dict[str, np.ndarray]:
        """Return the reference draws of the latent variables."""
        return self.latent(stacked(database.draws(self.reference or f"{self.data}-{self.name}")))

    def moments(self, database: Database) -> Moments:
        """Return the moments that are true."""
        if self.exact is not None:
            return self.exact(database.data(self.data))
        draws = database.draws(self.reference or f"{self.data}-{self.name}")
        return {name: (float(x.mean()), float(x.std())) for name, x in draws.items()}
