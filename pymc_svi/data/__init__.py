"""Data in batches."""

from pymc_svi.data.loader import DataLoader
from pymc_svi.errors import DataError

__all__ = ["DataError", "DataLoader"]
