"""Log-densities of sites whose parents are draws."""

from __future__ import annotations

from collections.abc import Sequence

from pytensor.graph.basic import Variable

from pymc_svi.handlers import Trace
from pymc_svi.handlers.log_prob import density_given, is_composed

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
        given = site.log_density is not None or site.log_density_at is not None
        if not given and is_composed(site.dist):
            site.log_density = density_given(site.dist, site.value, drawn)
