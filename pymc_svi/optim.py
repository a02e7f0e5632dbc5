"""Optimizers: rules that turn gradients into updates of shared variables.

Everything here, and everything :class:`~pymc_svi.SVI` accepts as ``optim``, has one form::

    rule(loss_or_grads, params) -> {shared variable: next value}

The updates hold the next value of every parameter and of every piece of optimizer state, moments
and step counts alike. State is plain shared variables, named by what they belong to
(``"loc/adam/first_moment"``, ``"adam/step_count"``), so a checkpoint is a mapping from names to
arrays.

The arithmetic is that of :mod:`pytensor_ml.optim` wherever it has the rule; this module gives the
rules NumPyro's names, argument order and defaults, checks their arguments, and adds what NumPyro
and Pyro users expect: elementwise clipping, schedules of the step count, step sizes per parameter.
Parts of ``pytensor_ml.optim`` may be mixed in freely with :func:`chain`, and PyMC's
(``pm.adam(learning_rate=0.01)``) are accepted as they are, see :func:`as_rule`.
"""

from __future__ import annotations

import inspect
import math
import numbers
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.tensor.variable import TensorVariable
from pytensor_ml import optim as pml
from pytensor_ml.params import step_counter

from pymc_svi.errors import did_you_mean, quoted, sentence

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "AdagradWindow",
    "Adam",
    "AdamW",
    "Adamax",
    "ClippedAdam",
    "Momentum",
    "Nadam",
    "Nesterov",
    "Optimizer",
    "RMSProp",
    "RMSPropMomentum",
    "Rule",
    "Schedule",
    "as_rule",
    "chain",
    "clip_by_global_norm",
    "clip_by_value",
    "constant",
    "cosine_decay",
    "exponential_decay",
    "inverse_time_decay",
    "join",
    "linear_decay",
    "linear_onecycle",
    "name_state",
    "per_param",
    "piecewise_constant",
    "polynomial_decay",
    "step_decay",
]

type Updates = dict[SharedVariable, Variable]
type LossOrGrads = TensorVariable | Sequence[TensorVariable]


class Rule(Protocol):
    """What an optimizer is: anything that can be called like this."""

    def __call__(self, loss_or_grads: LossOrGrads, params: Sequence[SharedVariable], /) -> Updates:
        """Return the next value of each parameter and of each state variable of the rule.

        Parameters
        ----------
        loss_or_grads : scalar TensorVariable or list of TensorVariable
            A loss to differentiate, or its gradients in the order of ``params``.
        params : sequence of SharedVariable
            The parameters to move, named and in unconstrained space.
        """
        ...


# --- arguments --------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype.kind in "iuf"
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def _positive(owner: str, name: str, value: Any) -> float:
    if not _is_number(value):
        raise TypeError(sentence(f"{owner}: {name} must be a number", found=repr(value)))
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            sentence(f"{owner}: {name} must be positive and finite", found=repr(float(value)))
        )
    return float(value)


def _fraction(owner: str, name: str, value: Any) -> float:
    """A decay rate, in [0, 1)."""
    if not _is_number(value):
        raise TypeError(sentence(f"{owner}: {name} must be a number", found=repr(value)))
    if not 0 <= value < 1:
        raise ValueError(
            sentence(f"{owner}: {name} must be at least 0 and less than 1", found=repr(value))
        )
    return float(value)


def _count(owner: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(sentence(f"{owner}: {name} must be an integer", found=repr(value)))
    if value < 1:
        raise ValueError(sentence(f"{owner}: {name} must be at least 1", found=repr(value)))
    return int(value)


def _non_negative(owner: str, name: str, value: Any) -> float:
    return 0.0 if _is_number(value) and value == 0 else _positive(owner, name, value)


# --- schedules --------------------------------------------------------------------------------


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
    arguments : dict

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


def _time(step: TensorVariable) -> TensorVariable:
    return step.astype(pytensor.config.floatX)


def _constant(t, step_size):
    return pt.zeros_like(_time(t)) + step_size


def constant(step_size: float) -> Schedule:
    """Always ``step_size``; useful as a part of :func:`join`.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> float(optim.constant(0.1)(1_000))
    0.1
    """
    return Schedule(
        _constant, "constant", {"step_size": _positive("constant", "step_size", step_size)}
    )


def _exponential_decay(t, step_size, decay_steps, decay_rate, staircase):
    periods = t // decay_steps if staircase else _time(t) / decay_steps
    return step_size * pt.power(decay_rate, _time(periods))


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
        "step_size": _positive(name, "step_size", step_size),
        "decay_steps": _count(name, "decay_steps", decay_steps),
        "decay_rate": _positive(name, "decay_rate", decay_rate),
        "staircase": bool(staircase),
    }
    return Schedule(_exponential_decay, name, arguments)


