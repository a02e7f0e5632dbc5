"""Training on data of any size."""

from pymc_svi.trainer.inference import ADVI, FullRankADVI, Inference
from pymc_svi.trainer.svgd import ASVGD, SVGD
from pymc_svi.trainer.trainer import Trainer

__all__ = ["ADVI", "ASVGD", "SVGD", "FullRankADVI", "Inference", "Trainer"]
