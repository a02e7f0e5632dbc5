"""``RenyiELBO``: Renyi's bounds, with the importance weighted one at ``alpha = 0``."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.gradients.stand_in import detached
from pymc_svi.objectives.multi_sample import MultiSample, normalized

__all__ = ["RenyiELBO"]


class RenyiELBO(MultiSample):
    r"""The negative of Renyi's variational bound [1]_, estimated from several draws.

    .. math:: -\frac{1}{1 - \alpha} \log \frac{1}{K} \sum_k w_k^{1 - \alpha},
              \qquad w_k = \frac{p(x, z_k)}{q(z_k)}

    At ``alpha = 0`` it is the importance weighted bound [2]_, which rises with the number of
    draws towards the log evidence; towards ``alpha = 1`` it becomes the ELBO.

    Parameters
    ----------
    alpha : float, default 0.0
        The order, any but 1.
    num_particles : int, default 2
        Number of draws K, at least 2.
    vectorize_particles : bool, default True
        Evaluate the draws as one batch, or one after the other with less memory.
    doubly_reparameterized : bool, default True
        Reparameterise the score of the guide too [3]_: the same gradient on average, whose
        signal does not vanish with more draws. For guides with differentiable draws only.

    Raises
    ------
    TypeError
        If ``alpha`` is not a number.
    ValueError
        If it is 1 or not finite, or ``num_particles`` is below 2.

    Notes
    -----
    The weights are those of whole draws, of all data: minibatches give another bound and another
    optimum, of which a warning tells.

    A guide with draws that are not differentiable gets score-function gradients, in which the
    bound of the other draws is the baseline of each [4]_.

    References
    ----------
    .. [1] Li and Turner (2016), Renyi Divergence Variational Inference.
    .. [2] Burda, Grosse and Salakhutdinov (2016), Importance Weighted Autoencoders.
    .. [3] Tucker, Lawson, Gu and Maddison (2019), Doubly Reparameterized Gradient Estimators for
       Monte Carlo Objectives.
    .. [4] Mnih and Rezende (2016), Variational Inference for Monte Carlo Objectives.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import RenyiELBO
    >>> def program():
    ...     pm.Normal("x", 0.0, 1.0)
    >>> float(RenyiELBO(num_particles=5).loss(program, program).value.eval())
    0.0
    """

    def __init__(
        self,
        alpha: float = 0.0,
        num_particles: int = 2,
        vectorize_particles: bool = True,
        doubly_reparameterized: bool = True,
    ):
        super().__init__(num_particles, vectorize_particles)
        if not isinstance(alpha, int | float | np.number) or isinstance(alpha, bool):
            raise TypeError(sentence("RenyiELBO: alpha is a number", found=repr(alpha)))
        if alpha == 1:
            raise ValueError(
                sentence(
                    "RenyiELBO is not defined for alpha = 1",
                    fix="Its limit there is the ELBO: use Trace_ELBO",
                )
            )
        if not np.isfinite(alpha):
            raise ValueError(sentence("RenyiELBO: alpha must be finite", found=repr(alpha)))
        self.alpha = float(alpha)
        self.doubly_reparameterized = bool(doubly_reparameterized)

    def needs_of(self, has_score_sites: bool) -> frozenset[str]:
        """Return what is used of a draw."""
        if has_score_sites:
            return frozenset({"log_weight", "score"})
        if self.doubly_reparameterized:
            return frozenset({"log_weight", "path", "model"})
        return frozenset({"log_weight"})

    def combine(self, particles) -> tuple[Variable, Variable]:
        """Return the loss and what is differentiated."""
        log_weight = particles["log_weight"]
        value = self._bound(log_weight, self.num_particles)
        if "score" in particles:
            others = pt.switch(pt.eye(self.num_particles, dtype=bool), -np.inf, 0.0)
            without = self._bound(log_weight, self.num_particles - 1, others)
            advantage = detached(value - without)
            return value, value + (particles["score"] * advantage).sum()
        if "path" in particles:
            share = normalized((1 - self.alpha) * log_weight)
            doubled = self.alpha * share + (1 - self.alpha) * share**2
            gain = doubled * particles["path"] + share * particles["model"]
            return value, -gain.sum()
        return value, value

    def _bound(self, log_weight: Variable, n: int, left_out: Variable | float = 0.0) -> Variable:
        powers = (1 - self.alpha) * log_weight + left_out
        return -(pt.logsumexp(powers, axis=-1) - np.log(n)) / (1 - self.alpha)
