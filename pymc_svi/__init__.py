"""Pyro-style effect handlers and stochastic variational inference for PyMC."""

from pymc_svi import constraints, guides, handlers, optim
from pymc_svi.engine import SVIState
from pymc_svi.handlers.plate import plate, plate_stack, subsample
from pymc_svi.objectives import (
    ELBO,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
)
from pymc_svi.predictive import Predictive
from pymc_svi.primitives import deterministic, factor, module, param, sample
from pymc_svi.reparam import LocScaleReparam, TransformReparam
from pymc_svi.results import SVIRunResult
from pymc_svi.svi import SVI

__version__ = "0.1.0"

__all__ = [
    "ELBO",
    "SVI",
    "LocScaleReparam",
    "Predictive",
    "RenyiELBO",
    "ReweightedWakeSleep",
    "SVIRunResult",
    "SVIState",
    "TraceMeanField_ELBO",
    "TraceTailAdaptive_ELBO",
    "Trace_ELBO",
    "TransformReparam",
    "constraints",
    "deterministic",
    "factor",
    "guides",
    "handlers",
    "module",
    "optim",
    "param",
    "plate",
    "plate_stack",
    "sample",
    "subsample",
]
