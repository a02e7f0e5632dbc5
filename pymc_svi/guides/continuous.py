"""What guides share that draw all latent elements jointly, as one vector in unconstrained space."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pymc as pm
from pytensor.graph.basic import Variable

from pymc_svi.errors import SiteError, sentence
from pymc_svi.gradients import rsample
from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.prototype import Latent, Prototype
from pymc_svi.handlers import Site
from pymc_svi.handlers.log_prob import zero
from pymc_svi.handlers.stack import apply_stack
from pymc_svi.primitives import init_seed

__all__ = ["AutoContinuous", "AutoGaussianVector", "JointGuide", "standard_normal"]


class JointGuide(AutoGuide):
    """Base of the guides that draw a vector of all unconstrained elements.

    The vector is the auxiliary site ``_auto_latent``; the sites of the model are its slices, in
    the order of the model.
    """

    def emit(
        self,
        prototype: Prototype,
        joint: Variable,
        log_density: Variable,
        *known: Callable,
        **infer: Any,
    ):
        """Emit the joint draw; return the function that takes one site's part of it."""
        site = apply_stack(
            Site(
                "sample",
                f"_{self.prefix}_latent",
                value=joint,
                log_density=log_density,
                log_density_at=_or_else(joint, log_density, *known),
                infer={"is_auxiliary": True, **infer},
            )
        )
        parts = self.split(site.value, prototype.latents)

        def draw(site: Site) -> tuple[Variable, Variable, Callable]:
            return parts[site.name], zero(), lambda u: zero()

        return draw

    def check_latents(self, latents: Mapping[str, Latent]) -> None:
        """Refuse latent sites that a joint draw cannot hold."""
        for latent in latents.values():
            for plate in latent.site.plates:
                if plate.is_subsampled:
                    raise SiteError(
                        sentence(
                            f"{type(self).__name__}: site {latent.name!r} is local to the "
                            f"subsampled plate {plate.name!r}",
                            expected="latent sites that are the same at every step",
                            fix="Use AutoNormal for it, alone or as a part of an AutoGuideList",
                        )
                    )

    def start_vector(self, prototype: Prototype) -> np.ndarray:
        """Return the starting values of all sites as one vector."""
        values = prototype.start(init_seed())
        return np.concatenate([values[name].ravel() for name in prototype.latents])

    def split(self, joint: Variable, latents: Mapping[str, Latent]) -> dict[str, Variable]:
        """Cut a vector, symbolic or not, into the unconstrained values of the sites."""
        ends = np.cumsum([latent.size for latent in latents.values()])
        return {
            latent.name: joint[end - latent.size : end].reshape(latent.shape)
            for latent, end in zip(latents.values(), ends, strict=True)
        }


class AutoContinuous(JointGuide):
    """Base of the guides with one joint draw: a vector of all unconstrained elements.

    Subclasses implement :meth:`draw_joint` and, for what can be asked of a fitted guide,
    ``get_posterior``.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the guide starts; see :mod:`pymc_svi.guides.init`.

    Examples
    --------
    A guide with one scale for all elements:

    >>> import pymc as pm
    >>> from pymc_svi import constraints, handlers, param
    >>> from pymc_svi.gradients import rsample
    >>> from pymc_svi.guides import AutoContinuous
    >>> class AutoSphere(AutoContinuous):
    ...     def draw_joint(self, prototype):
    ...         loc = param("auto_loc", lambda: self.start_vector(prototype))
    ...         scale = param("auto_scale", 0.1, constraint=constraints.positive)
    ...         law = pm.Normal.dist(loc, scale)
    ...         draw = rsample(law)
    ...         return draw, pm.logp(law, draw).sum()
    >>> def model():
    ...     pm.Normal("x", 0.0, 1.0, shape=2)
    ...     pm.HalfNormal("s", 1.0)
    >>> handlers.trace(AutoSphere(model)).get_trace()
    Trace(param auto_loc, param auto_scale, sample _auto_latent, sample x, sample s)
    """

    def begin(self, prototype: Prototype):
        """Emit the joint draw; return the function that takes one site's part of it."""
        self.check_latents(prototype.latents)
        return self.emit(prototype, *self.draw_joint(prototype))

    @abstractmethod
    def draw_joint(self, prototype: Prototype) -> tuple[Variable, ...]:
        """Declare the params; return the joint draw and its log-density, a scalar.

        And as a third, if it is known, the log-density as a function of the joint value.

        Parameters
        ----------
        prototype : Prototype
            The latent sites of the model, with their shapes and starting values.

        Returns
        -------
        tuple of Variable
            The draw and its log-density.
        """

    def noise_map(
        self, params: Mapping[str, Any], *args, **kwargs
    ) -> Callable[[Variable], tuple[Variable, Variable]]:
        """Return the map of standard Normal noise to the fitted vector.

        A function that returns the vector and the log-determinant of the Jacobian, for guides
        whose map is one-to-one.

        Parameters
        ----------
        params : dict of str to array_like
            Constrained values of the params, as in ``result.params``.
        *args, **kwargs
            Arguments of the model; by default those the guide was last run with.

        Returns
        -------
        callable
            The map.
        """
        raise NotImplementedError(
            sentence(
                f"{type(self).__name__} does not map noise one-to-one",
                fix="Use AutoMultivariateNormal, AutoDiagonalNormal or a flow",
            )
        )

    def register_posterior(self, model: pm.Model, posterior: Any, latents: Mapping[str, Latent]):
        """Make the joint distribution part of a model; return each site's part of it."""
        return self.split(model.register_rv(posterior, f"{self.prefix}_latent"), latents)


class AutoGaussianVector(AutoContinuous):
    """Base of the joint guides that are Normal in unconstrained space."""

    step_up = "a guide that bends, AutoIAFNormal or AutoNormalizingFlow, or AutoDAIS"

    @abstractmethod
    def moments(self, params: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the vector."""

    def marginals(self, params, latents):
        """Return mean and standard deviation of each unconstrained element."""
        loc, sd = (self.split(moment, latents) for moment in self.moments(params))
        return {name: (loc[name], sd[name]) for name in latents}


def _or_else(joint: Variable, log_density: Variable, at: Callable | None = None):
    """Return a log-density as a function that knows the draw it was written for."""
    return at and (lambda value: log_density if value is joint else at(value))


def standard_normal(*shape: int) -> Variable:
    """Return standard Normal noise."""
    return rsample(pm.Normal.dist(0.0, 1.0, shape=shape))
