"""Effect handlers: objects that see each site of a program as it is created.

Every handler works around a program, as a context manager and as a decorator, on function
programs and on built models, and composes with the others in any order.
"""

from pymc_svi.handlers.block import block
from pymc_svi.handlers.checks import check_plates, check_plates_match
from pymc_svi.handlers.condition import condition, uncondition
from pymc_svi.handlers.core import Handler
from pymc_svi.handlers.do import do
from pymc_svi.handlers.equalize import equalize
from pymc_svi.handlers.frame import Frame
from pymc_svi.handlers.infer_config import infer_config
from pymc_svi.handlers.interception import install
from pymc_svi.handlers.lift import lift
from pymc_svi.handlers.mask import get_mask, mask
from pymc_svi.handlers.plate import plate, plate_stack
from pymc_svi.handlers.plates import block_plate, get_plates, subsample
from pymc_svi.handlers.reparam import Reparam, reparam
from pymc_svi.handlers.replay import replay
from pymc_svi.handlers.scale import scale
from pymc_svi.handlers.scope import scope
from pymc_svi.handlers.seed import seed
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.substitute import substitute
from pymc_svi.handlers.to_event import to_event
from pymc_svi.handlers.trace import Trace, trace

__all__ = [
    "Frame",
    "Handler",
    "Reparam",
    "Site",
    "Trace",
    "block",
    "block_plate",
    "check_plates",
    "check_plates_match",
    "condition",
    "do",
    "equalize",
    "get_mask",
    "get_plates",
    "infer_config",
    "lift",
    "mask",
    "plate",
    "plate_stack",
    "reparam",
    "replay",
    "scale",
    "scope",
    "seed",
    "subsample",
    "substitute",
    "to_event",
    "trace",
    "uncondition",
]

install()
