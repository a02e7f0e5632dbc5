"""Objectives of one's own, as functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.handlers.core import Program
from pymc_svi.objectives.base import ELBO, Loss

__all__ = ["LossFunction"]


class LossFunction(ELBO):
    """A function as an objective; ``SVI`` makes one of any function it is given as a loss.

    Parameters
    ----------
    function : callable
        ``function(model, guide, *args, **kwargs)`` returns the loss as a scalar expression, or
        a :class:`Loss` where the gradient is that of another expression. It may use handlers and
        other objectives, ``Trace_ELBO().loss(model, guide, *args)``.

    Examples
    --------
    Variational inference that also keeps a param small:

    >>> import pymc as pm
    >>> from pymc_svi import SVI, Trace_ELBO, optim, param
    >>> from pymc_svi.handlers import trace
    >>> def model():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Normal("y", x, 1.0, observed=2.0)
    >>> def guide():
    ...     pm.Normal("x", param("loc", 0.0), 0.7)
    >>> def loss(model, guide):
    ...     elbo = Trace_ELBO(num_particles=10).loss(model, guide)
    ...     loc = trace(guide).get_trace()["loc"].value
    ...     return elbo.value + loc**2
    >>> svi = SVI(model, guide, optim.Adam(0.05), loss)
    >>> result = svi.run(1_000, random_seed=1, progressbar=False)
    >>> round(float(result.params["loc"]), 1)
    0.5
    """

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function

    def loss(self, model: Program, guide: Program, /, *args, **kwargs) -> Loss:
        """Call the function."""
        loss = self.function(model, guide, *args, **kwargs)
        if isinstance(loss, Variable) and loss.type.ndim == 0:
            loss = Loss(loss, loss)
        if not isinstance(loss, Loss):
            raise TypeError(
                sentence(
                    f"The loss function {_name(self.function)} returned something else",
                    found=f"{loss!r} of type {getattr(loss, 'type', type(loss).__name__)}",
                    expected="a scalar expression, or a pymc_svi.objectives.Loss",
                    fix="Sum or average it, and leave evaluating it to the fit",
                )
            )
        return loss

    def __repr__(self) -> str:
        return f"LossFunction({_name(self.function)})"


def _name(function: Callable) -> str:
    return getattr(function, "__name__", None) or repr(function)
