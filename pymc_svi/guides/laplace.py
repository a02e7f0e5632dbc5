"""``AutoLaplaceApproximation``: a Normal at the posterior mode, with the curvature found there."""

from __future__ import annotations

import warnings

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.gradients.simplified import simplified
from pymc_svi.gradients.vectorize import vectorize
from pymc_svi.guides.continuous import AutoGaussianVector
from pymc_svi.guides.fitted import FittedGuide
from pymc_svi.guides.multivariate_normal import AutoMultivariateNormal
from pymc_svi.guides.newton import Derivatives, minimize
from pymc_svi.guides.prototype import Prototype, quick_mode
from pymc_svi.handlers import substitute
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import zero
from pymc_svi.primitives import init_seed, param

__all__ = ["AutoLaplaceApproximation"]

# How far below the mode (in nats, by the quadratic model) a fit may have stopped.
_NOT_THERE = 0.1


class AutoLaplaceApproximation(AutoGaussianVector):
    r"""Laplace's approximation: the posterior mode, and a Normal with the curvature there.

    .. math:: q(u) = \mathcal{N}\left(\hat u, H^{-1}\right), \qquad
        H = -\nabla^2 \log p(x, \hat u)

    The fit finds the mode :math:`\hat u` in unconstrained space (with the log-Jacobian, unlike
    :class:`AutoDelta`); its one param is ``auto_loc``. The Hessian is computed once, when the
    fitted guide is asked for draws, quantiles or its distribution.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the search for the mode starts; see :mod:`pymc_svi.guides.init`.

    Raises
    ------
    SiteError
        When asked for the Normal at params where the Hessian is not positive definite, as at a
        ridge, a saddle, or far from the mode. The message names the sites.

    References
    ----------
    Tierney and Kadane (1986), Accurate approximations for posterior moments and marginal
    densities.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import SVI, optim
    >>> from pymc_svi.guides import AutoLaplaceApproximation
    >>> def model():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Normal("y", x, 1.0, observed=2.0)
    >>> guide = AutoLaplaceApproximation(model)
    >>> result = SVI(model, guide, optim.Adam(0.05)).run(1_000, random_seed=1, progressbar=False)
    >>> posterior = guide.normal_params(result.params)
    >>> posterior["auto_loc"].round(2), posterior["auto_scale_tril"].round(4)
    (array([1.]), array([[0.7071]]))
    """

    step_up = "a Normal that is fitted, AutoMultivariateNormal, or a flow, AutoIAFNormal"
    computes_from_data = True

    def draw_joint(self, prototype: Prototype) -> tuple[Variable, Variable]:
        """Declare the mode, a point without density of its own."""
        return param(f"{self.prefix}_loc", lambda: self.start_vector(prototype)), zero()

    def fitted(self, params, *args, **kwargs) -> Program:
        """Return the Normal at the mode, as a program."""
        given = self.normal_params(params, *args, **kwargs)
        return substitute(self._normal(), data=given)

    def normal_params(self, params, *args, **kwargs) -> dict[str, np.ndarray]:
        """Return the Normal at the mode as params of :class:`AutoMultivariateNormal`.

        Parameters
        ----------
        params : dict of str to array_like
            Params of a fit, as in ``result.params``.
        *args, **kwargs
            Arguments of the fit; by default those the guide was last run with.

        Returns
        -------
        dict of str to numpy.ndarray
            The mode and the Cholesky factor of the covariance.

        Raises
        ------
        SiteError
            If the Hessian is not positive definite there.
        """
        fitted = self.at(params, *args, **kwargs)
        loc = np.asarray(params[f"{self.prefix}_loc"])
        _, gradient, hessian = self._derivatives(fitted, len(loc))(loc)
        eps = np.finfo(hessian.dtype).eps
        hessian, gradient = hessian.astype("float64"), gradient.astype("float64")
        # In units in which its diagonal is one, which says more about it than those of raw data.
        diagonal = np.diagonal(hessian)
        unit = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        eigenvalues, directions = np.linalg.eigh(unit[:, None] * hessian * unit)
        if not eigenvalues[0] > eigenvalues[-1] * len(loc) * eps:
            raise SiteError(
                sentence(
                    f"{type(self).__name__}: the Hessian is not positive definite at the fitted "
                    f"params, along {self._along(fitted, directions[:, 0] ** 2)}",
                    found=f"eigenvalues from {eigenvalues[0]:.3g} to {eigenvalues[-1]:.3g} in units "
                    "in which its diagonal is one",
                    expected="a maximum of the log-density",
                    fix="Fit longer, identify these sites by their priors, or use AutoNormal",
                )
            )
        newton_step = np.linalg.solve(hessian, gradient)
        if (below := 0.5 * gradient @ newton_step) > _NOT_THERE:
            warnings.warn(
                f"{type(self).__name__}: the fit has not reached the mode; by its gradient and "
                f"Hessian the log-density is {below:.2g} nats lower than there. Fit longer.",
                UserWarning,
                stacklevel=2,
            )
        # Of the inverse: its Cholesky factor, from the eigenvectors for stability.
        root = unit[:, None] * directions / np.sqrt(eigenvalues)
        scale_tril = np.linalg.qr(root.T, mode="r").T
        scale_tril *= np.sign(np.diagonal(scale_tril))
        scale_tril = np.tril(scale_tril).astype(pytensor.config.floatX)
        return {f"{self.prefix}_loc": loc, f"{self.prefix}_scale_tril": scale_tril}

    def find_mode(self, *args, **kwargs) -> dict[str, np.ndarray]:
        """Find the mode by Newton's method, without a fit.

        In place of some thousand steps of :class:`~pymc_svi.SVI`, and whatever the units of the
        sites are, which decide how far a step of an optimizer gets. For models of up to some
        hundred latent elements.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the model; by default those the guide was last run with.

        Returns
        -------
        dict of str to numpy.ndarray
            The mode as params of this guide, for ``normal_params``, ``median``, ``to_model``,
            or ``SVI.run(..., init_params=...)``.

        Raises
        ------
        SiteError
            When there is no mode to be found: the log-density still rises, along the sites that
            the message names.

        Examples
        --------
        >>> import numpy as np
        >>> import pymc as pm
        >>> from pymc_svi.guides import AutoLaplaceApproximation
        >>> def model(y):
        ...     mu = pm.Normal("mu", 0.0, 1e4)
        ...     pm.Normal("y", mu, 10.0, observed=y)
        >>> guide = AutoLaplaceApproximation(model)
        >>> guide.find_mode(np.array([900.0, 1_100.0]))["auto_loc"].round(1)
        array([1000.])
        """
        fitted = self.at({}, *args, **kwargs)
        prototype = fitted.prototype()
        prototype.refuse_discrete(type(self).__name__)
        start = prototype.start(init_seed())
        loc = np.concatenate([start[name].ravel() for name in prototype.latents])
        found = minimize(self._derivatives(fitted, len(loc)), loc)
        if not found.arrived:
            raise SiteError(
                sentence(
                    f"{type(self).__name__}: no mode was found; where the search ended, the "
                    f"log-density still rises along {self._along(fitted, found.falls)}",
                    expected="a posterior with a maximum in unconstrained space",
                    fix="Identify these sites by their priors, write the model in other "
                    "coordinates (see handlers.reparam), or start elsewhere by init_loc_fn",
                )
            )
        return {f"{self.prefix}_loc": found.point.astype(pytensor.config.floatX)}

    def _derivatives(self, fitted: FittedGuide, size: int) -> Derivatives:
        """Return the function of minus the log-density, its gradient and its Hessian."""
        latents = fitted.prototype().latents
        u = pt.tensor("u", dtype=pytensor.config.floatX, shape=(size,))
        [value] = without_named_dims([-fitted.placed(self.split(u, latents)).log_density()])
        gradient = pytensor.grad(simplified(value), u)
        # The products of the Hessian with all unit vectors, as one batch.
        direction = pt.tensor("direction", dtype=u.type.dtype, shape=(size,))
        product = pytensor.grad((gradient * direction).sum(), u, disconnected_inputs="ignore")
        [hessian] = vectorize([product], {direction: pt.eye(size, dtype=u.type.dtype)})
        function = pytensor.function([u], [value, gradient, hessian], mode=quick_mode())

        def at(loc: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            value, gradient, hessian = map(np.asarray, function(loc.astype(u.type.dtype)))
            hessian = np.broadcast_to(hessian, (size, size))
            return float(value), gradient, 0.5 * (hessian + hessian.T)

        return at

    def _along(self, fitted: FittedGuide, weights: np.ndarray) -> str:
        """Name the sites that make up most of a direction."""
        parts = self.split(weights / (weights.sum() or 1.0), fitted.prototype().latents)
        return quoted(name for name, part in parts.items() if part.sum() > 0.1)

    def marginals(self, params, latents):
        """Return mean and standard deviation of each unconstrained element."""
        return self._normal().marginals(self.normal_params(params), latents)

    def moments(self, params):
        """Return mean and standard deviation of the vector."""
        return self._normal().moments(self.normal_params(params))

    def noise_map(self, params, *args, **kwargs):
        """Return the map of noise to the vector of the Normal at the mode."""
        return self._normal().noise_map(self.normal_params(params, *args, **kwargs))

    def get_posterior(self, params, *args, **kwargs):
        """Return the Normal at the mode, in unconstrained space."""
        return self._normal().get_posterior(self.normal_params(params, *args, **kwargs))

    def _normal(self) -> AutoMultivariateNormal:
        normal = AutoMultivariateNormal(
            self.model, prefix=self.prefix, init_loc_fn=self.init_loc_fn
        )
        normal.latent_names = self.latent_names
        return normal
