"""Kernels of Stein variational gradient descent: how much particles have to do with each other.

A kernel is a function of a matrix of particles, one a row, that returns two matrices: ``K`` with
``K[i, j] = k(x_i, x_j)``, and the repulsion, whose row ``i`` is the sum over ``j`` of the gradient
of ``k(x_j, x_i)`` for ``x_j``. PyMC's kernels have the same form and can be used too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import did_you_mean, quoted, sentence

__all__ = ["IMQ", "RBF", "Kernel", "Linear", "as_kernel"]

Kernel = Callable[[Variable], tuple[Variable, Variable]]
Bandwidth = float | Literal["median"]


class RBF:
    r"""The radial kernel :math:`k(x, y) = \exp(-\|x - y\|^2 / 2h)`.

    Parameters
    ----------
    bandwidth : float or "median", default "median"
        The squared length :math:`h`. The median heuristic takes half the median of all squared
        distances over :math:`\log(n + 1)`, anew at each step.

    Raises
    ------
    ValueError
        If the bandwidth is neither positive nor "median".

    References
    ----------
    Liu and Wang (2016), Stein Variational Gradient Descent.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.objectives import RBF
    >>> k, repulsion = RBF(bandwidth=0.5)(np.array([[0.0], [1.0]]))
    >>> k.eval().round(3)
    array([[1.   , 0.368],
           [0.368, 1.   ]])
    >>> repulsion.eval().round(3)  # away from each other
    array([[-0.736],
           [ 0.736]])
    """

    def __init__(self, bandwidth: Bandwidth = "median"):
        self.bandwidth = _checked_bandwidth(type(self).__name__, bandwidth)

    def __call__(self, particles: Variable) -> tuple[Variable, Variable]:
        """Return the kernel matrix and the repulsion."""
        particles = pt.as_tensor(particles)
        distances = squared_distances(particles)
        h = bandwidth_for(distances, self.bandwidth)
        k = pt.exp(-distances / (2 * h))
        return k, _away(k / h, particles)

    def __repr__(self) -> str:
        return f"RBF(bandwidth={self.bandwidth!r})"


class IMQ:
    r"""The inverse multiquadric kernel :math:`k(x, y) = (1 + \|x - y\|^2 / 2h)^{\beta}`.

    Its tails are heavier than those of :class:`RBF`: distant particles still repel each other.

    Parameters
    ----------
    beta : float, default -0.5
        The exponent, between -1 and 0.
    bandwidth : float or "median", default "median"
        The squared length :math:`h`, as for :class:`RBF`.

    Raises
    ------
    ValueError
        If ``beta`` is not between -1 and 0, or the bandwidth not positive.

    References
    ----------
    Gorham and Mackey (2017), Measuring Sample Quality with Kernels.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.objectives import IMQ
    >>> k, repulsion = IMQ(bandwidth=0.5)(np.array([[0.0], [1.0]]))
    >>> k.eval().round(3)
    array([[1.   , 0.707],
           [0.707, 1.   ]])
    """

    def __init__(self, beta: float = -0.5, bandwidth: Bandwidth = "median"):
        if not isinstance(beta, int | float | np.number) or not -1 < beta < 0:
            raise ValueError(
                sentence("IMQ: beta is an exponent between -1 and 0", found=repr(beta))
            )
        self.beta = float(beta)
        self.bandwidth = _checked_bandwidth(type(self).__name__, bandwidth)

    def __call__(self, particles: Variable) -> tuple[Variable, Variable]:
        """Return the kernel matrix and the repulsion."""
        particles = pt.as_tensor(particles)
        distances = squared_distances(particles)
        h = bandwidth_for(distances, self.bandwidth)
        base = 1 + distances / (2 * h)
        return base**self.beta, _away(-self.beta / h * base ** (self.beta - 1), particles)

    def __repr__(self) -> str:
        return f"IMQ(beta={self.beta}, bandwidth={self.bandwidth!r})"


class Linear:
    r"""The linear kernel :math:`k(x, y) = x^\top y / D + 1`.

    With it, particles find mean and covariance of a Normal posterior exactly, and nothing beyond
    these two moments of another one.

    References
    ----------
    Liu and Wang (2018), Stein Variational Gradient Descent as Moment Matching.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.objectives import Linear
    >>> k, repulsion = Linear()(np.array([[0.0], [1.0]]))
    >>> k.eval()
    array([[1., 1.],
           [1., 2.]])
    """

    def __call__(self, particles: Variable) -> tuple[Variable, Variable]:
        """Return the kernel matrix and the repulsion."""
        particles = pt.as_tensor(particles)
        n, size = (pt.shape(particles)[axis].astype(particles.dtype) for axis in (0, 1))
        return particles @ particles.T / size + 1, n / size * particles

    def __repr__(self) -> str:
        return "Linear()"


_BY_NAME: dict[str, Callable[[], Kernel]] = {"rbf": RBF, "imq": IMQ, "linear": Linear}


def as_kernel(kernel: Any) -> Kernel:
    """Return what a user gave as a kernel: its name, an object or a function."""
    if isinstance(kernel, str) and kernel in _BY_NAME:
        return _BY_NAME[kernel]()
    if isinstance(kernel, str):
        raise ValueError(
            sentence(f"There is no kernel {kernel!r}", expected=f"one of {quoted(_BY_NAME)}")
            + did_you_mean(kernel, _BY_NAME)
        )
    if not callable(kernel) or isinstance(kernel, type):
        raise TypeError(
            sentence(
                "A kernel is a function of a matrix of particles",
                found=repr(kernel),
                fix=f"Make an object of it: {kernel.__name__}()"
                if isinstance(kernel, type)
                else "Use RBF(), IMQ() or Linear()",
            )
        )
    return kernel


def squared_distances(particles: Variable) -> Variable:
    """Return the squared distances of all pairs of rows."""
    squares = (particles**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * particles @ particles.T
    return pt.maximum(distances, 0.0)  # rounding may leave less


def bandwidth_for(distances: Variable, bandwidth: Bandwidth) -> Variable:
    """Return the squared length of a kernel, by the median heuristic where it is not given."""
    if bandwidth != "median":
        return pt.as_tensor(bandwidth, dtype=distances.dtype)
    n = pt.shape(distances)[0]
    ordered = pt.sort(distances.ravel())
    size = n**2
    median = (ordered[(size - 1) // 2] + ordered[size // 2]) / 2
    h = 0.5 * median / pt.log(n.astype(distances.dtype) + 1)
    return pt.switch(h > 0, h, 1.0)  # a single particle, or half of the pairs in one place


def _away(weights: Variable, particles: Variable) -> Variable:
    """Return, for each particle, the weighted sum of its differences from all others."""
    return weights.sum(axis=1, keepdims=True) * particles - weights @ particles


def _checked_bandwidth(what: str, bandwidth: Any) -> Bandwidth:
    if isinstance(bandwidth, str) and bandwidth == "median":
        return "median"
    number = isinstance(bandwidth, int | float | np.number) and not isinstance(bandwidth, bool)
    if not number or not bandwidth > 0:
        raise ValueError(
            sentence(f"{what}: bandwidth is a positive number or 'median'", found=repr(bandwidth))
        )
    return float(bandwidth)
