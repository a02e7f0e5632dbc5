"""The base of the named optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor_ml import optim as pml
from pytensor_ml.params import step_counter

from pymc_svi.optim.arguments import count, fraction, non_negative, positive
from pymc_svi.optim.rules import CheckedRule, Updates, with_stable_dtypes
from pymc_svi.optim.step_sizes import (
    Rate,
    StepSize,
    checked_step_size,
    per_param,
    rates_of,
    scalar_schedule,
)

__all__ = [
    "Optimizer",
]


@dataclass(frozen=True)
class Optimizer(CheckedRule):
    """Base of the named optimizers: arguments, checked, and one rule of ``pytensor_ml``.

    A subclass is a frozen dataclass with a ``step_size``, a ``namespace`` for the names of its
    state, and a method ``_rule(rate)`` that returns a ``pytensor_ml`` transform for a rate.

    Parameters
    ----------
    step_size : float, schedule or shared variable
        The step size.

    Examples
    --------
    >>> import numpy as np
    >>> import pytensor
    >>> from pymc_svi import optim
    >>> loc = pytensor.shared(np.array([1.0, -2.0]), name="loc")
    >>> updates = optim.Adam(0.1)([2 * loc], [loc])
    >>> [variable.name for variable in updates]
    ['loc', 'adam/step_count', 'loc/adam/first_moment', 'loc/adam/second_moment']
    >>> step = pytensor.function([], [], updates=updates, mode="FAST_COMPILE")
    >>> step()
    []
    >>> loc.get_value().round(6).tolist()
    [0.9, -1.9]
    """

    step_size: StepSize
    namespace: ClassVar[str] = "optim"

    def __post_init__(self):
        self._set("step_size", checked_step_size(type(self).__name__, self.step_size))
        for argument in fields(self):
            check = _ARGUMENT_CHECKS.get(argument.name)
            if check is not None:
                value = getattr(self, argument.name)
                self._set(argument.name, check(type(self).__name__, argument.name, value))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _rule(self, rate: Rate) -> pml.Transform:
        raise NotImplementedError

    @property
    def treats_elements_alike(self) -> bool:
        """Whether all params could as well be one long vector: no rates of their own."""
        return not isinstance(self.step_size, Mapping | per_param)

    def __call__(self, loss_or_grads: Any, params: Sequence[SharedVariable]) -> Updates:
        """Return the updates of ``params`` and of this optimizer's state.

        Parameters
        ----------
        loss_or_grads : scalar TensorVariable, list of TensorVariable, or updates
            A loss, its gradients in the order of ``params``, or what the transform before it in a
            :func:`chain` returned.
        params : sequence of SharedVariable
            Named shared variables of a float dtype.
        """
        params = list(params)
        owner = type(self).__name__
        if isinstance(self.step_size, Mapping | per_param):
            transform = pml.chain(self._rule(1.0), self._scale_each)
        elif callable(self.step_size) and not isinstance(self.step_size, Variable):
            transform = self._rule(scalar_schedule(owner, self.step_size))
        else:
            transform = self._rule(cast(Rate, self.step_size))
        return with_stable_dtypes(transform(loss_or_grads, params))  # type: ignore[return-value]

    def _scale_each(self, updates: Any, params: Sequence[SharedVariable]) -> Any:
        """Multiply the step each parameter takes at rate 1 by its own rate.

        All rules here are linear in their rate, so this needs neither a rule nor a step count for
        each group of parameters.
        """
        owner = type(self).__name__
        rates = rates_of(owner, self.step_size, params)
        changes: dict = {}
        clock = None
        for param, rate, step in zip(params, rates, pml.steps_of(updates, params), strict=True):
            if callable(rate) and not isinstance(rate, Variable):
                clock = clock or step_counter(f"{self.namespace}/schedule/step_count")
                rate = scalar_schedule(owner, rate)(clock)
            changes[param] = param + pml.to_floatx(rate) * step
        if clock is not None:
            changes[clock] = clock.advance()
        return updates.replacing(changes)


_ARGUMENT_CHECKS: dict[str, Callable[[str, str, Any], Any]] = {
    "b1": fraction,
    "b2": fraction,
    "mass": fraction,
    "momentum": fraction,
    "gamma": fraction,
    "rho": fraction,
    "power": fraction,
    "eps": positive,
    "weight_decay": non_negative,
    "clip_norm": positive,
    "lrd": positive,
    "n_win": count,
}
