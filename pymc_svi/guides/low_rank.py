"""``AutoLowRankMultivariateNormal``: a Normal whose covariance is diagonal plus low rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Variable
from pytensor.tensor.linalg import cholesky, solve_triangular

from pymc_svi.constraints import positive
from pymc_svi.errors import sentence
from pymc_svi.guides.continuous import AutoGaussianVector, standard_normal
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.normal import check_init_scale
from pymc_svi.guides.prototype import Prototype
from pymc_svi.handlers.core import Program
from pymc_svi.primitives import init_seed, param

__all__ = ["AutoLowRankMultivariateNormal", "low_rank_log_density", "low_rank_normal"]

# The factor starts at draws this small: near the diagonal, and not at zero, where its expected
# gradient is zero.
_START = 0.1


class AutoLowRankMultivariateNormal(AutoGaussianVector):
    r"""Guide with a multivariate Normal whose covariance is diagonal plus low rank.

    .. math:: \Sigma = S \, (I + W W^T) \, S, \qquad S = \operatorname{diag}(\mathrm{scale})

    Its params, for D unconstrained elements, are ``auto_loc`` and ``auto_scale`` of length D and
    ``auto_cov_factor``, W, of shape (D, rank). Nothing of size (D, D) is ever made: time and
    memory are linear in D.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the location starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start, in unconstrained space.
    rank : int, optional
        Rank of the dense part; by default the square root of D, rounded.

    Raises
    ------
    ValueError
        If ``rank`` is below 1.

    References
    ----------
    Ong, Nott and Smith (2018), Gaussian variational approximation with a factor covariance
    structure. Miller, Foti and Adams (2017), Variational boosting.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoLowRankMultivariateNormal
    >>> def model():
    ...     x = pm.Normal("x", shape=100)
    ...     pm.Normal("y", x.sum(), 1.0, observed=1.0)
    >>> guide = AutoLowRankMultivariateNormal(model, rank=3)
    >>> handlers.trace(guide).get_trace()["auto_cov_factor"].shape
    (100, 3)
    """

    step_up = "a higher rank, AutoMultivariateNormal, or a flow, AutoIAFNormal"

    def __init__(
        self,
        model: Program,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
        rank: int | None = None,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        self.init_scale = check_init_scale(type(self).__name__, init_scale)
        whole = isinstance(rank, int | np.integer) and not isinstance(rank, bool)
        if rank is not None and not (whole and rank > 0):
            raise ValueError(
                sentence(f"{type(self).__name__}: rank must be at least 1", found=repr(rank))
            )
        self.rank = rank

    def draw_joint(self, prototype: Prototype) -> tuple[Variable, ...]:
        """Declare location, scale and factor; draw."""
        size = prototype.size
        rank = min(size, round(size**0.5) if self.rank is None else self.rank)
        loc = param(f"{self.prefix}_loc", lambda: self.start_vector(prototype))
        scale = param(
            f"{self.prefix}_scale",
            lambda: np.full(size, self.init_scale),
            constraint=positive,
        )
        factor = param(
            f"{self.prefix}_cov_factor",
            lambda: np.random.default_rng(init_seed()).normal(0, _START, (size, rank)),
        )
        common, own = standard_normal(rank), standard_normal(size)
        standardized = own + (factor * common).sum(axis=-1)

        def log_density_at(value):
            return low_rank_log_density((value - loc) / scale, scale, factor)

        joint = loc + scale * standardized
        return joint, low_rank_log_density(standardized, scale, factor), log_density_at

    def moments(self, params):
        """Return mean and standard deviation of the vector."""
        loc, scale, factor = self._values(params)
        return loc, scale * np.sqrt(1 + (factor**2).sum(axis=-1))

    def get_posterior(self, params, *args, **kwargs):
        """Return the fitted Normal, in unconstrained space."""
        return low_rank_normal(*self._values(params))

    def _values(self, params) -> list[np.ndarray]:
        names = ("loc", "scale", "cov_factor")
        return [np.asarray(params[f"{self.prefix}_{name}"]) for name in names]


def low_rank_log_density(standardized: Variable, scale: Variable, factor: Variable) -> Variable:
    """Log-density of ``loc + scale * standardized``, by the Woodbury identity.

    The covariance of ``standardized`` is ``I + W W'``; its determinant is that of the small
    matrix ``C = I + W' W``, and its inverse is ``I - W C^-1 W'``. With the inverse A of C held
    fixed, ``d log det C = tr(A dC)`` and ``d v' C^-1 v = 2 v' A dv - v' A dC A v``: writing the
    gradients down spares those of the Cholesky decomposition, which take long to compile.
    """
    rank = factor.type.shape[-1] or factor.shape[-1]
    gram = pt.eye(rank) + factor.T @ factor
    projected = factor.T @ standardized
    chol = cholesky(disconnected_grad(gram))
    root = solve_triangular(chol, pt.eye(rank), lower=True)
    inverse = disconnected_grad(root.T @ root)
    solved = inverse @ projected
    fixed = disconnected_grad(solved)
    change = gram - disconnected_grad(gram)  # zero, with a gradient
    log_det = 2 * disconnected_grad(pt.log(pt.diagonal(chol)).sum()) + (inverse * change).sum()
    explained = (projected * solved).sum() - (change * fixed[:, None] * fixed).sum()
    return (
        -0.5 * ((standardized**2).sum() - explained + log_det)
        - pt.log(scale).sum()
        - 0.5 * standardized.shape[0] * np.log(2 * np.pi)
    )


def low_rank_normal(loc: Any, scale: Any, factor: Any) -> Variable:
    """Return a Normal with covariance ``S (I + W W') S`` as an unnamed distribution."""

    def logp(value, loc, scale, factor):
        return low_rank_log_density((value - loc) / scale, scale, factor)

    def draw(loc, scale, factor, rng=None, size=None):
        batch = () if size is None else tuple(size)
        common = rng.normal(size=(*batch, factor.shape[-1]))
        own = rng.normal(size=(*batch, factor.shape[-2]))
        return loc + scale * (own + common @ factor.T)

    return pm.CustomDist.dist(
        *map(np.asarray, (loc, scale, factor)),
        logp=logp,
        random=draw,
        signature="(d),(d),(d,r)->(d)",
        class_name="LowRankNormal",
    )
