"""What a callback is, and what it sees."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytensor

from pymc_svi.engine import SVIState
from pymc_svi.engine.attributes import read_state, write_state
from pymc_svi.errors import sentence

__all__ = ["Callback", "Moment", "as_callback"]


@dataclass
class Moment:
    """A moment of a fit: what a callback sees.

    Attributes
    ----------
    state : SVIState
        The state reached.
    losses : numpy.ndarray
        The losses of all steps so far.
    about : dict
        What a checkpoint has to know about the fit: its seed, constraints and data.
    constrain : callable
        Computes ``params``, which is done only when they are asked for.
    params : dict of str to numpy.ndarray
        The constrained params.
    evaluate : callable or None
        ``evaluate(batch)`` is the loss on other data; None if the method cannot compute it.
    optim : rule or None
        The optimizer.
    final : bool
        Whether the fit ends here.
    callbacks : sequence of Callback
        All callbacks of the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.callbacks import Moment
    >>> from pymc_svi.engine import SVIState
    >>> moment = Moment(SVIState({}, {}, np.zeros((0, 6)), 3), np.array([3.0, 2.0, 1.0]))
    >>> moment.step, moment.params, moment.final
    (3, {}, False)
    """

    state: SVIState
    losses: np.ndarray
    about: dict[str, Any] = field(default_factory=dict)
    constrain: Callable[[], dict[str, np.ndarray]] = dict
    evaluate: Callable[..., float] | None = None
    optim: Any = None
    final: bool = False
    callbacks: Sequence[Callback] = ()

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return self.state.step

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The constrained params."""
        return self.constrain()


class Callback:
    """Base class of callbacks.

    Parameters
    ----------
    every : int, default 100
        Number of steps between two calls.

    Raises
    ------
    ValueError
        If ``every`` is not a whole number of at least 1.

    Examples
    --------
    A callback that keeps the loss:

    >>> import numpy as np
    >>> from pymc_svi import callbacks
    >>> from pymc_svi.engine import SVIState
    >>> class LastLoss(callbacks.Callback):
    ...     def __call__(self, moment):
    ...         self.loss = moment.losses[-1]
    >>> last = LastLoss(every=2)
    >>> last(callbacks.Moment(SVIState({}, {}, np.zeros((0, 6)), 2), np.array([3.0, 1.5])))
    >>> float(last.loss)
    1.5
    """

    def __init__(self, every: int = 100):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(
                sentence(
                    f"{type(self).__name__}: every is a whole number of steps", found=repr(every)
                )
            )
        self.every = every

    #: Names of the attributes that a checkpoint keeps: numbers, arrays, and dicts and lists of them.
    remembers: tuple[str, ...] = ()
    #: Whether it has ended the fit; a fit that is resumed then takes no more steps.
    has_stopped: bool = False
    #: Whether it is called after the others, and so sees what they remember.
    comes_last: bool = False
    #: The state that the fit returns, if it is not the last one.
    chosen: SVIState | None = None

    def start(self) -> None:
        """Get ready for a fit: called when one begins."""

    def is_due(self, step: int, final: bool) -> bool:
        """Return whether the callback is called at a step.

        Parameters
        ----------
        step : int
            Number of steps taken.
        final : bool
            Whether the fit ends here.

        Returns
        -------
        bool
            True every ``every`` steps and at the end.
        """
        return final or step % self.every == 0

    def __call__(self, moment: Moment) -> None:
        """Do what the callback is for, at a moment of the fit.

        Parameters
        ----------
        moment : Moment
            The moment.
        """


def call_callbacks(moment: Moment) -> None:
    """Call the callbacks of a moment that are due.

    Parameters
    ----------
    moment : Moment
        The moment.

    Raises
    ------
    StopIteration
        If one of them did, after all have been called.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.callbacks.base import Moment, as_callback, call_callbacks
    >>> from pymc_svi.engine import SVIState
    >>> callback = as_callback(lambda moment: print(moment.step))
    >>> for step in (99, 100):
    ...     state = SVIState({}, {}, np.zeros((0, 6)), step)
    ...     call_callbacks(Moment(state, np.zeros(step), callbacks=[callback]))
    100
    """
    stop: StopIteration | None = None
    for callback in sorted(moment.callbacks, key=lambda callback: callback.comes_last):
        if callback.is_due(moment.step, moment.final):
            try:
                callback(moment)
            except StopIteration as reason:
                stop = reason
    if stop is not None:
        raise stop


