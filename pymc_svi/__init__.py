"""Pyro-style effect handlers and stochastic variational inference for PyMC."""

from pymc_svi import callbacks, constraints, guides, handlers, optim, relaxed
from pymc_svi.data import DataLoader
from pymc_svi.engine import SVIState
from pymc_svi.enumeration import config_enumerate, infer_discrete, markov, scan
from pymc_svi.fit import fit
from pymc_svi.handlers import plate, plate_stack, subsample
from pymc_svi.inspect import compute_log_probs, get_dependencies, log_density, render_model
from pymc_svi.objectives import (
    ELBO,
    EnergyDistance,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    Trace_MMD,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
)
from pymc_svi.predictive import Predictive, compute_marginals, log_likelihood
from pymc_svi.primitives import deterministic, factor, module, param, sample
from pymc_svi.reparam import LocScaleReparam, TransformReparam
from pymc_svi.results import SVIRunResult
from pymc_svi.svi import SVI
from pymc_svi.trainer import ADVI, ASVGD, SVGD, FullRankADVI, Inference, Trainer

__version__ = "0.1.0"

__all__ = [
    "ADVI",
    "ASVGD",
    "ELBO",
    "SVGD",
    "SVI",
    "DataLoader",
    "EnergyDistance",
    "FullRankADVI",
    "Inference",
    "LocScaleReparam",
    "Predictive",
    "RenyiELBO",
    "ReweightedWakeSleep",
    "SVIRunResult",
    "SVIState",
    "TraceEnum_ELBO",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "TraceTailAdaptive_ELBO",
    "Trace_ELBO",
    "Trace_MMD",
    "Trainer",
    "TransformReparam",
    "callbacks",
    "compute_log_probs",
    "compute_marginals",
    "config_enumerate",
    "constraints",
    "deterministic",
    "factor",
    "fit",
    "get_dependencies",
    "guides",
    "handlers",
    "infer_discrete",
    "log_density",
    "log_likelihood",
    "markov",
    "module",
    "optim",
    "param",
    "plate",
    "plate_stack",
    "relaxed",
    "render_model",
    "sample",
    "scan",
    "subsample",
]
