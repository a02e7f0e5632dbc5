"""Which site is computed from which others: the edges of a trace, read off its graph."""

from __future__ import annotations

from collections.abc import Iterable

from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.handlers.site import Site

__all__ = ["direct_parents"]


def direct_parents(sites: Iterable[Site], among: Iterable[Site]) -> dict[str, list[str]]:
    """Return for each site the names of those among others that it is computed from directly.

    A site that stands between two others separates them if it is among the candidates.

    Parameters
    ----------
    sites : iterable of Site
        The sites whose parents are asked for. Of a ``sample`` site its law counts, of others
        their value; params have no parents. Plates are around sites, not upstream of them.
    among : iterable of Site
        The candidates.
    """
    names: dict[Variable, str] = {}
    for site in among:
        if isinstance(site.value, Variable) and site.type != "plate":
            names.setdefault(site.value, site.name)  # a value that is shared is the first one's
    parents = {}
    for site in sites:
        roots = _computed_from(site)
        found = {names[v] for v in ancestors(roots, blockers=list(names)) if v in names}
        parents[site.name] = [name for name in names.values() if name in found - {site.name}]
    return parents


def _computed_from(site: Site) -> list[Variable]:
    if site.type in ("param", "plate"):
        return []
    node = getattr(site.dist if site.type == "sample" else site.value, "owner", None)
    return [] if node is None else list(node.inputs)
