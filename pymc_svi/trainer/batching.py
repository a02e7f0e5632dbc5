"""Programs that do not know that their data come in batches.

:class:`Batched` gives a program the arrays of a batch, as arguments or in the place of its
``pm.Data``, and weights the terms that belong to the rows of the batch by total rows / rows of
the batch: observed sites and factors that depend on them, and latent sites with an element for
each row.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.distributions.shape_utils import change_dist_size
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import graph_replace
from pytensor.tensor.shape import Shape, Shape_i
from pytensor.tensor.subtensor import Subtensor, get_idx_list
from pytensor.tensor.type_other import NoneConst
from pytensor.xtensor.type import XTensorType

from pymc_svi.data import DataError
from pymc_svi.engine.arguments import DataVariable
from pymc_svi.errors import PairingError, SiteError, did_you_mean, quoted, sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.handlers import Handler, Site, Trace, trace
from pymc_svi.handlers.core import Program, built_model, run_program
from pymc_svi.handlers.distributions import batch_shape
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.objectives import Loss
from pymc_svi.trainer.feeds import DataFeed, placeholder

__all__ = ["Batched", "Plan", "accepted_names", "plan_batches", "with_batches"]


@dataclass(frozen=True)
class Plan:
    """How batches enter a model and a guide.

    Attributes
    ----------
    variables : dict of str to DataVariable
        The arrays by the names that the programs know them by.
    total_size : int
        Rows of all data.
    rows : int or None
        Rows of a batch, None where they differ.
    dims : frozenset of str
        Dims along which the data of a built model are cut.
    data : dict of Variable to str
        The ``pm.Data`` variables of built programs that a batch takes the place of.
    local : frozenset of str
        The latent sites of the model that have an element for each row.
    """

    variables: Mapping[str, DataVariable]
    total_size: int
    rows: int | None
    dims: frozenset[str]
    data: Mapping[Variable, str]
    local: frozenset[str] = frozenset()

    @property
    def n_rows(self) -> Any:
        """Rows of the present batch: a number, or an expression where they differ."""
        return pt.shape(next(iter(self.variables.values())))[0] if self.rows is None else self.rows

    @property
    def weight(self) -> Any:
        """What terms of a row count: total rows / rows of the batch."""
        if self.rows is not None:
            return self.total_size / self.rows
        return pt.as_tensor(self.total_size, dtype=pytensor.config.floatX) / self.n_rows.astype(
            pytensor.config.floatX
        )


class Batched(Handler):
    """Run a program on the arrays of a batch.

    Parameters
    ----------
    program : callable or pymc.Model
        The program.
    plan : Plan
        How batches enter it.
    """

    def __init__(self, program: Program, plan: Plan):
        super().__init__(program)
        self.plan = plan

    def __call__(self, *args, **kwargs) -> Any:
        """Run the program on the batch."""
        names = accepted_names(self.program, self.plan.variables)
        with copy.copy(self):
            return run_program(self.program, **{name: self.plan.variables[name] for name in names})

    def __enter__(self):
        # Whether a variable depends on the batch, as far as is known.
        self._depends: dict[Variable, bool] = dict.fromkeys(self.plan.variables.values(), True)
        self._depends |= dict.fromkeys(self.plan.data, True)
        return super().__enter__()

    def process_message(self, site: Site) -> None:
        """Put the batch in the place of data, and give sites along its dims its size."""
        if site.type == "data" and site.value in self.plan.data:
            site.value = self.plan.variables[self.plan.data[site.value]]
        if site.type == "sample" and site.dims and self.plan.dims.intersection(site.dims):
            _resize(site, self.plan)

    def postprocess_message(self, site: Site) -> None:
        """Weight the site if it belongs to the rows of the batch."""
        if site.type not in ("sample", "factor"):
            return
        if site.type == "sample" and not site.observed:
            follows = site.name in self.plan.local
            for value in (site.value, site.dist, site.outcome):
                if isinstance(value, Variable):
                    self._depends[value] = follows
        else:
            parts = (site.dist, site.value)
            follows = any(self.depends(v) for v in parts if isinstance(v, Variable))
        if follows and not self._is_weighted(site):
            site.scale = site.scale * self.plan.weight

    def _is_weighted(self, site: Site) -> bool:
        """Whether the program itself weights a site: a plate, or ``total_size=``."""
        if any(frame.is_subsampled for frame in site.plates):
            sizes = {frame.size for frame in site.plates if frame.is_subsampled}
            if self.plan.total_size not in sizes:
                raise _contradiction(site.name, f"a plate of {sorted(sizes)}", self.plan)
            return True
        node = getattr(site.dist, "owner", None)
        if node is None or not isinstance(node.op, MinibatchRandomVariable):
            return False
        total = node.inputs[1:]
        if total and not NoneConst.equals(total[0]):
            size = int(evaluate(total[0]))
            if size != self.plan.total_size:
                raise _contradiction(site.name, f"total_size={size}", self.plan)
        return True

    def depends(self, target: Variable) -> bool:
        """Whether an expression depends on the rows of the batch.

        What follows from other axes of the arrays does not: ``shape=X.shape[1]``.
        """
        known = self._depends
        pending = [target]
        while pending:
            variable = pending[-1]
            if variable in known:
                pending.pop()
                continue
            inputs = _inputs_that_count(variable)
            unknown = [v for v in inputs if v not in known]
            if unknown:
                pending.extend(unknown)
            else:
                known[variable] = any(known[v] for v in inputs)
        return known[target]


def _contradiction(name: str, found: str, plan: Plan) -> DataError:
    return DataError(
        sentence(
            f"Site {name!r} has another number of rows than the DataLoader",
            found=f"{found} in the program, {plan.total_size} rows in the DataLoader",
            fix="Leave it out of the program: the DataLoader's batches are weighted by themselves",
        )
    )


def _inputs_that_count(variable: Variable) -> list[Variable]:
    node = variable.owner
    if node is None:
        return []
    if isinstance(node.op, Shape_i):
        return node.inputs if node.op.i == 0 else []
    if isinstance(node.op, Subtensor):
        of = node.inputs[0].owner
        if of is not None and isinstance(of.op, Shape):
            [index] = get_idx_list(node.inputs, node.op.idx_list)
            axis = index.data if isinstance(index, Constant) else index
            if isinstance(axis, int | np.integer) and axis != 0:
                return []
    return node.inputs


def _resize(site: Site, plan: Plan) -> None:
    """Give a site along a dim of the batch as many elements as the batch has rows."""
    rv = site.dist
    if rv is None or isinstance(rv.type, XTensorType):
        return
    assert site.dims is not None
    shape = list(batch_shape(rv))
    for axis, dim in enumerate(site.dims[: len(shape)]):
        if dim in plan.dims:
            shape[axis] = plan.n_rows
    site.dist = change_dist_size(rv, tuple(shape))
    site.dist.name = rv.name
    if site.value is rv:
        site.value = site.dist


# --- names --------------------------------------------------------------------------------------


def accepted_names(program: Program, names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return which of the names are arguments of a program; none of a built model's."""
    if built_model(program) is not None:
        return []
    if hasattr(program, "model") and callable(program.model):
        return accepted_names(program.model, names)  # an automatic guide has its model's
    parameters = inspect.signature(program).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return list(names)
    known = {p.name for p in parameters}
    return [name for name in names if name in known]


