"""Effect handlers: objects that see each site of a program as it is created.

Every handler works around a program, as a context manager and as a decorator, on function
programs and on built models, and composes with the others in any order.
"""

from pymc_svi.handlers.block import block
from pymc_svi.handlers.condition import condition, uncondition
from pymc_svi.handlers.core import Handler
from pymc_svi.handlers.interception import install
from pymc_svi.handlers.replay import replay
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.substitute import substitute
from pymc_svi.handlers.trace import Trace, trace

__all__ = [
    "Handler",
    "Site",
    "Trace",
    "block",
    "condition",
    "replay",
    "substitute",
    "trace",
    "uncondition",
]

install()
