"""Posteriors of posteriordb whose moments are those of long runs of NUTS."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.distributions.transforms import ordered

import pymc_svi
from benchmarks.accuracy.problem import Problem

__all__ = ["MODELS"]

type Arrays = Mapping[str, np.ndarray]

SCHOOLS = "eight_schools-eight_schools_noncentered"


def schools_centered(d: Arrays) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", 5)
        theta = pm.Normal("theta", mu, tau, shape=len(d["y"]))
        pm.Normal("y", theta, d["sigma"], observed=d["y"])
    return model


def schools_noncentered(d: Arrays) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", 5)
        offset = pm.Normal("theta_trans", 0, 1, shape=len(d["y"]))
        theta = pm.Deterministic("theta", mu + tau * offset)
        pm.Normal("y", theta, d["sigma"], observed=d["y"])
    return model


def _offsets(draws: Arrays) -> dict[str, np.ndarray]:
    mu, tau = draws["mu"], draws["tau"]
    offset = (draws["theta"] - mu[:, None]) / tau[:, None]
    return {"mu": mu, "tau": tau, "theta_trans": offset}


def autoregression(d: Arrays) -> pm.Model:
    y, order = d["y"], int(d["K"])
    before = np.column_stack([y[order - lag : len(y) - lag] for lag in range(1, order + 1)])
    with pm.Model() as model:
        alpha = pm.Normal("alpha", 0, 10)
        beta = pm.Normal("beta", 0, 10, shape=order)
        sigma = pm.HalfCauchy("sigma", 2.5)
        pm.Normal("y", alpha + before @ beta, sigma, observed=y[order:])
    return model


def diamonds(d: Arrays) -> pm.Model:
    X = d["X"][:, 1:] - d["X"][:, 1:].mean(axis=0)
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1, shape=X.shape[1])
        intercept = pm.StudentT("Intercept", 3, mu=8, sigma=10)
        sigma = pm.HalfStudentT("sigma", 3, sigma=10)
        pm.Normal("y", intercept + X @ b, sigma, observed=d["Y"])
    return model


def garch(d: Arrays) -> pm.Model:
    y, first = d["y"], float(d["sigma1"])
    with pm.Model() as model:
        mu = pm.Flat("mu")
        alpha0 = pm.HalfFlat("alpha0")
        alpha1 = pm.Uniform("alpha1", 0, 1)
        beta1 = pm.Uniform("beta1", 0, 1 - alpha1)
        # Flat where both are allowed: the uniform law of one given the other is not.
        pm.Potential("flat", pt.log1p(-alpha1))

        def step(square, variance, alpha0, alpha1, beta1):
            return alpha0 + alpha1 * square + beta1 * variance

        variances = pytensor.scan(
            step,
            sequences=[(y[:-1] - mu) ** 2],
            outputs_info=[pt.constant(first**2, dtype="float64")],
            non_sequences=[alpha0, alpha1, beta1],
            return_updates=False,
        )
        sd = pt.sqrt(pt.concatenate([[first**2], variances]))
        pm.Normal("y", mu, sd, observed=y)
    return model


def gaussian_process(d: Arrays) -> pm.Model:
    squares = (d["x"][:, None] - d["x"]) ** 2
    with pm.Model() as model:
        rho = pm.Gamma("rho", 25, 4)
        alpha = pm.HalfNormal("alpha", 2)
        sigma = pm.HalfNormal("sigma", 1)
        cov = alpha**2 * pt.exp(-0.5 * squares / rho**2) + sigma * np.eye(len(squares))
        pm.MvNormal("y", np.zeros(len(squares)), cov, observed=d["y"])
    return model


def mixture(d: Arrays) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 2, shape=2, transform=ordered, initval=[-1.0, 1.0])
        sigma = pm.HalfNormal("sigma", 2, shape=2)
        theta = pm.Beta("theta", 5, 5)
        pm.NormalMixture("y", pt.stack([theta, 1 - theta]), mu, sigma, observed=d["y"])
    return model


def hidden_markov(d: Arrays):
    """Return a program whose states are summed out: speeds and distances of a ball game."""
    first = np.arange(len(d["u"])) == 0

    def rates(name):
        # Positive and ordered, with a prior for each of the two.
        low = pm.HalfNormal(f"{name}_low")
        gap = pm.HalfFlat(f"{name}_gap")
        high = low + gap
        pm.Potential(f"{name}_high", pm.logp(pm.Normal.dist(3, 1), high))
        return pm.Deterministic(name, pt.stack([low, high]))

    def program():
        rows = [pm.Dirichlet(f"theta{k + 1}", d["alpha"][k]) for k in range(2)]
        theta = pt.stack(rows)
        phi, rate = rates("phi"), rates("lambda")

        def step(state, now):
            u, v, is_first = now
            state = pm.Categorical("state", pt.switch(is_first, 0.5, theta[state]))
            pm.Exponential("u", phi[state], observed=u)
            pm.Exponential("v", rate[state], observed=v)
            return state, None

        pymc_svi.scan(step, 0, (d["u"], d["v"], first))

    return program


MODELS = [
    Problem(
        "eight_schools_centered",
        "eight_schools",
        schools_centered,
        ("theta", "mu", "tau"),
        reference=SCHOOLS,
    ),
    Problem(
        "eight_schools_noncentered",
        "eight_schools",
        schools_noncentered,
        ("theta", "mu", "tau"),
        latent=_offsets,
    ),
    Problem("arK", "arK", autoregression, ("alpha", "beta", "sigma")),
    Problem("diamonds", "diamonds", diamonds, ("b", "Intercept", "sigma")),
    Problem("garch11", "garch", garch, ("mu", "alpha0", "alpha1", "beta1")),
    Problem("gp_regr", "gp_pois_regr", gaussian_process, ("rho", "alpha", "sigma")),
    Problem(
        "low_dim_gauss_mix",
        "low_dim_gauss_mix",
        mixture,
        ("mu", "sigma", "theta"),
    ),
    Problem(
        "hmm_drive_0",
        "bball_drive_event_0",
        hidden_markov,
        ("theta1", "theta2", "phi", "lambda"),
        enumerated=True,
    ),
]
