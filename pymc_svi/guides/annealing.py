"""Annealed importance sampling by uncorrected Hamiltonian steps, differentiable in its params."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.constraints import interval, positive, unit_interval
from pymc_svi.errors import sentence
from pymc_svi.primitives import param

__all__ = ["Dynamics", "Schedule"]

Gradient = Callable[[Variable], Variable]


@dataclass(frozen=True)
class Dynamics:
    """The settings of annealed dynamics; they are checked when it is made.

    Attributes
    ----------
    guide : str
        The guide they belong to, for messages.
    K : int
        Number of steps.
    eta_init, eta_max : float
        Where the step size starts, and what it stays below.
    gamma_init : float
        Where the damping of the momentum starts.
    """

    guide: str
    K: int
    eta_init: float
    eta_max: float
    gamma_init: float

    def __post_init__(self) -> None:
        whole = isinstance(self.K, int | np.integer) and not isinstance(self.K, bool)
        if not whole or self.K < 1:
            self._refuse("K must be a whole number from 1 on", self.K)
        if not 0 < self.eta_max < np.inf:
            self._refuse("eta_max must be positive", self.eta_max)
        if not 0 < self.eta_init < self.eta_max:
            self._refuse(f"eta_init must lie between 0 and eta_max={self.eta_max}", self.eta_init)
        if not 0 < self.gamma_init < 1:
            self._refuse("gamma_init must lie between 0 and 1", self.gamma_init)

    def _refuse(self, rule: str, found: Any) -> None:
        raise ValueError(sentence(f"{self.guide}: {rule}", found=repr(found)))

    def declare(self, prefix: str, size: int, rows: int | None = None) -> Schedule:
        """Declare the params; with ``rows``, each row of a plate has its own."""
        shape = () if rows is None else (rows,)

        def declare(name: str, start: Any, event_dim: int, constraint: Any = None) -> Variable:
            return param(
                f"{prefix}_{name}",
                np.broadcast_to(start, (*shape, *np.shape(start))),
                event_dim=None if rows is None else event_dim,
                **({} if constraint is None else {"constraint": constraint}),
            )

        eta_0 = declare("eta0", self.eta_init, 0, interval(0, self.eta_max))
        eta_coeff = declare("eta_coeff", 0.0, 0)
        gamma = declare("gamma", self.gamma_init, 0, unit_interval)
        increments = declare("beta_increments", np.ones(self.K), 1, positive)
        mass = declare("mass_matrix", np.ones(size), 1, positive)
        # An axis for the elements, behind that of the rows.
        eta_0, eta_coeff, gamma = (x[..., None] for x in (eta_0, eta_coeff, gamma))
        reached = pt.cumsum(increments, axis=-1)
        betas = [reached[..., k, None] / reached[..., -1, None] for k in range(self.K - 1)]
        # A step size on its way along the bridge; it stays inside its bounds without a clip, on
        # which its gradient would be lost.
        logit = pt.log(eta_0) - pt.log(self.eta_max - eta_0)
        etas = [self.eta_max * pt.sigmoid(logit + eta_coeff * beta) for beta in [*betas, 1.0]]
        return Schedule(etas, betas, gamma, mass)


@dataclass(frozen=True)
class Schedule:
    """Annealed dynamics with the values of their params.

    Attributes
    ----------
    step_sizes : sequence of Variable
        One for each step.
    weights : sequence of Variable
        How much the target counts in each step but the last, in which it is all that counts.
    damping : Variable
        How much of the momentum a step keeps of that before.
    mass : Variable
        The mass of each element.
    """

    step_sizes: Sequence[Variable]
    weights: Sequence[Variable]
    damping: Variable
    mass: Variable

    def anneal(
        self, start: Variable, noise: Variable, base: Gradient, target: Gradient
    ) -> tuple[Variable, Variable]:
        r"""Move a draw of the base distribution towards the target.

        A step is half a step of the position, a kick by the gradient of the bridging density
        :math:`q^{1-\beta} p^\beta`, and another half step: it conserves volume. The momentum is
        refreshed in part between steps, which leaves its law as it is. The density of the path
        relative to that of the reversed path is therefore that of the start times, for each
        step, the density of the momentum before it over that after it.

        Parameters
        ----------
        start : TensorVariable, shape (..., elements)
            A draw of the base distribution.
        noise : TensorVariable, shape (steps, ..., elements)
            Standard Normal noise.
        base, target : callable
            The gradients of the two log-densities.

        Returns
        -------
        position : TensorVariable
        log_ratio : TensorVariable
            Elementwise; to be added to the log-density of the start.
        """
        # In units of the square root of the mass the momentum is a standard Normal.
        pace = self.mass**-0.5
        position, momentum, log_ratio = start, noise[0], 0.0
        for k, step_size in enumerate(self.step_sizes):
            last = k == len(self.step_sizes) - 1
            half = position + 0.5 * step_size * pace * momentum
            force = target(half)
            if not last:
                force = (1 - self.weights[k]) * base(half) + self.weights[k] * force
            kicked = momentum + step_size * pace * force
            position = half + 0.5 * step_size * pace * kicked
            log_ratio = log_ratio + 0.5 * (kicked**2 - momentum**2)
            if not last:
                momentum = self.damping * kicked + pt.sqrt(1 - self.damping**2) * noise[k + 1]
        return position, pt.as_tensor(log_ratio)
