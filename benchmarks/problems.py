"""What is fitted: data, and the joint density in NumPy to judge every library's guide by.

A problem is plain data. How each library writes its model is in that library's file of ``peers/``,
found there under the name in ``Problem.model``. To add a problem: an entry here, and a model in
each peer that shall fit it (a peer without one is reported as such).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["PRIMERS", "PROBLEMS", "Problem", "elbo"]

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """One line of the benchmark.

    Attributes
    ----------
    name, title : str
        As given on the command line, and as printed.
    model : str
        Which model of the peers.
    guide : str
        ``"mean_field"`` or ``"full_rank"``: a Normal in unconstrained space.
    data : callable
        Returns the data by name.
    log_density : callable, optional
        ``log_density(data, latents)``: the log of the joint density of data and *unconstrained*
        latents, for a batch of draws, with every constant. Without it the ELBO that is reported
        is the mean of the last losses.
    draws : int
        Draws that the ELBO is averaged over.
    """

    name: str
    title: str
    model: str
    guide: str
    data: Callable[[], Arrays]
    log_density: Callable[[Arrays, Arrays], np.ndarray] | None = None
    draws: int = 20_000


# --- eight schools ------------------------------------------------------------------------------


def eight_schools_data() -> Arrays:
    """Return the eight schools of Rubin (1981): effects and their standard errors."""
    return {
        "y": np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
        "sigma": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]),
    }


def eight_schools_log_density(data: Arrays, latents: Arrays) -> np.ndarray:
    """Return the non-centred joint density; ``tau`` is positive, so its value is a logarithm."""
    mu, log_tau, theta = latents["mu"], latents["tau"], latents["theta"]
    tau = np.exp(log_tau)
    half_cauchy = np.log(2 / (np.pi * 5)) - np.log1p((tau / 5) ** 2)
    return (
        _normal(mu, 0.0, 5.0)[:, 0]
        + (half_cauchy + log_tau)[:, 0]
        + _normal(theta, 0.0, 1.0).sum(axis=1)
        + _normal(data["y"], mu + tau * theta, data["sigma"]).sum(axis=1)
    )


# --- logistic regression ------------------------------------------------------------------------


@cache
def logistic_data() -> Arrays:
    """Return 10,000 rows of 50 standard normal covariates and a simulated 0/1 response."""
    rng = np.random.default_rng(20_240_501)
    X = rng.normal(size=(10_000, 50))
    w = rng.normal(scale=0.5, size=50)
    return {"X": X, "y": (rng.random(10_000) < 1 / (1 + np.exp(-X @ w))).astype(float)}


def logistic_log_density(data: Arrays, latents: Arrays) -> np.ndarray:
    """Return the joint density with standard normal weights."""
    w = latents["w"]
    logits = w @ data["X"].T
    log_likelihood = logits @ data["y"] - np.logaddexp(0.0, logits).sum(axis=1)
    return _normal(w, 0.0, 1.0).sum(axis=1) + log_likelihood


# --- a primer: another model, to fill the caches of single operations -----------------------------


def primer_data() -> Arrays:
    """Return a small linear regression."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 5))
    return {"X": X, "y": 1.0 + X @ rng.normal(size=5) + rng.normal(size=40)}


def _normal(x, loc, scale):
    return -0.5 * ((x - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


_ALL = (
    Problem(
        name="eight_schools",
        title="Eight schools, mean field (10 latents)",
        model="eight_schools",
        guide="mean_field",
        data=eight_schools_data,
        log_density=eight_schools_log_density,
    ),
    Problem(
        name="eight_schools_full_rank",
        title="Eight schools, full rank (10 latents)",
        model="eight_schools",
        guide="full_rank",
        data=eight_schools_data,
        log_density=eight_schools_log_density,
    ),
    Problem(
        name="logistic",
        title="Logistic regression, 10,000 x 50, full batch, mean field",
        model="logistic",
        guide="mean_field",
        data=logistic_data,
        log_density=logistic_log_density,
        draws=2_000,
    ),
)
PROBLEMS: Mapping[str, Problem] = {problem.name: problem for problem in _ALL}

# For each kind of guide. The models of the problems share operations with it, but not the model.
PRIMERS: Mapping[str, Problem] = {
    guide: Problem(f"primer_{guide}", "Primer", "primer", guide, primer_data)
    for guide in ("mean_field", "full_rank")
}


def elbo(problem: Problem, fitted: Mapping | None, *, seed: int = 0) -> float | None:
    """Return the ELBO of a fitted Normal guide: the same sum and draws for every library.

    Parameters
    ----------
    problem : Problem
        What was fitted.
    fitted : dict, optional
        ``sites``, the length of each latent in the order of ``loc``; ``loc``; and ``scale``, the
        standard deviations or a Cholesky factor.
    seed : int
        Seed of the draws.
    """
    if problem.log_density is None or fitted is None:
        return None
    loc, scale = np.asarray(fitted["loc"]), np.asarray(fitted["scale"])
    noise = np.random.default_rng(seed).normal(size=(problem.draws, loc.size))
    draws = loc + (noise * scale if scale.ndim == 1 else noise @ scale.T)
    diagonal = scale if scale.ndim == 1 else np.diagonal(scale)
    entropy = np.log(np.abs(diagonal)).sum() + 0.5 * loc.size * (1 + np.log(2 * np.pi))
    ends = np.cumsum(list(fitted["sites"].values()))[:-1]
    data = problem.data()
    total = 0.0
    for part in np.array_split(draws, max(1, problem.draws // 200)):
        latents = dict(zip(fitted["sites"], np.split(part, ends, axis=1), strict=True))
        total += problem.log_density(data, latents).sum()
    return float(total / problem.draws + entropy)
