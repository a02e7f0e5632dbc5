"""``replay``: run a program again on the values of another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor import config

from pymc_svi.errors import PairingError, sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.values import as_site_value

__all__ = ["replay"]


class replay(Handler):
    """Give the latent sites and the plates of a program the values they have in a trace.

    This is how a model meets its guide: the model is replayed on a trace of the guide, and
    the two log-densities are then taken at the same values. Observed sites keep their data.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    trace : mapping of str to Site, optional
        A trace. Sites that it does not have are drawn as usual.
    params : dict of str to array_like, optional
        Constrained values of params.

    Raises
    ------
    PairingError
        If the trace has a site of that name which was not sampled there, or whose value has
        another shape.
    TypeError
        If there is neither a trace nor values of params.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def guide():
    ...     pm.Normal("x", 3.0, 0.1)
    >>> def model():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Normal("y", x, 1.0, observed=0.0)
    >>> guide_trace = handlers.trace(guide).get_trace()
    >>> tr = handlers.trace(handlers.replay(model, trace=guide_trace)).get_trace()
    >>> tr["x"].value is guide_trace["x"].value
    True
    """

    def __init__(
        self,
        program: Program | None = None,
        trace: Mapping[str, Site] | None = None,
        params: Mapping[str, Any] | None = None,
    ):
        if trace is None and isinstance(params, Mapping):
            trace = {}
        if not isinstance(trace, Mapping):
            raise TypeError(
                sentence(
                    "replay needs a trace, or values of params",
                    found=f"{type(trace).__name__}",
                    fix="Use replay(program, trace=handlers.trace(other).get_trace())",
                )
            )
        super().__init__(program)
        self.trace = trace
        self.params = dict(params or {})

    def process_message(self, site: Site) -> None:
        """Take a latent site's value, or a plate's indices, from the trace."""
        if site.type == "param" and site.name in self.params:
            site.value = pt.as_tensor(np.asarray(self.params[site.name], dtype=config.floatX))
            return
        if not (site.is_latent or site.type == "plate") or site.name not in self.trace:
            return
        source = self.trace[site.name]
        if source.type == site.type == "plate":
            if site.plates[0].size != source.plates[0].size:
                raise PairingError(
                    sentence(
                        f"Plate {site.name!r} has different sizes in model and guide",
                        found=f"{site.plates[0].size} here, {source.plates[0].size} in the trace",
                    )
                )
            site.value = source.value
            return
        if source.type != "sample" or site.type != "sample":
            raise PairingError(
                sentence(
                    f"Site {site.name!r} is a {site.type} here, but a {source.type} in the trace",
                    fix="Rename one of them, or hide it from the trace with block",
                )
            )
        like = source.value if site.dist is None else site.dist  # a draw with its own density
        site.value = as_site_value(source.value, like, site.name, site.dims)
        site.infer = {**source.infer, **site.infer}
