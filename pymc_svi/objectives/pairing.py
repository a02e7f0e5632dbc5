"""A guide meets its model: run both, and check that they fit together.

All checks happen here, while the graph is built, so that they cost nothing per step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymc_svi.enumeration.marking import is_enumerated, summed
from pymc_svi.gradients.draws import pathwise
from pymc_svi.handlers import Handler, Site, Trace, check_plates, check_plates_match, replay, trace
from pymc_svi.handlers.core import Program
from pymc_svi.objectives.densities import derive_densities
from pymc_svi.objectives.pairing_checks import (
    check_factors,
    check_loops,
    check_order,
    check_same_labels,
    check_same_latents,
    check_site_pair,
    check_total_sizes,
)

__all__ = ["paired_traces", "traces_of_pair"]


def paired_traces(model: Program, guide: Program, /, *args, **kwargs) -> tuple[Trace, Trace]:
    """Trace the guide on differentiable draws and the model on the guide's values.

    Parameters
    ----------
    model, guide : callable or pymc.Model
        The programs.
    *args, **kwargs
        Arguments of both.

    Returns
    -------
    model_trace, guide_trace : Trace
        The traces, whose latent sites have the same values.

    Raises
    ------
    PairingError
        If the two do not fit together; the message names the site and both sides.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.objectives import paired_traces
    >>> def model():
    ...     pm.Normal("x", 0.0, 1.0)
    >>> def guide():
    ...     pm.Normal("x", 3.0, 0.1)
    >>> p, q = paired_traces(model, guide)
    >>> p["x"].value is q["x"].value
    True
    """
    return traces_of_pair(model, guide, args, kwargs)


def traces_of_pair(
    model: Program,
    guide: Program,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    draws: type[Handler] = pathwise,
    enumerate_missing: bool = False,
) -> tuple[Trace, Trace]:
    """Return the traces of a pair, which are made in a way of one's own.

    Parameters
    ----------
    model, guide : callable or pymc.Model
        The programs.
    args, kwargs : sequence, mapping
        Arguments of both, which may have any names.
    draws : type of Handler, default ``pathwise``
        The handler that draws the guide's sites.
    enumerate_missing : bool, default False
        Give discrete sites of the model that the guide leaves out a variable to be summed over.

    Returns
    -------
    model_trace, guide_trace : Trace
        As of :func:`paired_traces`.
    """
    check_same_labels(model, guide)
    guide_trace = trace(draws(guide)).get_trace(*args, **kwargs)
    check_factors(guide_trace, draws)
    left_out = summed(model, unless=guide_trace) if enumerate_missing else model
    model_trace = trace(meet(left_out, trace=guide_trace)).get_trace(*args, **kwargs)
    check_order(model_trace, guide_trace)
    check_same_latents(model_trace, guide_trace)
    check_total_sizes(model_trace, guide_trace)
    check_plates(model_trace)
    check_plates_match(model_trace, guide_trace)
    drawn = [site.value for site in guide_trace.latent.values()]
    drawn += [site.value for site in model_trace.latent.values() if is_enumerated(site)]
    for traced in (guide_trace, model_trace):
        derive_densities(traced, drawn)
    check_loops(model_trace, guide_trace)
    return model_trace, guide_trace


class meet(replay):
    """Replay a model on a guide's trace, checking each site against the guide's."""

    def process_message(self, site: Site) -> None:
        """Check the two sides of a shared site, then take the guide's value."""
        if site.is_latent and site.value is None and site.name in self.trace:
            check_site_pair(site, self.trace[site.name])
        super().process_message(site)
