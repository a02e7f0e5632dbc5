"""``AutoMultivariateNormal``: one Normal with full covariance over all latent sites."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.constraints import scaled_unit_lower_cholesky
from pymc_svi.gradients import rsample
from pymc_svi.guides.base import AutoGuide, Prototype
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.normal import check_init_scale
from pymc_svi.handlers import Site
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import zero
from pymc_svi.handlers.stack import apply_stack
from pymc_svi.primitives import init_seed, param

__all__ = ["AutoMultivariateNormal"]

# Up to this many latents a product of a matrix and a vector is cheaper as one fused loop than
# as a call of BLAS, whose wrappers take half a minute to compile on a new machine.
_SMALL = 64


class AutoMultivariateNormal(AutoGuide):
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

    def begin(self, prototype: Prototype):
        """Emit the joint draw; return the function that takes one site's part of it."""
        latents = prototype.latents
        size = sum(latent.size for latent in latents.values())

        def start() -> np.ndarray:
            values = prototype.start(init_seed())
            return np.concatenate([values[name].ravel() for name in latents])

        loc = param(f"{self.prefix}_loc", start)
        scale_tril = param(
            f"{self.prefix}_scale_tril",
            lambda: self.init_scale * np.eye(size),
            constraint=scaled_unit_lower_cholesky,
        )
        noise = rsample(pm.Normal.dist(0.0, 1.0, shape=size))
        if size <= _SMALL:
            offset = (scale_tril * noise).sum(axis=-1)
        else:
            offset = scale_tril @ noise
        # The density of loc + L @ noise, written in the noise: no triangular solve.
        log_density = (
            -0.5 * (noise**2).sum()
            - pt.log(pt.diagonal(scale_tril)).sum()
            - 0.5 * size * np.log(2 * np.pi)
        )
        joint = apply_stack(
            Site(
                "sample",
                f"_{self.prefix}_latent",
                value=loc + offset,
                log_density=log_density,
                infer={"is_auxiliary": True},
            )
        ).value
        ends = np.cumsum([latent.size for latent in latents.values()])
        parts = {
            latent.name: joint[end - latent.size : end].reshape(latent.shape)
            for latent, end in zip(latents.values(), ends, strict=True)
        }

        def draw(site: Site) -> tuple[Variable, Variable]:
            return parts[site.name], zero()

        return draw
