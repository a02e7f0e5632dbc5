"""Fits guides of the package; prints one line of JSON for each."""

from __future__ import annotations

import argparse
import time

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import find_rng_nodes, reseed_rngs

from benchmarks.guide_problems import GUIDES, RANDOM, SHARED, TARGETS, data_of, print_fit
from pymc_svi import SVI, Trace_ELBO, guides, handlers, optim
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.gradients import vectorize_draws


def funnel():
    """Neal's funnel: the scale of three elements is another one."""
    v = pm.Normal("v", 0.0, 3.0)
    pm.Normal("x", 0.0, pt.exp(v / 2), shape=3)


def leaning_funnel():
    """The funnel with a slope, which its symmetry hides from a covariance otherwise."""
    v = pm.Normal("v", 0.0, 3.0)
    pm.Normal("x", 0.5 * v, pt.exp(v / 2), shape=3)


def banana():
    """A Normal on a parabola, turned so that the marginals are correlated."""
    a = pm.Normal("a", 0.0, 1.0)
    pm.Normal("b", a + a**2, 0.5)


def bimodal():
    """Two modes in one element, and a second that follows the first."""
    a = pm.Normal("a", 0.0, 3.0)
    modes = pt.logaddexp(_log_normal(a, -1.5, 0.6), _log_normal(a, 1.5, 0.6)) - np.log(2)
    pm.Potential("modes", modes - _log_normal(a, 0.0, 3.0))
    pm.Normal("b", a, 0.7)


def _log_normal(x, loc, scale):
    return -0.5 * ((x - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


def eight_schools(y, sigma):
    """The non-centred hierarchical model."""
    mu = pm.Normal("mu", 0.0, 5.0)
    tau = pm.HalfCauchy("tau", 5.0)
    theta = pm.Normal("theta", 0.0, 1.0, shape=8)
    pm.Normal("y", mu + tau * theta, sigma, observed=y)


def regression(X, y):
    """Linear regression with unknown noise."""
    w = pm.Normal("w", 0.0, 1.0, shape=3)
    pm.Normal("y", (X * w).sum(axis=-1), pm.HalfNormal("sigma", 1.0), observed=y)


def logistic(X, y):
    """Logistic regression."""
    w = pm.Normal("w", 0.0, 1.0, shape=3)
    pm.Bernoulli("y", logit_p=(X * w).sum(axis=-1), observed=y)


def poisson(y):
    """Counts whose logarithmic rates have a learned spread."""
    level, spread = pm.Normal("level", 0.0, 2.0), pm.HalfNormal("spread", 1.0)
    z = pm.Normal("z", 0.0, 1.0, shape=6)
    pm.Poisson("y", pt.exp(level + spread * z), observed=y)


def curved(y):
    """A ridge: one element is seen through the square of another."""
    a = pm.Normal("a", 0.0, 1.0)
    b = pm.Normal("b", a + a**2, 0.5)
    pm.Normal("y", b, 0.5, observed=y)


SETTINGS = {"AutoLowRankMultivariateNormal": {"rank": 2}, "AutoDAIS": {"K": 4}}


def elbo_draws(model, guide, params, data, n: int) -> np.ndarray:
    """Return ``n`` independent estimates of the ELBO."""
    with handlers.substitute(data=params):
        loss = Trace_ELBO().loss(model, guide, *data)
    function = pytensor.function([], vectorize_draws([loss.value], n), mode=evaluation_mode())
    reseed_rngs(find_rng_nodes(function.maker.fgraph.outputs), 5)
    return -np.asarray(function()[0])


def main() -> None:
    """Fit all and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=list(SHARED))
    parser.add_argument("--guides", nargs="+", default=list(GUIDES))
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--particles", type=int, default=8)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=1, help="of guides that start at random")
    options = parser.parse_args()
    for name in options.models:
        model = globals()[name]
        data = () if name in TARGETS else tuple(data_of(name).values())
        for kind in options.guides:
            for seed in range(options.seeds if kind in RANDOM else 1):
                guide = getattr(guides, kind)(model, **SETTINGS.get(kind, {}))
                rate = optim.exponential_decay(0.03, options.steps, 0.01)
                loss = Trace_ELBO(num_particles=options.particles)
                began = time.perf_counter()
                svi = SVI(model, guide, optim.Adam(rate), loss)
                result = svi.run(options.steps, *data, random_seed=seed, progressbar=False)
                seconds = time.perf_counter() - began
                draws = elbo_draws(model, guide, result.params, data, options.draws)
                print_fit(name, kind, draws, seconds)


if __name__ == "__main__":
    main()
