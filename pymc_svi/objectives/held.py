"""Densities with the params held fixed: a program run again on its values.

Some estimators differentiate a density through its value only, or through its params only. The
density with the params held is that of a second run of the program, on the values of the first,
with each param a constant in the eyes of differentiation.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytensor.graph.basic import Constant, Variable
from pytensor.xtensor import as_xtensor
from pytensor.xtensor.type import XTensorType

from pymc_svi.errors import sentence
from pymc_svi.gradients.stand_in import detached
from pymc_svi.handlers import Handler, Site, Trace, replay, trace
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.values import as_tensor_variable

__all__ = [
    "check_densities",
    "density_with_params_held",
    "detached_values",
    "hold_params",
    "run_again",
]


class hold_params(Handler):
    """Make each param a constant in the eyes of differentiation.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.

    Examples
    --------
    >>> import pymc as pm
    >>> import pytensor
    >>> from pymc_svi import handlers, param
    >>> from pymc_svi.objectives.held import hold_params
    >>> def guide():
    ...     pm.Normal("x", param("loc", 1.0), 1.0)
    >>> held = handlers.trace(hold_params(guide)).get_trace()
    >>> loc = held["loc"].unconstrained
    >>> pytensor.grad((held["loc"].outcome - loc) ** 2, loc).eval().item()
    0.0
    """

    def postprocess_message(self, site: Site) -> None:
        """Hand on a param without its derivative."""
        if site.type == "param":
            site.result = detached(as_tensor_variable(site.outcome))


def detached_values(first: Mapping[str, Site]) -> dict[str, Site]:
    """Return the latent sites of a trace with values that are constants to differentiation."""
    return {
        name: site.copy(value=_detached_value(site.value))
        for name, site in first.items()
        if site.is_latent
    }


def run_again(program: Program, first: Mapping[str, Site], /, *args, **kwargs) -> Trace:
    """Trace a program on the values of an earlier trace."""
    return trace(replay(program, trace=first)).get_trace(*args, **kwargs)


def density_with_params_held(guide: Program, first: Trace, /, *args, **kwargs) -> Trace:
    """Trace a guide on its own values with the params held.

    Raises
    ------
    NotImplementedError
        If the guide gives the density of its own draw only, as a formula in its noise.
    """
    return check_densities(run_again(hold_params(guide), first, *args, **kwargs))


def check_densities(again: Trace) -> Trace:
    """Refuse a second run in which a site has the density of its first draw only."""
    for site in again.latent.values():
        density = site.log_density
        if density is None or site.log_density_at is not None or isinstance(density, Constant):
            continue
        raise NotImplementedError(
            sentence(
                f"The guide gives the density of site {site.name!r} for its own draws only",
                expected="the density as a function of the value, with the params held fixed",
                fix="Use Trace_ELBO without sticking_the_landing, or set the site's "
                "`log_density_at` in the guide",
            )
        )
    return again


def _detached_value(value: Variable) -> Variable:
    if isinstance(value.type, XTensorType):
        return as_xtensor(detached(value.values), dims=value.type.dims)
    return detached(value)
