"""``TraceGraph_ELBO``: score-function gradients with baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import SiteError, did_you_mean, quoted, sentence
from pymc_svi.gradients.independence import depends_on
from pymc_svi.gradients.stand_in import detached
from pymc_svi.handlers import Site
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.values import as_tensor_variable, known_shape
from pymc_svi.objectives.base import Loss
from pymc_svi.objectives.trace_elbo import Trace_ELBO

__all__ = ["TraceGraph_ELBO"]

_OPTIONS = (
    "use_decaying_avg_baseline",
    "baseline_beta",
    "baseline_value",
    "nn_baseline",
    "nn_baseline_input",
)


class TraceGraph_ELBO(Trace_ELBO):
    r"""The negative evidence lower bound, with baselines for draws that are not differentiable.

    A baseline is subtracted from the cost of a draw. As long as it does not depend on the draw, it
    leaves the score-function gradient unbiased, and a good one takes most of its variance [1]_.
    The cost itself holds only terms that depend on the draw, as in :class:`Trace_ELBO` [2]_.

    A guide's site asks for one by ``infer={"baseline": {...}}``, with the options

    - ``use_decaying_avg_baseline``: the average of the costs at earlier steps, which decays by
      ``baseline_beta`` (default 0.9) a step and is a part of the state of the fit;
    - ``baseline_value``: an expression of the params and of draws that precede this one;
    - ``nn_baseline`` and ``nn_baseline_input``: a function, such as a neural network whose weights
      are params, of an expression. Its params are learned, by the squared distance from the cost.

    An average is added to either of the others.

    Parameters
    ----------
    num_particles, vectorize_particles, sticking_the_landing, kl_scale
        See :class:`Trace_ELBO`.

    References
    ----------
    .. [1] Mnih and Gregor (2014), Neural Variational Inference and Learning in Belief Networks.
    .. [2] Schulman, Heess, Weber and Abbeel (2015), Gradient Estimation Using Stochastic
       Computation Graphs.

    Examples
    --------
    >>> import pymc as pm
    >>> from scipy.special import expit
    >>> from pymc_svi import SVI, TraceGraph_ELBO, optim, param, sample
    >>> def model():
    ...     z = pm.Bernoulli("z", 0.5)
    ...     pm.Normal("y", 2.0 * z, 1.0, observed=1.5)
    >>> def guide():
    ...     q = pm.Bernoulli.dist(logit_p=param("logit", 0.0))
    ...     sample("z", q, infer={"baseline": {"use_decaying_avg_baseline": True}})
    >>> svi = SVI(model, guide, optim.Adam(0.02), TraceGraph_ELBO(num_particles=10))
    >>> result = svi.run(1_000, random_seed=0, progressbar=False)
    >>> round(float(expit(result.params["logit"])), 1)  # the posterior is 0.73
    0.7
    >>> list(result.state.optim_state)[-1]
    'z/baseline'
    """

    # The averages of the loss that is being built, by site: its particles share them.
    _averages: dict[str, Variable]

    def loss(self, model: Program, guide: Program, /, *args, **kwargs) -> Loss:
        """Build the loss; see :class:`ELBO`."""
        self._averages = {}
        return super().loss(model, guide, *args, **kwargs)

    def score_term(self, site: Site, cost: Variable | None):
        """Return what has the score-function gradient of a site, and updates it needs."""
        options = _checked(site)
        if cost is None or not options:
            return super().score_term(site, cost)
        log_prob = site.unscaled_log_prob
        cost = detached(cost)
        baseline, fit, updates = _given(site, options, cost)
        if options.get("use_decaying_avg_baseline"):
            beta = options.get("baseline_beta", 0.9)
            average = self._averages.setdefault(site.name, _start(site))
            baseline = baseline + average
            updates = {average: beta * average + (1 - beta) * pt.broadcast_to(cost, log_prob.shape)}
        return (log_prob * (cost - detached(baseline))).sum() + fit, updates


def _start(site: Site) -> Variable:
    start = np.zeros(known_shape(site.unscaled_log_prob), dtype=pytensor.config.floatX)
    return pytensor.shared(start, name=f"{site.name}/baseline", shape=start.shape)


def _given(site: Site, options: Mapping[str, Any], cost: Variable):
    """Return a baseline that the user gave, and the term its params are fitted by."""
    zero = pt.constant(0.0)
    if "baseline_value" in options:
        value = as_tensor_variable(options["baseline_value"])
        _check_precedes(site, value, "baseline_value")
        return value, zero, {}
    if "nn_baseline" in options:
        inputs = detached(as_tensor_variable(options["nn_baseline_input"]))
        _check_precedes(site, inputs, "nn_baseline_input")
        value = options["nn_baseline"](inputs)
        ndim = site.unscaled_log_prob.ndim
        if value.ndim == ndim + 1 and value.type.shape[-1] == 1:
            value = value[..., 0]  # a network with one output
        return value, ((cost - value) ** 2).sum(), {}
    return zero, zero, {}


def _check_precedes(site: Site, value: Variable, option: str) -> None:
    if depends_on(value, as_plain_tensor(site.value)):
        raise SiteError(
            sentence(
                f"Site {site.name!r}: its {option} depends on the draw of the site itself",
                expected="params and draws that precede it, or the gradient is biased",
            )
        )


def _checked(site: Site) -> dict[str, Any]:
    """Return the baseline options of a site."""
    options = site.infer.get("baseline", {})
    if not isinstance(options, Mapping):
        raise SiteError(
            sentence(
                f"Site {site.name!r}: baseline is a dict of options",
                found=repr(options),
                fix='Write infer={"baseline": {"use_decaying_avg_baseline": True}}',
            )
        )
    for name in options:
        if name not in _OPTIONS:
            raise SiteError(
                sentence(
                    f"Site {site.name!r}: there is no baseline option {name!r}",
                    expected=quoted(_OPTIONS),
                )
                + did_you_mean(name, _OPTIONS)
            )
    if "baseline_value" in options and "nn_baseline" in options:
        raise SiteError(
            sentence(
                f"Site {site.name!r} has both a baseline_value and an nn_baseline",
                fix="Leave out one",
            )
        )
    if ("nn_baseline" in options) != ("nn_baseline_input" in options):
        raise SiteError(
            sentence(f"Site {site.name!r}: nn_baseline and nn_baseline_input go together")
        )
    beta = options.get("baseline_beta", 0.9)
    if not 0 <= beta < 1:
        raise SiteError(
            sentence(
                f"Site {site.name!r}: baseline_beta is out of range",
                found=repr(beta),
                expected="at least 0 and less than 1",
            )
        )
    return dict(options)