def step_decay(step_size: float, decay_steps: int, decay_rate: float = 0.1) -> Schedule:
    """Multiply the step size by ``decay_rate`` every ``decay_steps`` steps.

    The same as :func:`exponential_decay` with ``staircase=True``.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.step_decay(0.1, 10)([0, 9, 10]).round(6).tolist()
    [0.1, 0.1, 0.01]
    """
    return exponential_decay(step_size, decay_steps, decay_rate, staircase=True)


def _inverse_time_decay(t, step_size, decay_steps, decay_rate, staircase):
    periods = t // decay_steps if staircase else _time(t) / decay_steps
    return step_size / (1 + decay_rate * _time(periods))


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
        "step_size": _positive(name, "step_size", step_size),
        "decay_steps": _count(name, "decay_steps", decay_steps),
        "decay_rate": _positive(name, "decay_rate", decay_rate),
        "staircase": bool(staircase),
    }
    return Schedule(_inverse_time_decay, name, arguments)


def _polynomial_decay(t, step_size, decay_steps, final_step_size, power):
    left = 1 - pt.clip(_time(t), 0.0, decay_steps) / decay_steps
    return final_step_size + (step_size - final_step_size) * (left if power == 1 else left**power)


def polynomial_decay(
    step_size: float, decay_steps: int, final_step_size: float, power: float = 1.0
) -> Schedule:
    """From ``step_size`` to ``final_step_size`` in ``decay_steps`` steps, then constant.

    Parameters
    ----------
    step_size, final_step_size : float
        Ends; the final one may be 0, or larger than the first for a warm-up.
    decay_steps : int
    power : float, default 1.0
        Of the fraction of steps left; 1 is a straight line.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.polynomial_decay(1.0, 10, 0.0, power=2)([0, 5, 10, 99]).tolist()
    [1.0, 0.25, 0.0, 0.0]
    """
    name = "polynomial_decay"
    arguments = {
        "step_size": _non_negative(name, "step_size", step_size),
        "decay_steps": _count(name, "decay_steps", decay_steps),
        "final_step_size": _non_negative(name, "final_step_size", final_step_size),
        "power": _positive(name, "power", power),
    }
    return Schedule(_polynomial_decay, name, arguments)


def linear_decay(step_size: float, decay_steps: int, final_step_size: float = 0.0) -> Schedule:
    """In a straight line from ``step_size`` to ``final_step_size``, then constant.

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
    progress = pt.clip(_time(t), 0.0, decay_steps) / decay_steps
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
        "step_size": _positive(name, "step_size", step_size),
        "decay_steps": _count(name, "decay_steps", decay_steps),
        "alpha": _non_negative(name, "alpha", alpha),
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
    pct_start, pct_final : float, default 0.3 and 0.85
        Fractions of ``total_steps`` at which the peak is reached and the last phase begins.
    div_factor : float, default 25.0
        The first step size is ``peak_value / div_factor``.
    final_div_factor : float, default 1e4
        The last is smaller than the first by this factor.

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
        "peak_value": _positive(name, "peak_value", peak_value),
        "total_steps": _count(name, "total_steps", total_steps),
        "pct_start": pct_start,
        "pct_final": pct_final,
        "div_factor": _positive(name, "div_factor", div_factor),
        "final_div_factor": _positive(name, "final_div_factor", final_div_factor),
    }
    # pytensor_ml checks the phases when it builds the schedule: do it here, not at the first fit.
    pml.linear_onecycle_schedule(**arguments)
    return Schedule(_linear_onecycle, name, arguments)


def _piecewise_constant(t, boundaries, values):
    value = pt.zeros_like(_time(t)) + values[0]
    for boundary, later in zip(boundaries, values[1:], strict=True):
        value = pt.where(t < boundary, value, np.asarray(later, dtype=value.dtype))
    return value


def _boundaries(owner: str, boundaries: Iterable[int], pieces: int) -> tuple[int, ...]:
    checked = tuple(_count(owner, "every boundary", boundary) for boundary in boundaries)
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

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.piecewise_constant([100, 200], [0.1, 0.01, 0.001])([0, 99, 100, 500]).tolist()
    [0.1, 0.1, 0.01, 0.001]
    """
    name = "piecewise_constant"
    arguments = {
        "boundaries": _boundaries(name, boundaries, len(values)),
        "values": tuple(_positive(name, "every value", value) for value in values),
    }
    return Schedule(_piecewise_constant, name, arguments)


def _join(t, schedules, boundaries):
    return pml.join_schedules(list(schedules), list(boundaries))(t)


