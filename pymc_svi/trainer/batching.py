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
import pytensor
import pytensor.tensor as pt
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.tensor.type_other import NoneConst
from pytensor.xtensor.type import XTensorType

from pymc_svi.data import DataError
from pymc_svi.engine.arguments import DataVariable
from pymc_svi.errors import sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.handlers import Handler, Site
from pymc_svi.handlers.core import Program, built_model, run_program
from pymc_svi.handlers.distributions import batch_shape, resized
from pymc_svi.objectives import Loss
from pymc_svi.trainer.dependence import follows
from pymc_svi.trainer.feeds import DataFeed

__all__ = ["Batched", "Plan", "accepted_names", "in_place_of", "with_batches"]


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
    terms : frozenset of str
        Its observed sites and factors that follow from the number of rows, where that is a number.
    """

    variables: Mapping[str, DataVariable]
    total_size: int
    rows: int | None
    dims: frozenset[str]
    data: Mapping[Variable, str]
    local: frozenset[str] = frozenset()
    terms: frozenset[str] = frozenset()

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
            site.value = in_place_of(site.value, self.plan.variables[self.plan.data[site.value]])
        if site.type == "sample" and site.dims and self.plan.dims.intersection(site.dims):
            _resize(site, self.plan)

    def postprocess_message(self, site: Site) -> None:
        """Weight the site if it belongs to the rows of the batch."""
        if site.type not in ("sample", "factor"):
            return
        if site.type == "sample" and not site.observed:
            of_rows = site.name in self.plan.local
            for value in (site.value, site.dist, site.outcome):
                if isinstance(value, Variable):
                    self._depends[value] = of_rows
        else:
            parts = (site.dist, site.value, site.log_density)  # which a plate repeats
            of_rows = site.name in self.plan.terms or any(
                self.depends(v) for v in parts if isinstance(v, Variable)
            )
        if of_rows and not self._is_weighted(site):
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
        return follows(target, self._depends)


def in_place_of(data: Variable, rows: Variable) -> Variable:
    """Return rows of whole numbers in no fewer bytes than the ``pm.Data`` they take the place of."""
    own, other = np.dtype(rows.type.dtype), np.dtype(data.type.dtype)
    if own == other or own.kind not in "bi" or other.kind != "i":
        return rows
    wider = np.promote_types(own, other)
    return rows if own == wider else rows.astype(wider)


def _contradiction(name: str, found: str, plan: Plan) -> DataError:
    return DataError(
        sentence(
            f"Site {name!r} has another number of rows than the DataLoader",
            found=f"{found} in the program, {plan.total_size} rows in the DataLoader",
            fix="Leave it out of the program: the DataLoader's batches are weighted by themselves",
        )
    )


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
    site.dist = resized(rv, tuple(shape))
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


def with_batches(loss: Loss, plan: Plan, feed: DataFeed) -> Loss:
    """Return a loss with the rows of the present step in the place of the placeholders.

    A step on a batch with fewer rows than the others moves the params by less: its gradient is
    that of all data as the rest is, but of fewer rows. Else the last rows of an epoch, which are
    always the same ones where nothing is shuffled, counted more than the others.
    """
    # Stored in as few bytes as they need, computed in those of the placeholders.
    expressions = [
        rows if rows.type.dtype == variable.type.dtype else rows.astype(variable.type.dtype)
        for rows, variable in zip(feed.expressions.values(), plan.variables.values(), strict=True)
    ]
    replace: dict[Variable, Variable] = dict(zip(plan.variables.values(), expressions, strict=True))
    by_name = dict(zip(plan.variables, expressions, strict=True))
    replace |= {v: in_place_of(v, by_name[name]) for v, name in plan.data.items()}
    surrogate, same = loss.surrogate, loss.surrogate is loss.value
    if plan.rows is None:
        share = plan.n_rows.astype(pytensor.config.floatX) / feed.usual_rows
        surrogate, same = surrogate * share.astype(surrogate.dtype), False
    outputs = [loss.value, surrogate, *loss.terms.values(), *loss.updates.values()]
    value, surrogate, *rest = graph_replace(outputs, replace, strict=False)
    terms = dict(zip(loss.terms, rest, strict=False))
    updates = dict(zip(loss.updates, rest[len(terms) :], strict=True))
    return Loss(value, value if same else surrogate, terms, updates)
