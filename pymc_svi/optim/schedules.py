"""Step sizes that change with the step count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.variable import TensorVariable
from pytensor_ml import optim as pml

from pymc_svi.errors import sentence
from pymc_svi.optim.arguments import count, non_negative, positive

__all__ = [
    "Schedule",
    "constant",
    "cosine_decay",
    "exponential_decay",
    "inverse_time_decay",
    "join",
    "linear_decay",
    "linear_onecycle",
    "piecewise_constant",
    "polynomial_decay",
    "power_of",
    "step_decay",
    "time_of",
]


@dataclass(frozen=True, repr=False)
class Schedule:
    """A step size that changes with the step count, counted from 0.

    Made by :func:`exponential_decay`, :func:`cosine_decay` and the like. Any callable from a
    symbolic step count to a scalar may be used in its place; a ``Schedule`` can also be printed,
    pickled, and evaluated at plain numbers.

    Parameters
    ----------
    formula : callable
        Module-level function ``formula(t, **arguments)``.
    name : str
        What it is called when it is printed.
    arguments : dict
        Of the formula, beside the step.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi import optim
    >>> schedule = optim.exponential_decay(0.1, decay_steps=10, decay_rate=0.5)
    >>> schedule
    exponential_decay(step_size=0.1, decay_steps=10, decay_rate=0.5, staircase=False)
    >>> schedule(np.array([0, 10, 20])).tolist()
    [0.1, 0.05, 0.025]
    >>> optim.Adam(schedule).b1
    0.9
    """

    formula: Callable[..., TensorVariable]
    name: str
    arguments: dict[str, Any] = field(hash=False)

    def __call__(self, step: Any) -> Any:
        """Return the step size at ``step``: symbolic for a symbolic step, else numpy."""
        if isinstance(step, Variable):
            return self.formula(step, **self.arguments)
        step = pt.as_tensor(np.asarray(step, dtype="int64"))
        return self.formula(step, **self.arguments).eval(mode="FAST_COMPILE")

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"


def time_of(step: TensorVariable) -> TensorVariable:
    """Return a step count as a number to compute with, in double precision.

    In single precision neither a million steps nor the millionth power of a factor near one is
    exact enough. One number a step costs nothing.
    """
    return step.astype("float64")


def power_of(rate: float, time: TensorVariable) -> TensorVariable:
    """Return a factor to the power of a time, in double precision."""
    return pt.power(np.float64(rate), time)


def _constant(t, step_size):
    return pt.zeros_like(time_of(t)) + step_size


def constant(step_size: float) -> Schedule:
    """Always ``step_size``; useful as a part of :func:`join`.

    Parameters
    ----------
    step_size : float
        The step size.

    Returns
    -------
    Schedule
        A function of the step, for ``Adam(schedule)``.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> float(optim.constant(0.1)(1_000))
    0.1
    """
    return Schedule(
        _constant, "constant", {"step_size": positive("constant", "step_size", step_size)}
    )


def _exponential_decay(t, step_size, decay_steps, decay_rate, staircase):
    periods = t // decay_steps if staircase else time_of(t) / decay_steps
    return step_size * power_of(decay_rate, time_of(periods))


def exponential_decay(
    step_size: float, decay_steps: int, decay_rate: float, staircase: bool = False
) -> Schedule:
    """``step_size * decay_rate ** (t / decay_steps)``.

    Parameters
    ----------
    step_size : float
        Step size at step 0.
    decay_steps : int
        Number of steps in which the step size shrinks by ``decay_rate``.
    decay_rate : float
        Positive factor.
    staircase : bool, default False
        Shrink at once every ``decay_steps`` steps instead of a little each step.

    Returns
    -------
    Schedule
        A function of the step, for ``Adam(schedule)``.

    Raises
    ------
    ValueError
        For rates that aren't positive or ``decay_steps`` below 1.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> float(optim.exponential_decay(0.1, 100, 0.5, staircase=True)(150))
    0.05
    """
    name = "exponential_decay"
    arguments = {
        "step_size": positive(name, "step_size", step_size),
        "decay_steps": count(name, "decay_steps", decay_steps),
        "decay_rate": positive(name, "decay_rate", decay_rate),
        "staircase": bool(staircase),
    }
    return Schedule(_exponential_decay, name, arguments)


def step_decay(step_size: float, decay_steps: int, decay_rate: float = 0.1) -> Schedule:
    """Multiply the step size by ``decay_rate`` every ``decay_steps`` steps.

    The same as :func:`exponential_decay` with ``staircase=True``.

    Parameters
    ----------
    step_size : float
        Step size at step 0.
    decay_steps : int
        Number of steps between changes.
    decay_rate : float, default 0.1
        Positive factor.

    Returns
    -------
    Schedule
        A function of the step, for ``Adam(schedule)``.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.step_decay(0.1, 10)([0, 9, 10]).round(6).tolist()
    [0.1, 0.1, 0.01]
    """
    return exponential_decay(step_size, decay_steps, decay_rate, staircase=True)


def _inverse_time_decay(t, step_size, decay_steps, decay_rate, staircase):
    periods = t // decay_steps if staircase else time_of(t) / decay_steps
    return step_size / (1 + decay_rate * time_of(periods))


def inverse_time_decay(
    step_size: float, decay_steps: int, decay_rate: float, staircase: bool = False
) -> Schedule:
    """``step_size / (1 + decay_rate * t / decay_steps)``.

    Its sum diverges and the sum of its squares converges, the condition of Robbins and Monro [1]_
    for stochastic gradients to settle.

    Parameters
    ----------
    step_size : float
        Step size at step 0.
    decay_steps : int
        Unit of time.
    decay_rate : float
        Positive.
    staircase : bool, default False
        Change only every ``decay_steps`` steps.

    Returns
    -------
    Schedule
        A function of the step, for ``Adam(schedule)``.

    References
    ----------
    .. [1] Robbins, H., Monro, S. (1951). A stochastic approximation method. Annals of Mathematical
       Statistics 22(3).

    Examples
    --------
    >>> from pymc_svi import optim
    >>> float(optim.inverse_time_decay(0.1, 100, 1.0)(100))
    0.05
    """
    name = "inverse_time_decay"
    arguments = {
        "step_size": positive(name, "step_size", step_size),
        "decay_steps": count(name, "decay_steps", decay_steps),
        "decay_rate": positive(name, "decay_rate", decay_rate),
        "staircase": bool(staircase),
    }
    return Schedule(_inverse_time_decay, name, arguments)


def _polynomial_decay(t, step_size, decay_steps, final_step_size, power):
    left = 1 - pt.clip(time_of(t), 0.0, decay_steps) / decay_steps
    return final_step_size + (step_size - final_step_size) * (left if power == 1 else left**power)


def polynomial_decay(
    step_size: float, decay_steps: int, final_step_size: float, power: float = 1.0
) -> Schedule:
    """From ``step_size`` to ``final_step_size`` in ``decay_steps`` steps, then constant.

    Parameters
    ----------
    step_size : float
        Step size at step 0.
    decay_steps : int
        Length of the decay.
    final_step_size : float
        Step size from then on; may be 0, or larger than the first for a warm-up.
    power : float, default 1.0
        Of the fraction of steps left; 1 is a straight line.

    Returns
    -------
    Schedule
        A function of the step, for ``Adam(schedule)``.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.polynomial_decay(1.0, 10, 0.0, power=2)([0, 5, 10, 99]).tolist()
    [1.0, 0.25, 0.0, 0.0]
    """
    name = "polynomial_decay"
    arguments = {
        "step_size": non_negative(name, "step_size", step_size),
        "decay_steps": count(name, "decay_steps", decay_steps),
        "final_step_size": non_negative(name, "final_step_size", final_step_size),
        "power": positive(name, "power", power),
    }
    return Schedule(_polynomial_decay, name, arguments)


def linear_decay(step_size: float, decay_steps: int, final_step_size: float = 0.0) -> Schedule:
    """In a straight line from ``step_size`` to ``final_step_size``, then constant.

    Parameters
    ----------
    step_size : float
        Step size at step 0.
    decay_steps : int
        Length of the decay.
    final_step_size : float, default 0.0
        Step size from then on.

    Returns
    -------
    Schedule
        A function of the step, for ``Adam(schedule)``.

    Examples
    --------
    A warm-up followed by a decay:

    >>> from pymc_svi import optim
    >>> warm_up = optim.linear_decay(0.0, 10, 0.1)
    >>> schedule = optim.join([warm_up, optim.cosine_decay(0.1, 90)], [10])
    >>> schedule([0, 5, 10, 55, 100]).round(3).tolist()
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """
    return polynomial_decay(step_size, decay_steps, final_step_size)


def _cosine_decay(t, step_size, decay_steps, alpha):
    progress = pt.clip(time_of(t), 0.0, decay_steps) / decay_steps
    return step_size * (alpha + (1 - alpha) * 0.5 * (1 + pt.cos(np.pi * progress)))


def cosine_decay(step_size: float, decay_steps: int, alpha: float = 0.0) -> Schedule:
    """Half a cosine from ``step_size`` to ``alpha * step_size``, then constant [1]_.

    Parameters
    ----------
    step_size : float
        Step size at step 0.
    decay_steps : int
        Length of the decay, usually the number of steps of the fit.
    alpha : float, default 0.0
        Final step size as a fraction of the first.

    Returns
    -------
    Schedule
        A function of the step, for ``Adam(schedule)``.

    References
    ----------
    .. [1] Loshchilov, I., Hutter, F. (2017). SGDR: stochastic gradient descent with warm restarts.
       ICLR.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.cosine_decay(0.1, 100)([0, 50, 100, 1000]).round(6).tolist()
    [0.1, 0.05, 0.0, 0.0]
    """
    name = "cosine_decay"
    arguments = {
        "step_size": positive(name, "step_size", step_size),
        "decay_steps": count(name, "decay_steps", decay_steps),
        "alpha": non_negative(name, "alpha", alpha),
    }
    return Schedule(_cosine_decay, name, arguments)


def _linear_onecycle(t, peak_value, total_steps, **shape):
    return pml.linear_onecycle_schedule(peak_value, total_steps, **shape)(t)


def linear_onecycle(
    peak_value: float,
    total_steps: int,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Up, down and out in three straight lines [1]_.

    Parameters
    ----------
    peak_value : float
        The largest step size, reached after ``pct_start`` of the steps.
    total_steps : int
        Number of steps of the fit.
    pct_start, pct_final : float, default 0.3 and 0.85
        Fractions of ``total_steps`` at which the peak is reached and the last phase begins.
    div_factor : float, default 25.0
        The first step size is ``peak_value / div_factor``.
    final_div_factor : float, default 1e4
        The last is smaller than the first by this factor.

    Returns
    -------
    Schedule
        A function of the step, for ``Adam(schedule)``.

    Raises
    ------
    ValueError
        If the fractions don't leave a step for each phase.

    References
    ----------
    .. [1] Smith, L. N., Topin, N. (2018). Super-convergence. arXiv:1708.07120.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.linear_onecycle(0.1, 100)([0, 30, 85]).round(6).tolist()
    [0.004, 0.1, 0.004]
    """
    name = "linear_onecycle"
    arguments = {
        "peak_value": positive(name, "peak_value", peak_value),
        "total_steps": count(name, "total_steps", total_steps),
        "pct_start": pct_start,
        "pct_final": pct_final,
        "div_factor": positive(name, "div_factor", div_factor),
        "final_div_factor": positive(name, "final_div_factor", final_div_factor),
    }
    # pytensor_ml checks the phases when it builds the schedule: do it here, not at the first fit.
    pml.linear_onecycle_schedule(**arguments)
    return Schedule(_linear_onecycle, name, arguments)