def join(schedules: Sequence[Callable], boundaries: Sequence[int]) -> Schedule:
    """Follow one schedule after the other, each counting from its own start.

    Parameters
    ----------
    schedules : sequence of schedule
    boundaries : sequence of int
        Steps at which the next schedule takes over, one fewer than ``schedules``.

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


# --- step sizes -------------------------------------------------------------------------------

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
    if _is_number(rate):
        return _positive(owner, name, rate)
    if callable(rate) and not isinstance(rate, type | Optimizer | per_param):
        return rate
    raise TypeError(
        sentence(
            f"{owner}: {name} is not a step size",
            found=repr(rate),
            expected="a positive number, a schedule, or a dict of them by parameter name",
            fix=f"Write for example optim.{owner}(0.01)",
        )
    )


def _checked_step_size(owner: str, step_size: Any) -> StepSize:
    if isinstance(step_size, per_param):
        return step_size
    if isinstance(step_size, Mapping):
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


def _rates(owner: str, step_size: StepSize, params: Sequence[SharedVariable]) -> list[Rate]:
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


def _scalar_schedule(owner: str, rate: Callable) -> Callable[[TensorVariable], TensorVariable]:
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


# --- updates ----------------------------------------------------------------------------------


def _with_stable_dtypes(updates: Mapping[SharedVariable, Variable]) -> Mapping:
    """Cast new values back to the dtype of what they replace.

    A float64 constant or step count turns a float32 moment into float64, which neither a shared
    variable nor a loop over steps accepts.
    """
    for variable, value in updates.items():
        old, new = getattr(variable.type, "dtype", None), getattr(value.type, "dtype", None)
        if old == new or old is None or new is None:
            continue
        if not (old.startswith("float") and new.startswith(("float", "int", "uint"))):
            raise TypeError(
                sentence(
                    f"The optimizer changes the type of {variable.name!r}",
                    found=f"{new} for a variable of {old}",
                    fix="Cast the update to the dtype of the variable",
                )
            )
        updates[variable] = pt.cast(value, old)  # type: ignore[index]
    return updates


def name_state(
    updates: Mapping[SharedVariable, Variable], params: Sequence[SharedVariable]
) -> dict[str, SharedVariable]:
    """Give every state variable of an optimizer a unique name.

    Names that are there and unique stay; others become ``"optim/0"``, ``"optim/1"``... by their
    place among the state variables, so the same optimizer on the same parameters gets the same
    names in every session.

    Parameters
    ----------
    updates : mapping from SharedVariable to Variable
        What a rule returned. Its keys that aren't parameters are the state.
    params : sequence of SharedVariable

    Returns
    -------
    dict from str to SharedVariable
        The state by name, in the order of ``updates``. The variables' ``name`` is set.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pytensor
    >>> from pymc_svi import optim
    >>> loc = pytensor.shared(np.zeros(2), name="loc")
    >>> updates = pm.adam(learning_rate=0.1)([2 * loc], [loc])
    >>> list(optim.name_state(updates, [loc]))
    ['optim/0', 'optim/1', 'optim/2']
    """
    is_param = set(params)
    state = [variable for variable in updates if variable not in is_param]
    counts = Counter(variable.name for variable in [*state, *params])
    taken = {name for name in counts if name}
    named: dict[str, SharedVariable] = {}
    for position, variable in enumerate(state):
        if variable.name is None or counts[variable.name] > 1:
            name = f"optim/{position}"
            while name in taken:
                name += "_"
            taken.add(name)
            variable.name = name
        named[variable.name] = variable
    return named


# --- optimizers -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Optimizer:
    """Base of the named optimizers: arguments, checked, and one rule of ``pytensor_ml``.

    A subclass is a frozen dataclass with a ``step_size``, a ``namespace`` for the names of its
    state, and a method ``_rule(rate)`` that returns a ``pytensor_ml`` transform for a rate.

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
        self._set("step_size", _checked_step_size(type(self).__name__, self.step_size))
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
            transform = self._rule(_scalar_schedule(owner, self.step_size))
        else:
            transform = self._rule(cast(Rate, self.step_size))
        return _with_stable_dtypes(transform(loss_or_grads, params))  # type: ignore[return-value]

    def _scale_each(self, updates: Any, params: Sequence[SharedVariable]) -> Any:
        """Multiply the step each parameter takes at rate 1 by its own rate.

        All rules here are linear in their rate, so this needs neither a rule nor a step count for
        each group of parameters.
        """
        owner = type(self).__name__
        rates = _rates(owner, self.step_size, params)
        changes: dict = {}
        clock = None
        for param, rate, step in zip(params, rates, pml.steps_of(updates, params), strict=True):
            if callable(rate) and not isinstance(rate, Variable):
                clock = clock or step_counter(f"{self.namespace}/schedule/step_count")
                rate = _scalar_schedule(owner, rate)(clock)
            changes[param] = param + pml.to_floatx(rate) * step
        if clock is not None:
            changes[clock] = clock.advance()
        return updates.replacing(changes)


