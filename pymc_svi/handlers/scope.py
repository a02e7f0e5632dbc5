"""``scope``: prefix the names of sites."""

from __future__ import annotations

from collections.abc import Collection

import pymc as pm

from pymc_svi.errors import sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.site import Site

__all__ = ["scope"]


class scope(Handler):
    """Put a prefix before the names of the sites, so that a program can be used several times.

    Handlers inside see the plain names, handlers outside the prefixed ones. Nested scopes prefix
    from the inside out. Where the sites are registered in a model they have the prefixed names.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    prefix : str
        The prefix.
    divider : str, default "::"
        What stands between prefix and name; PyMC does not allow "/" in names.
    hide_types : collection of str, optional
        Types of sites that keep their names.

    Raises
    ------
    TypeError
        If the prefix is not a string.
    ValueError
        If the prefix or the divider has a "/", or there is no prefix.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def half():
    ...     return pm.Normal("x")
    >>> def program():
    ...     with handlers.scope(prefix="left"):
    ...         a = half()
    ...     with handlers.scope(prefix="right"):
    ...         b = half()
    ...     return a + b
    >>> list(handlers.trace(program).get_trace())
    ['left::x', 'right::x']
    """

    def __init__(
        self,
        program: Program | None = None,
        prefix: str = "",
        divider: str = "::",
        *,
        hide_types: Collection[str] | None = None,
    ):
        super().__init__(program)
        if not isinstance(prefix, str):
            raise TypeError(sentence("scope: the prefix is a string", found=f"{prefix!r}"))
        if "/" in prefix + divider:
            raise ValueError(
                sentence(
                    "scope: PyMC does not allow '/' in names",
                    found=f"prefix={prefix!r}, divider={divider!r}",
                )
            )
        self.prefix = prefix
        self.divider = divider
        self.hide_types = tuple(hide_types or ())

    def process_message(self, site: Site) -> None:
        """Rename the site and the plates around it."""
        if self.prefix and site.type not in self.hide_types:
            site.name = self._prefixed(site.name)
        if self.prefix and "plate" not in self.hide_types:
            site.plates = tuple(frame.renamed(self._prefixed(frame.name)) for frame in site.plates)

    def _prefixed(self, name: str) -> str:
        # A nested pm.Model(name=...) has put its own name in front, which stays there.
        model = pm.Model.get_context(error_if_none=False)
        front = f"{model.prefix}::" if model is not None and model.prefix else ""
        front = front if name.startswith(front) else ""
        return f"{front}{self.prefix}{self.divider}{name.removeprefix(front)}"
