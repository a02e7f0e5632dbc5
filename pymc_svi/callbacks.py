"""What happens during a fit, between calls of compiled code.

A callback is called every so many steps, and at the end, with a :class:`Moment`. Functions of two
arguments are called with ``(state, losses)``, functions of three with ``(approx, losses, i)`` as
by ``pm.fit``. Raising ``StopIteration`` ends the fit.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
from pytensor.graph.basic import Variable

from pymc_svi.checkpoint import FILE_NAME, SavedFit, save_fit
from pymc_svi.engine import SVIState
from pymc_svi.errors import sentence
from pymc_svi.evaluation import evaluate

__all__ = [
    "Callback",
    "CheckParametersConvergence",
    "Checkpoint",
    "EarlyStopping",
    "HeldOutELBO",
    "LearningRateMonitor",
    "Moment",
    "ProgressBar",
    "Tracker",
    "as_callback",
]


@dataclass
class Moment:
    """A moment of a fit.

    Attributes
    ----------
    state : SVIState
        The state reached.
    losses : numpy.ndarray
        The losses of all steps so far.
    about : dict
        What the fit is, for a checkpoint.
    constrain : callable
        Returns the constrained params, which are computed when they are asked for.
    params : dict of str to numpy.ndarray
        The constrained params.
    evaluate : callable or None
        ``evaluate(batch)`` is the loss on other data; None if the method has none.
    optim : rule or None
        The optimizer.
    final : bool
        Whether the fit ends here.

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

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return self.state.step

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The constrained params."""
        return self.constrain()


class Callback:
    """Base of the callbacks.

    Parameters
    ----------
    every : int, default 100
        How many steps lie between two calls.

    Raises
    ------
    ValueError
        If ``every`` is not a whole number from 1 on.

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

    def start(self) -> None:
        """Be told that a fit begins."""

    def __call__(self, moment: Moment) -> None:
        """See a moment of the fit.

        Parameters
        ----------
        moment : Moment
            The moment.
        """


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


def as_callback(callback: Any) -> Callback:
    """Return what a user gave as a callback.

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


class EarlyStopping(Callback):
    """Stop when the loss has not become better for a while.

    Parameters
    ----------
    patience : int, default 10
        After how many calls without improvement.
    min_delta : float, default 0.0
        What counts as an improvement.
    every : int, default 100
        Steps between calls; the mean loss over them is compared.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi import callbacks
    >>> from pymc_svi.engine import SVIState
    >>> stop = callbacks.EarlyStopping(patience=1, every=2)
    >>> state = SVIState({}, {}, np.zeros((0, 6)), 2)
    >>> stop(callbacks.Moment(state, np.array([2.0, 1.0])))
    >>> stop(callbacks.Moment(state, np.array([2.0, 1.0, 2.0, 2.0])))
    Traceback (most recent call last):
    ...
    StopIteration: The mean loss of 2 steps has not improved on 1.5 in 1 calls
    """

    def __init__(self, patience: int = 10, min_delta: float = 0.0, every: int = 100):
        super().__init__(every)
        self.patience, self.min_delta = patience, min_delta
        self.start()

    def start(self) -> None:
        """Forget an earlier fit."""
        self.best, self.waited = np.inf, 0

    def __call__(self, moment: Moment) -> None:
        """Compare the recent losses with the best."""
        recent = float(np.nanmean(moment.losses[-self.every :]))
        if recent < self.best - self.min_delta:
            self.best, self.waited = recent, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            raise StopIteration(
                f"The mean loss of {self.every} steps has not improved on {self.best:g} "
                f"in {self.waited} calls"
            )


class CheckParametersConvergence(Callback):
    """Stop when the params hardly change, as PyMC's callback of this name does.

    Parameters
    ----------
    every : int, default 100
        Steps between comparisons.
    tolerance : float, default 1e-3
        The change at which the fit ends.
    diff : {"relative", "absolute"}, default "relative"
        How a change is measured.
    ord : default inf
        The norm of the change; see ``numpy.linalg.norm``.

    Raises
    ------
    ValueError
        If ``diff`` is neither of the two words.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi import callbacks
    >>> from pymc_svi.engine import SVIState
    >>> check = callbacks.CheckParametersConvergence(every=50, diff="absolute")
    >>> def at(step, loc):
    ...     state = SVIState({"loc": np.array(loc)}, {}, np.zeros((0, 6)), step)
    ...     return callbacks.Moment(state, np.zeros(step))
    >>> check(at(50, 0.2))
    >>> check(at(100, 0.3))
    >>> check(at(150, 0.3001))
    Traceback (most recent call last):
    ...
    StopIteration: The params have converged at step 150
    """

    def __init__(self, every: int = 100, tolerance: float = 1e-3, diff="relative", ord=np.inf):
        super().__init__(every)
        if diff not in ("relative", "absolute"):
            raise ValueError(sentence("diff is 'relative' or 'absolute'", found=repr(diff)))
        self.tolerance, self.diff, self.ord = tolerance, diff, ord
        self.start()

    def start(self) -> None:
        """Forget an earlier fit."""
        self.previous: np.ndarray | None = None

    def __call__(self, moment: Moment) -> None:
        """Compare the params with those of the last call."""
        params = moment.state.params.values()
        present = np.concatenate([np.ravel(value) for value in params])
        before, self.previous = self.previous, present
        if before is None:
            return
        change = np.abs(present - before)
        if self.diff == "relative":
            change = (change + 1e-10) / (np.abs(before) + 1e-10)
        if np.linalg.norm(change, self.ord) < self.tolerance:
            raise StopIteration(f"The params have converged at step {moment.step}")


class Tracker(Callback):
    """Record values during a fit.

    Parameters
    ----------
    every : int, default 100
        Steps between recordings.
    **functions
        Functions of a :class:`Moment`, or of nothing as for PyMC's ``Tracker``.

    Examples
    --------
    >>> from pymc_svi import callbacks
    >>> tracker = callbacks.Tracker(step=lambda moment: moment.step, every=50)
    >>> tracker["step"]
    []
    """

    def __init__(self, every: int = 100, **functions: Callable):
        super().__init__(every)
        self.functions = functions
        self.hist: dict[str, list[Any]] = {name: [] for name in functions}

    def __call__(self, moment: Moment) -> None:
        """Record the values."""
        for name, function in self.functions.items():
            takes = len(inspect.signature(function).parameters)
            self.hist[name].append(function(moment) if takes else function())

    def __getitem__(self, name: str) -> list[Any]:
        return self.hist[name]


class LearningRateMonitor(Callback):
    """Record the learning rate.

    Parameters
    ----------
    schedule : float or callable, optional
        The step size, or the schedule of it, a function of the step; that of the optimizer if
        not given.
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
        self.steps: list[int] = []
        self.rates: list[float] = []

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
        self.steps.append(moment.step)
        self.rates.append(float(rate))


