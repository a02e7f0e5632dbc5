"""The engine: from a loss to compiled steps, and the state they move."""

from pymc_svi.engine.arguments import Arguments
from pymc_svi.engine.params import ParamStore
from pymc_svi.engine.seeds import seed_sequence
from pymc_svi.engine.state import SVIState
from pymc_svi.engine.training import Feed, Training, training_mode

__all__ = [
    "Arguments",
    "Feed",
    "ParamStore",
    "SVIState",
    "Training",
    "seed_sequence",
    "training_mode",
]
