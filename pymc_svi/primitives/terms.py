"""``deterministic`` and ``factor``: PyMC's statements, which take numbers and arrays too here."""

from __future__ import annotations

from typing import Any

import pymc as pm
import pytensor.tensor as pt
from pytensor.compile import view_op
from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.handlers.interception import factor_site

__all__ = ["deterministic", "factor"]


def deterministic(name: str, value: Any, dims: Any = None) -> Variable:
    """Record a value under a name: ``pm.Deterministic`` that also takes numbers and arrays.

    Parameters
    ----------
    name : str
        Name of the site.
    value : array_like or TensorVariable
        The value.
    dims : str or sequence of str, optional
        Names of its dimensions.

    Returns
    -------
    TensorVariable
        The value.

    Examples
    --------
    >>> from pymc_svi import deterministic, handlers
    >>> def program():
    ...     deterministic("half", 0.5)
    >>> float(handlers.trace(program).get_trace()["half"].value.eval())
    0.5
    """
    return pm.Deterministic(name, pt.as_tensor(value), dims=dims)


def factor(name: str, log_factor: Any, *, has_rsample: bool | None = None) -> Variable:
    """Add a term to the log-density: ``pm.Potential`` that also takes numbers and arrays.

    Parameters
    ----------
    name : str
        Name of the site.
    log_factor : array_like or TensorVariable
        The term.
    has_rsample : bool, optional
        Needed in a guide, where the term is part of the log-density of its draws: True where they
        are a differentiable function of the params, as a change of variables is; False where they
        are not, so that the gradient needs the score function, the gradient of the term.

    Returns
    -------
    TensorVariable
        The term.

    Raises
    ------
    TypeError
        If ``has_rsample`` is not a boolean, or missing in a guide.

    Examples
    --------
    A guide that draws in another space than the model's:

    >>> import pymc as pm
    >>> import pytensor.tensor as pt
    >>> from pymc_svi import Trace_ELBO, deterministic, factor, param, sample
    >>> def guide():
    ...     u = sample("u", pm.Normal.dist(param("loc", 0.0)), infer={"is_auxiliary": True})
    ...     sample("x", pm.DiracDelta.dist(pt.exp(u)))
    ...     factor("log_jacobian", -u, has_rsample=True)
    >>> def model():
    ...     pm.LogNormal("x")
    >>> abs(round(float(Trace_ELBO().loss(model, guide).value.eval()), 6))  # the guide is the prior
    0.0
    """
    if has_rsample not in (None, True, False):
        raise TypeError(
            sentence(
                f"factor({name!r}): has_rsample says whether draws are differentiable",
                found=f"{has_rsample!r}",
                expected="True or False",
            )
        )
    options = {} if has_rsample is None else {"has_rsample": bool(has_rsample)}
    # A view, since pm.Potential names what it is given.
    return factor_site(name, view_op(pt.as_tensor(log_factor)), options)