def _piecewise_constant(t, boundaries, values):
    value = pt.zeros_like(time_of(t)) + values[0]
    for boundary, later in zip(boundaries, values[1:], strict=True):
        value = pt.where(t < boundary, value, np.asarray(later, dtype=value.dtype))
    return value


def _boundaries(owner: str, boundaries: Iterable[int], pieces: int) -> tuple[int, ...]:
    checked = tuple(count(owner, "every boundary", boundary) for boundary in boundaries)
    if len(checked) != pieces - 1 or sorted(set(checked)) != list(checked):
        raise ValueError(
            sentence(
                f"{owner}: boundaries must increase and be one fewer than the pieces",
                found=f"{list(checked)} for {pieces} pieces",
            )
        )
    return checked


def piecewise_constant(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """``values[i]`` until step ``boundaries[i]``, then ``values[i + 1]``.

    Parameters
    ----------
    boundaries : sequence of int
        Increasing steps at which the step size changes.
    values : sequence of float
        Step sizes, one more than ``boundaries``.

    Returns
    -------
    Schedule
        A function of the step, for ``Adam(schedule)``.

    Raises
    ------
    ValueError
        If the boundaries don't increase, or aren't one fewer than the values.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.piecewise_constant([100, 200], [0.1, 0.01, 0.001])([0, 99, 100, 500]).tolist()
    [0.1, 0.1, 0.01, 0.001]
    """
    name = "piecewise_constant"
    arguments = {
        "boundaries": _boundaries(name, boundaries, len(values)),
        "values": tuple(positive(name, "every value", value) for value in values),
    }
    return Schedule(_piecewise_constant, name, arguments)


def _join(t, schedules, boundaries):
    return pml.join_schedules(list(schedules), list(boundaries))(t)


def join(schedules: Sequence[Callable], boundaries: Sequence[int]) -> Schedule:
    """Follow one schedule after the other, each counting from its own start.

    Parameters
    ----------
    schedules : sequence of schedule
        The schedules, in their order.
    boundaries : sequence of int
        Steps at which the next schedule takes over, one fewer than ``schedules``.

    Returns
    -------
    Schedule
        A function of the step, for ``Adam(schedule)``.

    Raises
    ------
    ValueError
        If the boundaries don't increase, or aren't one fewer than the schedules.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> schedule = optim.join([optim.constant(0.1), optim.exponential_decay(0.1, 1, 0.5)], [10])
    >>> schedule([9, 10, 11]).tolist()
    [0.1, 0.1, 0.05]
    """
    arguments = {
        "schedules": tuple(schedules),
        "boundaries": _boundaries("join", boundaries, len(schedules)),
    }
    return Schedule(_join, "join", arguments)
