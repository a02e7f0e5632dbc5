"""``pymc_extras.inference.advi``."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pymc as pm
import pytensor
from pymc_extras.inference.advi import (
    AutoDiagonalNormal,
    AutoMultivariateNormal,
    Trainer,
    adam,
)

from benchmarks.peers.measure import Fit, full_rank, main, mean_field
from benchmarks.peers.pymc_models import MODELS

GUIDES = {"mean_field": AutoDiagonalNormal, "full_rank": AutoMultivariateNormal}


def fit(problem, steps) -> Fit:
    """Fit with a Trainer, by the estimator of the gradient that the others use."""
    model = MODELS[problem.model](problem.data())
    trainer = Trainer(
        guide=GUIDES[problem.guide], optimizer=adam(0.01), path_derivative_gradient=False
    )
    state = trainer.fit(steps, model=model, random_seed=0)

    def again(steps):
        trainer.fit(steps, model=model, random_seed=1)

    return Fit(state.loss_history, _fitted(problem, model, state.params), again, again)


def _fitted(problem, model, params) -> dict:
    sites = {rv.name: int(rv.size.eval()) for rv in model.free_RVs}
    if problem.guide == "mean_field":
        return mean_field(
            {name: params[f"{name}_loc"] for name in sites},
            {name: np.exp(params[f"{name}_scale"]) for name in sites},
        )
    size = params["loc"].size
    scale_tril = np.zeros((size, size))
    scale_tril[np.tril_indices(size)] = params["L_packed"]
    np.fill_diagonal(scale_tril, np.exp(np.diagonal(scale_tril)))
    return full_rank(sites, params["loc"], scale_tril)


if __name__ == "__main__":
    main(
        fit,
        MODELS,
        {
            "pymc-extras": version("pymc-extras"),
            "pymc": pm.__version__,
            "pytensor": pytensor.__version__,
        },
    )
