"""Callbacks that a trainer asks about: where a fit is saved, whether it shows progress."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pymc_svi.callbacks.base import Callback, Moment, remembered
from pymc_svi.checkpoint import FILE_NAME, SavedFit, save_fit
from pymc_svi.errors import sentence

__all__ = ["Checkpoint", "ProgressBar"]


class Checkpoint(Callback):
    """Save the fit, so that it can be resumed with ``fit(..., resume=True)``.

    Parameters
    ----------
    folder : path
        Where to save it; made if it does not exist. Only the last checkpoint is kept.
    every : int, default 1_000
        Number of steps between checkpoints, the most that a killed fit loses.

    Raises
    ------
    OSError
        When a fit begins, if the folder cannot be made or written to; later, if a checkpoint
        cannot, where the one before it is left as it was.

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

    comes_last = True  # what the others remember is saved too

    @property
    def path(self) -> Path:
        """The file of the checkpoint."""
        return self.folder / FILE_NAME

    def start(self) -> None:
        """Make the folder: a fit that cannot be saved is not begun."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise PermissionError(errno.EACCES, "Permission denied", str(self.folder))
        except OSError as error:
            raise _not_written(
                error, f"Checkpoints cannot be written to {self.folder}", "Use another folder"
            ) from error

    def __call__(self, moment: Moment) -> None:
        """Write a checkpoint."""
        fit = SavedFit(moment.state, moment.losses, moment.about, remembered(moment.callbacks))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_fit(self.path, fit)
        except OSError as error:
            before = "fit(..., resume=True) goes on from the last one" if self.path.exists() else ""
            what = f"The checkpoint of step {moment.step} could not be written to {self.folder}"
            raise _not_written(error, what, before) from error


def _not_written(error: OSError, what: str, fix: str) -> OSError:
    """Return an error of the same kind that says what could not be written."""
    return OSError(error.errno, sentence(what, found=f"{error.strerror or error}", fix=fix))


class ProgressBar(Callback):
    """Show progress: the smoothed loss, the steps a second and the time left.

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
