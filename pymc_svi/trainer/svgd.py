"""``SVGD`` and ``ASVGD``: Stein variational gradient descent as a method."""

from __future__ import annotations

from typing import Any

from pymc_svi import optim as optimizers
from pymc_svi.guides import AutoMultivariateNormal, AutoParticles
from pymc_svi.handlers.core import Program
from pymc_svi.objectives import SteinGradient
from pymc_svi.svi import SVI
from pymc_svi.trainer.inference import SVIMethod

__all__ = ["ASVGD", "SVGD"]

# Particles start as far from each other as the posterior may be wide, and each step moves them
# by about the learning rate.
_LEARNING_RATE = 0.01


class SVGD(SVIMethod):
    """Stein variational gradient descent: particles that spread over the posterior.

    Each particle follows the gradients of the log-density at itself and its neighbours, averaged
    by a kernel, and is repelled by them. This happens in unconstrained space; the posterior may
    have any shape.

    Parameters
    ----------
    model : callable or pymc.Model, optional
        The model; the one of the ``with`` block if not given.
    kernel : {"rbf", "imq", "linear"} or callable, default "rbf"
        The kernel, or one of PyMC's; see :mod:`pymc_svi.objectives.kernels`.
    optim : optional
        The optimizer, as for :class:`~pymc_svi.SVI`; ``optim.Adam(0.01)`` by default.
    num_particles : int, default 100
        Number of particles. A step takes a gradient of the model for each.
    temperature : float or callable, default 1.0
        What the log-density is divided by: a number, or a schedule of the step.
    **guide_kwargs
        Options of :class:`~pymc_svi.guides.AutoParticles`: ``jitter=1.0``, ``init_loc_fn``.

    References
    ----------
    Liu and Wang (2016), Stein Variational Gradient Descent.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVGD
    >>> def model():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Normal("y", x, 1.0, observed=2.0)
    >>> svgd = SVGD(model, kernel="linear", num_particles=20)
    >>> result = svgd.run(2_000, random_seed=1, progressbar=False)
    >>> x = svgd.guide.particles(result.params)["x"]
    >>> round(float(x.mean()), 2), round(float(x.var()), 2)  # the posterior's
    (1.0, 0.5)
    >>> result.sample_posterior(500, random_seed=2).posterior["x"].shape
    (1, 500)
    """

    def __init__(
        self,
        model: Program | None = None,
        kernel: Any = "rbf",
        optim: Any = None,
        num_particles: int = 100,
        *,
        temperature: Any = 1.0,
        **guide_kwargs,
    ):
        super().__init__(model)
        self.optim = optimizers.Adam(_LEARNING_RATE) if optim is None else optim
        self.objective = SteinGradient(kernel, temperature)
        self.guide_kwargs = {"num_particles": num_particles, **guide_kwargs}

    @property
    def guide(self) -> AutoParticles:
        """The particles as a guide."""
        guide = self.as_svi().guide
        assert isinstance(guide, AutoParticles)
        return guide

    def make(self, model: Program) -> SVI:
        """Return the method as an ``SVI`` of a model."""
        guide = AutoParticles(model, **self.guide_kwargs)
        return SVI(model, guide, self.optim, self.objective)


class ASVGD(SVIMethod):
    """Amortised Stein variational gradient descent: a guide learns to draw the particles of SVGD.

    The particles are draws of the guide, new ones at each step; its params change so that the
    draws move as the particles of :class:`SVGD` would. The density of the guide is not needed.

    Parameters
    ----------
    model : callable or pymc.Model, optional
        The model; the one of the ``with`` block if not given.
    guide : callable, pymc.Model or type, default ``AutoMultivariateNormal``
        The guide: a program with differentiable draws, or a class of automatic guides.
    kernel : {"rbf", "imq", "linear"} or callable, default "rbf"
        The kernel, as for :class:`SVGD`.
    optim : optional
        The optimizer, as for :class:`~pymc_svi.SVI`; ``optim.Adam(0.01)`` by default.
    num_particles : int, default 100
        Number of draws in a step. With few, the guide becomes too narrow.
    temperature : float or callable, default 1.0
        What the log-density is divided by: a number, or a schedule of the step.

    References
    ----------
    Wang and Liu (2016), Learning to Draw Samples.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import ASVGD, constraints, optim, param
    >>> def model():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Normal("y", x, 1.0, observed=2.0)
    >>> def guide():
    ...     scale = param("scale", 1.0, constraint=constraints.positive)
    ...     pm.Normal("x", param("loc", 0.0), scale)
    >>> asvgd = ASVGD(model, guide, "linear", optim.Adam(0.02))
    >>> result = asvgd.run(1_000, random_seed=1, progressbar=False)
    >>> round(float(result.params["loc"]), 1), round(float(result.params["scale"]), 1)
    (1.0, 0.7)
    """

    def __init__(
        self,
        model: Program | None = None,
        guide: Any = AutoMultivariateNormal,
        kernel: Any = "rbf",
        optim: Any = None,
        num_particles: int = 100,
        *,
        temperature: Any = 1.0,
    ):
        super().__init__(model)
        self.guide = guide
        self.optim = optimizers.Adam(_LEARNING_RATE) if optim is None else optim
        self.objective = SteinGradient(kernel, temperature, num_particles)

    def make(self, model: Program) -> SVI:
        """Return the method as an ``SVI`` of a model."""
        guide = self.guide(model) if isinstance(self.guide, type) else self.guide
        return SVI(model, guide, self.optim, self.objective)
