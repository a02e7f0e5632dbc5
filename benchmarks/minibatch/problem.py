"""The regression that all fit, and the clock. Runs in every environment: NumPy alone."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable

import numpy as np

BATCH, COLUMNS = 256, 20


def regression(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return standard normal covariates and a response with noise of variance 1."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(rows, COLUMNS))
    return X, X @ rng.normal(size=COLUMNS) + rng.normal(size=rows)


def options() -> argparse.Namespace:
    """Return the command line of a worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--how", default="")
    parser.add_argument("--folder")
    parser.add_argument("--cache")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def measure(
    run: Callable[[int], object], seconds: float, repeats: int, least: int = 0, **more
) -> None:
    """Time ``run(steps)`` in runs of about some seconds, and print what was found.

    Parameters
    ----------
    run : callable
        Takes steps, and returns when they are done.
    least : int
        The fewest steps of a run: an epoch, where a run has to put the rows in order first.
    """
    run(1_000)
    began = time.perf_counter()
    run(1_000)
    steps = max(1_000, least, int(1_000 * seconds / (time.perf_counter() - began)))
    if steps > least:
        run(steps)  # the first of some kinds of runs compiles
    rates, cpu_rates = [], []
    for _ in range(repeats):
        began, began_cpu = time.perf_counter(), time.process_time()
        run(steps)
        rates.append(steps / (time.perf_counter() - began))
        cpu_rates.append(steps / (time.process_time() - began_cpu))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"steps": steps, "steps_per_s": rates, "steps_per_cpu_s": cpu_rates, "peak_mb": peak}
    print(json.dumps({**found, **more}), flush=True)
