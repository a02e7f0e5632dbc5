"""Objectives: losses built from a model and a guide."""

from pymc_svi.objectives.base import ELBO, Loss
from pymc_svi.objectives.custom import LossFunction
from pymc_svi.objectives.energy_distance import EnergyDistance
from pymc_svi.objectives.kernels import IMQ, RBF, Linear
from pymc_svi.objectives.kl import has_kl, kl_divergence, register_kl
from pymc_svi.objectives.mean_field import TraceMeanField_ELBO
from pymc_svi.objectives.mmd import Trace_MMD
from pymc_svi.objectives.multi_sample import MultiSample
from pymc_svi.objectives.pairing import paired_traces
from pymc_svi.objectives.renyi import RenyiELBO
from pymc_svi.objectives.stein import SteinGradient
from pymc_svi.objectives.tail_adaptive import TraceTailAdaptive_ELBO
from pymc_svi.objectives.trace_elbo import Trace_ELBO
from pymc_svi.objectives.trace_enum import TraceEnum_ELBO
from pymc_svi.objectives.trace_graph import TraceGraph_ELBO
from pymc_svi.objectives.wake_sleep import ReweightedWakeSleep

__all__ = [
    "ELBO",
    "IMQ",
    "RBF",
    "EnergyDistance",
    "Linear",
    "Loss",
    "LossFunction",
    "MultiSample",
    "RenyiELBO",
    "ReweightedWakeSleep",
    "SteinGradient",
    "TraceEnum_ELBO",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "TraceTailAdaptive_ELBO",
    "Trace_ELBO",
    "Trace_MMD",
    "has_kl",
    "kl_divergence",
    "paired_traces",
    "register_kl",
]
