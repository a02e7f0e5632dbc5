"""What the scripts of all peers share: their command line, the clock, and the line they print.

Runs in every peer's environment, so it needs nothing beside NumPy.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.problems import PRIMERS, PROBLEMS, Problem

__all__ = ["Fit", "full_rank", "main", "mean_field"]

_MOST_STEPS = 200_000
_LAST_LOSSES = 500


@dataclass
class Fit:
    """A finished fit.

    Attributes
    ----------
    losses : array_like
        The loss of each step.
    fitted : dict, optional
        The fitted Normal, from :func:`mean_field` or :func:`full_rank`.
    refit : callable
        ``refit(steps)`` is what a user calls to fit the same model again in this process.
    warm : callable
        ``warm(steps)`` runs steps as fast as the library can, and returns when they are done. It
        may compile when called for the first time with a number of steps.
    """

    losses: Any
    fitted: dict | None
    refit: Callable[[int], Any]
    warm: Callable[[int], Any]


def mean_field(loc: Mapping[str, Any], scale: Mapping[str, Any]) -> dict:
    """Describe independent Normals, in unconstrained space, by their site."""
    loc = {name: np.ravel(np.asarray(value, float)) for name, value in loc.items()}
    return {
        "sites": {name: value.size for name, value in loc.items()},
        "loc": np.concatenate(list(loc.values())).tolist(),
        "scale": np.concatenate([np.ravel(np.asarray(scale[n], float)) for n in loc]).tolist(),
    }


def full_rank(sites: Mapping[str, int], loc: Any, scale_tril: Any) -> dict:
    """Describe a joint Normal, in unconstrained space; ``sites`` gives each one's length."""
    return {
        "sites": dict(sites),
        "loc": np.asarray(loc, float).tolist(),
        "scale": np.asarray(scale_tril, float).tolist(),
    }


def main(
    fit: Callable[[Problem, int], Fit],
    models: Mapping[str, Any],
    versions: Mapping[str, str],
) -> None:
    """Measure one fit and print it as one line of JSON.

    Parameters
    ----------
    fit : callable
        ``fit(problem, steps)`` builds the model and the guide and fits it.
    models : dict
        Which models the peer has.
    versions : dict
        Versions of the libraries that matter.
    """
    started = time.time()
    options = _options()
    problem = {**PROBLEMS, **{p.name: p for p in PRIMERS.values()}}[options.problem]
    if problem.model not in models:
        print(json.dumps({"not_available": f"has no model {problem.model!r}"}))
        return
    problem.data()  # made before the clock starts
    steps = min(options.steps, options.max_steps or options.steps)
    cold, cpu, done = _clock(fit, problem, steps)
    losses = np.asarray(done.losses, dtype=float)
    result = {
        "problem": problem.name,
        "versions": {"python": platform.python_version(), **versions},
        "import_s": started - options.launched if options.launched else None,
        "steps": steps,
        "cold_s": cold,
        "cold_cpu_s": cpu,
        "loss_tail": float(losses[-_LAST_LOSSES:].mean()),
        "fitted": done.fitted,
    }
    if options.repeats:
        result["refit_s"], *_ = _clock(done.refit, steps)
        result["warm"] = _warm(done.warm, options)
        seconds_per_step = 1 / float(np.median(result["warm"]["steps_per_s"]))
        for name in ("cold_s", "refit_s"):
            result[name] += (options.steps - steps) * seconds_per_step
    print(json.dumps(result), flush=True)


def _warm(run: Callable[[int], Any], options: argparse.Namespace) -> dict:
    """Time runs that are long enough for the clock, after one that is not timed."""
    steps = min(options.steps, 1_000)
    while True:
        run(steps)
        elapsed, *_ = _clock(run, steps)
        if elapsed >= options.seconds / 2 or steps >= _MOST_STEPS:
            break
        steps = min(_MOST_STEPS, int(steps * min(200, 1.2 * options.seconds / elapsed)) + 1)
    times = [_clock(run, steps) for _ in range(options.repeats)]
    return {
        "steps": steps,
        "steps_per_s": [steps / wall for wall, *_ in times],
        "steps_per_cpu_s": [steps / cpu for _, cpu, _ in times],
    }


def _clock(work: Callable[..., Any], *args: Any) -> tuple[float, float, Any]:
    """Return seconds on the wall, seconds of this process's CPU time, and the result."""
    began, began_cpu = time.perf_counter(), time.process_time()
    result = work(*args)
    return time.perf_counter() - began, time.process_time() - began_cpu, result


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--problem", required=True)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--max-steps", type=int, help="stop there and extrapolate the times")
    parser.add_argument("--repeats", type=int, default=5, help="timed warm runs; 0: none")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a warm run")
    parser.add_argument("--launched", type=float, help="time.time() of whoever started this")
    return parser.parse_known_args()[0]
