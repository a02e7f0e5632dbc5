"""Log-densities rewritten before they are differentiated: stable, and by vector instructions."""

from __future__ import annotations

from collections.abc import Sequence

from pytensor.graph.basic import Variable

from pymc_svi.gradients.certain import without_certain_checks
from pymc_svi.gradients.columns import by_columns
from pymc_svi.gradients.complements import without_double_complements

__all__ = ["rewritten"]


def rewritten(outputs: Sequence[Variable]) -> list[Variable]:
    """Return outputs of the same values that PyTensor computes and differentiates better.

    Parameters
    ----------
    outputs : sequence of Variable
        Expressions of plain tensors.

    Returns
    -------
    list of Variable
        The same up to rounding, and finite in more places.
    """
    return by_columns(without_double_complements(without_certain_checks(outputs)))
