"""Step sizes: one for all parameters, or one for each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytensor
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.tensor.variable import TensorVariable

from pymc_svi.errors import did_you_mean, quoted, sentence
from pymc_svi.optim.arguments import is_number, positive
from pymc_svi.optim.rules import CheckedRule

__all__ = [
    "Rate",
    "StepSize",
    "checked_step_size",
    "per_param",
    "rates_of",
    "scalar_schedule",
]


# What Pyro's optimizers take in a dict, beside the learning rate "lr".
_PYROS_OPTIONS = {
    "lr", "betas", "eps", "weight_decay", "amsgrad", "clip_norm", "lrd", "centered_variance",
    "momentum", "alpha", "centered", "nesterov", "dampening", "rho", "lr_decay",
}  # fmt: skip


type Rate = float | TensorVariable | Callable[[TensorVariable], Any]
type StepSize = Rate | Mapping[str | None, Rate] | per_param


@dataclass(frozen=True)
class per_param:
    """A step size for each parameter, by its name.

    Parameters
    ----------
    function : callable
        From a parameter's name to its step size: a number or a schedule.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> slow_scales = optim.per_param(lambda name: 1e-3 if name.endswith("scale") else 1e-2)
    >>> optimizer = optim.Adam(slow_scales)

    A dictionary does the same for a few names; the key ``None`` stands for all others:

    >>> optim.Adam({"scale": 1e-3, None: 1e-2})
    Adam(step_size={'scale': 0.001, None: 0.01}, b1=0.9, b2=0.999, eps=1e-08)
    """

    function: Callable[[str], Rate]

    def __post_init__(self):
        if not callable(self.function):
            raise TypeError(
                sentence(
                    "per_param: function must be callable with a parameter's name",
                    found=repr(self.function),
                    fix="Write per_param(lambda name: ...) or pass a dict of step sizes",
                )
            )


def _checked_rate(owner: str, name: str, rate: Any) -> Rate:
    """Return a single step size, or say why it isn't one."""
    if isinstance(rate, Variable):
        if getattr(rate, "ndim", None) != 0:
            raise ValueError(sentence(f"{owner}: {name} must be a scalar", found=str(rate.type)))
        return cast(TensorVariable, rate)
    if is_number(rate):
        return positive(owner, name, rate)
    if callable(rate) and not isinstance(rate, type | CheckedRule | per_param):
        return rate
    raise TypeError(
        sentence(
            f"{owner}: {name} is not a step size",
            found=repr(rate),
            expected="a positive number, a schedule, or a dict of them by parameter name",
            fix=f"Write for example optim.{owner}(0.01)",
        )
    )


def _refuse_pyros_options(owner: str, options: Mapping[str, Any]) -> None:
    """Say what to write in place of ``Adam({"lr": 0.01})``, if that is what a dict looks like."""
    if not set(options) <= _PYROS_OPTIONS:
        return
    others = [repr(name) for name in options if name != "lr"]
    raise TypeError(
        sentence(
            f"{owner}: a dict has step sizes by parameter name, not Pyro's options",
            found=repr(dict(options)),
            fix=f"Write optim.{owner}({options['lr']!r})"
            + (f", and {', '.join(others)} as arguments of optim.{owner}" if others else ""),
        )
    )


def checked_step_size(owner: str, step_size: Any) -> StepSize:
    """Return a step size or one for each parameter, or say why it isn't one."""
    if isinstance(step_size, per_param):
        return step_size
    if isinstance(step_size, Mapping):
        if "lr" in step_size and None not in step_size:
            _refuse_pyros_options(owner, step_size)
        if not all(isinstance(key, str | None) for key in step_size):
            raise TypeError(
                sentence(
                    f"{owner}: step_size must have parameter names as keys",
                    found=quoted(step_size),
                    fix="Use the key None for all parameters without an entry",
                )
            )
        return {k: _checked_rate(owner, f"step_size[{k!r}]", v) for k, v in step_size.items()}
    return _checked_rate(owner, "step_size", step_size)


def rates_of(owner: str, step_size: StepSize, params: Sequence[SharedVariable]) -> list[Rate]:
    """Return the step size of each parameter."""
    names = [str(param.name) for param in params]
    if isinstance(step_size, per_param):
        return [
            _checked_rate(owner, f"the step size per_param gives for {name!r}", rate)
            for name, rate in ((name, step_size.function(name)) for name in names)
        ]
    by_name = cast(Mapping, step_size)
    missing = [name for name in names if name not in by_name]
    if missing and None not in by_name:
        raise ValueError(
            sentence(
                f"{owner}: step_size has no entry for {quoted(missing)}",
                found=f"entries for {quoted(by_name)}",
                fix="Add them, or a default under the key None",
            )
        )
    for key in by_name:
        # A warning, since an optimizer may be applied to some of the parameters at a time.
        if key is not None and key not in names:
            hint = did_you_mean(key, names)
            warnings.warn(
                f"{owner}: step_size has an entry for {key!r}, which is not among the parameters "
                f"{quoted(names)}.{hint}",
                stacklevel=2,
            )
    return [by_name.get(name, by_name.get(None)) for name in names]


def scalar_schedule(owner: str, rate: Callable) -> Callable[[TensorVariable], TensorVariable]:
    """Check what a schedule returns when it is applied: it may be a user's function."""

    def schedule(step):
        value = rate(step)
        try:
            value = pt.as_tensor(value)
        except (TypeError, NotImplementedError, ValueError) as error:
            raise TypeError(
                sentence(
                    f"{owner}: the schedule must return a number or a scalar expression",
                    found=repr(value),
                )
            ) from error
        if value.ndim != 0:
            raise ValueError(
                sentence(f"{owner}: the schedule must return a scalar", found=str(value.type))
            )
        return value.astype(pytensor.config.floatX)

    return schedule
