"""Inverse autoregressive flow: each element is shifted and scaled by functions of those before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.guides.flows.base import Flow, Params, affine, small_normal, widths
from pymc_svi.primitives import param

__all__ = ["InverseAutoregressive"]


class InverseAutoregressive(Flow):
    r"""Shift and scale each element by functions of the elements before it.

    .. math:: y_i = x_i \, e^{s_i(x_{<i})} + m_i(x_{<i})

    All of them come from one network with masked weights. Mapping forward takes one pass,
    mapping back one for each element.

    Parameters
    ----------
    hidden_dims : sequence of int, optional
        Widths of the hidden layers; by default two layers as wide as the vector.
    skip_connections : bool, default False
        Add a direct, masked connection from input to output.
    nonlinearity : callable, default ``pytensor.tensor.tanh``
        What the hidden units apply.

    References
    ----------
    Kingma et al. (2016), Improving variational inference with inverse autoregressive flow.
    Germain et al. (2015), MADE: masked autoencoder for distribution estimation.

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.guides.flows import InverseAutoregressive
    >>> flow = InverseAutoregressive()
    >>> params = flow.declare("flow", 3)
    >>> y, log_det = flow.forward(pt.arange(3.0), params)
    >>> flow.inverse(y, params).eval().round(6)
    array([0., 1., 2.])
    """

    min_size = 2

    def __init__(
        self,
        hidden_dims: Sequence[int] | None = None,
        *,
        skip_connections: bool = False,
        nonlinearity: Callable[[Variable], Variable] = pt.tanh,
    ):
        self.hidden_dims = hidden_dims and widths(type(self).__name__, hidden_dims, ())
        self.skip_connections = skip_connections
        self.nonlinearity = nonlinearity

    def declare(self, name: str, size: int) -> Params:
        """Declare the network; its outputs start near zero, so that the flow is near the identity."""
        hidden = widths(type(self).__name__, self.hidden_dims, (size, size))
        # A unit of degree d sees the elements up to d; output i may see those before i.
        degrees = [np.arange(size)]
        degrees += [np.arange(n) % max(1, size - 1) for n in hidden]
        outputs = np.tile(np.arange(size), 2)
        layers = []
        for i, (seen, unit) in enumerate(zip(degrees[:-1], degrees[1:], strict=True)):
            layers.append(self._layer(f"{name}_{i}", unit[:, None] >= seen, i, 1.0))
        last = outputs[:, None] > degrees[-1]
        layers.append(self._layer(f"{name}_{len(hidden)}", last, len(hidden), 0.01))
        skip = None
        if self.skip_connections:
            skip, _ = self._layer(f"{name}_skip", outputs[:, None] > degrees[0], 99, 0.01)
        return {"layers": layers, "skip": skip, "size": size}

    @staticmethod
    def _layer(name: str, mask: np.ndarray, salt: int, scale: float) -> tuple[Variable, Variable]:
        fan_in = np.maximum(mask.sum(axis=1).mean(), 1)
        start = small_normal(mask.shape, scale * fan_in**-0.5, salt)
        weight = param(f"{name}_weight", start)
        bias = param(f"{name}_bias", lambda: np.zeros(len(mask)))
        return weight * mask.astype(weight.dtype), bias

    def _conditions(self, x: Variable, params: Params) -> tuple[Variable, Variable]:
        *hidden, (last_weight, last_bias) = params["layers"]
        h = x
        for weight, bias in hidden:
            h = self.nonlinearity(affine(weight, bias, h))
        out = affine(last_weight, last_bias, h)
        if params["skip"] is not None:
            out = out + affine(params["skip"], pt.zeros((), dtype=x.dtype), x)
        size = params["size"]
        return out[:size], pt.clip(out[size:], -5.0, 3.0)

    def forward(self, x: Variable, params: Params) -> tuple[Variable, Variable]:
        """Shift and scale all elements."""
        mean, log_scale = self._conditions(x, params)
        return x * pt.exp(log_scale) + mean, log_scale.sum()

    def inverse(self, y: Variable, params: Params) -> Variable:
        """Undo it, element by element."""
        x = pt.zeros_like(y)
        for _ in range(params["size"]):
            mean, log_scale = self._conditions(x, params)
            x = (y - mean) * pt.exp(-log_scale)
        return x
