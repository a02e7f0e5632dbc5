"""The gradient of a loss, and an error that says which site has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytensor
from pytensor.gradient import DisconnectedInputError, NullTypeGradError
from pytensor.graph.basic import Variable

from pymc_svi.errors import SiteError, quoted, sentence

__all__ = ["differentiated"]

# An op has no gradient at all, or none for the input that depends on what it is taken for.
_NO_GRADIENT = (NotImplementedError, NullTypeGradError)


def differentiated(
    value: Variable,
    variables: Sequence[Variable],
    terms: Mapping[str, Variable] | None = None,
    *,
    disconnected: str = "raise",
) -> list[Variable]:
    """Return the gradient of an expression.

    Parameters
    ----------
    value : TensorVariable
        The expression, a scalar.
    variables : sequence of Variable
        What the gradient is for.
    terms : dict of str to Variable, optional
        Parts of it, ``"model: x"`` or ``"guide: x"``, for the error.
    disconnected : {"raise", "ignore"}
        What PyTensor does about variables that the expression does not depend on.

    Returns
    -------
    list of TensorVariable
        The gradient for each variable.

    Raises
    ------
    SiteError
        If an operation on the way has no gradient, such as a solver of one's own.
    """
    try:
        return pytensor.grad(value, list(variables), disconnected_inputs=disconnected)
    except DisconnectedInputError as error:
        raise SiteError(
            sentence(
                f"The loss does not change with {quoted(_without_effect(value, variables))}",
                expected="a derivative: a site of a flat prior needs data, and a param has none "
                "where it is only compared, or rounded",
                fix="Give the site a proper prior or data, or leave it out",
            )
        ) from error
    except _NO_GRADIENT as error:
        without = [name for name, term in (terms or {}).items() if _has_none(term, variables)]
        side, _, site = without[0].partition(": ") if without else ("", "", "")
        whose = f"The log-probability of site {site!r} in the {side}" if site else "A log-density"
        raise SiteError(
            sentence(
                f"{whose} has no gradient",
                found=str(error).rstrip("."),
                expected="operations with gradients between params and density",
                fix="Give the operation a gradient (the method `pullback` of its Op), or write a "
                "guide whose sites need none: sample(name, dist, infer={'score_function': True})",
            )
        ) from error


def _without_effect(value: Variable, variables: Sequence[Variable]) -> list[str]:
    gradients = pytensor.grad(
        value, list(variables), disconnected_inputs="ignore", return_disconnected="none"
    )
    return [str(v.name) for v, g in zip(variables, gradients, strict=True) if g is None]


def _has_none(term: Variable, variables: Sequence[Variable]) -> bool:
    try:
        pytensor.grad(term.sum(), list(variables), disconnected_inputs="ignore")
    except _NO_GRADIENT:
        return True
    return False
