"""What every test runs under."""

from __future__ import annotations

import gc
import os
import sys

import pytest
from hypothesis import HealthCheck, settings

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

# Before the tests import numpy and matplotlib: single-threaded BLAS (the suite runs one worker
# a core, and a contended second thread makes a gradient ten times slower), and no windows.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A test that runs away fails with a traceback; without a limit the system kills the worker, which
# says nothing. Tests need up to 2.5 GB.
_MOST_MEMORY = 12 * 2**30
if resource is not None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _MOST_MEMORY if hard == resource.RLIM_INFINITY else min(_MOST_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))

# Compiling makes objects by the million; to look for garbage after every 700 of them, Python's
# default, is a tenth of the time of the suite.
gc.set_threshold(50_000, 20, 20)

# An example may compile a graph, so no deadlines; and the same examples at every run.
settings.register_profile(
    "pymc_svi", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("pymc_svi")


@pytest.fixture(autouse=True)
def no_handler_is_left_behind():
    """Each test leaves the handler stack as empty as it found it."""
    yield
    stack = sys.modules.get("pymc_svi.handlers.stack")
    if stack is not None:
        assert stack.active_handlers() == (), "the test left handlers active"
