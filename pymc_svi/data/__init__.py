"""Data in batches."""

from pymc_svi.data.checks import DataError
from pymc_svi.data.loader import DataLoader

__all__ = ["DataError", "DataLoader"]
