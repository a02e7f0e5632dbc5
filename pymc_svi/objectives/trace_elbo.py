"""``Trace_ELBO``: the evidence lower bound by Monte Carlo, with pathwise gradients."""

from __future__ import annotations

import pytensor.tensor as pt

from pymc_svi.gradients.particles import vectorize_draws
from pymc_svi.handlers.core import Program
from pymc_svi.objectives.base import ELBO, Loss
from pymc_svi.objectives.pairing import paired_traces

__all__ = ["Trace_ELBO"]


class Trace_ELBO(ELBO):
    r"""The negative evidence lower bound, estimated from draws of the guide.

    .. math:: -\mathrm{ELBO} = \mathbb{E}_{z \sim q}\left[\log q(z) - \log p(x, z)\right]

    Gradients are pathwise: each guide site is drawn as a differentiable function of its
    parameters (Kingma and Welling, 2014; Rezende, Mohamed and Wierstra, 2014).

    Parameters
    ----------
    num_particles : int, default 1
        Number of draws the estimate is averaged over.
    vectorize_particles : bool, default True
        Evaluate the draws as one batch, or one after the other with less memory.

    References
    ----------
    Ranganath, Gerrish and Blei (2014), Black Box Variational Inference.
    Kucukelbir et al. (2017), Automatic Differentiation Variational Inference.

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

    def loss(self, model: Program, guide: Program, *args, **kwargs) -> Loss:
        """Build the loss; see :class:`ELBO`."""
        if self.num_particles > 1 and not self.vectorize_particles:
            parts = [self._one(model, guide, args, kwargs) for _ in range(self.num_particles)]
            value = _mean([part.value for part in parts])
            terms = {name: _mean([part.terms[name] for part in parts]) for name in parts[0].terms}
            return Loss(value, value, terms)
        loss = self._one(model, guide, args, kwargs)
        if self.num_particles > 1:
            values = vectorize_draws([loss.value, *loss.terms.values()], self.num_particles)
            value, *means = [batch.mean() for batch in values]
            return Loss(value, value, dict(zip(loss.terms, means, strict=True)))
        return loss

    def _one(self, model: Program, guide: Program, args, kwargs) -> Loss:
        model_trace, guide_trace = paired_traces(model, guide, *args, **kwargs)
        terms = {
            f"{side}: {site.name}": site.log_prob.sum()
            for side, traced in (("model", model_trace), ("guide", guide_trace))
            for site in traced.sites("sample", "factor")
        }
        value = guide_trace.log_prob_sum(is_latent_term) - model_trace.log_prob_sum()
        return Loss(value, value, terms)


def _mean(values):
    return pt.add(*values) / len(values)


def is_latent_term(site) -> bool:
    """Whether a guide's site belongs to its density: data in a guide do not."""
    return not (site.type == "sample" and site.observed)
