"""Observed data with missing values, as sites.

PyMC splits ``pm.Normal("y", observed=[1.0, nan])`` into ``y_observed`` (data), ``y_unobserved``
(latent) and the joined ``y`` (deterministic). Where the distribution is multivariate and a
vector is only partly missing, the two parts have one joint density; the observed site carries
all of it.
"""

from __future__ import annotations

from collections.abc import Callable

from pymc.distributions.distribution import PartialObservedRV
from pytensor.graph.basic import Variable

from pymc_svi.handlers.log_prob import density_given, zero
from pymc_svi.handlers.site import Site

__all__ = ["is_partly_observed", "observed_part"]


def is_partly_observed(rv: Variable) -> bool:
    """Whether a variable is one part of a draw of which another part is data."""
    return rv.owner is not None and isinstance(rv.owner.op, PartialObservedRV)


def observed_part(
    observed_rv: Variable, data: Variable, join: Callable[[Variable], Variable]
) -> Site:
    """Return the site of the observed part.

    Parameters
    ----------
    observed_rv : Variable
        The random variable of the observed part.
    data : Variable
        Its data.
    join : callable
        Returns the array joined from a value of the observed part and the site of the missing one.
    """

    def default(site: Site) -> None:
        if site.value is None:  # a handler took the data away
            site.value = site.dist

    site = Site(
        "sample", observed_rv.name, dist=observed_rv, value=data, observed=True, default=default
    )
    site.part_of = observed_rv.name.removesuffix("_observed")
    if is_partly_observed(observed_rv):
        whole = observed_rv.owner.inputs[0]
        site.log_density_at = lambda value: density_given(whole, join(value), site.drawn())
    return site


def no_density_of_its_own() -> Variable:
    """Log-density of the missing part, whose observed part carries the joint one."""
    return zero()
