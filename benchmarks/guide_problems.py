"""Data of the models that guides are compared on. Needs nothing beside NumPy."""

from __future__ import annotations

import json

import numpy as np

__all__ = ["FAMILIES", "GUIDES", "RANDOM", "SHARED", "TARGETS", "data_of", "print_fit"]

# Targets that are normalised: no ELBO can exceed zero.
TARGETS = ("funnel", "leaning_funnel", "banana", "bimodal")

FAMILIES = (
    "AutoDiagonalNormal",
    "AutoMultivariateNormal",
    "AutoIAFNormal",
    "AutoDAIS",
)

SHARED = ("eight_schools", "regression", "logistic", "poisson", "curved")
GUIDES = (
    "AutoNormal",
    "AutoDiagonalNormal",
    "AutoLowRankMultivariateNormal",
    "AutoMultivariateNormal",
    "AutoIAFNormal",
    "AutoBNAFNormal",
    "AutoDAIS",
)
# Guides that start at random weights, and end where they lead.
RANDOM = ("AutoIAFNormal", "AutoBNAFNormal")


def print_fit(model: str, guide: str, draws: np.ndarray, seconds: float) -> None:
    """Print the ELBO of a fit from independent estimates of it."""
    error = float(draws.std() / np.sqrt(len(draws)))
    row = {"model": model, "guide": guide, "elbo": float(draws.mean()), "error": error}
    print(json.dumps({**row, "seconds": seconds}), flush=True)


def data_of(model: str) -> dict[str, np.ndarray]:
    """Return the data of one of the shared models."""
    rng = np.random.default_rng(4)
    if model == "eight_schools":
        return {
            "y": np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
            "sigma": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]),
        }
    if model in ("regression", "logistic"):
        X = rng.normal(size=(50, 3))
        X[:, 2] += 1.5 * X[:, 0]
        mean = X @ np.array([1.0, -0.5, 0.3])
        if model == "regression":
            return {"X": X, "y": mean + 0.7 * rng.normal(size=50)}
        return {"X": X, "y": (rng.uniform(size=50) < 1 / (1 + np.exp(-mean))).astype("int64")}
    if model == "poisson":
        return {"y": rng.poisson(np.exp(1.0 + 0.6 * rng.normal(size=6)))}
    return {"y": np.array([1.3])}
