"""``infer_config``: set options of inference site by site."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pymc_svi.errors import sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.site import Site

__all__ = ["infer_config"]


class infer_config(Handler):
    """Update the ``infer`` options of sample and param sites.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    config_fn : callable
        Called with the site; returns a dict of options, or None.

    Raises
    ------
    TypeError
        If ``config_fn`` is not a function.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def program():
    ...     pm.Bernoulli("z", 0.5)
    >>> config = handlers.infer_config(program, lambda site: {"enumerate": "parallel"})
    >>> handlers.trace(config).get_trace()["z"].infer
    {'enumerate': 'parallel'}
    """

    def __init__(
        self,
        program: Program | None = None,
        config_fn: Callable[[Site], Mapping[str, Any] | None] | None = None,
    ):
        super().__init__(program)
        if not callable(config_fn):
            raise TypeError(
                sentence(
                    "infer_config: config_fn is a function of a site",
                    found=f"{config_fn!r}",
                    fix='Write config_fn=lambda site: {"enumerate": "parallel"}',
                )
            )
        self.config_fn = config_fn

    def process_message(self, site: Site) -> None:
        """Update the site's options."""
        if site.type in ("sample", "param"):
            site.infer = {**site.infer, **(self.config_fn(site) or {})}
