"""PyMC's own ``pm.fit``."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor

from benchmarks.peers.measure import Fit, full_rank, main, mean_field
from benchmarks.peers.pymc_models import MODELS

METHODS = {"mean_field": pm.ADVI, "full_rank": pm.FullRankADVI}


def fit(problem, steps) -> Fit:
    """Fit as ``pm.fit(method="advi")`` does, keeping the object that can go on."""
    options = {"obj_optimizer": pm.adam(learning_rate=0.01), "progressbar": False}
    model = MODELS[problem.model](problem.data())
    with model:
        inference = METHODS[problem.guide](random_seed=0)
        approximation = inference.fit(steps, **options)

    def refit(steps):
        with model:
            METHODS[problem.guide](random_seed=1).fit(steps, **options)

    def warm(steps):
        inference.refine(steps, progressbar=False)

    return Fit(approximation.hist, _fitted(problem, model, approximation), refit, warm)


def _fitted(problem, model, approximation) -> dict:
    names = {model.rvs_to_values[rv].name: rv.name for rv in model.free_RVs}
    [group] = approximation.groups
    parts = {names[name]: entry[1] for name, entry in group.ordering.items()}
    loc = approximation.mean.eval()
    if problem.guide == "full_rank":
        sites = {name: loc[part].size for name, part in parts.items()}
        return full_rank(sites, loc, np.linalg.cholesky(approximation.cov.eval()))
    scale = approximation.std.eval()
    return mean_field(
        {name: loc[part] for name, part in parts.items()},
        {name: scale[part] for name, part in parts.items()},
    )


if __name__ == "__main__":
    main(fit, MODELS, {"pymc": pm.__version__, "pytensor": pytensor.__version__})
