"""``AutoBatchedMultivariateNormal``: a Normal with full covariance for each member of a batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.linalg import solve_triangular

from pymc_svi.constraints import scaled_unit_lower_cholesky
from pymc_svi.errors import SiteError, sentence
from pymc_svi.guides.continuous import AutoGaussianVector, standard_normal
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.multivariate_normal import matrix_vector
from pymc_svi.guides.normal import check_init_scale
from pymc_svi.guides.prototype import Latent, Prototype
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.values import describe_shape
from pymc_svi.primitives import init_seed, param

__all__ = ["AutoBatchedMultivariateNormal"]


class AutoBatchedMultivariateNormal(AutoGaussianVector):
    """Guide with a full-rank Normal for each member of a batch, such as each group of a model.

    All latent sites have the batch as their first dimensions. Elements of one member are
    correlated, elements of different members independent: for B members with D elements each
    the params are ``auto_loc`` of shape (B, D) and ``auto_scale_tril`` of shape (B, D, D).

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the location starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the diagonals of the Cholesky factors start.
    batch_ndim : int, default 1
        How many dimensions the batch has.

    Raises
    ------
    ValueError
        If ``batch_ndim`` is below 1.

    References
    ----------
    Kucukelbir et al. (2017), Automatic Differentiation Variational Inference.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoBatchedMultivariateNormal
    >>> def model():
    ...     a = pm.Normal("a", shape=5)
    ...     b = pm.Normal("b", shape=(5, 2))
    ...     pm.Normal("y", a + b.sum(axis=-1), 1.0, observed=[1.0, 2.0, 3.0, 4.0, 5.0])
    >>> tr = handlers.trace(AutoBatchedMultivariateNormal(model)).get_trace()
    >>> tr["auto_scale_tril"].value.eval().shape
    (5, 3, 3)
    """

    step_up = "a full covariance, AutoMultivariateNormal, or a flow, AutoIAFNormal"

    def __init__(
        self,
        model: Program,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
        batch_ndim: int = 1,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        self.init_scale = check_init_scale(type(self).__name__, init_scale)
        if not isinstance(batch_ndim, int) or isinstance(batch_ndim, bool) or batch_ndim < 1:
            raise ValueError(
                sentence(
                    f"{type(self).__name__}: batch_ndim must be at least 1",
                    found=repr(batch_ndim),
                    fix="Without a batch, use AutoMultivariateNormal",
                )
            )
        self.batch_ndim = batch_ndim

    def draw_joint(self, prototype: Prototype) -> tuple[Variable, ...]:
        """Declare locations and Cholesky factors; draw."""
        batch = self._batch_shape(prototype.latents)
        n_members = int(np.prod(batch))
        size = prototype.size // n_members
        loc = param(f"{self.prefix}_loc", lambda: self.start_vector(prototype))
        scale_tril = param(
            f"{self.prefix}_scale_tril",
            lambda: self.init_scale * np.broadcast_to(np.eye(size), (*batch, size, size)),
            constraint=scaled_unit_lower_cholesky,
        )
        noise = standard_normal(*batch, size)
        diagonal = pt.diagonal(scale_tril, axis1=-2, axis2=-1)

        def log_density(noise):
            return (
                -0.5 * (noise**2).sum()
                - pt.log(diagonal).sum()
                - 0.5 * prototype.size * np.log(2 * np.pi)
            )

        def log_density_at(value):
            centred = (value - loc)[..., None]
            return log_density(solve_triangular(scale_tril, centred, lower=True, b_ndim=2))

        joint = loc + matrix_vector(scale_tril, noise)
        return joint, log_density(noise), log_density_at

    def start_vector(self, prototype: Prototype) -> np.ndarray:
        """Return the starting values, with the axes of the batch before the elements."""
        values = prototype.start(init_seed())
        batch = self._batch_shape(prototype.latents)
        return np.concatenate([values[n].reshape(*batch, -1) for n in prototype.latents], axis=-1)

    def split(self, joint: Variable, latents: Mapping[str, Latent]) -> dict[str, Variable]:
        """Cut the elements of each member into the unconstrained values of the sites."""
        members = int(np.prod(self._batch_shape(latents)))
        sizes = [latent.size // members for latent in latents.values()]
        return {
            latent.name: joint[..., end - size : end].reshape(latent.shape)
            for latent, size, end in zip(latents.values(), sizes, np.cumsum(sizes), strict=True)
        }

    def _batch_shape(self, latents: Mapping[str, Latent]) -> tuple[int, ...]:
        shapes = {name: latent.shape[: self.batch_ndim] for name, latent in latents.items()}
        first = next(iter(shapes))
        for name, batch in shapes.items():
            if len(batch) < self.batch_ndim:
                raise SiteError(
                    sentence(
                        f"{type(self).__name__}: site {name!r} has fewer than "
                        f"{self.batch_ndim} batch dimensions",
                        found=f"shape {describe_shape(latents[name].shape)} unconstrained",
                        fix="Give it another guide with AutoGuideList",
                    )
                )
            if batch != shapes[first]:
                raise SiteError(
                    sentence(
                        f"{type(self).__name__}: sites {first!r} and {name!r} have different "
                        "batch shapes",
                        found=f"{describe_shape(shapes[first])} and {describe_shape(batch)}",
                        fix="Give them guides of their own with AutoGuideList",
                    )
                )
        return shapes[first]

    def moments(self, params):
        """Return mean and standard deviation of the elements, shape (*batch, D)."""
        scale_tril = np.asarray(params[f"{self.prefix}_scale_tril"])
        return np.asarray(params[f"{self.prefix}_loc"]), np.sqrt((scale_tril**2).sum(axis=-1))

    def get_posterior(self, params, *args, **kwargs):
        """Return the fitted multivariate Normals, in unconstrained space."""
        loc, chol = (np.asarray(params[f"{self.prefix}_{p}"]) for p in ("loc", "scale_tril"))
        return pm.MvNormal.dist(loc, chol=chol)
