"""``ReweightedWakeSleep``: the wake phase for model and guide, and the sleep phase for the guide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.ops import ViewOp
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from pytensor.scalar.basic import Cast
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.shape import SpecifyShape

from pymc_svi.enumeration.body import with_full_parameters
from pymc_svi.errors import PairingError, sentence
from pymc_svi.gradients.particles import vectorize_draws
from pymc_svi.gradients.stand_in import detached
from pymc_svi.handlers import trace, uncondition
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.objectives.base import Loss
from pymc_svi.objectives.held import check_densities, detached_values, hold_params, run_again
from pymc_svi.objectives.multi_sample import MultiSample, normalized
from pymc_svi.objectives.trace_elbo import is_latent_term

__all__ = ["ReweightedWakeSleep"]


class ReweightedWakeSleep(MultiSample):
    r"""Reweighted wake-sleep: the wake phase for model and guide, the sleep phase for the guide.

    The model's params follow the gradient of the importance weighted bound, the guide's that of
    :math:`-\sum_k \bar w_k \log q(z_k)` with normalised importance weights: an estimate of the
    divergence of the posterior from the guide. Draws are constants in both, so that discrete and
    continuous sites are treated alike. The importance weighted bound is reported.

    In the sleep phase the guide learns from dreams, latent sites and data drawn from the model:
    :math:`-\log q(z \mid x)` at :math:`(z, x) \sim p`. Its gradient is unbiased, but it is that of
    the divergence averaged over the data that the model expects. The guide has to be computed from
    the data that it is given, as an argument of the programs or as ``pm.Data``.

    Parameters
    ----------
    num_particles : int, default 2
        Number of draws, at least 2. Both gradients are biased by a part that falls with it.
    vectorize_particles : bool, default True
        Evaluate the draws as one batch, or one after the other with less memory.
    insomnia : float, default 1.0
        Weight of the wake phase in what the guide follows, between 0 and 1; the rest is sleep.
    num_sleep_particles : int, optional
        Number of dreams; ``num_particles`` if not given.

    Raises
    ------
    ValueError
        If ``insomnia`` is not between 0 and 1, or a number of draws is too small.

    References
    ----------
    Hinton et al. (1995), The Wake-Sleep Algorithm for Unsupervised Neural Networks.
    Bornschein and Bengio (2015), Reweighted Wake-Sleep.
    Le et al. (2019), Revisiting Reweighted Wake-Sleep for Models with Stochastic Control Flow.

    Examples
    --------
    >>> import pymc as pm
    >>> from scipy.special import expit
    >>> from pymc_svi import SVI, ReweightedWakeSleep, optim, param
    >>> def model():
    ...     z = pm.Bernoulli("z", 0.5)
    ...     pm.Normal("y", 2.0 * z, 1.0, observed=1.5)
    >>> def guide():
    ...     pm.Bernoulli("z", logit_p=param("logit", 0.0))
    >>> svi = SVI(model, guide, optim.Adam(0.02), ReweightedWakeSleep(num_particles=20))
    >>> result = svi.run(1_000, random_seed=0, progressbar=False)
    >>> round(float(expit(result.params["logit"])), 1)  # the posterior is 0.73
    0.7
    """

    needs = frozenset({"log_weight", "model", "guide"})

    def __init__(
        self,
        num_particles: int = 2,
        vectorize_particles: bool = True,
        *,
        insomnia: float = 1.0,
        num_sleep_particles: int | None = None,
    ):
        super().__init__(num_particles, vectorize_particles)
        if not 0 <= insomnia <= 1:
            raise ValueError(
                sentence(
                    "ReweightedWakeSleep: insomnia is a weight",
                    found=f"{insomnia}",
                    expected="a number between 0 (sleep only) and 1 (wake only)",
                )
            )
        self.insomnia = insomnia
        self.num_sleep_particles = num_sleep_particles or num_particles

    def loss(self, model: Program, guide: Program, /, *args, **kwargs) -> Loss:
        """Build the loss; see :class:`ELBO`."""
        awake = super().loss(model, guide, *args, **kwargs)
        if self.insomnia == 1:
            return awake
        asleep = _asleep(model, guide, args, kwargs)
        [dreams] = vectorize_draws([asleep], self.num_sleep_particles)
        surrogate = awake.surrogate + (1 - self.insomnia) * dreams.mean()
        return replace(awake, surrogate=surrogate)

    def combine(self, particles) -> tuple[Variable, Variable]:
        """Return the loss and what is differentiated."""
        log_weight = particles["log_weight"]
        share = normalized(log_weight)
        value = np.log(self.num_particles) - pt.logsumexp(log_weight)
        guide = self.insomnia * particles["guide"]
        return value, -(share * (particles["model"] + guide)).sum()


def _asleep(model: Program, guide: Program, args, kwargs) -> Variable:
    """Return ``-log q`` of a draw of the model, given the data of the same draw."""
    awake = trace(model).get_trace(*args, **kwargs)
    dream = trace(uncondition(hold_params(model))).get_trace(*args, **kwargs)
    again = check_densities(run_again(guide, detached_values(dream), *args, **kwargs))
    density = again.log_prob_sum(is_latent_term)
    dreamt = {}
    for name, site in awake.observed.items():
        data = _source(as_plain_tensor(site.value))
        if not isinstance(data, Constant):
            dreamt[data] = detached(as_plain_tensor(dream[name].value)).astype(data.type.dtype)
    if not set(dreamt) & set(ancestors([density])):
        raise PairingError(
            sentence(
                "ReweightedWakeSleep: the guide is not computed from the data, so that there is "
                "nothing to learn from dreams",
                expected="a guide such as a network of an argument that the model observes, or of "
                "its pm.Data",
                fix="Use insomnia=1.0 for a guide without networks",
            )
        )
    # Draws of the shape of the data would keep to it when many are made at once.
    [asleep] = with_full_parameters(graph_replace([-density], dreamt, strict=False))
    return asleep


def _source(value: Variable) -> Variable:
    """Return the variable that data come from, before it was cast or checked."""
    while value.owner is not None and (
        isinstance(value.owner.op, ViewOp | SpecifyShape)
        or (isinstance(value.owner.op, Elemwise) and isinstance(value.owner.op.scalar_op, Cast))
    ):
        value = value.owner.inputs[0]
    return value
