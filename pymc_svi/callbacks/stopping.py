"""Callbacks that end a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pymc_svi.callbacks.base import Callback, Moment
from pymc_svi.engine import SVIState
from pymc_svi.errors import sentence

__all__ = ["CheckParametersConvergence", "EarlyStopping"]


class EarlyStopping(Callback):
    """Stop when the loss has not improved for a while.

    Parameters
    ----------
    patience : int, default 10
        Number of calls without improvement after which the fit ends.
    min_delta : float, default 0.0
        By how much the loss has to fall for an improvement.
    every : int, default 100
        Number of steps between calls; the mean loss over them is compared.
    monitor : callable, optional
        A function of a :class:`Moment` that returns the number to compare instead; smaller is
        better. A callback whose record it uses has to come before this one in the list, with the
        same ``every``.
    restore_best : bool, default False
        Return the params, and losses, of the call with the best number instead of the last, also
        if the fit takes all its steps. A checkpoint keeps both.

    Raises
    ------
    ValueError
        If ``patience`` is not a whole number of at least 1.
    TypeError
        If ``monitor`` is not a function.

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

    By the ELBO of data that are held out:

    >>> held_out = callbacks.HeldOutELBO({"y": np.array([0.1, -0.2])})
    >>> stop = callbacks.EarlyStopping(monitor=lambda moment: -held_out.elbos[-1])
    >>> both = [held_out, stop]  # in this order
    """

    def __init__(
        self,
        patience: int = 10,
        min_delta: float = 0.0,
        every: int = 100,
        monitor: Callable[[Moment], float] | None = None,
        restore_best: bool = False,
    ):
        super().__init__(every)
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ValueError(
                sentence("EarlyStopping: patience is a whole number of calls", found=repr(patience))
            )
        if monitor is not None and not callable(monitor):
            raise TypeError(
                sentence(
                    "EarlyStopping: monitor is a function of a moment",
                    found=repr(monitor),
                    fix="Write monitor=lambda moment: -held_out.elbos[-1]",
                )
            )
        self.patience, self.min_delta, self.monitor = patience, float(min_delta), monitor
        self.restore_best = restore_best
        self.start()

    remembers = ("best", "waited", "kept")

    @property
    def has_stopped(self) -> bool:  # type: ignore[override]
        """Whether it has waited long enough."""
        return self.waited >= self.patience

    @property
    def chosen(self) -> SVIState | None:  # type: ignore[override]
        """The state of the best call, if it is to be restored."""
        if not self.kept:
            return None
        params, optim_state = (_flat(self.kept.get(part, {})) for part in ("params", "optim_state"))
        return SVIState(params, optim_state, self.kept["rng_state"], int(self.kept["step"]))

    def start(self) -> None:
        """Forget an earlier fit."""
        self.best, self.waited = np.inf, 0
        # The best state in the form in which a checkpoint keeps what is remembered.
        self.kept: dict[str, Any] = {}

    def __call__(self, moment: Moment) -> None:
        """Compare the recent losses, or what is monitored, with the best."""
        if moment.step % self.every:  # the end of a fit that may be gone on with
            return
        if self.monitor is None:
            losses = moment.losses[-self.every :]
            known = losses[~np.isnan(losses)]  # of steps that were not left out
            recent = float(known.mean()) if known.size else np.inf
        else:
            recent = float(self.monitor(moment))
        if recent < self.best - self.min_delta:
            self.best, self.waited = recent, 0
            if self.restore_best:
                self.kept = vars(moment.state).copy()
            return
        self.waited += 1
        if self.has_stopped:
            what = (
                f"mean loss of {self.every} steps" if self.monitor is None else "monitored number"
            )
            raise StopIteration(
                f"The {what} has not improved on {self.best:g} in {self.waited} calls"
            )


def _flat(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return arrays by their whole names, where a checkpoint has read ``a/b`` as ``b`` of ``a``."""
    flat: dict[str, np.ndarray] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{rest}": array for rest, array in _flat(value).items()}
        else:
            flat[name] = value
    return flat


class CheckParametersConvergence(Callback):
    """Stop when the params hardly change, as PyMC's callback of this name does.

    Parameters
    ----------
    every : int, default 100
        Number of steps between comparisons.
    tolerance : float, default 1e-3
        The fit ends when the change is smaller.
    diff : {"relative", "absolute"}, default "relative"
        Whether a change is measured relative to the param, or as it is.
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

    remembers = ("previous", "has_stopped")

    def start(self) -> None:
        """Forget an earlier fit."""
        self.previous: np.ndarray | None = None
        self.has_stopped = False

    def __call__(self, moment: Moment) -> None:
        """Compare the params with those of the last call."""
        if moment.step % self.every:  # the end of a fit that may be gone on with
            return
        params = moment.state.params.values()
        present = np.concatenate([np.ravel(value) for value in params])
        before, self.previous = self.previous, present
        if before is None:
            return
        change = np.abs(present - before)
        if self.diff == "relative":
            change = (change + 1e-10) / (np.abs(before) + 1e-10)
        if np.linalg.norm(change, self.ord) < self.tolerance:
            self.has_stopped = True
            raise StopIteration(f"The params have converged at step {moment.step}")
