"""The handler stack: the one piece of state that effect handlers have.

It is the tuple of active handlers, in a :class:`contextvars.ContextVar`, so that threads and
async tasks do not see each other's. A program emits a :class:`Site` for each of its effects;
:func:`apply_stack` shows it to the handlers from the innermost outwards, performs the site's
default action, and shows it to them again from the outermost back in.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from pymc_svi.handlers.site import Site

__all__ = ["STACK", "active_handlers", "apply_stack", "no_handlers"]


class SeesSites(Protocol):
    """What the stack asks of a handler."""

    def process_message(self, site: Site) -> None:
        """See a site before it has its value."""

    def postprocess_message(self, site: Site) -> None:
        """See a site when its value is set."""


STACK: ContextVar[tuple[SeesSites, ...]] = ContextVar("pymc_svi_handlers", default=())


def active_handlers() -> tuple[SeesSites, ...]:
    """Return the active handlers of this context, outermost first."""
    return STACK.get()


class no_handlers:
    """Context manager: no handler is active inside.

    For work that creates PyMC variables which are not effects of a program.
    """

    def __enter__(self) -> None:
        self._token = STACK.set(())

    def __exit__(self, *exc_info) -> None:
        STACK.reset(self._token)


def apply_stack(site: Site) -> Site:
    """Pass a site through the active handlers and perform its default action.

    Parameters
    ----------
    site : Site
        The site as the program emitted it.

    Returns
    -------
    Site
        The same object, changed by the handlers; its ``value`` is set.
    """
    seen: list[SeesSites] = []
    for handler in reversed(active_handlers()):
        seen.append(handler)
        handler.process_message(site)
        if site.stop:
            break
    if site.default is not None:
        site.default(site)
    for handler in reversed(seen):
        handler.postprocess_message(site)
    return site
