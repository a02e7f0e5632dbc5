"""Building blocks of normalizing flows: invertible maps of vectors with learned params."""

from pymc_svi.guides.flows.autoregressive import InverseAutoregressive
from pymc_svi.guides.flows.base import Chain, Flow, Reverse
from pymc_svi.guides.flows.block_autoregressive import BlockAutoregressive
from pymc_svi.guides.flows.coupling import AffineCoupling, SplineCoupling
from pymc_svi.guides.flows.residual import Planar, Radial

__all__ = [
    "AffineCoupling",
    "BlockAutoregressive",
    "Chain",
    "Flow",
    "InverseAutoregressive",
    "Planar",
    "Radial",
    "Reverse",
    "SplineCoupling",
]
