"""``EnergyDistance``: predictions that are near the data, without a likelihood."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import PairingError, sentence
from pymc_svi.gradients.draws import pathwise
from pymc_svi.gradients.particles import vectorize_draws
from pymc_svi.handlers import replay, trace, uncondition
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import as_plain_tensor, scaled_and_masked
from pymc_svi.objectives.base import ELBO, Loss
from pymc_svi.objectives.pairing import paired_traces

__all__ = ["EnergyDistance"]


class EnergyDistance(ELBO):
    r"""The energy distance of posterior predictions from the data.

    .. math:: \mathbb{E}\|X - x\|^\beta - \tfrac{1}{2} \mathbb{E}\|X - X'\|^\beta
        - \lambda \mathbb{E} \log p(z)

    with predictions :math:`X, X'` from independent draws :math:`z, z'` of the guide. It needs no
    density of the data, and is robust: it exists where :math:`\mathbb{E}\|X\|^\beta` does. For
    ``beta=1`` and single numbers it is the continuous ranked probability score [1]_. The norm is
    that of one draw of the distribution of the data; distances are added over all others.
    Its optimum is not the posterior, but the guide that predicts best in this sense.

    Parameters
    ----------
    beta : float, default 1.0
        The exponent, above 0 and below 2.
    prior_scale : float, default 0.0
        Weight of the prior, :math:`\lambda`.
    num_particles : int, default 2
        Number of predictions, at least 2.

    Raises
    ------
    ValueError
        If ``num_particles`` is below 2, or a number is out of its range.

    References
    ----------
    .. [1] Gneiting and Raftery (2007), Strictly Proper Scoring Rules, Prediction, and Estimation.
    .. [2] Székely and Rizzo (2003), Energy Statistics: A Class of Statistics Based on Distances.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVI, EnergyDistance, param
    >>> def model():
    ...     x = pm.Normal("x", 0.0, 10.0)
    ...     pm.Cauchy("y", x, 1.0, observed=[1.0, 2.0, 40.0])
    >>> def guide():
    ...     pm.Normal("x", param("loc", 0.0), 0.1)
    >>> svi = SVI(model, guide, loss=EnergyDistance(beta=0.5, num_particles=10))
    """

    def __init__(self, beta: float = 1.0, prior_scale: float = 0.0, num_particles: int = 2):
        super().__init__(num_particles)
        if num_particles < 2:
            raise ValueError(
                sentence(
                    "EnergyDistance compares predictions with each other",
                    found="num_particles=1",
                    expected="2 or more",
                )
            )
        if not isinstance(beta, int | float | np.number) or not 0 < beta < 2:
            raise ValueError(
                sentence(
                    "EnergyDistance: beta is an exponent above 0 and below 2", found=repr(beta)
                )
            )
        if not isinstance(prior_scale, int | float | np.number) or not prior_scale >= 0:
            raise ValueError(
                sentence(
                    "EnergyDistance: prior_scale is a number from 0 on", found=repr(prior_scale)
                )
            )
        self.beta, self.prior_scale = float(beta), float(prior_scale)

    def loss(self, model: Program, guide: Program, /, *args, **kwargs) -> Loss:
        """Build the loss; see :class:`ELBO`."""
        model_trace, guide_trace = paired_traces(model, guide, *args, **kwargs)
        observed = model_trace.observed
        if not observed:
            raise PairingError(
                sentence(
                    "EnergyDistance: the model has no observed sites to predict",
                    fix="Pass the data of the model",
                )
            )
        predicting = pathwise(uncondition(replay(model, trace=guide_trace)))
        predicted = trace(predicting).get_trace(*args, **kwargs)
        outputs = [as_plain_tensor(predicted[name].value) for name in observed]
        priors = {}
        if self.prior_scale:
            priors = {name: site.log_prob.sum() for name, site in model_trace.latent.items()}
        n = self.num_particles
        vectorized = vectorize_draws([*outputs, *priors.values()], n)
        terms = {}
        for site, draws in zip(observed.values(), vectorized, strict=False):
            data = as_plain_tensor(site.value)
            from_data = self._distance(draws - data, site.event_ndim).mean(axis=0)
            pairs = self._distance(draws[:, None] - draws[None, :], site.event_ndim)
            # A draw has no distance from itself, so the sum has n (n - 1) terms.
            among = pairs.sum(axis=(0, 1)) / (n * (n - 1))
            term = scaled_and_masked(from_data - among / 2, site.scale, site.mask)
            terms[f"guide: {site.name}"] = term.sum()
        for name, log_prob in zip(priors, vectorized[len(outputs) :], strict=True):
            terms[f"model: {name}"] = self.prior_scale * log_prob.mean()
        sign = {"guide": 1, "model": -1}
        value = pt.add(*(sign[name[:5]] * term for name, term in terms.items()), 0.0)
        return Loss(value, value, terms)

    def _distance(self, difference: Variable, event_ndim: int) -> Variable:
        """Return the norm over the axes of one draw, to the power of beta; zero has no gradient."""
        squares = difference**2
        if event_ndim:
            squares = squares.sum(axis=tuple(range(-event_ndim, 0)))
        apart = squares > 0
        return pt.switch(apart, pt.switch(apart, squares, 1.0) ** (self.beta / 2), 0.0)
