"""Sums over discrete sites, one combination of all elements after the other."""

from __future__ import annotations

import itertools

import numpy as np
import pytensor
from scipy.special import logsumexp

from pymc_svi.enumeration.marking import is_enumerated, summed
from pymc_svi.enumeration.supports import support_of
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.handlers import replay, trace
from pymc_svi.objectives.trace_elbo import is_latent_term


def combinations(sites):
    """Yield all joint values of some sites."""
    each = [
        [
            np.array(values, dtype=site.infer["summed_over"].dtype).reshape(site.shape)
            for values in itertools.product(support_of(site), repeat=int(np.prod(site.shape)))
        ]
        for site in sites
    ]
    yield from itertools.product(*each)


def function_of(sites, value):
    placeholders = [site.infer["summed_over"] for site in sites]
    return pytensor.function(placeholders, value, mode=evaluation_mode(), on_unused_input="ignore")


def enumerated(traced):
    return [site for site in traced.latent.values() if is_enumerated(site)]


def brute_loss(model, guide, *args) -> float:
    """The loss of a pair without other draws."""
    guide_trace = trace(summed(guide)).get_trace(*args)
    model_trace = trace(summed(replay(model, trace=guide_trace), unless=guide_trace)).get_trace(
        *args
    )
    guided = enumerated(guide_trace)
    left_out = [s for s in enumerated(model_trace) if s.name not in guide_trace]
    log_p = function_of([*guided, *left_out], model_trace.log_prob_sum())
    log_q = function_of(guided, guide_trace.log_prob_sum(is_latent_term))
    loss = 0.0
    for values in combinations(guided):
        weight = float(log_q(*values))
        if weight > -np.inf:
            inner = logsumexp([float(log_p(*values, *rest)) for rest in combinations(left_out)])
            loss += np.exp(weight) * (weight - inner)
    return loss


def brute_posterior(model, *args):
    """All joint values of the discrete sites of a model, and their posterior probabilities."""
    traced = trace(summed(model, unless=())).get_trace(*args)
    sites = enumerated(traced)
    log_p = function_of(sites, traced.log_prob_sum())
    values = list(combinations(sites))
    log_probs = np.array([float(log_p(*v)) for v in values])
    names = [site.name for site in sites]
    return [dict(zip(names, v, strict=True)) for v in values], np.exp(
        log_probs - logsumexp(log_probs)
    )
