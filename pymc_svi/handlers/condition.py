"""``condition``: fix latent sites to data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pytensor.graph.basic import Variable

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.substitute import GivenValues
from pymc_svi.handlers.trace import Trace
from pymc_svi.handlers.values import as_observed_value

__all__ = ["condition", "uncondition"]


class condition(GivenValues):
    """Fix sample sites to values and make them observed: their terms become likelihood.

    Where several ``condition`` handlers name one site, the outermost wins.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    data : dict of str to array_like, or Trace
        Values by site name. They have the shape of the site or broadcast to it. From a trace
        the values of its sample sites are taken.
    condition_fn : callable, optional
        Instead of ``data``: called with each sample site, returns its value or None.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def program():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Normal("y", x, 1.0)
    >>> tr = handlers.trace(handlers.condition(program, data={"y": 2.0})).get_trace()
    >>> tr["y"].observed, tr["x"].observed
    (True, False)
    """

    def __init__(
        self,
        program: Program | None = None,
        data: Mapping[str, Any] | None = None,
        condition_fn: Callable[[Site], Any] | None = None,
    ):
        if isinstance(data, Trace):
            data = {site.name: site.value for site in data.sites("sample")}
        super().__init__(program, data, condition_fn, fn_name="condition_fn")

    def process_message(self, site: Site) -> None:
        """Make the site observed if a value is given for it."""
        if site.type != "sample":
            if self.data is not None and site.name in self.data:
                self._refuse(site)
            return
        value = self.value_for(site)
        if value is not None:
            site.value = as_observed_value(_known(value), site.dist, site.name, site.dims)
            site.observed = True

    def _refuse(self, site: Site) -> None:
        """Say that a site has no law to be observed under."""
        latent = f"{site.name}_unobserved"
        if latent in self._seen:
            fix = f"Its missing values are the site {latent!r}: condition that"
        else:
            fix = {
                "param": "Give it its value with substitute, or a prior with lift",
                "deterministic": "Condition the sites that it is computed from, or give it a value "
                "with substitute or do",
                "data": "Give it a value with substitute",
            }.get(site.type, "Leave it out")
        raise SiteError(
            sentence(
                f"condition: site {site.name!r} is a {site.type}, which cannot be observed",
                expected="a sample site",
                fix=fix,
            )
        )


def _known(value: Any) -> Any:
    """Return data with NaN marked as missing, which PyMC takes it for in observed data too."""
    array = value if isinstance(value, Variable) else np.asarray(value)
    has_gaps = isinstance(array, np.ndarray) and array.dtype.kind == "f" and np.isnan(array).any()
    return np.ma.masked_invalid(array) if has_gaps else value


class uncondition(Handler):
    """Make observed sites latent again, so that they are drawn.

    The data stay in ``site.infer["obs"]``, with ``site.infer["was_observed"]`` True.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def program():
    ...     pm.Normal("y", 0.0, 1.0, observed=2.0)
    >>> tr = handlers.trace(handlers.uncondition(program)).get_trace()
    >>> tr["y"].observed, float(tr["y"].infer["obs"].eval())
    (False, 2.0)
    """

    def process_message(self, site: Site) -> None:
        """Forget the data of an observed site."""
        if site.type == "sample" and site.observed:
            site.infer |= {"was_observed": True, "obs": site.value}
            site.observed = False
            site.value = None
