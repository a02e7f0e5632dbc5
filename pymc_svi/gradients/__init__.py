"""Gradients through draws: differentiable draws, and many draws at once."""

from pymc_svi.gradients.draws import pathwise
from pymc_svi.gradients.particles import vectorize_draws
from pymc_svi.gradients.pathwise import (
    NoPathwiseDraw,
    has_rsample,
    register_rsample,
    rsample,
)

__all__ = [
    "NoPathwiseDraw",
    "has_rsample",
    "pathwise",
    "register_rsample",
    "rsample",
    "vectorize_draws",
]
