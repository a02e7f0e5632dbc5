"""Planar and radial flows: one bend a step."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.guides.flows.base import Flow, Params, small_normal
from pymc_svi.primitives import param

__all__ = ["Planar", "Radial"]


class Planar(Flow):
    r"""Stretch or squeeze along one direction.

    .. math:: y = x + \hat u \tanh(w^T x + b)

    with :math:`\hat u` chosen so that the map is invertible.

    References
    ----------
    Rezende and Mohamed (2015), Variational inference with normalizing flows, appendix A.

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.guides.flows import Planar
    >>> flow = Planar()
    >>> y, log_det = flow.forward(pt.ones(3), flow.declare("flow", 3))
    >>> y.type.shape
    (3,)
    """

    def declare(self, name: str, size: int) -> Params:
        """Declare two vectors and a number."""
        return {
            "u": param(f"{name}_u", small_normal((size,), 0.01, 0)),
            "w": param(f"{name}_w", small_normal((size,), size**-0.5, 1)),
            "b": param(f"{name}_b", 0.0),
        }

    def forward(self, x: Variable, params: Params) -> tuple[Variable, Variable]:
        """Bend."""
        u, w = params["u"], params["w"]
        # Invertible if w'u > -1: the part of u along w is moved there.
        product = (w * u).sum()
        u = u + (pt.softplus(product) - np.log(np.expm1(1.0)) - product) * w / (w**2).sum()
        bend = pt.tanh((w * x).sum() + params["b"])
        return x + u * bend, pt.log1p((1 - bend**2) * (w * u).sum())


class Radial(Flow):
    r"""Stretch or squeeze around one point.

    .. math:: y = x + \frac{\beta}{\alpha + \lVert x - c \rVert} (x - c), \qquad \beta > -\alpha

    References
    ----------
    Rezende and Mohamed (2015), Variational inference with normalizing flows, appendix A.

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.guides.flows import Radial
    >>> flow = Radial()
    >>> y, log_det = flow.forward(pt.ones(3), flow.declare("flow", 3))
    >>> y.type.shape
    (3,)
    """

    def declare(self, name: str, size: int) -> Params:
        """Declare the point and two numbers."""
        return {
            "center": param(f"{name}_center", small_normal((size,), 0.1, 0)),
            "log_alpha": param(f"{name}_log_alpha", 0.0),
            "beta": param(f"{name}_beta", 0.0),
            "size": size,
        }

    def forward(self, x: Variable, params: Params) -> tuple[Variable, Variable]:
        """Stretch."""
        alpha = pt.exp(params["log_alpha"])
        # Zero where the param is, and always greater than -alpha.
        beta = alpha * (pt.softplus(params["beta"]) / np.log(2.0) - 1)
        offset = x - params["center"]
        radius = pt.sqrt((offset**2).sum() + 1e-12)
        h = 1 / (alpha + radius)
        log_det = (params["size"] - 1) * pt.log1p(beta * h) + pt.log1p(beta * alpha * h**2)
        return x + beta * h * offset, log_det
