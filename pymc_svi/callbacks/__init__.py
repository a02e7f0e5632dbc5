"""Callbacks: what is done during a fit, between calls of compiled code.

A callback is called every so many steps, and at the end, with a :class:`Moment`. Functions of two
arguments are called with ``(state, losses)``, functions of three with ``(approx, losses, i)``, as
``pm.fit`` does it. Raising ``StopIteration`` ends the fit.
"""

from pymc_svi.callbacks.base import Callback, Moment, as_callback
from pymc_svi.callbacks.keeping import Checkpoint, ProgressBar
from pymc_svi.callbacks.recording import HeldOutELBO, LearningRateMonitor, Tracker
from pymc_svi.callbacks.stopping import CheckParametersConvergence, EarlyStopping

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
