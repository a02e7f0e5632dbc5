"""Which sites belong to the rows of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pymc as pm
from pytensor.graph.basic import Variable
from pytensor.xtensor.type import XTensorType

from pymc_svi.config import complain
from pymc_svi.errors import DataError, PairingError, SiteError, quoted, sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.handlers import Site, Trace, replay, trace
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.handlers.distributions import batch_shape
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.values import known_shape
from pymc_svi.handlers.walk import scratch_model
from pymc_svi.trainer.batching import Batched, Plan
from pymc_svi.trainer.comparing import same_computation
from pymc_svi.trainer.dependence import follows
from pymc_svi.trainer.feeds import placeholder

__all__ = ["check_amortised", "rows_of_batch", "sites_of_rows"]


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
    # A function program has the coords of the model that it is run in, which are those of the SVI.
    around = built_model(program) or pm.Model.get_context(error_if_none=False)
    with scratch_model(around):
        return trace(Batched(program, plan)).get_trace()


def rows_of_batch(model: Program, plan: Plan) -> Plan:
    """Return a plan that knows what belongs to the rows, seen by running a model at two lengths.

    That is: latent sites whose size follows the batch's, and terms into which its length went as
    a number, ``-y.shape[0] * ...``.
    """
    at = _at_length(plan, 0)
    short = _traced(model, at)
    if plan.rows is None:
        _check_values(short)
    if plan.rows == 1 < plan.total_size:
        _check_one_row(short, at)
    shapes = {name: known_shape(site.dist) for name, site in short.latent.items()}
    candidates = [name for name, shape in shapes.items() if at.rows in shape]
    longer = None
    if candidates or built_model(model) is None:  # in a built model lengths are not numbers
        try:
            longer = _traced(model, _at_length(plan, 1))
        except Exception as error:
            if candidates:
                raise SiteError(
                    sentence(
                        f"It is not clear whether {quoted(candidates)} have an element for each "
                        f"row of a batch: the model does not run on batches of "
                        f"{(at.rows or 0) + 1} rows",
                        found=str(error),
                        fix="Take sizes from the arguments, shape=X.shape[0]",
                    )
                ) from error
    local: set[str] = set()
    changed: set[str] = set()
    if longer is not None:
        local = {
            name
            for name in candidates
            if name not in longer or known_shape(longer[name].dist) != shapes[name]
        }
        changed = _changed(short, longer) - local - _observed_rows(short, at)
        if changed:  # not by the length, if it is another one at each run
            changed -= _changed(short, _traced(model, at))
    _warn_of_priors(short, at, local, changed)
    if at.rows is not None and at.rows < at.total_size:
        _warn_of_joint_laws(short, at, local)
    terms = {name for name in changed if name not in short.latent}
    return replace(plan, local=frozenset(local), terms=frozenset(terms))


def _check_values(traced: Trace) -> None:
    """Check that data fit their distributions while the lengths of a batch are numbers.

    Raises
    ------
    SiteError
        If the values of a site do not.
    """
    for site in traced.observed.values():
        try:
            _ = site.log_prob
        except SiteError:
            raise
        except Exception:  # what else is wrong with a density is told where it is needed
            continue


def _check_one_row(traced: Trace, plan: Plan) -> None:
    """Check that what follows from a batch of one row is not repeated beside all others.

    Raises
    ------
    DataError
        If a site's values or parameters are those of all rows.
    """
    known = dict.fromkeys(plan.variables.values(), True)
    found = []
    for site in traced.sites("sample", "factor", where=lambda site: not site.is_latent):
        parts = [x for x in (site.dist, site.value) if isinstance(x, Variable)]
        if any(follows(part, known) for part in parts):
            if any(known_shape(part)[:1] == (plan.total_size,) for part in parts):
                found.append(site.name)
    if found:
        raise own_rows(found, plan.total_size)


def own_rows(sites: Sequence[str], total_size: int, detail: str = "") -> DataError:
    """Return the error about arrays of all rows in a model that sees batches.

    Parameters
    ----------
    sites : sequence of str
        The sites that use them.
    total_size : int
        How many rows these arrays have.
    detail : str, optional
        What was told by others.

    Returns
    -------
    DataError
        To be raised.
    """
    return DataError(
        sentence(
            f"{quoted(sites) if sites else 'Something'} of the model has as many rows as all data, "
            f"{total_size}, beside batches of other numbers of rows",
            found=detail,
            fix="If its rows belong to those of the DataLoader, give it to the DataLoader too, and "
            "make it pm.Data of a built model, or an argument of a function",
        )
    )


def _observed_rows(traced: Trace, plan: Plan) -> set[str]:
    """Return the sites whose values are those of rows."""
    known = dict.fromkeys(plan.variables.values(), True)
    observed = traced.observed.items()
    return {n for n, s in observed if isinstance(s.value, Variable) and follows(s.value, known)}


def _changed(one: Trace, other: Trace) -> set[str]:
    """Return the sites whose laws or values two runs of a program compute in different ways."""
    pairs: dict[Variable, Variable] = {}
    changed = set()
    for name, site in one.items():
        if name not in other or site.type not in ("sample", "factor", "param", "data"):
            continue
        parts = _variables(site, other[name])
        if site.type == "factor" or site.type == "sample":
            compared = parts[:1] if site.is_latent else parts[:2]  # the value is a draw
            compared += _pairs(site, other[name], "log_density")  # which a plate repeats
            if not all(same_computation(x, y, pairs) for x, y in compared):
                changed.add(name)
        if site.type in ("param", "data") or site.is_latent:
            pairs.update(parts)
    return changed


def _variables(one: Site, other: Site) -> list[tuple[Variable, Variable]]:
    return _pairs(one, other, "dist", "value", "outcome")


def _pairs(one: Site, other: Site, *of: str) -> list[tuple[Variable, Variable]]:
    pairs = [(getattr(one, each), getattr(other, each)) for each in of]
    return [(x, y) for x, y in pairs if isinstance(x, Variable) and isinstance(y, Variable)]


def _warn_of_priors(short: Trace, plan: Plan, local: set[str], changed: set[str]) -> None:
    """Warn of latent sites that are those of all rows, with laws that are another in each batch."""
    known = dict.fromkeys(plan.variables.values(), True)
    found = []
    for name, site in short.latent.items():
        weighted = any(frame.is_subsampled for frame in site.plates)
        if name not in local and not weighted and site.dist is not None:
            if name in changed or follows(site.dist, dict(known)):
                found.append(name)
        known |= {v: name in local for v in (site.value, site.outcome) if isinstance(v, Variable)}
    if found:
        complain(
            sentence(
                f"The priors of {quoted(found)} are computed from the batch, and so are others at "
                "every step",
                expected="the same prior in all batches, of a site without an element for each row",
                fix="Compute what it needs of the data beforehand: their number, their means",
            ),
            SiteError,
            default="warn",
        )


def _warn_of_joint_laws(short: Trace, plan: Plan, local: set[str]) -> None:
    """Warn of sites that have one law for all rows of a batch, such as a random walk along them."""
    known = dict.fromkeys(plan.variables.values(), True)
    found = []
    is_of_all = False  # a law that keeps the length of all data cannot be computed
    for site in short.sites("sample"):
        name, rv = site.name, site.dist
        if not isinstance(rv, Variable) or isinstance(rv.type, XTensorType):
            continue
        if rv.type.ndim == 0 or batch_shape(rv):
            continue
        parts = [part for part in (rv, site.value) if isinstance(part, Variable)]
        of_rows = name in local or site.observed and any(follows(part, known) for part in parts)
        [rows] = known_shape(rv)[:1]
        if of_rows and (rows == plan.rows or plan.dims.intersection((site.dims or ())[:1])):
            found.append(name)
            is_of_all |= rows != plan.rows
    if found:
        message = sentence(
            f"{quoted(found)} have one law for all rows of a batch, which depend on each other. That "
            "of all data is not the sum of those of the batches, and their loss is biased",
            expected="rows that are independent of each other, given the other latent variables",
            fix="Make what belongs together one row: a whole series, shape (series, times). Else "
            "fit to all data at once, svi.run(n, ...), or if the law does split into rows, "
            'say SVI(..., validate="off")',
        )
        if is_of_all:
            raise SiteError(message)
        complain(message, SiteError, default="warn")


def check_amortised(guide: Program, plan: Plan, local: frozenset[str]) -> None:
    """Check that a guide computes what belongs to the rows from the data, not from params."""
    fix = (
        "Compute their distributions from the batch (an amortised guide), or give the whole data "
        "to the model and use plate(..., subsample_size=...), whose params have an element for "
        "each row of all data"
    )
    found = ""
    short = _traced(guide, _at_length(plan, 0))  # what is wrong with it at one size, it says itself
    try:
        longer = _traced(guide, _at_length(plan, 1))
        params = [
            name
            for name, site in short.params.items()
            if name in longer.params
            and known_shape(site.value) != known_shape(longer.params[name].value)
        ]
        fixed = _of_one_size(short, longer, local)
        if not params and not fixed:
            for name in local.intersection(longer.latent):
                evaluate(as_plain_tensor(longer[name].value))  # an error if sizes disagree
            return
        if params:
            found = f"the params {quoted(params)}, of the size of a batch"
        else:
            shapes = (f"{name!r} of shape {shape}" for name, shape in fixed.items())
            found = f"{', '.join(shapes)}, whatever the size of the batch"
            fix += (
                ". An automatic guide that computes from the batch, AutoAmortizedNormal, takes the "
                "model as a function of the data, not a built one"
            )
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


def _of_one_size(short: Trace, longer: Trace, local: frozenset[str]) -> dict[str, tuple]:
    """Return the shapes of sites of rows that a guide draws in one size, be the batch longer."""
    found = {}
    for name in sorted(local.intersection(short.latent, longer.latent)):
        shape, other = (known_shape(run[name].value) for run in (short, longer))
        if shape == other and shape and None not in shape:
            found[name] = shape
    return found


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
