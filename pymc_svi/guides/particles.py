"""``AutoParticles``: the posterior as a cloud of points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm

from pymc_svi.errors import sentence
from pymc_svi.guides.continuous import JointGuide
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.prototype import Prototype
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import zero
from pymc_svi.primitives import init_seed, param

__all__ = ["AutoParticles"]


class AutoParticles(JointGuide):
    """A number of points in unconstrained space, one of which is drawn at random.

    Its param is the matrix ``auto_particles`` with a row for each point. It is the guide of
    :class:`~pymc_svi.SVGD`, which spreads the points over the posterior. Points have no
    density: under another objective each of them would move to a mode.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    num_particles : int, default 100
        Number of points.
    jitter : float, default 1.0
        Standard deviation of the points around the start.
    prefix : str, default "auto"
        Part of the name of the param.
    init_loc_fn : callable, default ``init_to_initial_point``
        What the points start around; see :mod:`pymc_svi.guides.init`.

    Raises
    ------
    ValueError
        If ``num_particles`` is not a whole number from 1 on, or ``jitter`` is negative.

    References
    ----------
    Liu and Wang (2016), Stein Variational Gradient Descent.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoParticles
    >>> def model():
    ...     mu = pm.Normal("mu", shape=2)
    ...     pm.Normal("y", mu.sum(), pm.HalfNormal("sigma"), observed=[0.0, 1.0])
    >>> guide = AutoParticles(model, num_particles=5)
    >>> tr = handlers.trace(guide).get_trace()
    >>> list(tr), tr["auto_particles"].shape
    (['auto_particles', '_auto_latent', 'mu', 'sigma'], (5, 3))
    """

    def __init__(
        self,
        model: Program,
        num_particles: int = 100,
        *,
        jitter: float = 1.0,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        whole = isinstance(num_particles, int | np.integer) and not isinstance(num_particles, bool)
        if not whole or num_particles < 1:
            raise ValueError(
                sentence(
                    "AutoParticles: num_particles is a whole number from 1 on",
                    found=repr(num_particles),
                )
            )
        number = isinstance(jitter, int | float | np.number) and not isinstance(jitter, bool)
        if not number or not 0 <= jitter < np.inf:
            raise ValueError(
                sentence("AutoParticles: jitter is a number from 0 on", found=repr(jitter))
            )
        self.num_particles = int(num_particles)
        self.jitter = float(jitter)

    def begin(self, prototype: Prototype):
        """Declare the points; draw one."""
        self.check_latents(prototype.latents)
        particles = param(f"{self.prefix}_particles", lambda: self._start(prototype))
        number = pm.DiscreteUniform.dist(0, self.num_particles - 1)
        return self.emit(prototype, particles[number], zero(), particles=particles)

    def _start(self, prototype: Prototype) -> np.ndarray:
        center = self.start_vector(prototype)
        noise = np.random.default_rng([init_seed(), self.num_particles])
        return center + self.jitter * noise.normal(size=(self.num_particles, len(center)))

    def particles(self, params: Mapping[str, Any], *args, **kwargs) -> dict[str, np.ndarray]:
        """Return the values of each site at every point, of shape ``(num_particles, *shape)``.

        Parameters
        ----------
        params : dict of str to array_like
            The fitted params, as in ``result.params``.
        *args, **kwargs
            Arguments of the model; by default those the guide was last run with.

        Returns
        -------
        dict of str to numpy.ndarray
            By site name.
        """
        fitted = self.at(params, *args, **kwargs)
        latents = fitted.prototype().latents
        matrix = np.asarray(params[f"{self.prefix}_particles"])
        ends = np.cumsum([latent.size for latent in latents.values()])
        parts = {
            latent.name: matrix[:, end - latent.size : end].reshape(-1, *latent.shape)
            for latent, end in zip(latents.values(), ends, strict=True)
        }
        return fitted.constrained(latents, parts)
