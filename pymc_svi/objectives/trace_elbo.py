"""``Trace_ELBO``: the evidence lower bound by Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.gradients.particles import vectorize_draws
from pymc_svi.gradients.score_function import (
    downstream_cost,
    pathwise_or_score,
    scored_factors,
    uses_score_function,
)
from pymc_svi.gradients.stand_in import detached
from pymc_svi.handlers import Site, Trace
from pymc_svi.handlers.core import Program
from pymc_svi.objectives.base import ELBO, Loss
from pymc_svi.objectives.held import density_with_params_held
from pymc_svi.objectives.pairing import traces_of_pair

__all__ = ["Cost", "Trace_ELBO"]


@dataclass(frozen=True)
class Cost:
    """One term of a negative ELBO.

    Attributes
    ----------
    side : {"model", "guide"}
        Where the site is; terms of the model are subtracted.
    site : Site
        The site.
    value : TensorVariable
        The term, elementwise.
    carrier : TensorVariable
        What is differentiated in its place; it has the same value.
    """

    side: Literal["model", "guide"]
    site: Site
    value: Variable
    carrier: Variable

    @property
    def name(self) -> str:
        """What the term is called in messages."""
        return f"{self.side}: {self.site.name}"

    @property
    def is_latent(self) -> bool:
        """Whether it is a part of the divergence of the guide from the prior."""
        return self.site.is_latent

    def signed(self) -> Variable:
        """Return the value as it enters the loss."""
        return self.value if self.side == "guide" else -self.value


class Trace_ELBO(ELBO):
    r"""The negative evidence lower bound, estimated from draws of the guide.

    .. math:: -\mathrm{ELBO} = \mathbb{E}_{z \sim q}\left[\log q(z) - \log p(x, z)\right]

    Gradients are pathwise at sites that can be drawn as a differentiable function of their
    parameters [1]_ [2]_. At the others, discrete ones and those without a rule, they are
    score-function gradients [3]_, in which the cost of a draw holds only terms that depend on
    it, element by element.

    Parameters
    ----------
    num_particles : int, default 1
        Number of draws the estimate is averaged over.
    vectorize_particles : bool, default True
        Evaluate the draws as one batch, or one after the other with less memory.
    sticking_the_landing : bool, default False
        Leave the score of the guide out of pathwise gradients [4]_: it is zero on average, and
        without it the gradient has no variance where the guide is the exact posterior.
    kl_scale : float or callable, default 1.0
        Weight of the divergence from the prior, for annealing [5]_: a number, or a schedule that
        maps the number of steps taken to one.

    Raises
    ------
    ValueError
        If ``kl_scale`` is negative, or neither a number nor a function.

    References
    ----------
    .. [1] Kingma and Welling (2014), Auto-Encoding Variational Bayes.
    .. [2] Rezende, Mohamed and Wierstra (2014), Stochastic Backpropagation and Approximate
       Inference in Deep Generative Models.
    .. [3] Ranganath, Gerrish and Blei (2014), Black Box Variational Inference.
    .. [4] Roeder, Wu and Duvenaud (2017), Sticking the Landing.
    .. [5] Bowman et al. (2016), Generating Sentences from a Continuous Space.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import Trace_ELBO
    >>> def program():
    ...     pm.Normal("x", 0.0, 1.0)
    >>> loss = Trace_ELBO().loss(program, program)  # a guide that is the prior
    >>> float(loss.value.eval())
    0.0
    """

    def __init__(
        self,
        num_particles: int = 1,
        vectorize_particles: bool = True,
        sticking_the_landing: bool = False,
        kl_scale: float | Callable[[Any], Any] = 1.0,
    ):
        super().__init__(num_particles, vectorize_particles)
        self.sticking_the_landing = bool(sticking_the_landing)
        number = isinstance(kl_scale, int | float | np.number) and kl_scale >= 0
        if not (number or callable(kl_scale)):
            raise ValueError(
                sentence(
                    f"{type(self).__name__}: kl_scale is a number or a schedule",
                    found=repr(kl_scale),
                    expected="a number from 0 on, or a function of the step",
                )
            )
        self.kl_scale = kl_scale

    def loss(self, model: Program, guide: Program, /, *args, **kwargs) -> Loss:
        """Build the loss; see :class:`ELBO`."""
        weight, updates = self._kl_weight()
        one_by_one = self.num_particles > 1 and not self.vectorize_particles
        runs = [
            self.one_particle(model, guide, args, kwargs, weight)
            for _ in range(self.num_particles if one_by_one else 1)
        ]
        if one_by_one:
            return _mean_of_runs(runs, updates)
        return _mean_of_batch(runs[0], self.num_particles, updates)

    def one_particle(self, model, guide, args, kwargs, weight) -> Loss:
        """Build the loss at one draw of the guide.

        Parameters
        ----------
        model, guide : callable or pymc.Model
            The programs.
        args, kwargs
            Arguments of both.
        weight : float or Variable
            Weight of the divergence from the prior.

        Returns
        -------
        Loss
            The loss.
        """
        model_trace, guide_trace = traces_of_pair(
            model, guide, args, kwargs, draws=pathwise_or_score
        )
        held = None
        if self.sticking_the_landing:
            held = density_with_params_held(guide, guide_trace, *args, **kwargs)
        return self._loss_of(self.costs(model_trace, guide_trace, held), guide_trace, weight)

    def _loss_of(self, costs: list[Cost], guide_trace: Trace, weight: Any) -> Loss:
        """Sum the terms, and add the gradients of draws without a derivative."""
        value = _total(costs, weight, [cost.value for cost in costs])
        scored = [site for site in guide_trace.latent.values() if uses_score_function(site)]
        surrogate, updates = value, {}
        if scored or any(cost.carrier is not cost.value for cost in costs):
            surrogate = _total(costs, weight, [cost.carrier for cost in costs])
        factors = scored_factors(guide_trace)
        signed = [_weighted(cost, weight) for cost in costs] if scored or factors else []
        for site in scored:
            term, new = self.score_term(site, downstream_cost(site, signed))
            surrogate = surrogate + term
            updates.update(new)
        for site in factors:  # which draws it is the density of is not known
            surrogate = surrogate + site.unscaled_log_prob.sum() * detached(_sum(_sums(signed)))
        terms: dict[str, Variable] = {}
        for cost in costs:
            term = cost.value.sum()
            terms[cost.name] = terms[cost.name] + term if cost.name in terms else term
        return Loss(value, surrogate, terms, updates)

    def costs(self, model_trace: Trace, guide_trace: Trace, held: Trace | None) -> list[Cost]:
        """Return the terms of the loss.

        Parameters
        ----------
        model_trace, guide_trace : Trace
            The traces of the programs.
        held : Trace or None
            The guide's trace with its params held.

        Returns
        -------
        list of Cost
            The terms.
        """
        costs = [
            Cost("model", site, site.log_prob, site.log_prob)
            for site in model_trace.sites("sample", "factor")
        ]
        scored = scored_factors(guide_trace)
        for site in guide_trace.sites("sample", "factor"):
            if is_latent_term(site):
                value = carrier = site.log_prob
                if uses_score_function(site) or site in scored:
                    # Its score is zero on average; its entropy is part of the draw's cost.
                    carrier = detached(value)
                elif held is not None:
                    carrier = held[site.name].log_prob
                costs.append(Cost("guide", site, value, carrier))
        return costs

    def score_term(self, site: Site, cost: Variable | None):
        """Return what has the score-function gradient of a site, and updates it needs.

        Parameters
        ----------
        site : Site
            A site of the guide without a differentiable draw.
        cost : Variable or None
            The terms of the loss that depend on its draw; None if there are none.

        Returns
        -------
        Variable
            The term.
        dict
            The updates.
        """
        # Neither scaled nor masked: it is the density that the value was drawn from.
        if cost is None:
            return pt.zeros(()), {}
        return (site.unscaled_log_prob * detached(cost)).sum(), {}

    def _kl_weight(self) -> tuple[Any, dict[Variable, Variable]]:
        if not callable(self.kl_scale):
            return float(self.kl_scale), {}
        step = pytensor.shared(np.array(0, dtype="int64"), name="kl_scale/step")
        return pt.as_tensor(self.kl_scale(step)), {step: step + 1}


def _weighted(cost: Cost, weight: Any) -> Variable:
    unweighted = isinstance(weight, float) and weight == 1.0
    return cost.signed() if unweighted or not cost.is_latent else weight * cost.signed()


def _total(costs: Sequence[Cost], weight: Any, values: Sequence[Variable]) -> Variable:
    """Return the sum of the guide's terms minus that of the model's."""
    sums: dict[str, list[Variable]] = {"guide": [], "model": []}
    for cost, value in zip(costs, values, strict=True):
        total = value.sum()
        if cost.is_latent and not (isinstance(weight, float) and weight == 1.0):
            total = weight * total
        sums[cost.side].append(total)
    return _sum(sums["guide"]) - _sum(sums["model"])


def _sums(values: Sequence[Variable]) -> list[Variable]:
    return [value.sum() for value in values]


def _sum(values: Sequence[Variable]) -> Variable:
    return pt.add(*values) if len(values) > 1 else (values or [pt.constant(0.0)])[0]


def _mean_of_runs(runs: Sequence[Loss], updates) -> Loss:
    def mean(values):
        return pt.add(*values) / len(values)

    value = mean([run.value for run in runs])
    same = all(run.surrogate is run.value for run in runs)
    surrogate = value if same else mean([run.surrogate for run in runs])
    terms = {name: mean([run.terms[name] for run in runs]) for name in runs[0].terms}
    carried = {var: mean([run.updates[var] for run in runs]) for var in runs[0].updates}
    return Loss(value, surrogate, terms, {**carried, **updates})


def _mean_of_batch(run: Loss, n: int, updates) -> Loss:
    if n > 1:
        same = run.surrogate is run.value
        expressions = [run.value, *([] if same else [run.surrogate])]
        expressions += [*run.terms.values(), *run.updates.values()]
        means = [batch.mean(axis=0) for batch in vectorize_draws(expressions, n)]
        value, surrogate = means[0], means[0 if same else 1]
        rest = means[1 if same else 2 :]
        terms = dict(zip(run.terms, rest, strict=False))
        run = Loss(
            value,
            surrogate,
            terms,
            dict(zip(run.updates, rest[len(terms) :], strict=True)),
        )
    return Loss(run.value, run.surrogate, run.terms, {**run.updates, **updates})


def is_latent_term(site: Site) -> bool:
    """Whether a guide's site belongs to its density: data in a guide do not."""
    return not (site.type == "sample" and site.observed)