_ARGUMENT_CHECKS: dict[str, Callable[[str, str, Any], Any]] = {
    "b1": _fraction,
    "b2": _fraction,
    "mass": _fraction,
    "momentum": _fraction,
    "gamma": _fraction,
    "rho": _fraction,
    "eps": _positive,
    "weight_decay": _non_negative,
    "clip_norm": _positive,
    "lrd": _positive,
    "n_win": _count,
}


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: ``p -= step_size * g`` [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        A positive number; a schedule such as :func:`cosine_decay` or any callable from the step
        count to a scalar; a dict of these by parameter name, or :class:`per_param`. A scalar
        shared variable is taken as it is, to be steered from outside.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or not a step size, at construction.

    References
    ----------
    .. [1] Robbins, H., Monro, S. (1951). A stochastic approximation method. Annals of Mathematical
       Statistics 22(3).

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.SGD(optim.inverse_time_decay(0.1, 100, 1.0))
    SGD(step_size=inverse_time_decay(step_size=0.1, decay_steps=100, decay_rate=1.0, \
staircase=False))
    """

    step_size: StepSize = 1e-2
    namespace: ClassVar[str] = "sgd"

    def _rule(self, rate):
        return pml.sgd(rate, namespace=self.namespace)


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Gradient descent with heavy-ball momentum: ``v = mass * v + g; p -= step_size * v`` [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        See :class:`SGD`.
    mass : float, default 0.9
        In [0, 1).

    References
    ----------
    .. [1] Polyak, B. T. (1964). Some methods of speeding up the convergence of iteration methods.
       USSR Computational Mathematics and Mathematical Physics 4(5).

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Momentum(0.01, mass=0.5)
    Momentum(step_size=0.01, mass=0.5)
    """

    step_size: StepSize = 1e-2
    mass: float = 0.9
    namespace: ClassVar[str] = "momentum"
    _nesterov: ClassVar[bool] = False

    def _rule(self, rate):
        velocity = pml.trace(self.mass, nesterov=self._nesterov, namespace=self.namespace)
        return pml.chain(velocity, pml.sgd(rate, namespace=self.namespace))


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Momentum that looks ahead: ``v = mass * v + g; p -= step_size * (mass * v + g)`` [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        See :class:`SGD`.
    mass : float, default 0.9
        In [0, 1).

    References
    ----------
    .. [1] Nesterov, Y. (1983). A method for solving the convex programming problem with convergence
       rate O(1/k^2). Soviet Mathematics Doklady 27.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Nesterov(0.01)
    Nesterov(step_size=0.01, mass=0.9)
    """

    namespace: ClassVar[str] = "nesterov"
    _nesterov: ClassVar[bool] = True


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and its square [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    b1, b2 : float, default 0.9 and 0.999
        Decay of the running means of the gradient and of its square, in [0, 1).
    eps : float, default 1e-8
        Added to the root of the (bias-corrected) mean square.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or not a step size, at construction.

    References
    ----------
    .. [1] Kingma, D. P., Ba, J. (2015). Adam: a method for stochastic optimization. ICLR.
       arXiv:1412.6980.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Adam(0.01)
    Adam(step_size=0.01, b1=0.9, b2=0.999, eps=1e-08)
    """

    step_size: StepSize = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    namespace: ClassVar[str] = "adam"

    def _rule(self, rate):
        return pml.adam(rate, self.b1, self.b2, self.eps, namespace=self.namespace)


@dataclass(frozen=True)
class ClippedAdam(Optimizer):
    """Adam on gradients clipped element by element, with an optional decay of the step size.

    The workhorse for noisy ELBO gradients in Pyro and NumPyro: an outlier in one element neither
    reaches the running means nor, unlike :func:`clip_by_global_norm`, shrinks the other elements.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    b1, b2, eps : float, default 0.9, 0.999 and 1e-8
        See :class:`Adam`.
    clip_norm : float, default 10.0
        Every element of the gradient is clipped to ``[-clip_norm, clip_norm]``.
    lrd : float, default 1.0
        Factor on the step size per step, applied from the first step on, as in Pyro:
        ``0.1 ** (1 / num_steps)`` ends a run with a tenth of ``step_size``.

    References
    ----------
    .. [1] Kingma, D. P., Ba, J. (2015). Adam: a method for stochastic optimization. ICLR.
       arXiv:1412.6980.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.ClippedAdam(0.01, clip_norm=5.0)
    ClippedAdam(step_size=0.01, b1=0.9, b2=0.999, eps=1e-08, clip_norm=5.0, lrd=1.0)
    """

    step_size: StepSize = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    clip_norm: float = 10.0
    lrd: float = 1.0
    namespace: ClassVar[str] = "clipped_adam"

    def _rule(self, rate):
        if self.lrd != 1:
            rate = self._decayed(rate)
        adam = pml.adam(rate, self.b1, self.b2, self.eps, namespace=self.namespace)
        return pml.chain(pml.clip_by_value(-self.clip_norm, self.clip_norm), adam)

    def _decayed(self, rate):
        def schedule(step):
            base = rate(step) if callable(rate) and not isinstance(rate, Variable) else rate
            return base * pt.power(self.lrd, _time(step) + 1)

        return schedule


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay: parameters also shrink by ``step_size * weight_decay`` [1]_.

    The decay pulls *unconstrained* parameters to zero; meant for neural networks in a guide or
    model.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    b1, b2, eps : float, default 0.9, 0.999 and 1e-8
        See :class:`Adam`.
    weight_decay : float, default 0.01

    References
    ----------
    .. [1] Loshchilov, I., Hutter, F. (2019). Decoupled weight decay regularization. ICLR.
       arXiv:1711.05101.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.AdamW(0.01, weight_decay=0.1).weight_decay
    0.1
    """

    step_size: StepSize = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2
    namespace: ClassVar[str] = "adamw"

    def _rule(self, rate):
        return pml.adamw(
            rate, self.weight_decay, self.b1, self.b2, self.eps, namespace=self.namespace
        )


@dataclass(frozen=True)
class Nadam(Adam):
    """Adam with Nesterov's look-ahead in the first moment [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    b1, b2, eps : float, default 0.9, 0.999 and 1e-8
        See :class:`Adam`.

    References
    ----------
    .. [1] Dozat, T. (2016). Incorporating Nesterov momentum into Adam. ICLR workshop.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Nadam(0.01)
    Nadam(step_size=0.01, b1=0.9, b2=0.999, eps=1e-08)
    """

    namespace: ClassVar[str] = "nadam"

    def _rule(self, rate):
        return pml.nadam(rate, self.b1, self.b2, self.eps, namespace=self.namespace)


@dataclass(frozen=True)
class Adamax(Adam):
    """Adam with a running maximum in the place of the root mean square [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    b1, b2, eps : float, default 0.9, 0.999 and 1e-8
        See :class:`Adam`; ``eps`` is added to the absolute gradient.

    References
    ----------
    .. [1] Kingma, D. P., Ba, J. (2015). Adam: a method for stochastic optimization. ICLR.
       arXiv:1412.6980, section 7.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Adamax(0.01)
    Adamax(step_size=0.01, b1=0.9, b2=0.999, eps=1e-08)
    """

    namespace: ClassVar[str] = "adamax"

    def _rule(self, rate):
        return pml.adamax(rate, self.b1, self.b2, self.eps, namespace=self.namespace)


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """Steps scaled by the root of a running mean square: ``p -= step_size * g / sqrt(m + eps)`` [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        See :class:`SGD`.
    gamma : float, default 0.9
        Decay of the running mean, in [0, 1).
    eps : float, default 1e-8
    centered : bool, default False
        Subtract the squared running mean of the gradient: scale by its deviation.

    References
    ----------
    .. [1] Hinton, G. (2012). Neural networks for machine learning, lecture 6e.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.RMSProp(0.01)
    RMSProp(step_size=0.01, gamma=0.9, eps=1e-08, centered=False)
    """

    step_size: StepSize = 1e-2
    gamma: float = 0.9
    eps: float = 1e-8
    centered: bool = False
    namespace: ClassVar[str] = "rmsprop"

    def _rule(self, rate):
        return pml.rmsprop(rate, self.gamma, 0.0, self.eps, self.centered, namespace=self.namespace)


@dataclass(frozen=True)
class RMSPropMomentum(Optimizer):
    """RMSProp with momentum on the scaled gradients.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        See :class:`SGD`.
    gamma : float, default 0.9
        Decay of the running mean square, in [0, 1).
    eps : float, default 1e-8
    momentum : float, default 0.9
        In [0, 1). The step size multiplies the velocity, so a schedule acts at once.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.RMSPropMomentum(0.01)
    RMSPropMomentum(step_size=0.01, gamma=0.9, eps=1e-08, momentum=0.9)
    """

    step_size: StepSize = 1e-2
    gamma: float = 0.9
    eps: float = 1e-8
    momentum: float = 0.9
    namespace: ClassVar[str] = "rmsprop_momentum"

    def _rule(self, rate):
        return pml.rmsprop(rate, self.gamma, self.momentum, self.eps, namespace=self.namespace)


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Steps in units of the root mean square of past steps [1]_.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 1.0
        See :class:`SGD`.
    rho : float, default 0.9
        Decay of the two running mean squares, in [0, 1).
    eps : float, default 1e-6
        Sets the size of the first steps.

    References
    ----------
    .. [1] Zeiler, M. D. (2012). ADADELTA: an adaptive learning rate method. arXiv:1212.5701.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Adadelta()
    Adadelta(step_size=1.0, rho=0.9, eps=1e-06)
    """

    step_size: StepSize = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    namespace: ClassVar[str] = "adadelta"

    def _rule(self, rate):
        return pml.adadelta(rate, self.rho, self.eps, namespace=self.namespace)


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Steps scaled by the root of the sum of all squared gradients [1]_, with momentum.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.01
        See :class:`SGD`.
    momentum : float, default 0.9
        Decay of a running mean of the scaled gradients, in [0, 1); 0 is plain Adagrad. NumPyro's
        default.

    References
    ----------
    .. [1] Duchi, J., Hazan, E., Singer, Y. (2011). Adaptive subgradient methods for online learning
       and stochastic optimization. JMLR 12.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.Adagrad(0.1)
    Adagrad(step_size=0.1, momentum=0.9)
    """

    step_size: StepSize = 1e-2
    momentum: float = 0.9
    namespace: ClassVar[str] = "adagrad"

    def _rule(self, rate):
        def scale_gradients(incoming, params):
            # Not pytensor_ml's, which adds an epsilon under the root: NumPyro takes 0 / 0 as 0.
            updates = pml.to_updates(incoming, params).copy()
            for param, gradient in zip(params, pml.steps_of(updates, params), strict=True):
                squares = pml.state_for(param, f"{self.namespace}/sum_squared_gradients")
                new_squares = squares + gradient**2
                nonzero = pt.gt(new_squares, 0)
                # The inner switch keeps the root of zero out of both branches.
                direction = gradient / pt.sqrt(pt.switch(nonzero, new_squares, 1.0))
                updates[squares] = new_squares
                if self.momentum:
                    mean = pml.state_for(param, f"{self.namespace}/momentum")
                    direction = self.momentum * mean + (1 - self.momentum) * direction
                    updates[mean] = direction
                updates[param] = param + direction
            return updates

        return pml.chain(scale_gradients, pml.sgd(rate, namespace=self.namespace))


@dataclass(frozen=True)
class AdagradWindow(Optimizer):
    """Adagrad over a window of recent gradients: the default of ``pm.fit``.

    ``p -= step_size * g / sqrt(sum of the last n_win squared gradients + eps)``.

    Parameters
    ----------
    step_size : float, schedule, dict or per_param, default 0.001
        See :class:`SGD`.
    eps : float, default 0.1
    n_win : int, default 10
        Number of gradients that are remembered; the state is ``n_win`` times the parameter.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.AdagradWindow()
    AdagradWindow(step_size=0.001, eps=0.1, n_win=10)
    """

    step_size: StepSize = 1e-3
    eps: float = 0.1
    n_win: int = 10
    namespace: ClassVar[str] = "adagrad_window"

    def _rule(self, rate):
        # Not PyMC's: it keeps an unnamed floating-point position for every parameter.
        def scale_gradients(incoming, params):
            updates = pml.to_updates(incoming, params).copy()
            clock = step_counter(f"{self.namespace}/window/step_count")
            updates[clock] = clock.advance()
            for param, gradient in zip(params, pml.steps_of(updates, params), strict=True):
                window = pml.state_for(
                    param, f"{self.namespace}/squared_gradients", history_size=self.n_win
                )
                updates[window] = window[clock % self.n_win].set(gradient**2)
                updates[param] = param + gradient / pt.sqrt(updates[window].sum(axis=0) + self.eps)
            return updates

        return pml.chain(scale_gradients, pml.sgd(rate, namespace=self.namespace))


# --- composition ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ClipByGlobalNorm:
    max_norm: float
    treats_elements_alike: ClassVar[bool] = True  # the norm is that of all params together

    def __call__(self, loss_or_grads, params):
        params = list(params)
        updates = pml.clip_by_global_norm(self.max_norm)(loss_or_grads, params)
        return _with_stable_dtypes(updates)

    def __repr__(self):
        return f"clip_by_global_norm({self.max_norm})"


def clip_by_global_norm(max_norm: float) -> Rule:
    """Scale all gradients together so that their joint Euclidean norm is at most ``max_norm`` [1]_.

    Parameters
    ----------
    max_norm : float
        Positive.

    Returns
    -------
    Rule
        To be put before an optimizer with :func:`chain`.

    References
    ----------
    .. [1] Pascanu, R., Mikolov, T., Bengio, Y. (2013). On the difficulty of training recurrent
       neural networks. ICML.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.chain(optim.clip_by_global_norm(1.0), optim.Momentum(0.1))
    chain(clip_by_global_norm(1.0), Momentum(step_size=0.1, mass=0.9))
    """
    return _ClipByGlobalNorm(_positive("clip_by_global_norm", "max_norm", max_norm))


@dataclass(frozen=True)
class _ClipByValue:
    max_value: float
    min_value: float
    treats_elements_alike: ClassVar[bool] = True

    def __call__(self, loss_or_grads, params):
        params = list(params)
        updates = pml.clip_by_value(self.min_value, self.max_value)(loss_or_grads, params)
        return _with_stable_dtypes(updates)

    def __repr__(self):
        return f"clip_by_value({self.max_value}, {self.min_value})"


def clip_by_value(max_value: float, min_value: float | None = None) -> Rule:
    """Clip every element of the gradients.

    Parameters
    ----------
    max_value : float
    min_value : float, optional
        Default ``-max_value``.

    Returns
    -------
    Rule
        To be put before an optimizer with :func:`chain`.

    Raises
    ------
    ValueError
        If ``min_value`` isn't less than ``max_value``.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.chain(optim.clip_by_value(10.0), optim.SGD(0.1))
    chain(clip_by_value(10.0, -10.0), SGD(step_size=0.1))
    """
    if min_value is None:
        max_value = _positive("clip_by_value", "max_value", max_value)
        min_value = -max_value
    if not (_is_number(min_value) and _is_number(max_value)):
        raise TypeError(
            sentence(
                "clip_by_value: bounds must be numbers", found=f"{min_value!r} and {max_value!r}"
            )
        )
    if not min_value < max_value:
        raise ValueError(
            sentence(
                "clip_by_value: min_value must be less than max_value",
                found=f"{min_value} and {max_value}",
            )
        )
    return _ClipByValue(float(max_value), float(min_value))


@dataclass(frozen=True, repr=False)
class _Chain:
    rules: tuple[Any, ...]

    @property
    def treats_elements_alike(self) -> bool:
        return all(getattr(rule, "treats_elements_alike", False) for rule in self.rules)

    def __call__(self, loss_or_grads, params):
        params = list(params)
        updates = loss_or_grads
        for rule in self.rules:
            updates = self._apply(rule, updates, params)
        updates = _with_stable_dtypes(updates)
        name_state(updates, params)
        return updates

    @staticmethod
    def _apply(rule, updates, params):
        if not (isinstance(updates, pml.Gradients) and isinstance(rule, _Foreign)):
            return rule(updates, params)
        if rule.reads_updates:
            return rule(updates, params)
        # Other people's rules know losses and gradients, not the updates of the transform before
        # them. What such a rule returns are steps unless it says otherwise.
        result = rule(pml.steps_of(updates, params), params)
        kind = type(result) if isinstance(result, pml.Updates) else pml.Steps
        state = {k: v for k, v in updates.items() if k not in set(params)}
        return kind({**state, **result})

    def __repr__(self):
        return f"chain({', '.join(map(repr, self.rules))})"


def chain(*rules: Rule) -> Rule:
    """Apply transforms one after the other, each to what the one before it returned.

    What stands before the optimizer acts on the gradients, what stands after it on its steps.

    Parameters
    ----------
    *rules : Rule
        Optimizers, :func:`clip_by_global_norm`, :func:`clip_by_value`, and transforms of
        ``pytensor_ml.optim`` (``trace``, ``scale``, ``add_weight_decay``, ``skip_if``...).

    Returns
    -------
    Rule

    Raises
    ------
    TypeError
        If one of them isn't a rule; see :func:`as_rule`.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.chain(optim.clip_by_value(1.0), optim.Adam(0.01, b1=0.8))
    chain(clip_by_value(1.0, -1.0), Adam(step_size=0.01, b1=0.8, b2=0.999, eps=1e-08))
    """
    if not rules:
        raise ValueError(sentence("chain: at least one rule is needed"))
    flat: list[Any] = []
    for rule in map(_checked_rule, rules):
        flat.extend(rule.rules if isinstance(rule, _Chain) else [rule])
    return _Chain(tuple(flat))


# --- what users pass as optim -----------------------------------------------------------------


@dataclass(frozen=True)
class _Foreign:
    """A rule from elsewhere: its result is checked and its state named."""

    rule: Callable[..., Any]

    @property
    def reads_updates(self) -> bool:
        """Whether the rule takes what a transform before it in a chain returns."""
        return str(getattr(self.rule, "__module__", "")).startswith("pytensor_ml.")

    def __call__(self, loss_or_grads, params):
        params = list(params)
        if isinstance(loss_or_grads, Sequence):
            # PyMC tells gradients from a loss by their being a list.
            loss_or_grads = list(loss_or_grads)
        updates = self.rule(loss_or_grads, params)
        if not isinstance(updates, Mapping):
            try:
                updates = dict(updates)
            except (TypeError, ValueError):
                raise TypeError(
                    sentence(
                        "The optimizer must return a dict from shared variables to new values",
                        found=f"{self.rule!r} returned {type(updates).__name__}",
                        fix="If it is a function that makes an optimizer, call it first",
                    )
                ) from None
        updates = updates.copy() if isinstance(updates, pml.Updates) else dict(updates)
        strangers = [key for key in updates if not isinstance(key, SharedVariable)]
        if strangers:
            raise TypeError(
                sentence(
                    "The optimizer must return a dict whose keys are shared variables",
                    found=f"{self.rule!r} returned the keys {quoted(strangers)}",
                )
            )
        for variable, value in updates.items():
            if not isinstance(value, Variable):
                updates[variable] = pt.as_tensor(value)
        updates = _with_stable_dtypes(updates)
        name_state(updates, params)
        return updates

    def __repr__(self):
        return repr(self.rule)


def as_rule(optim: Any = None) -> Rule:
    """Return what a user gave as an optimizer as a rule.

    Parameters
    ----------
    optim : optional
        ``None`` for ``Adam(1e-3)``; an optimizer of this module; a transform of
        ``pytensor_ml.optim``; PyMC's (``pm.adam(learning_rate=0.01)``); or any function
        ``f(loss_or_grads, params) -> {shared variable: new value}``.

    Returns
    -------
    Rule
        Rules from elsewhere are wrapped: their state gets names (see :func:`name_state`) and their
        updates keep the dtypes of what they replace.

    Raises
    ------
    TypeError
        For anything else; the message says what to write.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import optim
    >>> optim.as_rule(None)
    Adam(step_size=0.001, b1=0.9, b2=0.999, eps=1e-08)
    >>> rule = optim.as_rule(pm.adam(learning_rate=0.01))
    >>> rule = optim.as_rule(lambda grads, params: {p: p - 0.1 * g for p, g in zip(params, grads)})
    >>> optim.as_rule(0.01)
    Traceback (most recent call last):
        ...
    TypeError: Not an optimizer. Found: the number 0.01. Write optim.Adam(0.01).
    """
    return Adam() if optim is None else _checked_rule(optim)


_OWN = (Optimizer, _Chain, _ClipByGlobalNorm, _ClipByValue, _Foreign)


def _checked_rule(rule: Any) -> Any:
    if isinstance(rule, _OWN):
        return rule
    complaint = _why_not_a_rule(rule)
    if complaint:
        found, fix = complaint
        raise TypeError(sentence("Not an optimizer", found=found, fix=fix))
    return _Foreign(rule)


def _optimizer_names() -> dict[str, str]:
    own = {name: globals()[name] for name in __all__}
    return {
        name.lower(): name
        for name, value in own.items()
        if isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer
    }


def _why_not_a_rule(rule: Any) -> tuple[str, str] | None:
    """Return what was found and what to write instead, or None for a callable of the right form."""
    names = _optimizer_names()
    example = "Write for example optim.Adam(0.01)"
    kind = rule if isinstance(rule, type) else type(rule)
    library = kind.__module__.partition(".")[0]
    if library in ("torch", "pyro", "numpyro", "optax", "jax", "tensorflow", "keras"):
        name = names.get(kind.__name__.lower(), "Adam")
        return (
            f"{kind.__module__}.{kind.__name__}",
            f"pymc_svi trains PyTensor variables; write optim.{name}(...) of pymc_svi.optim",
        )
    if isinstance(rule, str):
        close = get_close_matches(rule.lower(), names, n=1)
        return f"the string {rule!r}", f"Write optim.{names[close[0]]}()" if close else example
    if _is_number(rule):
        return f"the number {rule}", f"Write optim.Adam({rule})"
    if isinstance(rule, Mapping):
        return f"the dict {dict(rule)!r}", example
    if isinstance(rule, type):
        if issubclass(rule, Optimizer):
            return f"the class {rule.__name__}", f"Write optim.{rule.__name__}(0.01)"
        return f"the class {rule.__name__}", f"Pass an instance. {example}"
    if isinstance(rule, Schedule | per_param):
        return f"the step size {rule!r}", "Pass it to an optimizer, as in optim.Adam(step_size)"
    if not callable(rule):
        return f"{rule!r} of type {type(rule).__name__}", example
    if any(rule is globals()[name] for name in __all__):
        written = rule.__name__
        return f"the function {written}", f"Call it first, as in optim.{written}(...)"
    if any(rule is getattr(pml, name) for name in pml.__all__ if not name.endswith("_updates")):
        # Calling it with gradients would quietly take them for a learning rate.
        written = rule.__name__
        return (
            f"the function pytensor_ml.optim.{written}",
            f"Call it first, as in pytensor_ml.optim.{written}(0.01)",
        )
    try:
        inspect.signature(rule).bind(None, None)
    except TypeError:
        return (
            f"{rule!r}, which can't be called with two arguments",
            "An optimizer is called as rule(loss_or_grads, params) and returns a dict of updates",
        )
    except ValueError:
        pass  # no signature to look at
    return None
