"""NumPyro: ``SVI.run(progress_bar=False)``, a ``lax.scan``; with ``--x64`` in double precision."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

from benchmarks.peers.measure import Fit, full_rank, main, mean_field

GUIDES = {"mean_field": AutoNormal, "full_rank": AutoMultivariateNormal}


def eight_schools(y, sigma):
    """The non-centred hierarchical model."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", 8):
        theta = numpyro.sample("theta", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu + tau * theta, sigma), obs=y)


def logistic(X, y):
    """The logistic regression."""
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ w), obs=y)


MODELS = {"eight_schools": eight_schools, "logistic": logistic}
SITES = {"eight_schools": {"mu": 1, "tau": 1, "theta": 8}, "logistic": {"w": 50}}


def fit(problem, steps) -> Fit:
    """Fit with an automatic guide. The warm run is compiled as a whole."""
    data = {name: jnp.asarray(value) for name, value in problem.data().items()}
    model = MODELS[problem.model]
    optimizer = numpyro.optim.Adam(0.01)
    svi = SVI(model, GUIDES[problem.guide](model), optimizer, Trace_ELBO())

    def run(steps, seed):
        result = svi.run(jax.random.key(seed), steps, **data, progress_bar=False)
        return jax.block_until_ready(result)

    compiled = jax.jit(_scan(svi), static_argnums=1)

    def warm(steps):
        jax.block_until_ready(compiled(jax.random.key(1), steps, data))

    result = run(steps, 0)
    fitted = _fitted(problem, result.params)
    return Fit(result.losses, fitted, lambda steps: run(steps, 1), warm)


def _scan(svi):
    def scan(key, steps, data):
        result = svi.run(key, steps, **data, progress_bar=False)
        return result.params, result.losses

    return scan


def _fitted(problem, params) -> dict:
    sites = SITES[problem.model]
    if problem.guide == "full_rank":
        return full_rank(sites, params["auto_loc"], params["auto_scale_tril"])
    return mean_field(
        {name: params[f"{name}_auto_loc"] for name in sites},
        {name: params[f"{name}_auto_scale"] for name in sites},
    )


if __name__ == "__main__":
    if "--x64" in sys.argv:
        numpyro.enable_x64()
    main(fit, MODELS, {"numpyro": numpyro.__version__, "jax": jax.__version__})
