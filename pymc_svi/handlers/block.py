"""``block``: hide sites from the handlers outside."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection

from pymc_svi.errors import sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.site import Site

__all__ = ["block"]

_TYPES = ("sample", "param", "deterministic", "factor", "plate", "data", "observed", "latent")


class block(Handler):
    """Hide sites from the handlers outside; inside, nothing changes.

    Without arguments all sites are hidden. A rule that hides and a rule that exposes cannot be
    mixed.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    hide_fn : callable, optional
        Called with the site; True hides it.
    hide : collection of str, optional
        Names to hide.
    expose_types : collection of str, optional
        Types to expose while all others are hidden, as for ``hide_types``.
    expose : collection of str, optional
        Names to expose while all others are hidden.
    expose_fn : callable, optional
        Called with the site; True exposes it while all others are hidden.
    hide_types : collection of str, optional
        Types to hide: "sample", "param", "deterministic", "factor", "plate", "data", and the kinds
        of sample sites "observed" and "latent".

    Raises
    ------
    TypeError
        If names are a single string.
    ValueError
        If rules that hide and rules that expose are mixed, or a type is unknown.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def program():
    ...     pm.Normal("x")
    ...     pm.Normal("y")
    >>> list(handlers.trace(handlers.block(program, hide=["x"])).get_trace())
    ['y']
    """

    def __init__(
        self,
        program: Program | None = None,
        hide_fn: Callable[[Site], bool] | None = None,
        hide: Collection[str] | None = None,
        expose_types: Collection[str] | None = None,
        expose: Collection[str] | None = None,
        *,
        expose_fn: Callable[[Site], bool] | None = None,
        hide_types: Collection[str] | None = None,
    ):
        super().__init__(program)
        hides = [hide_fn, hide, hide_types]
        exposes = [expose_fn, expose, expose_types]
        if any(rule is not None for rule in hides) and any(rule is not None for rule in exposes):
            raise ValueError(
                sentence(
                    "block takes rules that hide or rules that expose, not both",
                    fix="Nest two block handlers, or write one hide_fn",
                )
            )
        for argument, names in (("hide", hide), ("expose", expose)):
            if isinstance(names, str):
                raise TypeError(
                    sentence(f"block: {argument} is a list of names", fix=f"Use [{names!r}]")
                )
        for argument, types in (("hide_types", hide_types), ("expose_types", expose_types)):
            unknown = [t for t in (types or ()) if t not in _TYPES]
            if isinstance(types, str) or unknown:
                raise ValueError(
                    sentence(
                        f"block: {argument} is a list of site types",
                        found=repr(types),
                        expected=", ".join(_TYPES),
                    )
                )
        matches = [
            *[rule for rule in (hide_fn, expose_fn) if rule is not None],
            *[_named(names) for names in (hide, expose) if names is not None],
            *[_of_type(types) for types in (hide_types, expose_types) if types is not None],
        ]
        self.matches = matches or [_always]
        self.hides_matches = all(rule is None for rule in exposes)

    def process_message(self, site: Site) -> None:
        """Stop the site if a rule hides it."""
        if any(matches(site) for matches in self.matches) is self.hides_matches:
            site.stop = True


def _named(names: Collection[str]) -> Callable[[Site], bool]:
    return functools.partial(_is_named, names)


def _always(site: Site) -> bool:
    return True


def _is_named(names: Collection[str], site: Site) -> bool:
    return site.name in names


def _of_type(types: Collection[str]) -> Callable[[Site], bool]:
    return functools.partial(_has_type, types)


def _has_type(types: Collection[str], site: Site) -> bool:
    kind = "observed" if site.observed else "latent"
    return site.type in types or (site.type == "sample" and kind in types)
