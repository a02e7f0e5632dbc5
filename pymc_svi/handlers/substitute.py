"""``substitute``: give sites values without making them observed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.values import as_site_value

__all__ = ["GivenValues", "substitute"]


class GivenValues(Handler):
    """Base of the handlers that take values by site name, or a function of the site."""

    def __init__(
        self,
        program: Program | None,
        data: Mapping[str, Any] | None,
        function: Callable[[Site], Any] | None,
        *,
        fn_name: str,
    ):
        super().__init__(program)
        name = type(self).__name__
        if (data is None) == (function is None):
            takes = (
                f"takes exactly one of data and {fn_name}"
                if fn_name
                else "needs data, values by site"
            )
            raise ValueError(sentence(f"{name} {takes}"))
        if data is not None and not isinstance(data, Mapping):
            raise TypeError(
                sentence(
                    f"{name}: data must be a dict of values by site name",
                    found=f"{type(data).__name__}",
                    fix=f"Use {name}(program, data={{'x': 1.0}})",
                )
            )
        self.data = data
        self.function = function

    def __enter__(self):
        self._seen: list[str] = []
        return super().__enter__()

    def __exit__(self, exc_type, *exc_info) -> None:
        super().__exit__(exc_type, *exc_info)
        if exc_type is None and self.data is not None:
            self._warn_of_misspelt_names()

    def _warn_of_misspelt_names(self) -> None:
        data = self.data or {}
        unused = [name for name in data if name not in self._seen]
        free = [name for name in self._seen if name not in data]
        for name in unused:
            if close := get_close_matches(name, free, n=1, cutoff=0.8):
                warnings.warn(
                    f"{type(self).__name__}: the program has no site {name!r}. "
                    f"Did you mean {close[0]!r}?",
                    UserWarning,
                    stacklevel=4,
                )

    def value_for(self, site: Site) -> Any:
        """Return the value given for a site, or None."""
        self._seen.append(site.name)
        if self.data is not None:
            return self.data.get(site.name)
        return None if self.function is None else self.function(site)


class substitute(GivenValues):
    """Fix the values of sites without making them observed: their terms stay prior terms.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    data : dict of str to array_like
        Values by name, for ``sample``, ``param``, ``deterministic``, ``data`` and ``plate``
        sites. A param's value is the constrained one.
    substitute_fn : callable, optional
        Instead of ``data``: called with each site, returns its value or None.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def program():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Deterministic("twice", 2 * x)
    >>> tr = handlers.trace(handlers.substitute(program, data={"x": 3.0})).get_trace()
    >>> float(tr["twice"].value.eval()), tr["x"].observed
    (6.0, False)
    """

    def __init__(
        self,
        program: Program | None = None,
        data: Mapping[str, Any] | None = None,
        substitute_fn: Callable[[Site], Any] | None = None,
    ):
        super().__init__(program, data, substitute_fn, fn_name="substitute_fn")

    def process_message(self, site: Site) -> None:
        """Set the site's value if one is given for it."""
        if site.type == "factor":
            return
        value = self.value_for(site)
        if value is None:
            return
        like = site.dist if site.type == "sample" else site.value
        if isinstance(like, Variable):
            value = as_site_value(value, like, site.name, site.dims)
        site.value = value
