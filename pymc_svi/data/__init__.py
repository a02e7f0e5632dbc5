"""Data in batches."""

from pymc_svi.errors import DataError
from pymc_svi.data.loader import DataLoader

__all__ = ["DataError", "DataLoader"]
