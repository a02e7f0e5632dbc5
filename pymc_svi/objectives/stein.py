"""``SteinGradient``: particles that follow the posterior's gradient and repel each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import PairingError, sentence
from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.gradients.particles import vectorize_draws
from pymc_svi.gradients.stand_in import detached, with_gradient_of
from pymc_svi.gradients.vectorize import vectorize
from pymc_svi.guides.fitted import Place
from pymc_svi.guides.spaces import unconstrain
from pymc_svi.handlers import Site, Trace
from pymc_svi.handlers.core import Program, run_program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.values import known_shape
from pymc_svi.objectives.base import ELBO, Loss
from pymc_svi.objectives.kernels import as_kernel
from pymc_svi.objectives.pairing import paired_traces

__all__ = ["SteinGradient"]


class SteinGradient(ELBO):
    r"""The direction in which particles approach the posterior fastest, as seen by a kernel.

    .. math:: \phi(x_i) = \frac{1}{n} \sum_j \left[ k(x_j, x_i) \nabla_{x_j} \log p(x_j, y) / T
        + \nabla_{x_j} k(x_j, x_i) \right]

    The particles are points of unconstrained space. With
    :class:`~pymc_svi.guides.AutoParticles` as the guide they are the param itself, Stein
    variational gradient descent [1]_; of any other guide they are draws, whose params follow
    :math:`\sum_i \phi(x_i) \, \partial x_i / \partial \theta`, which is its amortised form [2]_.
    Params of the model follow the gradient of the mean log-density.

    The loss that is reported is the mean of :math:`-\log p(x_i, y)` over the particles.

    Parameters
    ----------
    kernel : {"rbf", "imq", "linear"} or callable, default "rbf"
        The kernel; see :mod:`pymc_svi.objectives.kernels`.
    temperature : float or callable, default 1.0
        What the log-density is divided by: above 1 for a wider posterior. A number, or a
        schedule that maps the number of steps taken to one, to explore widely at first.
    num_particles : int, default 100
        Number of draws of a guide that has not points of its own.

    Raises
    ------
    ValueError
        If ``temperature`` is not positive, or neither a number nor a function.

    References
    ----------
    .. [1] Liu and Wang (2016), Stein Variational Gradient Descent.
    .. [2] Wang and Liu (2016), Learning to Draw Samples.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVI, optim
    >>> from pymc_svi.guides import AutoParticles
    >>> from pymc_svi.objectives import SteinGradient
    >>> def model():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Normal("y", x, 1.0, observed=2.0)
    >>> guide = AutoParticles(model, num_particles=20)
    >>> svi = SVI(model, guide, optim.Adam(0.05), SteinGradient("imq", temperature=2.0))
    """

    def __init__(
        self,
        kernel: Any = "rbf",
        temperature: float | Callable[[Any], Any] = 1.0,
        num_particles: int = 100,
    ):
        super().__init__(num_particles)
        self.kernel = as_kernel(kernel)
        number = isinstance(temperature, int | float | np.number) and temperature > 0
        if not (number or callable(temperature)):
            raise ValueError(
                sentence(
                    f"{type(self).__name__}: temperature is a number or a schedule",
                    found=repr(temperature),
                    expected="a number above 0, or a function of the step",
                )
            )
        self.temperature = temperature

    def loss(self, model: Program, guide: Program, /, *args, **kwargs) -> Loss:
        """Build the loss; see :class:`ELBO`."""
        model_trace, guide_trace = paired_traces(model, guide, *args, **kwargs)
        latents = model_trace.latent
        if not latents:
            raise PairingError(
                sentence(
                    f"{type(self).__name__}: the model has no latent sites to move",
                    fix="Use Trace_ELBO to learn params of the model alone",
                )
            )
        particles = self.particles(latents, guide_trace)
        temperature, updates = self._temperature()
        k, repulsion = map(detached, self.kernel(particles))
        # A particle is moved by the gradients of all, each as much as the kernel says.
        shared = with_gradient_of(particles, k.T @ particles / temperature)
        log_density, terms = _at_particles(model, latents, shared, args, kwargs)
        n = pt.shape(particles)[0].astype(particles.dtype)
        value = -log_density.mean()
        surrogate = value - (repulsion * particles).sum() / n
        return Loss(value, surrogate, terms, updates)

    def particles(self, latents: Mapping[str, Site], guide_trace: Trace) -> Variable:
        """Return the particles, one a row: the guide's own, or draws of it.

        Parameters
        ----------
        latents : dict of str to Site
            The guide's latent sites.
        guide_trace : Trace
            Its trace.

        Returns
        -------
        Variable
            A matrix.
        """
        for site in guide_trace.latent.values():
            if "particles" in site.infer:
                return site.infer["particles"]
        parts = [as_plain_tensor(unconstrain(site, site.value)) for site in latents.values()]
        [draws] = vectorize_draws(
            [pt.concatenate([part.ravel() for part in parts])], self.num_particles
        )
        return draws

    def _temperature(self) -> tuple[Variable, dict[Variable, Variable]]:
        dtype = pytensor.config.floatX
        if not callable(self.temperature):
            return pt.constant(self.temperature, dtype=dtype), {}
        step = pytensor.shared(np.array(0, dtype="int64"), name="temperature/step")
        return pt.as_tensor(self.temperature(step)).astype(dtype), {step: step + 1}


def _at_particles(
    model: Program, latents: Mapping[str, Site], particles: Variable, args, kwargs
) -> tuple[Variable, dict[str, Variable]]:
    """Return the log-density of the model at each particle, and the mean terms of its sites."""
    shapes = {
        name: known_shape(as_plain_tensor(unconstrain(site, site.value)))
        for name, site in latents.items()
    }
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    one = pt.vector("particle", dtype=particles.type.dtype, shape=(int(ends[-1]),))
    points = {
        name: one[end - int(np.prod(shape)) : end].reshape(shape)
        for (name, shape), end in zip(shapes.items(), ends, strict=True)
    }
    place = Place(points)
    with place:
        run_program(model, *args, **kwargs)
    terms = {f"model: {site.name}": site.log_prob.sum() for site in place.scored}
    outputs = without_named_dims([place.log_density(), *terms.values()])
    log_density, *by_site = vectorize(outputs, {one: particles})
    return log_density, {name: term.mean() for name, term in zip(terms, by_site, strict=True)}
