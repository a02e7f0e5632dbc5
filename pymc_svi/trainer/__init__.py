"""Training at any size of data."""

from pymc_svi.trainer.inference import ADVI, FullRankADVI, Inference
from pymc_svi.trainer.trainer import Trainer

__all__ = ["ADVI", "FullRankADVI", "Inference", "Trainer"]
