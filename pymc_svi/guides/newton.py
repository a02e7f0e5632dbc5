"""The minimum of a function of a few hundred variables, by damped Newton steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

__all__ = ["Derivatives", "Found", "minimize"]

type Derivatives = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]

_MOST_STEPS = 500
# Nats by which a further step would lower the function, at which the search ends.
_CLOSE = 1e-9
# A value is off by this many times its precision, more if it is the sum of larger terms ...
_ROUNDING = 4
# ... but by no more than this many times; so many nats then separate it from the least one.
_MOST_ROUNDING = 10_000
_LEAST_DAMPING, _MOST_DAMPING = 1e-10, 1e12


@dataclass(frozen=True)
class Found:
    """Where a search has ended.

    Attributes
    ----------
    point : numpy.ndarray
        The place.
    arrived : bool
        Whether it is a minimum.
    falls : numpy.ndarray
        How much each variable would have to do with a further fall; not negative.
    """

    point: np.ndarray
    arrived: bool
    falls: np.ndarray


@np.errstate(all="ignore")  # steps may go too far
def minimize(function: Derivatives, start: np.ndarray) -> Found:
    """Find where a function is least.

    The curvatures along the axes are made larger by a factor, which falls after steps that go
    down and grows after others [1]_ [2]_. So the way does not depend on the units of the
    variables, unlike that of a search with gradients.

    Parameters
    ----------
    function : callable
        Returns value, gradient and Hessian at a point; a value that is not finite is no way.
    start : numpy.ndarray
        Where to begin, a vector.

    References
    ----------
    .. [1] Marquardt (1963), An algorithm for least-squares estimation of nonlinear parameters.
    .. [2] Nocedal and Wright (2006), Numerical Optimization, chapter 10.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.guides.newton import minimize
    >>> def bowl(x):
    ...     curvature = np.diag([1e-6, 1e6])
    ...     return 0.5 * x @ curvature @ x, curvature @ x, curvature
    >>> found = minimize(bowl, np.array([1e3, 1e3]))
    >>> bool(np.allclose(found.point, 0.0, atol=0.1)), found.arrived
    (True, True)
    """
    point, damping = start, 1e-3
    value, gradient, hessian = function(point)
    falls = np.zeros_like(gradient)
    for _ in range(_MOST_STEPS):
        step = _step(gradient, hessian, damping)
        if step is not None:
            falls = np.abs(gradient * step)
            if damping <= 1e-2 and -0.5 * gradient @ step < _CLOSE:
                return Found(point + step, True, falls)
            found = function(point + step)
            if _is_lower(found, (value, gradient, hessian)):
                point, (value, gradient, hessian) = point + step, found
                damping = max(damping / 5, _LEAST_DAMPING)
                continue
        damping *= 4
        if damping > _MOST_DAMPING:
            break
    # Where rounding hides what is left of the way.
    step = _step(gradient, hessian, _LEAST_DAMPING)
    close = _MOST_ROUNDING * np.finfo(gradient.dtype).eps
    arrived = step is not None and -0.5 * gradient @ step < close
    return Found(point, bool(arrived), falls)


def _is_lower(
    new: tuple[float, np.ndarray, np.ndarray], old: tuple[float, np.ndarray, np.ndarray]
) -> bool:
    """Say whether a step went down, as far as rounding lets values be told apart."""
    (found, gradient, _), (value, before, hessian) = new, old
    precision = np.finfo(gradient.dtype).eps
    if not np.isfinite(found) or found <= value + _ROUNDING * precision * abs(value):
        return bool(np.isfinite(found))
    # Near the minimum a gradient says more than a value does.
    unit = _units(hessian)
    smaller = np.linalg.norm(unit * gradient) < np.linalg.norm(unit * before)
    return bool(smaller and found <= value + _MOST_ROUNDING * precision * (1 + abs(value)))


def _step(gradient: np.ndarray, hessian: np.ndarray, damping: float) -> np.ndarray | None:
    """Return the damped Newton step; nothing where the damped Hessian is no minimum's."""
    # In units in which the curvatures are one: the Hessian of raw data is badly scaled.
    unit = _units(hessian)
    scaled = unit[:, None] * hessian * unit + damping * np.eye(len(unit))
    if not (np.isfinite(scaled).all() and np.isfinite(gradient).all()):
        return None
    try:
        return -unit * cho_solve(cho_factor(scaled), unit * gradient)
    except LinAlgError:
        return None


def _units(hessian: np.ndarray) -> np.ndarray:
    return 1 / np.sqrt(np.maximum(np.abs(np.diagonal(hessian)), np.finfo("float64").tiny))
