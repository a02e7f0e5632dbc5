"""Fits NumPyro's guides of the same names; prints one line of JSON for each."""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO, autoguide, init_to_median

from benchmarks.guide_problems import GUIDES, RANDOM, SHARED, data_of, print_fit


def eight_schools(y, sigma):
    """The non-centred hierarchical model."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    theta = numpyro.sample("theta", dist.Normal(0.0, 1.0).expand([8]).to_event(1))
    numpyro.sample("y", dist.Normal(mu + tau * theta, sigma).to_event(1), obs=y)


def regression(X, y):
    """Linear regression with unknown noise."""
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(X @ w, sigma).to_event(1), obs=y)


def logistic(X, y):
    """Logistic regression."""
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=X @ w).to_event(1), obs=y)


def poisson(y):
    """Counts whose logarithmic rates have a learned spread."""
    level = numpyro.sample("level", dist.Normal(0.0, 2.0))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([6]).to_event(1))
    numpyro.sample("y", dist.Poisson(jnp.exp(level + spread * z)).to_event(1), obs=y)


def curved(y):
    """A ridge: one element is seen through the square of another."""
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    b = numpyro.sample("b", dist.Normal(a + a**2, 0.5))
    numpyro.sample("y", dist.Normal(b, 0.5).expand([1]).to_event(1), obs=y)


SETTINGS = {"AutoLowRankMultivariateNormal": {"rank": 2}, "AutoDAIS": {"K": 4}}


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
    numpyro.enable_x64()
    for name in options.models:
        model, data = globals()[name], tuple(map(jnp.asarray, data_of(name).values()))
        for kind in options.guides:
            for seed in range(options.seeds if kind in RANDOM else 1):
                settings = SETTINGS.get(kind, {})
                guide = getattr(autoguide, kind)(model, init_loc_fn=init_to_median, **settings)
                rate = lambda step: 0.03 * 0.01 ** (step / options.steps)  # noqa: E731
                optimizer = numpyro.optim.Adam(rate)
                svi = SVI(model, guide, optimizer, Trace_ELBO(options.particles))
                began = time.perf_counter()
                result = svi.run(jax.random.key(seed), options.steps, *data, progress_bar=False)
                seconds = time.perf_counter() - began

                def elbo(key, params=result.params, guide=guide, model=model, data=data):
                    return -Trace_ELBO().loss(key, params, model, guide, *data)

                draws = np.asarray(
                    jax.lax.map(elbo, jax.random.split(jax.random.key(5), options.draws))
                )
                print_fit(name, kind, draws, seconds)


if __name__ == "__main__":
    main()
