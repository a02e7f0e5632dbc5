"""Automatic guides, and where they start."""

from pymc_svi.guides.amortized import AutoAmortizedNormal
from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.batched_normal import AutoBatchedMultivariateNormal
from pymc_svi.guides.choose import ChosenGuide
from pymc_svi.guides.continuous import AutoContinuous
from pymc_svi.guides.dais import AutoDAIS, AutoSurrogateLikelihoodDAIS
from pymc_svi.guides.delta import AutoDelta
from pymc_svi.guides.diagonal_normal import AutoDiagonalNormal
from pymc_svi.guides.discrete_parallel import AutoDiscreteParallel
from pymc_svi.guides.gaussian import AutoGaussian
from pymc_svi.guides.guide_list import AutoGuideList
from pymc_svi.guides.guide_model import GuideModel
from pymc_svi.guides.hierarchical_normal import AutoHierarchicalNormal
from pymc_svi.guides.init import (
    init_to_feasible,
    init_to_generated,
    init_to_initial_point,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)
from pymc_svi.guides.laplace import AutoLaplaceApproximation
from pymc_svi.guides.low_rank import AutoLowRankMultivariateNormal
from pymc_svi.guides.multivariate_normal import AutoMultivariateNormal
from pymc_svi.guides.neutra import NeuTraReparam
from pymc_svi.guides.normal import AutoNormal
from pymc_svi.guides.normalizing_flow import AutoBNAFNormal, AutoIAFNormal, AutoNormalizingFlow
from pymc_svi.guides.particles import AutoParticles
from pymc_svi.guides.regressive import AutoRegressive
from pymc_svi.guides.semi_dais import AutoSemiDAIS
from pymc_svi.guides.structured import AutoStructured
from pymc_svi.guides.whitening import whiten

__all__ = [
    "AutoAmortizedNormal",
    "AutoBNAFNormal",
    "AutoBatchedMultivariateNormal",
    "AutoContinuous",
    "AutoDAIS",
    "AutoDelta",
    "AutoDiagonalNormal",
    "AutoDiscreteParallel",
    "AutoGaussian",
    "AutoGuide",
    "AutoGuideList",
    "AutoHierarchicalNormal",
    "AutoIAFNormal",
    "AutoLaplaceApproximation",
    "AutoLowRankMultivariateNormal",
    "AutoMultivariateNormal",
    "AutoNormal",
    "AutoNormalizingFlow",
    "AutoParticles",
    "AutoRegressive",
    "AutoSemiDAIS",
    "AutoStructured",
    "AutoSurrogateLikelihoodDAIS",
    "ChosenGuide",
    "GuideModel",
    "NeuTraReparam",
    "init_to_feasible",
    "init_to_generated",
    "init_to_initial_point",
    "init_to_mean",
    "init_to_median",
    "init_to_sample",
    "init_to_uniform",
    "init_to_value",
    "whiten",
]
