"""Log-densities of sites whose parents are draws.

PyMC derives the density of a composed variable, a random walk, a variable with named dims, by
searching its graph for random variables. Where the parents of a site are draws themselves, the
search must not reach into them: it would take a slice of a guide's noise for a random variable
of its own and evaluate the law of the site at numbers that nothing else has seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RandomVariable

from pymc_svi.handlers import Site, Trace
from pymc_svi.handlers.log_prob import rv_log_prob

__all__ = ["derive_densities"]


def derive_densities(traced: Trace, drawn: Sequence[Variable]) -> None:
    """Give the composed sites of a trace their log-densities.

    Parameters
    ----------
    traced : Trace
        A trace; its sites are changed.
    drawn : sequence of Variable
        The values that the laws of its sites are conditioned on.
    """
    for site in traced.sites("sample"):
        if site.log_density is None and _is_composed(site):
            site.log_density = _density_given(site.dist, site.value, drawn)


def _is_composed(site: Site) -> bool:
    node = site.dist.owner
    return node is not None and not isinstance(node.op, RandomVariable)


def _density_given(rv: Variable, value: Variable, drawn: Sequence[Variable]) -> Variable:
    """Derive the density of a variable at placeholders, and put the draws in their place."""
    upstream = set(ancestors([rv])) - {rv}
    placeholders = {draw: draw.type() for draw in drawn if draw in upstream}
    [law] = graph_replace([rv], placeholders, strict=False) if placeholders else [rv]
    at = value.type()
    log_prob = rv_log_prob(law, at)
    draws = {placeholder: draw for draw, placeholder in placeholders.items()}
    return graph_replace([log_prob], {at: value, **draws}, strict=False)[0]
