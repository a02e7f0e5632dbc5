"""``ReweightedWakeSleep``: wake updates for model and guide, without gradients of draws."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.objectives.multi_sample import MultiSample, normalized

__all__ = ["ReweightedWakeSleep"]


class ReweightedWakeSleep(MultiSample):
    r"""Reweighted wake-sleep, with the wake phase for both the model and the guide.

    The model's params follow the gradient of the importance weighted bound, the guide's that of
    :math:`-\sum_k \bar w_k \log q(z_k)` with normalised importance weights: an estimate of the
    divergence of the posterior from the guide. Draws are constants in both, so that discrete and
    continuous sites are treated alike. The importance weighted bound is reported.

    Parameters
    ----------
    num_particles : int, default 2
        Number of draws, at least 2. Both gradients are biased by a part that falls with it.
    vectorize_particles : bool, default True
        Evaluate the draws as one batch, or one after the other with less memory.

    References
    ----------
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

    def combine(self, particles) -> tuple[Variable, Variable]:
        """Return the loss and what is differentiated."""
        log_weight = particles["log_weight"]
        share = normalized(log_weight)
        value = np.log(self.num_particles) - pt.logsumexp(log_weight)
        return value, -(share * (particles["model"] + particles["guide"])).sum()
