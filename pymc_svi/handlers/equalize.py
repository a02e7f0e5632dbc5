"""``equalize``: tie sites to one value."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pymc_svi.errors import sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.values import as_site_value

__all__ = ["equalize"]


class equalize(Handler):
    """Let several sites share the value of the first of them.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    sites : str or collection of str
        A regular expression that names match in full, or names.
    type : {"sample", "param"}, default "sample"
        Type of the sites.
    keep_dist : bool, default False
        Keep the laws of the later sites, as likelihood terms of the shared value; otherwise the
        later sites become deterministic.

    Raises
    ------
    ValueError
        If ``type`` is neither of the two.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def program():
    ...     pm.Normal("x_0", 0.0, 1.0)
    ...     pm.Normal("x_1", 5.0, 1.0)
    >>> tr = handlers.trace(handlers.equalize(program, "x_.*", keep_dist=True)).get_trace()
    >>> tr["x_0"].is_latent, tr["x_1"].observed
    (True, True)
    """

    def __init__(
        self,
        program: Program | None = None,
        sites: str | Collection[str] = (),
        type: str = "sample",
        keep_dist: bool = False,
    ):
        super().__init__(program)
        if type not in ("sample", "param"):
            raise ValueError(sentence("equalize: type is 'sample' or 'param'", found=f"{type!r}"))
        self.sites = sites
        self.type = type
        self.keep_dist = keep_dist

    def __enter__(self):
        self._value: Any = None
        self._first: str | None = None
        return super().__enter__()

    def _concerns(self, site: Site) -> bool:
        if site.type != self.type or (site.type == "sample" and site.observed):
            return False
        if isinstance(self.sites, str):
            return re.fullmatch(self.sites, site.name) is not None
        return site.name in self.sites

    def process_message(self, site: Site) -> None:
        """Give a later site the first one's value."""
        if not self._concerns(site):
            return
        if self._first is None:
            self._first = site.name
            return
        like = self._value if site.dist is None else site.dist
        site.value = as_site_value(self._value, like, site.name, site.dims)
        if self.type == "sample":
            site.infer = {**site.infer, "equalized": self._first}
            if self.keep_dist:
                site.observed = True
            else:
                site.type = "deterministic"

    def postprocess_message(self, site: Site) -> None:
        """Remember the first site's value."""
        if self._value is None and site.name == self._first:
            self._value = site.value
