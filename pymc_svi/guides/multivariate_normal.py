"""``AutoMultivariateNormal``: one Normal with full covariance over all latent sites."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.linalg import solve_triangular

from pymc_svi.constraints import scaled_unit_lower_cholesky
from pymc_svi.guides.continuous import AutoGaussianVector, standard_normal
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.normal import check_init_scale
from pymc_svi.guides.prototype import Prototype
from pymc_svi.handlers.core import Program
from pymc_svi.primitives import param

__all__ = ["AutoMultivariateNormal", "matrix_vector"]

# Up to this many latents a product of a matrix and a vector is cheaper as one fused loop than
# as a call of BLAS, whose wrappers take half a minute to compile on a new machine.
_SMALL = 64


class AutoMultivariateNormal(AutoGaussianVector):
    """Full-rank guide: one multivariate Normal over all latent elements, in unconstrained space.

    The family and the optimum of ``pm.fit(method="fullrank_advi")``. Its params are
    ``auto_loc`` of length D, the number of unconstrained elements, and ``auto_scale_tril``, the
    lower-triangular Cholesky factor of the covariance, of shape (D, D).

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the location starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the diagonal of the Cholesky factor starts.

    References
    ----------
    Kucukelbir et al. (2017), Automatic Differentiation Variational Inference.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoMultivariateNormal
    >>> def model():
    ...     mu = pm.Normal("mu")
    ...     sigma = pm.HalfNormal("sigma")
    ...     pm.Normal("y", mu, sigma, observed=1.0)
    >>> tr = handlers.trace(AutoMultivariateNormal(model)).get_trace()
    >>> tr["auto_scale_tril"].value.eval().shape
    (2, 2)
    """

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

    def draw_joint(self, prototype: Prototype) -> tuple[Variable, ...]:
        """Declare location and Cholesky factor; draw."""
        size = prototype.size
        loc = param(f"{self.prefix}_loc", lambda: self.start_vector(prototype))
        scale_tril = param(
            f"{self.prefix}_scale_tril",
            lambda: self.init_scale * np.eye(size),
            constraint=scaled_unit_lower_cholesky,
        )
        noise = standard_normal(size)

        # The density of loc + L @ noise, written in the noise: no triangular solve.
        def log_density(noise):
            return (
                -0.5 * (noise**2).sum()
                - pt.log(pt.diagonal(scale_tril)).sum()
                - 0.5 * size * np.log(2 * np.pi)
            )

        def log_density_at(value):
            return log_density(solve_triangular(scale_tril, value - loc, lower=True))

        joint = loc + matrix_vector(scale_tril, noise)
        return joint, log_density(noise), log_density_at

    def moments(self, params):
        """Return mean and standard deviation of the vector."""
        scale_tril = np.asarray(params[f"{self.prefix}_scale_tril"])
        return np.asarray(params[f"{self.prefix}_loc"]), np.sqrt((scale_tril**2).sum(axis=-1))

    def noise_map(self, params, *args, **kwargs):
        """Return the map of noise to the fitted vector."""
        loc, chol = (np.asarray(params[f"{self.prefix}_{p}"]) for p in ("loc", "scale_tril"))
        log_det = pt.constant(np.log(np.diagonal(chol)).sum())
        return lambda noise: (loc + matrix_vector(pt.constant(chol), noise), log_det)

    def get_posterior(self, params, *args, **kwargs):
        """Return the fitted multivariate Normal, in unconstrained space."""
        loc, chol = (np.asarray(params[f"{self.prefix}_{p}"]) for p in ("loc", "scale_tril"))
        return pm.MvNormal.dist(loc, chol=chol)


def matrix_vector(matrix: Variable, vector: Variable) -> Variable:
    """Return the product of a matrix and a vector, or of batches of them."""
    size = matrix.type.shape[-1]
    if size is not None and size <= _SMALL:
        return (matrix * vector[..., None, :]).sum(axis=-1)
    if matrix.ndim == 2:
        return matrix @ vector
    return pt.matmul(matrix, vector[..., None])[..., 0]
