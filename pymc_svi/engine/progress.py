"""The progress of a fit on the screen: smoothed loss, steps a second, time left."""

from __future__ import annotations

import time

import numpy as np
from pymc.progress_bar import create_simple_progress

__all__ = ["Progress", "describe"]

# The loss that is shown is the mean over this many steps.
_SMOOTHED = 1_000


class Progress:
    """A progress bar, with the time left and the time taken beside it.

    Parameters
    ----------
    total : int
        Number of steps.
    shown : bool, default True
        Whether to show anything.
    """

    def __init__(self, total: int, shown: bool = True):
        self.total, self.shown = total, shown
        self._bar = create_simple_progress(shown)

    def __enter__(self):
        self._bar.__enter__()
        self._task = self._bar.add_task("Fitting", total=self.total)
        self._began: float | None = None
        return self

    def __exit__(self, *exception):
        return self._bar.__exit__(*exception)

    def update(self, losses: np.ndarray) -> None:
        """Show the losses of the steps that are done.

        The clock of the rate starts at the first call: what is compiled before is not counted.
        """
        if not self.shown:
            return
        now, done = time.perf_counter(), len(losses)
        if self._began is None:
            self._began, self._done_before = now, done
        seconds, steps = now - self._began, done - self._done_before
        rate = steps / seconds if steps else None
        self._bar.update(self._task, completed=done, description=describe(losses, rate))


def describe(losses: np.ndarray, rate: float | None = None) -> str:
    """Return what stands beside the bar.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.engine.progress import describe
    >>> describe(np.array([3.0, np.nan, 1.0]), 4_321.0)
    'Fitting, loss 2, 4,321 steps/s'
    """
    recent = losses[-_SMOOTHED:]
    recent = recent[np.isfinite(recent)]  # steps that were left out have none
    parts = ["Fitting"]
    if len(recent):
        parts.append(f"loss {recent.mean():,.4g}")
    if rate is not None:
        parts.append(f"{rate:,.0f} steps/s")
    return ", ".join(parts)
