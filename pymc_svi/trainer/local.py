"""Sites that have an element for each row of a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pymc as pm
from pytensor.graph.basic import Variable

from pymc_svi.errors import PairingError, SiteError, quoted, sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.handlers import Trace, replay, trace
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.values import known_shape
from pymc_svi.handlers.walk import scratch_model
from pymc_svi.trainer.batching import Batched, Plan
from pymc_svi.trainer.dependence import follows
from pymc_svi.trainer.feeds import placeholder

__all__ = ["check_amortised", "local_sites", "sites_of_rows"]


def _at_length(plan: Plan, extra: int) -> Plan:
    """Return a plan with batches of a fixed length, ``extra`` rows longer than the first."""
    variables = {}
    for name, variable in plan.variables.items():
        value = variable.get_value()
        rows = len(value) + extra
        variables[name] = placeholder(name, np.resize(value, (rows, *value.shape[1:])), rows)
    rows = next(iter(variables.values())).type.shape[0]
    return Plan(variables, plan.total_size, rows, plan.dims, plan.data)


def _traced(program: Program, plan: Plan) -> Trace:
    model = built_model(program)
    with pm.Model(coords=None, model=None) if model is None else scratch_model(model):
        return trace(Batched(program, plan)).get_trace()


def local_sites(model: Program, plan: Plan) -> set[str]:
    """Return the latent sites whose size follows the batch's, seen by running it at two sizes."""
    short = _traced(model, _at_length(plan, 0))
    rows = _at_length(plan, 0).rows
    shapes = {name: known_shape(site.dist) for name, site in short.latent.items()}
    candidates = [name for name, shape in shapes.items() if rows in shape]
    if not candidates:
        return set()
    try:
        longer = _traced(model, _at_length(plan, 1))
    except Exception as error:
        raise SiteError(
            sentence(
                f"It is not clear whether {quoted(candidates)} have an element for each row of a "
                f"batch: the model does not run on batches of {(rows or 0) + 1} rows",
                found=str(error),
                fix="Take sizes from the arguments, shape=X.shape[0]",
            )
        ) from error
    return {
        name
        for name in candidates
        if name not in longer or known_shape(longer[name].dist) != shapes[name]
    }


def check_amortised(guide: Program, plan: Plan, local: set[str]) -> None:
    """Check that a guide computes what belongs to the rows from the data, not from params."""
    fix = (
        "Compute their distributions from the batch (an amortised guide), or give the whole data "
        "to the model and use plate(..., subsample_size=...), whose params have an element for "
        "each row of all data"
    )
    found = ""
    try:
        short, longer = (_traced(guide, _at_length(plan, extra)) for extra in (0, 1))
        params = [
            name
            for name, site in short.params.items()
            if name in longer.params
            and known_shape(site.value) != known_shape(longer.params[name].value)
        ]
        if not params:
            for name in local.intersection(longer.latent):
                evaluate(as_plain_tensor(longer[name].value))  # an error if sizes disagree
            return
        found = f"the params {quoted(params)}, of the size of a batch"
    except Exception as error:
        found = f"a guide that works for one size of batches only: {error}"
    raise PairingError(
        sentence(
            f"{quoted(sorted(local))} have an element for each row of a batch, which is another "
            "row at every step, but the guide learns params for them",
            found=found,
            fix=fix,
        )
    )


def sites_of_rows(model: Program, guide: Program, plan: Plan) -> frozenset[str]:
    """Return the sites of a model whose values, drawn by a guide, follow from the rows."""
    plan = replace(_at_length(plan, 0), local=plan.local)
    guide_trace = trace(Batched(guide, plan)).get_trace()
    traced = trace(replay(Batched(model, plan), trace=guide_trace)).get_trace()
    known: dict[Variable, bool] = dict.fromkeys(plan.variables.values(), True)
    return plan.local | {
        site.name
        for site in traced.sites("sample", "deterministic", "data")
        if isinstance(site.value, Variable) and follows(site.value, known)
    }
