"""Exact sums over discrete sites."""

from pymc_svi.enumeration.infer_discrete import infer_discrete
from pymc_svi.enumeration.marking import config_enumerate, markov
from pymc_svi.enumeration.scan import scan
from pymc_svi.enumeration.supports import has_finite_support, register_support, support_of

__all__ = [
    "config_enumerate",
    "has_finite_support",
    "infer_discrete",
    "markov",
    "register_support",
    "scan",
    "support_of",
]
