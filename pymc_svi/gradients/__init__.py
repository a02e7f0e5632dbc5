"""Gradients of expectations: differentiable draws, and many draws of a graph at once."""

from pymc_svi.gradients.particles import random_variables, vectorize_draws
from pymc_svi.gradients.pathwise import (
    NoPathwiseDraw,
    draw_shape,
    fresh_rng,
    has_rsample,
    noise,
    register_rsample,
    rsample,
)
from pymc_svi.gradients.stand_in import detached, with_gradient_of

# The package's own rules, entered into the registry by being imported.
from pymc_svi.gradients import (  # noqa: F401  # isort: skip
    implicit,
    labelled,
    location_scale,
    multivariate,
    symbolic,
    truncated,
    von_mises,
)

__all__ = [
    "NoPathwiseDraw",
    "detached",
    "draw_shape",
    "fresh_rng",
    "has_rsample",
    "noise",
    "random_variables",
    "register_rsample",
    "rsample",
    "vectorize_draws",
    "with_gradient_of",
]
