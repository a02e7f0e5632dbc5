"""What objectives share that weigh several draws of the guide against each other."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import pytensor.tensor as pt
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.gradients.draws import pathwise
from pymc_svi.gradients.particles import vectorize_draws
from pymc_svi.gradients.score_function import (
    pathwise_or_score,
    scored_factors,
    uses_score_function,
)
from pymc_svi.gradients.stand_in import detached
from pymc_svi.handlers import Site, Trace
from pymc_svi.handlers.core import Program
from pymc_svi.objectives.base import ELBO, Loss
from pymc_svi.objectives.held import (
    check_densities,
    density_with_params_held,
    detached_values,
    hold_params,
    run_again,
)
from pymc_svi.objectives.pairing import traces_of_pair
from pymc_svi.objectives.trace_elbo import is_latent_term

__all__ = ["MultiSample", "normalized"]

Particles = Mapping[str, Variable]


class MultiSample(ELBO):
    """Base of the objectives that weigh several draws of the guide against each other.

    A subclass implements :meth:`combine`, which gets vectors with one entry for each draw:

    - ``log_weight``: ``log p(x, z) - log q(z)``;
    - ``path``: the same with all params held, so that it changes through the draw only;
    - ``model``: ``log p(x, z)`` at the draw as a constant, so that it changes through params only;
    - ``guide``: ``log q(z)`` at the draw as a constant;
    - ``score``: the part of ``guide`` that belongs to draws without a derivative.

    Parameters
    ----------
    num_particles : int, default 2
        Number of draws, at least 2.
    vectorize_particles : bool, default True
        Evaluate the draws as one batch, or one after the other with less memory.

    Attributes
    ----------
    needs : set of str
        Which of them :meth:`combine` uses.
    pathwise_only : bool
        Refuse guides with draws that are not differentiable.

    Raises
    ------
    ValueError
        If ``num_particles`` is below 2.

    Examples
    --------
    The importance weighted bound:

    >>> import pymc as pm
    >>> import pytensor.tensor as pt
    >>> from pymc_svi import SVI, param
    >>> from pymc_svi.objectives import MultiSample
    >>> class Weighted(MultiSample):
    ...     pathwise_only = True
    ...
    ...     def combine(self, particles):
    ...         value = pt.log(self.num_particles) - pt.logsumexp(particles["log_weight"])
    ...         return value, value
    >>> def model():
    ...     pm.Normal("x", 0.0, 1.0)
    >>> def guide():
    ...     pm.Normal("x", param("loc", 1.0), 1.0)
    >>> svi = SVI(model, guide, loss=Weighted(num_particles=10))
    >>> svi.evaluate(svi.init(random_seed=0)) < 2.0
    True
    """

    needs: frozenset[str] = frozenset({"log_weight"})
    pathwise_only = False

    def __init__(self, num_particles: int = 2, vectorize_particles: bool = True):
        super().__init__(num_particles, vectorize_particles)
        if num_particles < 2:
            raise ValueError(
                sentence(
                    f"{type(self).__name__} weighs draws against each other",
                    found="num_particles=1",
                    expected="at least 2",
                    fix="With one draw, use Trace_ELBO",
                )
            )

    @abstractmethod
    def combine(self, particles: Particles) -> tuple[Variable, Variable]:
        """Return the loss and what is differentiated.

        Parameters
        ----------
        particles : dict of str to Variable
            The vectors by name.

        Returns
        -------
        tuple of Variable
            The two scalars.
        """

    def loss(self, model: Program, guide: Program, /, *args, **kwargs) -> Loss:
        """Build the loss; see :class:`ELBO`."""
        n = self.num_particles
        if self.vectorize_particles:
            parts, terms = self._particle(model, guide, args, kwargs)
            batch = vectorize_draws([*parts.values(), *terms.values()], n)
            vectors = dict(zip(parts, batch, strict=False))
            means = [term.mean() for term in batch[len(parts) :]]
        else:
            runs = [self._particle(model, guide, args, kwargs) for _ in range(n)]
            terms = runs[0][1]
            vectors = {name: pt.stack([parts[name] for parts, _ in runs]) for name in runs[0][0]}
            means = [pt.stack([each[name] for _, each in runs]).mean() for name in terms]
        value, surrogate = self.combine(vectors)
        return Loss(value, surrogate, dict(zip(terms, means, strict=True)))

    def _particle(self, model, guide, args, kwargs) -> tuple[dict[str, Variable], Particles]:
        """Return the quantities of one draw, and the terms of its sites."""
        draws = pathwise if self.pathwise_only else pathwise_or_score
        model_trace, guide_trace = traces_of_pair(model, guide, args, kwargs, draws=draws)
        self._warn_of_minibatches(model_trace)
        scored = [site for site in guide_trace.latent.values() if uses_score_function(site)]
        scored += scored_factors(guide_trace)
        needs = self.needs_of(bool(scored))
        parts = {"log_weight": model_trace.log_prob_sum() - _density(guide_trace)}
        if "path" in needs:
            held = density_with_params_held(guide, guide_trace, *args, **kwargs)
            model_held = run_again(hold_params(model), guide_trace, *args, **kwargs)
            parts["path"] = model_held.log_prob_sum() - _density(held)
        constants = detached_values(guide_trace)
        if "model" in needs:
            parts["model"] = run_again(model, constants, *args, **kwargs).log_prob_sum()
        if "guide" in needs:
            again = check_densities(run_again(guide, constants, *args, **kwargs))
            parts["guide"] = _density(again)
        if "score" in needs:
            parts["score"] = pt.add(*(site.unscaled_log_prob.sum() for site in scored), 0.0)
        terms = {
            f"{side}: {site.name}": site.log_prob.sum()
            for side, traced in (("model", model_trace), ("guide", guide_trace))
            for site in traced.sites("sample", "factor")
        }
        return parts, terms

    def _warn_of_minibatches(self, model_trace: Trace) -> None:
        """Say that weights of draws are of all data, which a minibatch doesn't estimate."""
        for site in model_trace.sites("sample", "factor"):
            if _of_minibatch(site):
                warnings.warn(
                    f"{type(self).__name__} weighs each draw by its density, and site {site.name!r} "
                    "has that of a minibatch, scaled to the size of the data. On average over the "
                    "minibatches its loss is not that of all data: it may exceed the log "
                    "evidence, and its optimum is another one. Use Trace_ELBO, or all of the data "
                    "at each step.",
                    UserWarning,
                    stacklevel=2,
                )
                return

    def needs_of(self, has_score_sites: bool) -> frozenset[str]:
        """Return what :meth:`combine` uses of a draw.

        Parameters
        ----------
        has_score_sites : bool
            Whether the guide has draws that are not differentiable.

        Returns
        -------
        frozenset of str
            Names of the vectors.
        """
        return self.needs


def normalized(log_weights: Variable) -> Variable:
    """Return weights that add up to one, as constants in the eyes of differentiation."""
    return detached(pt.exp(log_weights - pt.logsumexp(log_weights)))


def _density(guide_trace: Trace) -> Variable:
    return guide_trace.log_prob_sum(is_latent_term)


def _of_minibatch(site: Site) -> bool:
    """Return whether a site stands for more than itself: a plate's, a loader's, ``total_size``."""
    if any(frame.is_subsampled for frame in site.plates):
        return True
    node = getattr(site.dist, "owner", None)
    if node is not None and isinstance(node.op, MinibatchRandomVariable):
        return True
    # A loader's batches have a scale above one; below is a tempered density, or a varying one.
    return not isinstance(site.scale, Variable) and bool(np.any(np.asarray(site.scale) > 1))
