"""Predictions from a model: prior, posterior, or through a guide; and how they fit the data."""

from pymc_svi.predictive.log_likelihood import log_likelihood
from pymc_svi.predictive.marginals import compute_marginals
from pymc_svi.predictive.predictive import Predictive

__all__ = ["Predictive", "compute_marginals", "log_likelihood"]