class HeldOutELBO(Callback):
    """Record the ELBO of data that are not trained on, weighted as the training data are.

    Their terms are weighted by rows of the training data / rows of these, so that the figure can
    be compared with the losses. It is minus the loss of one step, at the random numbers of the
    next step, which the fit draws all the same.

    Parameters
    ----------
    batch : dict of str to array_like
        The data, with the names of the training data.
    every : int, default 100
        Steps between evaluations.

    Raises
    ------
    TypeError
        During a fit by a method that has no loss on other data.

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
        self.batch = dict(batch)
        self.steps: list[int] = []
        self.elbos: list[float] = []

    def __call__(self, moment: Moment) -> None:
        """Evaluate the ELBO on the batch."""
        if moment.evaluate is None:
            raise TypeError(
                sentence(
                    "HeldOutELBO: the method has no loss on other data",
                    expected="SVI, or a method made of it such as ADVI()",
                )
            )
        self.steps.append(moment.step)
        self.elbos.append(-moment.evaluate(self.batch))


class Checkpoint(Callback):
    """Save the fit, so that it can be resumed with ``fit(..., resume=True)``.

    Parameters
    ----------
    folder : path
        Where; it is made if it is not there. The last checkpoint is kept.
    every : int, default 1_000
        Steps between checkpoints: what a killed fit loses at most.

    Examples
    --------
    >>> import tempfile
    >>> import pymc as pm
    >>> from pymc_svi import ADVI, Trainer, callbacks
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x")
    >>> with tempfile.TemporaryDirectory() as folder, model:
    ...     trainer = Trainer(ADVI(), callbacks=[callbacks.Checkpoint(folder, every=20)])
    ...     first = trainer.fit(n=40, random_seed=0)
    ...     second = trainer.fit(n=60, random_seed=0, resume=True)  # 20 more
    >>> len(second.losses), bool((second.losses[:40] == first.losses).all())
    (60, True)
    """

    def __init__(self, folder: str | Path, every: int = 1_000):
        super().__init__(every)
        self.folder = Path(folder)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / FILE_NAME

    def __call__(self, moment: Moment) -> None:
        """Write a checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save_fit(self.path, SavedFit(moment.state, moment.losses, moment.about))


class ProgressBar(Callback):
    """Show progress: the smoothed loss, steps a second and the time left.

    ``Trainer(..., progressbar=True)`` is the same.

    Parameters
    ----------
    every : int, default 100
        Not used: the bar moves after each call of compiled code.

    Examples
    --------
    >>> from pymc_svi import ADVI, Trainer, callbacks
    >>> Trainer(ADVI(), callbacks=[callbacks.ProgressBar()]).progressbar
    True
    """
