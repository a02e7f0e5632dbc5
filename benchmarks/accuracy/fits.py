"""One fit: of a guide of ours or by ``pm.fit``, judged by the same code."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO

import numpy as np
import pymc as pm

from benchmarks.accuracy.problem import Moments, Problem
from pymc_svi import SVI, SVIRunResult, Trace_ELBO, TraceEnum_ELBO, guides, optim

__all__ = ["FITS", "fit"]

OURS = {
    "AutoNormal": guides.AutoNormal,
    "AutoMultivariateNormal": guides.AutoMultivariateNormal,
    "AutoIAFNormal": guides.AutoIAFNormal,
}
# What the methods of pm.fit fit.
SAME_FAMILY = {
    "pm.fit advi": guides.AutoNormal,
    "pm.fit fullrank_advi": guides.AutoMultivariateNormal,
}
# What is fitted, and by which optimizer: Adam(0.01) as in pm.fit; the default of `fit`, AdamNC with a
# step size that falls from 0.05; Adam with such a step size; "white" is a fit of the whitened model by
# Adam, from 0.01 to 0 as there is no way to go.
FITS = (
    ("AutoNormal", "constant"),
    ("pm.fit advi", "constant"),
    ("AutoMultivariateNormal", "constant"),
    ("pm.fit fullrank_advi", "constant"),
    ("AutoNormal", "default"),
    ("AutoMultivariateNormal", "default"),
    ("AutoIAFNormal", "falling"),
    ("AutoMultivariateNormal", "white"),
)
STEP_SIZE, FIRST_STEP_SIZE = 0.01, 0.05


def fit(
    problem: Problem, database, name: str, optimizer: str, steps: int, draws: int, seed: int
) -> dict:
    """Fit and judge; return the figures, or why there are none."""
    model = problem.model(database)
    began, cpu = time.perf_counter(), time.process_time()
    try:
        run = _by_pm_fit if name in SAME_FAMILY else _by_ours
        finished = run(problem, model, name, optimizer, steps, seed)
        spent = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        return spent | judged(problem, finished(), problem.moments(database), draws, seed + 1)
    except (ArithmeticError, ValueError) as error:
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}


def _by_ours(problem: Problem, model, name: str, optimizer: str, steps: int, seed: int):
    rule, options = optim.Adam(STEP_SIZE), {}
    if optimizer == "default":
        rule = optim.AdamNC(optim.cosine_decay(FIRST_STEP_SIZE, steps, 0.01))
    if optimizer == "falling":
        rule = optim.Adam(optim.cosine_decay(FIRST_STEP_SIZE, steps))
    if optimizer == "white":
        rule = optim.Adam(optim.cosine_decay(STEP_SIZE, steps))
        model, options = guides.whiten(model), {"init_scale": 1.0}
    guide = OURS[name](model, **options)
    if problem.enumerated:
        loss = TraceEnum_ELBO()
    else:
        # Gradients without the noise that is left where the guide is the posterior.
        loss = Trace_ELBO(sticking_the_landing=optimizer == "white")
    result = SVI(model, guide, rule, loss).run(steps, random_seed=seed, progressbar=False)
    return lambda: result


def _by_pm_fit(problem: Problem, model, name: str, optimizer: str, steps: int, seed: int):
    """Run ``pm.fit``; return a function that makes its Normal the result of the same guide."""
    assert optimizer == "constant"
    method = name.removeprefix("pm.fit ")
    rule = pm.adam(learning_rate=STEP_SIZE)
    with model, redirect_stderr(StringIO()):
        fitted = pm.fit(
            steps, method=method, random_seed=seed, progressbar=False, obj_optimizer=rule
        )

    def result() -> SVIRunResult:
        # A step that moves nothing makes a result of the params.
        svi = SVI(model, SAME_FAMILY[name](model), lambda loss_or_grads, params: {})
        params = _params(fitted, method)
        return svi.run(1, init_params=params, random_seed=seed, progressbar=False)

    return result


def _params(fitted: pm.Approximation, method: str) -> dict[str, np.ndarray]:
    [group] = fitted.groups
    names = {value.name: rv.name for rv, value in group.model.rvs_to_values.items()}
    loc = np.asarray(fitted.mean.eval())
    if method == "fullrank_advi":
        return {"auto_loc": loc, "auto_scale_tril": np.linalg.cholesky(fitted.cov.eval())}
    sd = np.asarray(fitted.std.eval())
    values = {}
    for value, (_, where, shape, _) in group.ordering.items():
        values[f"{names[value]}_auto_loc"] = loc[where].reshape(shape)
        values[f"{names[value]}_auto_scale"] = sd[where].reshape(shape)
    return values


def judged(problem: Problem, result: SVIRunResult, true: Moments, draws: int, seed: int) -> dict:
    """Compare draws of a result with true moments, and weigh them against the model."""
    posterior = result.sample_posterior(
        draws, random_seed=seed, return_sites=list(problem.reported)
    ).posterior
    found = _scalars({name: posterior[name].values[0] for name in problem.reported})
    means = {name: (found[name].mean() - mean) / sd for name, (mean, sd) in true.items()}
    sds = {name: found[name].std() / sd for name, (_, sd) in true.items()}
    diagnosis = result.diagnose(draws=draws, random_seed=seed)
    furthest = max(means, key=lambda name: abs(means[name]))
    ratios = np.array(list(sds.values()))
    return {
        "mean_error": float(abs(means[furthest])),
        "furthest": furthest,
        "mean_rmse": float(np.sqrt(np.mean(np.square(list(means.values()))))),
        "sd_median": float(np.median(ratios)),
        "sd_worst": float(ratios[np.argmax(np.abs(np.log(ratios)))]),
        "elbo": diagnosis.elbo,
        "elbo_se": diagnosis.elbo_se,
        "khat": diagnosis.khat,
    }


def _scalars(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return draws of scalars, named as posteriordb names them."""
    scalars = {}
    for name, draws in values.items():
        if draws.ndim == 1:
            scalars[name] = draws
        else:
            scalars |= {f"{name}[{i + 1}]": draws[:, i] for i in range(draws.shape[1])}
    return scalars
