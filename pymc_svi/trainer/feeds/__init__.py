"""Batches inside compiled code: which rows a step sees follows from its number.

A feed has a placeholder for each array, which a program is built on, and an expression for each
placeholder, which takes its place in the loss: the rows of step ``counter``. Between two calls
of compiled code, :meth:`DataFeed.prepare` loads what the next steps need.
"""

from __future__ import annotations

from pymc_svi.data import DataLoader
from pymc_svi.data.tables import TableSource
from pymc_svi.trainer.feeds.base import DataFeed, placeholder
from pymc_svi.trainer.feeds.in_memory import InMemoryFeed
from pymc_svi.trainer.feeds.stream import StreamFeed
from pymc_svi.trainer.feeds.table import TableFeed

__all__ = ["DataFeed", "InMemoryFeed", "StreamFeed", "TableFeed", "feed_of", "placeholder"]


def feed_of(loader: DataLoader, seed: int) -> DataFeed:
    """Return the feed of a loader."""
    seed = seed if loader.seed is None else loader.seed
    if loader.in_memory:
        return InMemoryFeed(loader, seed)
    return (TableFeed if isinstance(loader.source, TableSource) else StreamFeed)(loader, seed)
