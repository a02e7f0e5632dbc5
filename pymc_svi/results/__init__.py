"""Results of a fit."""

from pymc_svi.results.diagnosis import Diagnosis
from pymc_svi.results.run_result import SVIRunResult

__all__ = ["Diagnosis", "SVIRunResult"]
