"""Callbacks that record something during a fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytensor.graph.basic import Variable

from pymc_svi.callbacks.base import Callback, Moment
from pymc_svi.errors import sentence
from pymc_svi.evaluation import evaluate

__all__ = ["HeldOutELBO", "LearningRateMonitor", "Tracker"]


class _Recorder(Callback):
    """Base class of callbacks that record something every so many steps, and at the end of a fit.

    The record of the end of a fit that is gone on with is dropped, unless one was due there: a fit
    in parts has the records of one without a break.
    """

    def __init__(self, every: int):
        super().__init__(every)
        self.steps: list[int] = []

    def _record(self, step: int, new: Sequence[tuple[list, Any]]) -> None:
        """Append new values to their lists, and the step to ``steps``."""
        records = [(self.steps, step), *new]
        if self.steps and self.steps[-1] < step and self.steps[-1] % self.every:
            n_steps = len(self.steps)
            for record, _ in records:
                if len(record) == n_steps:  # what a checkpoint cannot keep is not there
                    record.pop()
        for record, value in records:
            record.append(value)


class Tracker(_Recorder):
    """Record values during a fit, every so many steps and at its end.

    A checkpoint keeps the records that are numbers or arrays.

    Parameters
    ----------
    every : int, default 100
        Steps between recordings.
    **functions
        What to record, by name: functions of a :class:`Moment`, or without arguments as for PyMC's
        ``Tracker``. ``tracker[name]`` is the list of records, ``tracker.steps`` that of the steps
        after which they were made.

    Raises
    ------
    TypeError
        If one of them is not a function.

    Examples
    --------
    >>> from pymc_svi import callbacks
    >>> tracker = callbacks.Tracker(step=lambda moment: moment.step, every=50)
    >>> tracker["step"]
    []
    """

    def __init__(self, every: int = 100, **functions: Callable):
        super().__init__(every)
        for name, function in functions.items():
            if not callable(function):
                raise TypeError(
                    sentence(
                        f"Tracker: {name!r} is a function of a moment, called at each recording",
                        found=repr(function),
                        fix=f'Write {name}=lambda moment: moment.params["..."]',
                    )
                )
        self.functions = functions
        self.hist: dict[str, list[Any]] = {name: [] for name in functions}

    remembers = ("steps", "hist")

    def __call__(self, moment: Moment) -> None:
        """Record the values."""
        new = []
        for name, function in self.functions.items():
            takes = len(inspect.signature(function).parameters)
            new.append((self.hist[name], function(moment) if takes else function()))
        self._record(moment.step, new)

    def __getitem__(self, name: str) -> list[Any]:
        return self.hist[name]


class LearningRateMonitor(_Recorder):
    """Record the step size of the optimizer.

    Parameters
    ----------
    schedule : float or callable, optional
        The step size, or its schedule, a function of the step; that of the optimizer if not given.
    every : int, default 100
        Steps between recordings.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi import callbacks, optim
    >>> from pymc_svi.engine import SVIState
    >>> monitor = callbacks.LearningRateMonitor(every=50)
    >>> state = SVIState({}, {}, np.zeros((0, 6)), 50)
    >>> rule = optim.Adam(optim.linear_decay(0.1, 100))
    >>> monitor(callbacks.Moment(state, np.zeros(50), optim=rule))
    >>> monitor.steps, monitor.rates
    ([50], [0.05])
    """

    def __init__(self, schedule: Any = None, every: int = 100):
        super().__init__(every)
        self.schedule = schedule
        self.rates: list[float] = []

    remembers = ("steps", "rates")

    def __call__(self, moment: Moment) -> None:
        """Record the rate of the next step."""
        rate = getattr(moment.optim, "step_size", None) if self.schedule is None else self.schedule
        if rate is None or isinstance(rate, Mapping):
            raise ValueError(
                sentence(
                    "LearningRateMonitor: the optimizer does not say its one step size",
                    found=f"{moment.optim!r}",
                    fix="Pass it, LearningRateMonitor(schedule)",
                )
            )
        rate = rate(moment.step) if callable(rate) else rate
        if isinstance(rate, Variable):
            rate = evaluate(rate)
        self._record(moment.step, [(self.rates, float(rate))])


class HeldOutELBO(_Recorder):
    """Record the ELBO of held-out data, on the scale of the training data.

    Their terms are weighted by rows of the training data / rows of the held-out data, so that the
    figure can be compared with the losses. It is minus the loss of one step, at the random numbers
    that the next step of the fit will draw.

    Parameters
    ----------
    batch : dict of str to array_like
        The held-out data, with the names of the training data.
    every : int, default 100
        Steps between evaluations.

    Raises
    ------
    TypeError
        If ``batch`` is no dict; during a fit, if its method cannot compute a loss on other data.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import ADVI, DataLoader, Trainer, callbacks
    >>> y = np.linspace(-1.0, 1.0, 20)
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu")
    ...     y_obs = pm.Normal("y_obs", mu, 1.0, observed=pm.Data("y", y))
    >>> held_out = callbacks.HeldOutELBO({"y": np.array([0.1, -0.2])}, every=20)
    >>> with model:
    ...     trainer = Trainer(ADVI(), DataLoader({"y": y}, batch_size=5), [held_out])
    ...     result = trainer.fit(n=40, random_seed=0)
    >>> held_out.steps, len(held_out.elbos)
    ([20, 40], 2)
    """

    def __init__(self, batch: Mapping[str, Any], every: int = 100):
        super().__init__(every)
        if not isinstance(batch, Mapping):
            raise TypeError(
                sentence(
                    "HeldOutELBO: the data are a dict of arrays by name",
                    found=f"an object of type {type(batch).__name__}",
                    fix='Write HeldOutELBO({"X": X, "y": y})',
                )
            )
        self.batch = dict(batch)
        self.elbos: list[float] = []

    remembers = ("steps", "elbos")

    def __call__(self, moment: Moment) -> None:
        """Evaluate the ELBO on the batch."""
        if moment.evaluate is None:
            raise TypeError(
                sentence(
                    "HeldOutELBO: the method has no loss on other data",
                    expected="SVI, a method made of it such as ADVI(), or one with evaluate(batch) -> loss",
                )
            )
        self._record(moment.step, [(self.elbos, -moment.evaluate(self.batch))])
