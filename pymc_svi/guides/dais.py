"""Guides by differentiable annealed importance sampling over all latent sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.linalg import solve_triangular

from pymc_svi.constraints import positive, scaled_unit_lower_cholesky
from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.guides.annealing import Dynamics
from pymc_svi.guides.continuous import JointGuide, standard_normal
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.multivariate_normal import matrix_vector
from pymc_svi.guides.normal import check_init_scale, normal_log_density
from pymc_svi.guides.prototype import Latent, Prototype
from pymc_svi.guides.target import Target, gradient_of
from pymc_svi.handlers.core import Program
from pymc_svi.primitives import param

__all__ = ["AutoDAIS", "AutoSurrogateLikelihoodDAIS"]


class AutoDAIS(JointGuide):
    r"""Guide by differentiable annealed importance sampling (DAIS) over all latent elements.

    A draw of a Normal is moved by K steps of Hamiltonian dynamics, uncorrected and with partially
    refreshed momentum, through densities that lead from the Normal to the posterior, in
    unconstrained space. The density of the whole path gives a lower bound of the evidence,
    tighter than that of the Normal alone, and all is learned together: the Normal, step sizes,
    masses, damping and the densities in between.

    Each step evaluates the gradient of the model's log-density, and time, compile time too, is
    proportional to K. The params are ``auto_z_0_loc``, ``auto_z_0_scale`` (or
    ``auto_z_0_scale_tril``), ``auto_eta0``, ``auto_eta_coeff``, ``auto_gamma``,
    ``auto_beta_increments`` and ``auto_mass_matrix``.

    Parameters
    ----------
    model : callable or pymc.Model
        The model, without subsampling.
    K : int, default 4
        Number of steps.
    base_dist : {"diagonal", "cholesky"}, default "diagonal"
        Covariance of the Normal.
    eta_init : float, default 0.01
        Where the step size starts.
    eta_max : float, default 0.1
        What the step size stays below; elements with a small mass take longer steps.
    gamma_init : float, default 0.9
        Where the damping of the momentum starts: how much of it a refreshment keeps.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the Normal starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the standard deviations of the Normal start, in unconstrained space.

    Raises
    ------
    ValueError
        For settings outside their ranges.
    SiteError
        If the model is subsampled: the dynamics would follow another density at each step. Use
        :class:`AutoSurrogateLikelihoodDAIS` or :class:`AutoSemiDAIS`.

    References
    ----------
    Geffner and Domke (2021), MCMC Variational Inference via Uncorrected Hamiltonian Annealing.
    Zhang, Hsu, Li, Finn and Grosse (2021), Differentiable Annealed Importance Sampling and the
    Perils of Gradient Noise.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoDAIS
    >>> def model():
    ...     x = pm.Normal("x")
    ...     pm.Normal("y", x**2, 0.5)
    >>> tr = handlers.trace(AutoDAIS(model, K=2)).get_trace()
    >>> list(tr.latent), tr["auto_beta_increments"].shape
    (['_auto_latent', 'x', 'y'], (2,))
    """

    step_up = "more steps of its chain, a larger K, or a flow, AutoIAFNormal"
    follows_model = True

    def __init__(
        self,
        model: Program,
        *,
        K: int = 4,
        base_dist: str = "diagonal",
        eta_init: float = 0.01,
        eta_max: float = 0.1,
        gamma_init: float = 0.9,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        name = type(self).__name__
        self.dynamics = Dynamics(name, K, eta_init, eta_max, gamma_init)
        if base_dist not in ("diagonal", "cholesky"):
            raise ValueError(
                sentence(
                    f"{name}: base_dist is the covariance of the Normal",
                    found=repr(base_dist),
                    expected='"diagonal" or "cholesky"',
                )
            )
        self.base_dist = base_dist
        self.init_scale = check_init_scale(name, init_scale)
        self._arguments: tuple[tuple, Mapping[str, Any]] = ((), {})

    def run(self, args: tuple, kwargs: Mapping[str, Any]) -> Mapping[str, Variable]:
        """Emit the guide's sites; return its draws in unconstrained space by site name."""
        self._arguments = args, kwargs
        return super().run(args, kwargs)

    def begin(self, prototype: Prototype):
        """Draw the Normal and move the draw; return the function that takes one site's part."""
        self.check_latents(prototype.latents)
        size = prototype.size
        noise = standard_normal(1 + self.dynamics.K, size)
        start, log_density, base_gradient = self._base(prototype, noise[0])
        schedule = self.dynamics.declare(self.prefix, size)
        point = pt.tensor("position", dtype=pytensor.config.floatX, shape=(size,))
        log_target = self.log_target(self.split(point, prototype.latents), prototype.latents)
        joint, log_ratio = schedule.anneal(
            start, noise[1:], base_gradient, gradient_of(log_target, point)
        )
        return self.emit(prototype, joint, log_density + log_ratio.sum())

    def log_target(self, points: Mapping[str, Variable], latents: Mapping[str, Latent]) -> Variable:
        """Return the log-density that the dynamics follow in the end.

        Parameters
        ----------
        points : dict of str to Variable
            Unconstrained values by site name.
        latents : dict of str to Latent
            The latent sites.

        Returns
        -------
        Variable
            The log-density, a scalar.

        Raises
        ------
        SiteError
            If a site is in a subsampled plate, whose density changes from step to step.
        """
        target = Target(points)
        log_density = target.run(self.visible_model(), *self._arguments)
        for site in target.scored:
            for plate in site.plates:
                if plate.is_subsampled:
                    raise SiteError(
                        sentence(
                            f"{type(self).__name__}: site {site.name!r} is in the subsampled "
                            f"plate {plate.name!r}",
                            expected="a model that is the same at every step",
                            fix="Use AutoSurrogateLikelihoodDAIS, or AutoSemiDAIS for sites "
                            "local to the plate",
                        )
                    )
        return log_density

    def _base(self, prototype: Prototype, noise: Variable):
        """Declare the Normal; return a draw, its log-density and the gradient of that."""
        size = prototype.size
        loc = param(f"{self.prefix}_z_0_loc", lambda: self.start_vector(prototype))
        if self.base_dist == "diagonal":
            scale = param(
                f"{self.prefix}_z_0_scale",
                lambda: np.full(size, self.init_scale),
                constraint=positive,
            )
            draw = loc + scale * noise
            log_density = normal_log_density(noise, 0.0, 1.0).sum() - pt.log(scale).sum()
            return draw, log_density, lambda z: (loc - z) / scale**2
        tril = param(
            f"{self.prefix}_z_0_scale_tril",
            lambda: self.init_scale * np.eye(size),
            constraint=scaled_unit_lower_cholesky,
        )

        def gradient(z: Variable) -> Variable:
            whitened = solve_triangular(tril, loc - z, lower=True)
            return solve_triangular(tril.T, whitened, lower=False)

        log_density = normal_log_density(noise, 0.0, 1.0).sum()
        log_density = log_density - pt.log(pt.diagonal(tril)).sum()
        return loc + matrix_vector(tril, noise), log_density, gradient


