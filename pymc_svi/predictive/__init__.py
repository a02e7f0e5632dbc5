"""Predictions from a model: prior, posterior, or through a guide."""

from pymc_svi.predictive.predictive import Predictive

__all__ = ["Predictive"]
