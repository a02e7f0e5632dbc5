"""A fit as one compiled step: model, guide and data, and what to draw from afterwards."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from pytensor.compile.mode import Mode
from pytensor.graph.replace import graph_replace

from pymc_svi.config import validation
from pymc_svi.data import DataError, DataLoader
from pymc_svi.data.checks import check_batch
from pymc_svi.engine import Arguments, SVIState, Training, training_mode
from pymc_svi.errors import sentence
from pymc_svi.handlers import Handler, trace
from pymc_svi.handlers.core import built_model
from pymc_svi.results import SVIRunResult
from pymc_svi.svi import SVI
from pymc_svi.trainer.batching import Batched, Plan, accepted_names, in_place_of, with_batches
from pymc_svi.trainer.feeds import DataFeed, feed_of, placeholder
from pymc_svi.trainer.laws import laws_of
from pymc_svi.trainer.local import sites_of_rows
from pymc_svi.trainer.planning import explaining_lengths, plan_batches

__all__ = ["Session", "build_session"]


@dataclass
class Session:
    """Model, guide and data as one compiled step.

    Attributes
    ----------
    svi : SVI
        The method.
    training : Training
        The step.
    feed : DataFeed or None
        The data.
    plan : Plan or None
        How they enter.
    batched : SVI or None
        The method on the placeholders of a batch.
    sampled : SVI
        The method to draw from afterwards.
    arguments : Arguments
        The arguments to draw with.
    fitted_on : Arguments or None
        All data, where the guide needs them once the fit is over.
    """

    svi: SVI
    training: Training
    feed: DataFeed | None
    plan: Plan | None
    batched: SVI | None
    sampled: SVI
    arguments: Arguments
    fitted_on: Arguments | None = None

    def can_be_used_again(self, data_seed: int) -> bool:
        """Whether the compiled step gives the numbers of a new one."""
        if self.feed is None or not self.feed.starts_anew:
            return False
        seed = self.feed.loader.seed
        self.feed.start_anew(data_seed if seed is None else seed)
        return built_model(self.svi.model) is None

    def evaluate(self, state: SVIState, batch: Mapping[str, Any]) -> float:
        """Return the loss on a batch that is not of the data."""
        if self.batched is None or self.plan is None:
            raise DataError(
                sentence("There is no data loader, so that no other data can take its place")
            )
        assert self.feed is not None
        like = dict(zip(self.plan.variables, self.feed.first.values(), strict=True))
        checked = check_batch(batch, like, "The batch")
        if not hasattr(self, "_held"):
            plan = replace(self.plan, rows=None)
            self._held = _held_out(self.svi, plan, self.training.mode, checked)
        held, variables = self._held
        for name, variable in variables.items():
            variable.set_value(checked[name].astype(variable.type.dtype, copy=False))
        held.load(state)
        return float(held.evaluate())

    def result(self, state: SVIState, losses: np.ndarray, about: Mapping[str, Any]) -> SVIRunResult:
        """Return the result of a fit."""
        params = self.training.params
        return SVIRunResult(
            params.constrained(state.params),
            state,
            losses,
            svi=self.sampled,
            arguments=self.arguments,
            param_sites=params.as_trace(),
            fitted_on=self.fitted_on,
            of_rows=lambda: self.of_rows,
            about=about,
        )

    @cached_property
    def laws(self) -> dict[str, str]:
        """The law of each site of the model."""
        model = self.svi.model if self.batched is None else self.batched.model
        with self.svi.context(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what there is to say has been said
            fed = () if self.plan is None else set(self.plan.variables.values())
            return laws_of(trace(model).get_trace(), fed)

    @cached_property
    def of_rows(self) -> frozenset[str]:
        """The sites of a function program whose values are those of the rows of one batch.

        A built model has data of its own, on which it is run.
        """
        if self.plan is None or built_model(self.svi.model) is not None:
            return frozenset()
        with self.svi.context():
            return sites_of_rows(self.svi.model, self.svi.guide, self.plan)


def build_session(svi: SVI, loader: DataLoader, data_seed: int) -> Session:
    """Build the compiled step of a method on batches."""
    feed = feed_of(loader, data_seed)
    with explaining_lengths(svi.model, svi.guide, feed.placeholders, loader.total_size):
        with svi.context(), validation(svi.validate):
            plan = plan_batches(svi.model, svi.guide, feed)
        fitted_on = _fitted_on(svi, plan, loader)
        batched, loss, store = _batched_loss(svi, plan)
    loss = with_batches(loss, plan, feed)
    training = Training(loss, store, svi.optim, training_mode(svi.mode), feed)
    first = {name: variable.get_value() for name, variable in plan.variables.items()}
    kwargs = {name: first[name] for name in accepted_names(svi.model, plan.variables)}
    sampled = svi.with_programs(guide=_narrowed(svi, plan))
    return Session(svi, training, feed, plan, batched, sampled, Arguments((), kwargs), fitted_on)


def _fitted_on(svi: SVI, plan: Plan, loader: DataLoader) -> Arguments | None:
    """Return all data for a guide that computes something from them once the fit is over."""
    guide = svi.guide
    while isinstance(guide, Handler) and guide.program is not None:
        guide = guide.program
    if not getattr(guide, "computes_from_data", False):
        return None
    what = type(guide).__name__
    model = built_model(svi.model)
    if model is not None:
        for variable, name in plan.data.items():
            rows = len(variable.get_value(borrow=True))
            if rows != plan.total_size:
                raise DataError(
                    sentence(
                        f"{what} needs all data in the model once the fit is over",
                        found=f"{rows} rows in {name!r}, {plan.total_size} in the DataLoader",
                        fix=f'Put them there with pm.set_data({{"{name}": ...}}), or use '
                        "AutoNormal or AutoMultivariateNormal",
                    )
                )
        return Arguments((), {})
    if loader.arrays is None:
        raise DataError(
            sentence(
                f"{what} needs all data at once when the fit is over, which a stream does not have",
                fix="Load them into memory, or use AutoNormal or AutoMultivariateNormal",
            )
        )
    arrays = dict(zip(plan.variables, loader.arrays.values(), strict=True))
    return Arguments((), {n: arrays[n] for n in accepted_names(svi.model, plan.variables)})


def _batched_loss(svi: SVI, plan: Plan):
    batched = svi.with_programs(Batched(svi.model, plan), Batched(svi.guide, plan))
    loss, store = batched.build_loss()
    return batched, loss, store


def _held_out(svi: SVI, plan: Plan, mode: Mode, batch: Mapping[str, np.ndarray]):
    """Build the loss on a batch of any number of rows, without steps."""
    variables = {name: placeholder(name, value, None) for name, value in batch.items()}
    _, loss, store = _batched_loss(svi, replace(plan, variables=variables))
    by_data = {v: in_place_of(v, variables[name]) for v, name in plan.data.items()}
    if by_data:
        outputs = [loss.value, loss.surrogate, *loss.terms.values()]
        value, surrogate, *rest = graph_replace(outputs, by_data, strict=False)
        loss = replace(
            loss, value=value, surrogate=surrogate, terms=dict(zip(loss.terms, rest, strict=True))
        )
    return Training(loss, store, svi.optim, mode), variables


def _narrowed(svi: SVI, plan: Plan):
    """Return the guide as a program that can be called as the model is, to draw from it."""
    guide = svi.guide
    names = accepted_names(svi.model, plan.variables)
    taken = accepted_names(guide, plan.variables)
    if built_model(guide) is not None or taken == names:
        return guide
    model = built_model(svi.model)

    def narrowed(*args, **kwargs):
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if model is not None:
            given |= {name: model[name] for name in taken}
        return guide(**{name: given[name] for name in taken if name in given})

    return narrowed
