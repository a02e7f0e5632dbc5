"""The state of a fit: everything that changes from step to step, as numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["SVIState"]


@dataclass(frozen=True)
class SVIState:
    """The state of a fit: a plain record of numpy arrays that can be held, copied and pickled.

    Attributes
    ----------
    params : dict of str to numpy.ndarray
        Parameters in unconstrained space; :meth:`SVI.get_params` gives the constrained ones.
    optim_state : dict of str to numpy.ndarray
        The optimizer's moments and clocks, by name.
    rng_state : numpy.ndarray
        States of the random generators, shape (generators, 6), dtype uint64.
    step : int
        Number of steps taken.

    Examples
    --------
    >>> import pickle
    >>> import pymc as pm
    >>> from pymc_svi import SVI, optim, param
    >>> def model():
    ...     pm.Normal("x", 0.0, 1.0)
    >>> def guide():
    ...     pm.Normal("x", param("loc", 0.5), 1.0)
    >>> svi = SVI(model, guide, optim.Adam(0.1))
    >>> state = svi.init(random_seed=0)
    >>> state.step, float(state.params["loc"])
    (0, 0.5)
    >>> state, loss = svi.update(pickle.loads(pickle.dumps(state)))
    >>> state.step, round(float(state.params["loc"]), 3)
    (1, 0.4)
    """

    params: dict[str, np.ndarray] = field(repr=False)
    optim_state: dict[str, np.ndarray] = field(repr=False)
    rng_state: np.ndarray = field(repr=False)
    step: int = 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SVIState):
            return NotImplemented
        return (
            self.step == other.step
            and np.array_equal(self.rng_state, other.rng_state)
            and _equal(self.params, other.params)
            and _equal(self.optim_state, other.optim_state)
        )

    __hash__ = None  # type: ignore[assignment]


def _equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return list(a) == list(b) and all(
        np.array_equal(a[name], b[name], equal_nan=True) for name in a
    )
