"""The data of all likelihoods, and the clock. Runs in every environment: NumPy alone."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np

__all__ = ["COLUMNS", "HIDDEN", "LIKELIHOODS", "ROWS", "data", "measure", "options"]

ROWS, COLUMNS, HIDDEN = 10_000, 20, 32
# Steps to the loss that is compared, and of each run that is timed.
STEPS, TIMED, LAST = 2_000, 400, 500

LIKELIHOODS = (
    "Normal",
    "Student's t",
    "Poisson",
    "negative binomial",
    "gamma",
    "beta",
    "binomial",
    "Weibull",
    "probit",
    "categorical",
    "ordered logistic",
    "zero-inflated Poisson",
    "mixture of 3 normals",
    "network of 32 units",
)


def data(likelihood: str) -> tuple[np.ndarray, np.ndarray]:
    """Return covariates and a response; a mixture has no covariates, but is given them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, COLUMNS))
    eta = X @ (0.2 * rng.normal(size=COLUMNS))
    mean, p = np.exp(eta), 1 / (1 + np.exp(-eta))
    apart = np.array([-2.0, 0.0, 2.0])[rng.integers(0, 3, ROWS)]
    draw = {
        "Normal": lambda: eta + rng.normal(size=ROWS),
        "Student's t": lambda: eta + rng.standard_t(4, size=ROWS),
        "Poisson": lambda: rng.poisson(mean),
        "negative binomial": lambda: rng.negative_binomial(3, 3 / (3 + mean)),
        "gamma": lambda: rng.gamma(2.0, mean / 2),
        "beta": lambda: np.clip(rng.beta(5 * p, 5 * (1 - p)), 1e-4, 1 - 1e-4),
        "binomial": lambda: rng.binomial(10, p),
        "Weibull": lambda: mean * rng.weibull(1.5, size=ROWS),
        "probit": lambda: eta + rng.normal(size=ROWS) > 0,
        "categorical": lambda: rng.integers(0, 3, size=ROWS),
        "ordered logistic": lambda: np.digitize(eta + rng.logistic(size=ROWS), [-1.0, 0.0, 1.0]),
        "zero-inflated Poisson": lambda: rng.poisson(mean) * (rng.random(ROWS) < 0.7),
        "mixture of 3 normals": lambda: apart + 0.5 * rng.normal(size=ROWS),
        "network of 32 units": lambda: np.tanh(eta) + 0.1 * rng.normal(size=ROWS),
    }
    y = draw[likelihood]()
    return X, y if y.dtype.kind == "f" else y.astype("int64")


def options() -> argparse.Namespace:
    """Return the command line of a worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--likelihood", required=True)
    parser.add_argument("--precision", choices=["float32", "float64"], default="float64")
    return parser.parse_args()


def measure(begin: Callable[[int], np.ndarray], go_on: Callable[[int], object]) -> None:
    """Fit, time runs of steps, and print what was found.

    Parameters
    ----------
    begin : callable
        Takes steps from the start; returns their losses.
    go_on : callable
        Takes steps from there, or from anywhere: each of the same cost.
    """
    began = time.process_time()
    losses = begin(STEPS)
    cold = time.process_time() - began
    go_on(TIMED)
    times = []
    for _ in range(5):
        began = time.process_time()
        go_on(TIMED)
        times.append(1e6 * (time.process_time() - began) / TIMED)
    loss = float(np.mean(np.asarray(losses)[-LAST:]))
    json.dump({"us": times, "cold_s": cold, "loss": loss}, sys.stdout)
