"""``TraceTailAdaptive_ELBO``: a divergence that adapts to the tails of the weights."""

from __future__ import annotations

from pytensor.graph.basic import Variable

from pymc_svi.gradients.stand_in import detached
from pymc_svi.objectives.multi_sample import MultiSample

__all__ = ["TraceTailAdaptive_ELBO"]


class TraceTailAdaptive_ELBO(MultiSample):
    r"""Variational inference with a tail-adaptive f-divergence.

    The gradient is that of :class:`Trace_ELBO` with the draws weighted by the ranks of their
    importance weights, :math:`\gamma_k \propto \hat F(w_k)^\beta` with
    :math:`\hat F(w_k)` the share of draws of at least that weight. Draws that the guide makes too
    rarely count more, with a weight that is always finite. Params of the model keep the gradient
    of the ELBO, and it is the ELBO that is reported.

    Every site of the guide needs a differentiable draw.

    Parameters
    ----------
    num_particles : int, default 2
        Number of draws, at least 2; with more of them the ranks say more.
    vectorize_particles : bool, default True
        Evaluate the draws as one batch, or one after the other with less memory.
    tail_adaptive_beta : float, default -1.0
        The power :math:`\beta`; 0 gives the ELBO.

    References
    ----------
    Wang, Liu and Liu (2018), Variational Inference with Tail-adaptive f-Divergence.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVI, TraceTailAdaptive_ELBO, optim
    >>> from pymc_svi.guides import AutoNormal
    >>> def model():
    ...     pm.StudentT("x", nu=5, mu=1.0, sigma=2.0)
    >>> loss = TraceTailAdaptive_ELBO(num_particles=10)
    >>> svi = SVI(model, AutoNormal(model), optim.Adam(0.02), loss)
    >>> result = svi.run(1_000, random_seed=0, progressbar=False)
    >>> bool(abs(result.params["x_auto_loc"] - 1.0) < 0.3)
    True
    """

    needs = frozenset({"log_weight", "path", "model"})
    pathwise_only = True

    def __init__(
        self,
        num_particles: int = 2,
        vectorize_particles: bool = True,
        tail_adaptive_beta: float = -1.0,
    ):
        super().__init__(num_particles, vectorize_particles)
        self.tail_adaptive_beta = float(tail_adaptive_beta)

    def combine(self, particles) -> tuple[Variable, Variable]:
        """Return the loss and what is differentiated."""
        log_weight = particles["log_weight"]
        at_least = (log_weight[None, :] >= log_weight[:, None]).mean(axis=1)
        gamma = at_least**self.tail_adaptive_beta
        gamma = detached(gamma / gamma.sum())
        gain = (gamma * particles["path"]).sum() + particles["model"].mean()
        return -log_weight.mean(), -gain
