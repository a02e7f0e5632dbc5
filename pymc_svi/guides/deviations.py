"""Laws of the deviation of a site from its location, for :class:`AutoStructured`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.linalg import solve_triangular

from pymc_svi.gradients import rsample
from pymc_svi.guides.multivariate_normal import matrix_vector
from pymc_svi.guides.normal import normal_log_density
from pymc_svi.handlers.log_prob import zero

__all__ = ["Delta", "FullRank", "Given", "Law", "Normal"]


class Law(Protocol):
    """The law of one site's deviation, before it is shifted."""

    def draw(self, noise: Variable | None) -> tuple[Variable, Variable]:
        """Return a draw, made of the noise if there is any, and its log-density."""
        ...

    def log_density(self, value: Variable) -> Variable:
        """Return the log-density of a value, a scalar."""
        ...


@dataclass(frozen=True)
class Delta:
    """No deviation at all."""

    shape: tuple[int, ...]

    def draw(self, noise):
        """See :class:`Law`."""
        return pt.zeros(self.shape), zero()

    def log_density(self, value):
        """See :class:`Law`."""
        return zero()


@dataclass(frozen=True)
class Normal:
    """Independent Normals."""

    scale: Variable

    def draw(self, noise):
        """See :class:`Law`."""
        # Written in the noise: fewer operations a step.
        density = normal_log_density(noise, 0.0, 1.0) - pt.log(self.scale)
        return self.scale * noise, density.sum()

    def log_density(self, value):
        """See :class:`Law`."""
        return normal_log_density(value, 0.0, self.scale).sum()


@dataclass(frozen=True)
class FullRank:
    """A Normal with a full covariance, by its Cholesky factor."""

    scale_tril: Variable

    def draw(self, noise):
        """See :class:`Law`."""
        drawn = matrix_vector(self.scale_tril, noise.ravel()).reshape(noise.type.shape)
        return drawn, self._density(noise.ravel())

    def log_density(self, value):
        """See :class:`Law`."""
        return self._density(solve_triangular(self.scale_tril, value.ravel(), lower=True))

    def _density(self, noise):
        log_det = pt.log(pt.diagonal(self.scale_tril)).sum()
        return normal_log_density(noise, 0.0, 1.0).sum() - log_det


@dataclass(frozen=True)
class Given:
    """A distribution of the user's."""

    dist: Variable

    def draw(self, noise):
        """See :class:`Law`."""
        drawn = rsample(self.dist)
        return drawn, self.log_density(drawn)

    def log_density(self, value):
        """See :class:`Law`."""
        return pm.logp(self.dist, value).sum()
