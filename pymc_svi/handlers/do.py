"""``do``: intervene on sites."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.substitute import GivenValues
from pymc_svi.handlers.values import as_site_value

__all__ = ["do"]


class do(GivenValues):
    """Set sites by intervention: what is downstream sees the value, the site itself is untouched.

    The node is split (Richardson and Robins, 2013): the site is still drawn, or observed, with
    its own log-probability, while the program goes on with the intervention. Together with
    ``condition``, in either order, this answers counterfactual questions.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    data : dict of str to array_like
        Interventions by site name, on ``sample`` and ``deterministic`` sites.

    Raises
    ------
    SiteError
        If one of the sites is of another type.

    References
    ----------
    Richardson and Robins (2013), Single World Intervention Graphs.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def program():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Deterministic("y", x + 1)
    >>> counterfactual = handlers.do(program, data={"x": 10.0})
    >>> tr = handlers.trace(handlers.condition(counterfactual, data={"x": 0.0})).get_trace()
    >>> float(tr["x"].value.eval()), float(tr["y"].value.eval())
    (0.0, 11.0)
    """

    def __init__(self, program: Program | None = None, data: Mapping[str, Any] | None = None):
        super().__init__(program, data, None, fn_name="")

    def postprocess_message(self, site: Site) -> None:
        """Let the program go on with the intervention."""
        value = self.value_for(site)
        if value is None:
            return
        if site.type not in ("sample", "deterministic"):
            raise SiteError(
                sentence(
                    f"do: site {site.name!r} is a {site.type}, which has no node to split",
                    expected="a sample or deterministic site",
                    fix="Give it a value with substitute",
                )
            )
        if site.infer.get("intervened"):
            warnings.warn(
                f"do: site {site.name!r} is intervened on twice; the outer value is used nowhere",
                UserWarning,
                stacklevel=2,
            )
        site.infer = {**site.infer, "intervened": True}
        site.result = as_site_value(value, site.value, site.name, site.dims)
