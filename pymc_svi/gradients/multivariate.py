"""Rules for distributions of vectors and matrices."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.multivariate import (
    CARRV,
    LKJCorrRV,
    MatrixNormalRV,
    MvStudentTRV,
    _LKJCholeskyCovRV,  # the op of the public LKJCholeskyCov has no public name
)
from pytensor.graph.basic import Variable, equal_computations
from pytensor.sparse import dense_from_sparse
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.exceptions import NotScalarConstantError
from pytensor.tensor.math import Dot
from pytensor.tensor.random import basic as rvs
from pytensor.tensor.type import TensorType
from pytensor.tensor.variable import TensorVariable

from pymc_svi.gradients.implicit import log_gamma_draw, positive_exp
from pymc_svi.gradients.pathwise import (
    batch_shape,
    fresh_rng,
    no_pathwise_draw,
    noise,
    register_rsample,
    rsample,
)

__all__ = ["square_root"]


@register_rsample(rvs.MvNormalRV)
def _mv_normal(op, rv, mu, cov):
    return mu + _times(square_root(cov), noise(rv, pt.random.normal))


@register_rsample(MvStudentTRV)
def _mv_student_t(op, rv, nu, mu, scale):
    batch = batch_shape(rv)
    normal = noise(rv, pt.random.normal, shape=(*batch, mu.shape[-1]))
    log_gamma = log_gamma_draw(rv, nu / 2, shape=batch, rng=fresh_rng())
    spread = positive_exp((pt.log(nu / 2) - log_gamma) / 2)
    return mu + _times(square_root(scale), normal) * spread[..., None]


@register_rsample(MatrixNormalRV)
def _matrix_normal(op, rv, mu, row_chol, col_chol):
    normal = noise(rv, pt.random.normal)
    return mu + _unexpanded(row_chol) @ normal @ _unexpanded(col_chol).mT


@register_rsample(CARRV)
def _car(op, rv, mu, weights, alpha, tau, weights_is_valid):
    weights = _unexpanded(weights)
    if not isinstance(weights.type, TensorType):
        weights = dense_from_sparse(weights)
    precision = tau.squeeze() * (pt.diag(weights.sum(axis=0)) - alpha.squeeze() * weights)
    chol = pt.linalg.cholesky(precision, lower=True)
    normal = noise(rv, pt.random.normal)
    return mu + pt.linalg.solve_triangular(chol.mT, normal, lower=False, b_ndim=1)


@register_rsample(LKJCorrRV)
def _lkj_corr(op, rv, n, eta):
    return _lkj_cholesky(rv, n, eta, batch_shape(rv))


@register_rsample(_LKJCholeskyCovRV)
def _lkj_cholesky_cov(op, rv, n, eta, sd_dist):
    deviations = rsample(sd_dist)
    batch = tuple(deviations.shape[i] for i in range(deviations.type.ndim - 1))
    chol = deviations[..., None] * _lkj_cholesky(rv, n, eta, batch)
    rows, columns = pt.tril_indices(n)
    return chol[..., rows, columns]


def _lkj_cholesky(rv, n, eta, batch):
    """Return the Cholesky factor of an LKJ correlation matrix, by the onion method [1]_.

    A new row points in a random direction, and its squared length but for the last element is
    a Beta draw that does not depend on the other rows: all rows are drawn at once.

    .. [1] Lewandowski, D., Kurowicka, D., Joe, H. (2009). Generating random correlation matrices
       based on vines and extended onion method. Journal of Multivariate Analysis 100(9).
    """
    try:
        n = int(pt.get_underlying_scalar_constant_value(n))
    except NotScalarConstantError as error:
        raise no_pathwise_draw(rv, inside="n is not a constant") from error
    eta = eta.squeeze()
    row = np.arange(1, n)
    shape = (*batch, n - 1)
    log_length = log_gamma_draw(rv, pt.as_tensor(row / 2), shape=shape)
    log_rest = log_gamma_draw(rv, eta - 1 + (n + 1 - row) / 2, shape=shape, rng=fresh_rng())
    log_total = pt.logaddexp(log_length, log_rest)
    below = np.tril(np.ones((n - 1, n - 1)))
    direction = noise(rv, pt.random.normal, shape=(*batch, n - 1, n - 1), rng=fresh_rng()) * below
    direction = direction / pt.sqrt((direction**2).sum(axis=-1, keepdims=True))
    left = direction * pt.exp((log_length - log_total) / 2)[..., None]
    diagonal = pt.exp((log_rest - log_total) / 2)
    chol = pt.zeros((*batch, n, n), dtype=rv.type.dtype)
    chol = chol[..., 0, 0].set(1.0)
    chol = chol[..., 1:, :-1].set(left)
    return chol[..., row, row].set(diagonal)


def square_root(cov: Variable) -> TensorVariable:
    """Return a matrix A with A Aᵀ = cov.

    A covariance that was computed from a factor, as ``pm.MvNormal(chol=...)`` does, gives that
    factor back; another is Cholesky-decomposed. The ``method`` of a random variable is not
    followed: the other decompositions have no gradient where eigenvalues coincide.

    Parameters
    ----------
    cov : TensorVariable
        Covariance matrix, shape (..., n, n).

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.gradients.multivariate import square_root
    >>> chol = pt.matrix("chol")
    >>> square_root(chol @ chol.mT) is chol
    True
    """
    cov = _unexpanded(cov)
    op = cov.owner and cov.owner.op
    if isinstance(op.core_op if isinstance(op, Blockwise) else op, Dot):
        left, right = cov.owner.inputs
        if equal_computations([right], [left.mT]):
            return left
    return pt.linalg.cholesky(cov, lower=True)


def _times(matrix: TensorVariable, vectors: TensorVariable) -> TensorVariable:
    """Multiply a matrix with vectors, in one product if all have the same matrix."""
    if matrix.type.ndim > 2:
        return pt.matvec(matrix, vectors)
    return matrix @ vectors if vectors.type.ndim == 1 else vectors @ matrix.mT


def _unexpanded(x: Variable) -> Variable:
    """Return a parameter without the leading dimensions of length one that its op gave it."""
    while x.owner and isinstance(x.owner.op, DimShuffle) and x.owner.op.is_left_expand_dims:
        [x] = x.owner.inputs
    return x
