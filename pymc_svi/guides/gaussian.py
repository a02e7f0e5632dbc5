"""``AutoGaussian``: one Normal whose precision follows the model's dependencies."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.linalg import solve_triangular

from pymc_svi.constraints import positive
from pymc_svi.guides.continuous import AutoGaussianVector, standard_normal
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.multivariate_normal import matrix_vector
from pymc_svi.guides.normal import check_init_scale, normal_log_density
from pymc_svi.guides.prototype import Latent, Prototype
from pymc_svi.handlers import Site
from pymc_svi.handlers.core import Program
from pymc_svi.primitives import param

__all__ = ["AutoGaussian"]


class AutoGaussian(AutoGaussianVector):
    r"""Guide with one Normal over all latent elements, as sparse in precision as the posterior.

    Two elements that no site of the model and no factor brings together are independent given
    all others, and their entry of the posterior's precision matrix is zero. With
    :math:`s = (u - \text{loc}) / \text{scale}` the unconstrained elements :math:`u` have

    .. math:: A s = \epsilon \sim \operatorname{Normal}(0, I),

    where :math:`A` is lower-triangular with ones on its diagonal, and zero where the entry of the
    precision is, up to fill-in: those that two earlier elements share with a later one. On a
    Gaussian model the guide contains the posterior. Elements along a plate are independent of
    each other if all that depends on them is inside the plate too: a model with its global sites
    first and N members in a plate has a multiple of N params, not of N squared.

    A site that is hidden from the guide couples nothing. As a part of an ``AutoGuideList`` give it
    ``block(model, hide=[...])``, which leaves the data in sight, rather than ``expose``.

    The params are ``auto_loc`` and ``auto_scale`` of length D, the number of unconstrained
    elements, and ``auto_weights``, the entries of :math:`A` if there are any. Drawing takes a
    triangular solve of size D; the model is to have thousands of latent elements at most.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the location starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start.

    References
    ----------
    Tan and Nott (2018), Gaussian variational approximation with sparse precision matrices.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers, plate
    >>> from pymc_svi.guides import AutoGaussian
    >>> def model():
    ...     mu = pm.Normal("mu")
    ...     with plate("member", 5):
    ...         z = pm.Normal("z", mu, 1.0)
    ...         pm.Normal("y", z, 1.0, observed=[1.0, 2.0, 3.0, 4.0, 5.0])
    >>> tr = handlers.trace(AutoGaussian(model)).get_trace()
    >>> tr["auto_weights"].value.eval().shape
    (5,)
    """

    step_up = "a full covariance, AutoMultivariateNormal, or a flow, AutoIAFNormal"

    def __init__(
        self,
        model: Program,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        self.init_scale = check_init_scale(type(self).__name__, init_scale)
        # Rows and columns of the weights in the matrix, for the model's latest arguments.
        self._entries: tuple[np.ndarray, np.ndarray] = (np.zeros(0, int), np.zeros(0, int))

    def draw_joint(self, prototype: Prototype) -> tuple[Variable, ...]:
        """Declare the params; draw."""
        size = prototype.size
        self._entries = rows, columns = _entries(prototype)
        loc = param(f"{self.prefix}_loc", lambda: self.start_vector(prototype))
        scale = param(
            f"{self.prefix}_scale", lambda: np.full(size, self.init_scale), constraint=positive
        )
        matrix = pt.eye(size)
        if len(rows):
            weights = param(f"{self.prefix}_weights", lambda: np.zeros(len(rows)))
            matrix = matrix[rows, columns].set(weights)
        noise = standard_normal(size)
        joint = loc + scale * solve_triangular(
            matrix, noise, lower=True, unit_diagonal=True, b_ndim=1
        )

        def log_density(noise: Variable) -> Variable:
            return normal_log_density(noise, 0.0, 1.0).sum() - pt.log(scale).sum()

        def log_density_at(value: Variable) -> Variable:
            return log_density(matrix_vector(matrix, (value - loc) / scale))

        return joint, log_density(noise), log_density_at

    def at(self, params, *args, **kwargs):
        """Return the guide at fixed params, ready to be evaluated."""
        fitted = super().at(params, *args, **kwargs)
        prototype = fitted.prototype()
        with fitted.apart():
            self._entries = _entries(prototype)
        return fitted

    def moments(self, params):
        """Return mean and standard deviation of the vector."""
        factor = self._factor(params)
        return np.asarray(params[f"{self.prefix}_loc"]), np.sqrt((factor**2).sum(axis=1))

    def noise_map(self, params, *args, **kwargs):
        """Return the map of noise to the fitted vector."""
        self.at(params, *args, **kwargs)
        loc, factor = np.asarray(params[f"{self.prefix}_loc"]), self._factor(params)
        log_det = pt.constant(np.log(np.diagonal(factor)).sum())
        return lambda noise: (loc + matrix_vector(pt.constant(factor), noise), log_det)

    def get_posterior(self, params, *args, **kwargs):
        """Return the fitted multivariate Normal, in unconstrained space."""
        self.at(params, *args, **kwargs)
        return pm.MvNormal.dist(np.asarray(params[f"{self.prefix}_loc"]), chol=self._factor(params))

    def _factor(self, params) -> np.ndarray:
        """Return the matrix that maps noise to deviations, lower-triangular."""
        scale = np.asarray(params[f"{self.prefix}_scale"])
        matrix = np.eye(len(scale))
        if len(self._entries[0]):
            matrix[self._entries] = params[f"{self.prefix}_weights"]
        return scale[:, None] * np.linalg.inv(matrix)


# --- which entries there are --------------------------------------------------------------------


def _entries(prototype: Prototype) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the entries below the diagonal."""
    coupled = _coupled(prototype)
    for last in range(len(coupled) - 1, -1, -1):
        # Without the last element, those before it that it was coupled with are with each other.
        before = np.flatnonzero(coupled[last, :last])
        coupled[np.ix_(before, before)] = True
    rows, columns = np.nonzero(np.tril(coupled, -1))
    return rows, columns


def _coupled(prototype: Prototype) -> np.ndarray:
    """Return which elements some site of the model brings together."""
    latents = prototype.latents
    ends = np.cumsum([latent.size for latent in latents.values()])
    rows = {n: slice(e - latents[n].size, e) for n, e in zip(latents, ends, strict=True)}
    coupled = np.zeros((prototype.size, prototype.size), dtype=bool)
    for site, names in prototype.factors():
        for first in names:
            for second in names:
                together = _together(site, latents[first], latents[second])
                coupled[rows[first], rows[second]] |= together
    return coupled


def _together(site: Site, first: Latent, second: Latent) -> np.ndarray:
    """Return which elements of two sites a third sees in one member of its plates."""
    together = np.ones((first.size, second.size), dtype=bool)
    for frame in site.plates:
        one, other = _members(first, frame.name), _members(second, frame.name)
        if one is not None and other is not None:
            together &= one[:, None] == other
    return together


def _members(latent: Latent, plate: str) -> np.ndarray | None:
    """Return which member of a plate each element of a site belongs to, if it is inside."""
    for frame in latent.site.plates:
        if frame.name == plate:
            axis = len(latent.shape) - latent.event_ndim + frame.dim
            return np.indices(latent.shape)[axis].ravel()
    return None
