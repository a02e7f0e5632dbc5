"""Values of maps between constrained and unconstrained space."""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt


def evaluate(function, u, *, static=True):
    shape = u.shape if static else (None,) * u.ndim
    variable = pt.tensor("u", dtype=u.dtype, shape=shape)
    compiled = pytensor.function(
        [variable], function(variable), mode="FAST_COMPILE", on_unused_input="ignore"
    )
    return compiled(u)


def draw(event, batch=(), seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(size=(*batch, *event)) * scale
