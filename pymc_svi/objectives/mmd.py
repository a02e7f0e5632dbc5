"""``Trace_MMD``: the evidence lower bound with another distance of the guide from the prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import PairingError, did_you_mean, quoted, sentence
from pymc_svi.gradients.draws import pathwise
from pymc_svi.gradients.particles import vectorize_draws
from pymc_svi.handlers import Site, trace
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.objectives.base import ELBO, Loss
from pymc_svi.objectives.kernels import RBF, Kernel, as_kernel
from pymc_svi.objectives.pairing import paired_traces

__all__ = ["Trace_MMD"]


class Trace_MMD(ELBO):
    r"""The log-likelihood, and a distance between samples of the guide and of the prior.

    .. math:: -\mathbb{E}_{z \sim q}[\log p(x \mid z)] + \lambda \sum_i \mathrm{MMD}^2(q_i, p_i)

    The squared maximum mean discrepancy [1]_ of each latent site takes the place of the
    Kullback-Leibler divergence, as in MMD variational autoencoders [2]_. It needs samples and
    no densities of the guide. The elements of a plate count as samples of one law; all other
    elements of a site are one vector. The estimate is without bias for kernels that do not
    change with the samples.

    Parameters
    ----------
    kernel : {"rbf", "imq", "linear"}, callable or dict, default ``RBF(bandwidth=1.0)``
        The kernel, see :mod:`pymc_svi.objectives.kernels`; a dict has one for each latent site.
    num_particles : int, default 10
        Number of draws of guide and prior, at least 2.
    mmd_scale : float, default 1.0
        Weight of the discrepancies.

    Raises
    ------
    ValueError
        If ``num_particles`` is below 2, or ``mmd_scale`` negative.

    References
    ----------
    .. [1] Gretton et al. (2012), A Kernel Two-Sample Test.
    .. [2] Zhao, Song and Ermon (2019), InfoVAE: Balancing Learning and Inference in Variational
       Autoencoders.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVI, Trace_MMD, param
    >>> def model():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Normal("y", x, 1.0, observed=1.0)
    >>> def guide():
    ...     pm.Normal("x", param("loc", 0.0), 1.0)
    >>> svi = SVI(model, guide, loss=Trace_MMD("imq", num_particles=20, mmd_scale=5.0))
    """

    def __init__(
        self,
        kernel: Any = None,
        num_particles: int = 10,
        mmd_scale: float = 1.0,
    ):
        super().__init__(num_particles)
        if num_particles < 2:
            raise ValueError(
                sentence(
                    "Trace_MMD compares several draws",
                    found="num_particles=1",
                    expected="2 or more",
                )
            )
        number = isinstance(mmd_scale, int | float | np.number) and not isinstance(mmd_scale, bool)
        if not number or not mmd_scale >= 0:
            raise ValueError(
                sentence("Trace_MMD: mmd_scale is a number from 0 on", found=repr(mmd_scale))
            )
        self.mmd_scale = float(mmd_scale)
        kernel = RBF(bandwidth=1.0) if kernel is None else kernel
        self.kernel: Kernel | dict[str, Kernel] = (
            {name: as_kernel(each) for name, each in kernel.items()}
            if isinstance(kernel, Mapping)
            else as_kernel(kernel)
        )

    def loss(self, model: Program, guide: Program, /, *args, **kwargs) -> Loss:
        """Build the loss; see :class:`ELBO`."""
        model_trace, _ = paired_traces(model, guide, *args, **kwargs)
        prior_trace = trace(pathwise(model)).get_trace(*args, **kwargs)
        latents = model_trace.latent
        kernels = self._kernels(latents)
        likelihood = {
            site.name: site.log_prob.sum()
            for site in model_trace.sites("sample", "factor")
            if not site.is_latent
        }
        drawn = [as_plain_tensor(site.value) for site in latents.values()]
        drawn += [as_plain_tensor(prior_trace[name].value) for name in latents]
        n_terms = len(likelihood)
        vectorized = vectorize_draws([*likelihood.values(), *drawn], self.num_particles)
        terms = {
            f"model: {name}": batch.mean()
            for name, batch in zip(likelihood, vectorized[:n_terms], strict=True)
        }
        value = -pt.add(*terms.values(), 0.0)
        of_guide = vectorized[n_terms : n_terms + len(latents)]
        of_prior = vectorized[n_terms + len(latents) :]
        for site, q, p in zip(latents.values(), of_guide, of_prior, strict=True):
            term = self.mmd_scale * _squared_mmd(
                _samples(site, q), _samples(site, p), kernels[site.name]
            )
            terms[f"guide: {site.name}"] = term
            value = value + term
        return Loss(value, value, terms)

    def _kernels(self, latents: Mapping[str, Site]) -> Mapping[str, Kernel]:
        if not isinstance(self.kernel, dict):
            return dict.fromkeys(latents, self.kernel)
        for name in latents:
            if name not in self.kernel:
                raise PairingError(
                    sentence(
                        f"Trace_MMD: there is no kernel for site {name!r}",
                        found=f"kernels for {quoted(self.kernel)}",
                        fix="Give one for each latent site, or one for all",
                    )
                    + did_you_mean(name, self.kernel)
                )
        return self.kernel


def _samples(site: Site, draws: Variable) -> Variable:
    """Return draws as a matrix with one sample a row: a draw of one element of the plates."""
    plates = [draws.ndim - site.event_ndim + frame.dim for frame in site.plates]
    others = [axis for axis in range(1, draws.ndim) if axis not in plates]
    moved = draws.transpose(0, *plates, *others)
    n_rows = pt.prod([moved.shape[axis] for axis in range(1 + len(plates))])
    return moved.reshape((n_rows, -1))


def _squared_mmd(q: Variable, p: Variable, kernel: Kernel) -> Variable:
    """Return the unbiased estimate of the squared discrepancy of two laws from samples."""
    k, _ = kernel(pt.concatenate([q, p]))
    n, m = q.shape[0], p.shape[0]
    within_q, within_p, between = k[:n, :n], k[n:, n:], k[:n, n:]
    return (
        (within_q.sum() - pt.trace(within_q)) / (n * (n - 1))
        + (within_p.sum() - pt.trace(within_p)) / (m * (m - 1))
        - 2 * between.mean()
    )
