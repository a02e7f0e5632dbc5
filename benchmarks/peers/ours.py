"""pymc_svi; with ``--float32`` in single precision."""

from __future__ import annotations

import sys

import pymc as pm
import pytensor

import pymc_svi
from benchmarks.peers.measure import Fit, full_rank, main, mean_field
from benchmarks.peers.pymc_models import MODELS
from pymc_svi import SVI, Trace_ELBO, optim
from pymc_svi.guides import AutoMultivariateNormal, AutoNormal

GUIDES = {"mean_field": AutoNormal, "full_rank": AutoMultivariateNormal}


def fit(problem, steps) -> Fit:
    """Fit a built model with an automatic guide."""
    model = MODELS[problem.model](problem.data())
    svi = SVI(model, GUIDES[problem.guide](model), optim.Adam(0.01), Trace_ELBO())
    result = svi.run(steps, random_seed=0, progressbar=False)

    def again(steps):
        return svi.run(steps, random_seed=1, progressbar=False)

    return Fit(result.losses, _fitted(problem, model, result.params), again, again)


def _fitted(problem, model, params) -> dict:
    sites = {rv.name: int(rv.size.eval()) for rv in model.free_RVs}
    if problem.guide == "full_rank":
        return full_rank(sites, params["auto_loc"], params["auto_scale_tril"])
    return mean_field(
        {name: params[f"{name}_auto_loc"] for name in sites},
        {name: params[f"{name}_auto_scale"] for name in sites},
    )


if __name__ == "__main__":
    if "--float32" in sys.argv:
        pytensor.config.floatX = "float32"
    version = getattr(pymc_svi, "__version__", "?")
    main(
        fit,
        MODELS,
        {"pymc_svi": version, "pymc": pm.__version__, "pytensor": pytensor.__version__},
    )
