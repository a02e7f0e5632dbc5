"""The law of sites that a guide sums over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pymc_svi.enumeration.tables import Table, log_sum, product

__all__ = ["Law"]


class Law:
    """The joint law of sites, each with a law given those before it.

    Sites are summed out in their order, so that the marginals of a chain share what they have in
    common. An expectation of a term concerns the elements that the term depends on, each element
    of a plate on its own, so that plates are never summed over here.

    Parameters
    ----------
    given_earlier : dict of str to Table
        The logarithm of the law of each site given sites before it, in the order of the guide.
    """

    def __init__(self, given_earlier: Mapping[str, Table]):
        self._laws = {name: replace(t, scale=1.0) for name, t in given_earlier.items()}
        self._messages: dict[tuple[int, ...], Table] = {}

    def marginal(self, names: Iterable[str]) -> Table:
        """Return the logarithm of the joint law of some of the sites."""
        wanted, needed = set(names), set(names)
        while parents := {v for n in needed for v in self._laws[n].variables} - needed:
            needed |= parents
        order = [name for name in self._laws if name in needed]
        tables = [self._laws[name] for name in order]
        for name in order:
            if name not in wanted:
                holding = [table for table in tables if name in table.variables]
                tables = [table for table in tables if name not in table.variables]
                tables.append(self._summed_out(name, holding))
        return product(tables)

    def _summed_out(self, name: str, holding: list[Table]) -> Table:
        key = tuple(map(id, holding))
        if key not in self._messages:
            joint = product(holding)
            axis = joint.variables.index(name)
            left = tuple(v for v in joint.variables if v != name)
            self._messages[key] = replace(joint, value=log_sum(joint.value, axis), variables=left)
        return self._messages[key]
