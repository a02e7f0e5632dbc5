"""``mask``: leave elements out of log-probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.stack import active_handlers

__all__ = ["combined_masks", "get_mask", "mask"]


class mask(Handler):
    """Set log-probabilities to exactly zero where the mask is False, also where they are infinite.

    Nested masks combine with ``&``.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    mask : bool, array_like of bool or Variable of bool
        Broadcasts with the log-probability of each site.

    Raises
    ------
    ValueError
        If the mask is not made of True and False.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def program():
    ...     pm.Normal("x", 0.0, 1.0, observed=np.zeros(3))
    >>> masked = handlers.mask(program, mask=np.array([True, False, True]))
    >>> handlers.trace(masked).get_trace()["x"].log_prob.eval().round(3)
    array([-0.919,  0.   , -0.919])
    """

    def __init__(self, program: Program | None = None, mask: Any = True):
        super().__init__(program)
        if isinstance(mask, Variable):
            is_bool = mask.type.dtype == "bool"
        else:
            mask = np.asarray(mask)
            is_bool = mask.dtype == bool
        if not is_bool:
            raise ValueError(
                sentence(
                    "mask: the mask is made of True and False",
                    found=f"dtype {mask.dtype}",
                    fix="Compare it with something, for example mask=lengths > t",
                )
            )
        self.mask = mask if isinstance(mask, Variable) or mask.ndim else bool(mask)

    def process_message(self, site: Site) -> None:
        """Combine the site's mask with this one."""
        if site.type in ("sample", "factor"):
            site.mask = combined_masks(site.mask, self.mask)


def get_mask() -> Any:
    """Return the combined mask of the handlers around; None without any.

    A program can leave out work that is masked entirely: ``if get_mask() is not False: ...``

    Returns
    -------
    Variable, bool or None
        The mask.

    Examples
    --------
    >>> from pymc_svi import handlers
    >>> with handlers.mask(mask=True), handlers.mask(mask=False):
    ...     handlers.get_mask()
    False
    """
    combined = None
    for handler in active_handlers():
        if isinstance(handler, mask):
            combined = combined_masks(combined, handler.mask)
    return combined


def combined_masks(first: Any, second: Any) -> Any:
    """Return where both masks are True."""
    if first is None or first is True:
        return second
    if second is True:
        return first
    if isinstance(first, Variable) or isinstance(second, Variable):
        return pt.and_(first, second)
    combined = np.logical_and(first, second)
    return combined if combined.ndim else bool(combined)
