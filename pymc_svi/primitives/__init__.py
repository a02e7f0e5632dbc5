"""Statements of a program that PyMC does not have."""

from pymc_svi.primitives.module import module
from pymc_svi.primitives.param import param
from pymc_svi.primitives.sample import sample
from pymc_svi.primitives.start_seed import init_seed, seeded_inits
from pymc_svi.primitives.terms import deterministic, factor

__all__ = ["deterministic", "factor", "init_seed", "module", "param", "sample", "seeded_inits"]
