"""``scale``: weight log-probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.site import Site

__all__ = ["scale"]


class scale(Handler):
    """Multiply the log-probabilities of the sites by a positive factor.

    Nested scales multiply. Scaling model and guide alike anneals a fit; scaling the sites of a
    minibatch by ``size / batch_size`` is what :class:`~pymc_svi.plate` does.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    scale : float, array_like or Variable
        The factor; an expression, such as a shared variable, can change during a fit.

    Raises
    ------
    TypeError
        If the factor is not a number.
    ValueError
        If it is not positive.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def program():
    ...     pm.Normal("x", 0.0, 1.0, observed=0.0)
    >>> once = handlers.trace(program).get_trace().log_prob_sum().eval()
    >>> tr = handlers.trace(handlers.scale(program, scale=10.0)).get_trace()
    >>> float(tr.log_prob_sum().eval() / once)
    10.0
    """

    def __init__(self, program: Program | None = None, scale: Any = 1.0):
        super().__init__(program)
        if not isinstance(scale, Variable):
            array = np.asarray(scale)
            if array.dtype.kind not in "iuf":
                raise TypeError(sentence("scale: the factor is not a number", found=f"{scale!r}"))
            if not (array > 0).all():
                raise ValueError(
                    sentence(
                        "scale: the factor must be positive",
                        found=f"{scale!r}",
                        fix="To leave sites out use mask(mask=False) or block",
                    )
                )
            scale = float(array) if array.ndim == 0 else array
        self.factor = scale

    def process_message(self, site: Site) -> None:
        """Multiply the site's scale."""
        if site.type in ("sample", "factor"):
            site.scale = site.scale * self.factor