def remembered(callbacks: Sequence[Callback]) -> dict[str, np.ndarray]:
    """Return what callbacks remember, by names that tell their classes and their attributes."""
    return {
        f"{name}/{key}": value
        for name, callback in _named(callbacks)
        for key, value in read_state(callback, callback.remembers).items()
    }


def restore_callbacks(callbacks: Sequence[Callback], values: Mapping[str, np.ndarray]) -> None:
    """Give callbacks back what they remembered when the fit was saved."""
    for name, callback in _named(callbacks):
        prefix = f"{name}/"
        own = {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
        write_state(callback, own, callback.remembers)


def _named(callbacks: Sequence[Callback]) -> list[tuple[str, Callback]]:
    """Return callbacks with their classes, and numbers among those of one class."""
    counts: Counter[str] = Counter()
    named = []
    for callback in callbacks:
        kind = type(callback).__name__
        named.append((f"{kind} {counts[kind]}", callback))
        counts[kind] += 1
    return named


class _Function(Callback):
    """A user's function as a callback."""

    def __init__(self, function: Callable, n_arguments: int):
        super().__init__(100)
        self.function, self.n_arguments = function, n_arguments

    def __call__(self, moment: Moment) -> None:
        if self.n_arguments == 1:
            self.function(moment)
        elif self.n_arguments == 2:
            self.function(moment.state, moment.losses)
        else:
            self.function(_Approximation(moment), moment.losses, moment.step)


class _Approximation:
    """What callbacks of ``pm.fit`` see: ``params``, a list of shared variables."""

    def __init__(self, moment: Moment):
        self.params = [pytensor.shared(v, name=name) for name, v in moment.state.params.items()]
        self.moment = moment

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what Python itself asks for
            raise AttributeError(name)
        raise AttributeError(
            sentence(
                f"The approximation that a callback sees has no {name!r}",
                found="its `params`, a list of shared variables, and its `moment`",
                fix="Write a callback of one argument, whose `params` are constrained values by name: "
                "Tracker(loc=lambda moment: moment.params['x_auto_loc'])",
            )
        )


def as_callback(callback: Any) -> Callback:
    """Return a function as a :class:`Callback`; a callback stays as it is.

    Parameters
    ----------
    callback : Callback or callable
        A callback, or a function of ``(moment)``, ``(state, losses)`` or ``(approx, losses, i)``.

    Returns
    -------
    Callback
        The callback; a function is called every 100 steps.

    Raises
    ------
    TypeError
        If it cannot be called, or takes other arguments.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.callbacks import Moment, as_callback
    >>> from pymc_svi.engine import SVIState
    >>> callback = as_callback(lambda state, losses: print(state.step, losses[-1]))
    >>> callback(Moment(SVIState({}, {}, np.zeros((0, 6)), 2), np.array([2.0, 0.5])))
    2 0.5
    """
    if isinstance(callback, Callback):
        return callback
    if not callable(callback) or isinstance(callback, type):
        raise TypeError(
            sentence(
                "A callback is a function or a Callback object",
                found=repr(callback),
                fix=f"Make an object of it: {callback.__name__}()"
                if isinstance(callback, type)
                else "",
            )
        )
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(callback).parameters.values()
    n = sum(p.kind in kinds and p.default is p.empty for p in parameters)
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        n = 3
    if not 1 <= n <= 3:
        raise TypeError(
            sentence(
                "A callback takes (moment), (state, losses) or (approx, losses, i)",
                found=f"{callback!r} with {n} arguments",
            )
        )
    return _Function(callback, n)