class AutoSurrogateLikelihoodDAIS(AutoDAIS):
    r"""DAIS guide for minibatches: the dynamics follow a cheap stand-in for the model.

    The stand-in has the prior of the model and a likelihood that does not change from step to
    step, such as that of a few data points with learned weights; its params are learned along
    with those of :class:`AutoDAIS`. The bound is that of the model, which may be subsampled.
    Latent sites local to a subsampled plate need :class:`AutoSemiDAIS`.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    surrogate_model : callable or pymc.Model
        A program of no arguments with the same latent sites.
    K : int, default 4
        Number of steps.
    base_dist : {"diagonal", "cholesky"}, default "diagonal"
        Covariance of the Normal.
    eta_init : float, default 0.01
        Where the step size starts.
    eta_max : float, default 0.1
        What the step size stays below.
    gamma_init : float, default 0.9
        Where the damping of the momentum starts.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the Normal starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the standard deviations of the Normal start, in unconstrained space.

    Raises
    ------
    SiteError
        If the two models do not have the same latent sites.

    References
    ----------
    Jankowiak and Phan (2022), Surrogate Likelihoods for Variational Annealed Importance Sampling.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import constraints, handlers, param, plate, subsample
    >>> from pymc_svi.guides import AutoSurrogateLikelihoodDAIS
    >>> y = np.linspace(-1.0, 2.0, 100)
    >>> def model():
    ...     mu = pm.Normal("mu")
    ...     with plate("N", 100, subsample_size=10):
    ...         pm.Normal("y", mu, 1.0, observed=subsample(y))
    >>> def surrogate():
    ...     mu = pm.Normal("mu")
    ...     weights = param("weights", np.full(5, 20.0), constraint=constraints.positive)
    ...     with handlers.scale(scale=weights):
    ...         pm.Normal("y", mu, 1.0, observed=y[::20])
    >>> guide = AutoSurrogateLikelihoodDAIS(model, surrogate, K=2)
    >>> sorted(handlers.trace(guide).get_trace().params)[-1]
    'weights'
    """

    def __init__(self, model: Program, surrogate_model: Program, **settings: Any):
        super().__init__(model, **settings)
        self.surrogate_model = surrogate_model

    def log_target(self, points, latents):
        """Return the log-density of the stand-in."""
        target = Target(points)
        log_density = target.run(self.surrogate_model, (), {})
        found = {site.name: site for site in target.scored if site.is_latent}
        if set(found) != set(points):
            raise SiteError(
                sentence(
                    f"{type(self).__name__}: the surrogate model has other latent sites",
                    found=f"{quoted(found)} in the surrogate, {quoted(points)} in the model",
                    fix="Give both the same prior",
                )
            )
        return log_density