def name_of_bare_array(model: Program) -> str:
    """Return what a bare array feeds: the only ``pm.Data``, or the first argument."""
    built = built_model(model)
    if built is None:
        names = [
            p.name
            for p in inspect.signature(model).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if names:
            return names[0]
        what, known = "arguments", names
    else:
        known = [str(variable.name) for variable in built.data_vars]
        if len(known) == 1:
            return known[0]
        what = "pm.Data"
    raise DataError(
        sentence(
            "It is not clear what a bare array feeds",
            found=f"{what}: {quoted(known)}",
            fix='Give it a name: DataLoader({"X": X}, ...)',
        )
    )


def plan_batches(model: Program, guide: Program, feed: DataFeed) -> Plan:
    """Find what the arrays of the batches feed, and which sites belong to their rows."""
    variables = dict(feed.placeholders)
    if set(variables) == {""}:
        variables = {name_of_bare_array(model): variables[""]}
    data: dict[Variable, str] = {}
    dims: set[str] = set()
    known: set[str] = set()
    for program in (model, guide):
        built = built_model(program)
        if built is None:
            continue
        for variable in built.data_vars:
            known.add(str(variable.name))
            if variable.name in variables:
                name = str(variable.name)
                _check_placeholder(variable, variables[name])
                data[variable] = name
                dims.update((built.named_vars_to_dims.get(name) or ())[:1])
    fed = {name for program in (model, guide) for name in accepted_names(program, variables)}
    for name in variables:
        if name not in fed and name not in data.values():
            arguments = set() if built_model(model) is not None else _arguments(model)
            raise DataError(
                sentence(
                    f"The data have a column {name!r} that neither model nor guide takes",
                    found=f"pm.Data {quoted(sorted(known))}, arguments {quoted(sorted(arguments))}",
                    fix="Rename the column, or leave it out",
                )
                + did_you_mean(name, known | arguments)
            )
    plan = Plan(variables, feed.loader.total_size, feed.rows, frozenset(dims), data)
    local = _local_sites(model, plan)
    if local:
        _check_amortised(guide, plan, local)
    return Plan(plan.variables, plan.total_size, plan.rows, plan.dims, data, frozenset(local))


def _arguments(program: Program) -> set[str]:
    return set(inspect.signature(program).parameters)


def _check_placeholder(variable: Variable, array: DataVariable) -> None:
    """Check that an array can stand in the place of a ``pm.Data``, but for its rows."""
    value = variable.get_value(borrow=True)
    name = variable.name
    theirs, mine = array.type.shape[1:], value.shape[1:]
    if theirs != mine or value.ndim != array.type.ndim:
        raise DataError(
            sentence(
                f"The rows of {name!r} have another shape than those of the model's pm.Data",
                found=f"{theirs} in the DataLoader",
                expected=f"{mine}",
            )
        )
    if array.type.dtype.startswith("float") and not str(value.dtype).startswith("float"):
        raise DataError(
            sentence(
                f"{name!r} has another dtype than the model's pm.Data",
                found=f"{array.type.dtype} in the DataLoader",
                expected=str(value.dtype),
            )
        )


# --- local latent sites ---------------------------------------------------------------------------


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
    with pm.Model(coords=None, model=None) if model is None else _scratch(model):
        return trace(Batched(program, plan)).get_trace()


def _scratch(model: pm.Model) -> pm.Model:
    from pymc_svi.handlers.walk import scratch_model

    return scratch_model(model)


def _shape(variable: Variable) -> tuple[int, ...]:
    variable = as_plain_tensor(variable)
    static = variable.type.shape
    if None not in static:
        return tuple(static)
    return tuple(int(n) for n in np.atleast_1d(evaluate(variable.shape)))


def _local_sites(model: Program, plan: Plan) -> set[str]:
    """Return the latent sites whose size follows the batch's, seen by running it at two sizes."""
    short = _traced(model, _at_length(plan, 0))
    rows = _at_length(plan, 0).rows
    shapes = {name: _shape(site.dist) for name, site in short.latent.items()}
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
        if name not in longer or _shape(longer[name].dist) != shapes[name]
    }


def _check_amortised(guide: Program, plan: Plan, local: set[str]) -> None:
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
            if name in longer.params and _shape(site.value) != _shape(longer.params[name].value)
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


def with_batches(loss: Loss, plan: Plan, feed: DataFeed) -> Loss:
    """Return a loss with the rows of the present step in the place of the placeholders."""
    expressions = list(feed.expressions.values())
    replace: dict[Variable, Variable] = dict(zip(plan.variables.values(), expressions, strict=True))
    by_name = dict(zip(plan.variables, expressions, strict=True))
    replace |= {variable: by_name[name] for variable, name in plan.data.items()}
    outputs = [loss.value, loss.surrogate, *loss.terms.values(), *loss.updates.values()]
    value, surrogate, *rest = graph_replace(outputs, replace, strict=False)
    terms = dict(zip(loss.terms, rest, strict=False))
    updates = dict(zip(loss.updates, rest[len(terms) :], strict=True))
    same = loss.surrogate is loss.value
    return Loss(value, value if same else surrogate, terms, updates)
