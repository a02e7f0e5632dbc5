"""Objectives: losses built from a model and a guide."""

from pymc_svi.objectives.base import ELBO, Loss
from pymc_svi.objectives.custom import LossFunction
from pymc_svi.objectives.trace_elbo import Trace_ELBO

__all__ = ["ELBO", "Loss", "LossFunction", "Trace_ELBO"]
