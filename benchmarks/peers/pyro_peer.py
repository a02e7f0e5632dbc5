"""Pyro: a Python loop over ``SVI.step``, its only way."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

from benchmarks.peers.measure import Fit, full_rank, main, mean_field

GUIDES = {"mean_field": AutoNormal, "full_rank": AutoMultivariateNormal}


def eight_schools(y, sigma):
    """The non-centred hierarchical model."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * theta, sigma), obs=y)


def logistic(X, y):
    """The logistic regression."""
    w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with pyro.plate("rows", X.shape[0]):
        pyro.sample("y", dist.Bernoulli(logits=X @ w), obs=y)


MODELS = {"eight_schools": eight_schools, "logistic": logistic}
SITES = {"eight_schools": {"mu": 1, "tau": 1, "theta": 8}, "logistic": {"w": 50}}


def fit(problem, steps) -> Fit:
    """Fit with an automatic guide, in Pyro's defaults (single precision, validation on)."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    data = {name: torch.as_tensor(value).float() for name, value in problem.data().items()}
    guide = GUIDES[problem.guide](MODELS[problem.model])
    svi = SVI(MODELS[problem.model], guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())

    def run(steps):
        return [svi.step(**data) for _ in range(steps)]

    losses = run(steps)
    return Fit(losses, _fitted(problem, guide), run, run)


@torch.no_grad()
def _fitted(problem, guide) -> dict:
    sites = SITES[problem.model]
    if problem.guide == "full_rank":
        posterior = guide.get_posterior()
        return full_rank(sites, posterior.loc, posterior.scale_tril)
    return mean_field(
        {name: getattr(guide.locs, name).numpy() for name in sites},
        {name: getattr(guide.scales, name).numpy() for name in sites},
    )


if __name__ == "__main__":
    main(fit, MODELS, {"pyro": pyro.__version__, "torch": torch.__version__})
