"""Block neural autoregressive flow: a network that is monotone in each element."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.guides.flows.base import Flow, Params, affine, small_normal, widths
from pymc_svi.primitives import param

__all__ = ["BlockAutoregressive"]


class BlockAutoregressive(Flow):
    r"""A network whose i-th output increases with the i-th element and follows those before it.

    Each element has a block of units in each hidden layer. Weights within a block are positive,
    weights to later blocks free, weights to earlier ones zero. With a gate :math:`\alpha`,

    .. math:: y = \alpha f(x) + (1 - \alpha) x

    is unbounded where f, a network of tanh units, is not.

    Parameters
    ----------
    hidden_factors : sequence of int, default (8, 8)
        How many units each element has in the hidden layers.

    References
    ----------
    De Cao, Titov and Aziz (2019), Block neural autoregressive flow.

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.guides.flows import BlockAutoregressive
    >>> flow = BlockAutoregressive([4])
    >>> y, log_det = flow.forward(pt.arange(3.0), flow.declare("flow", 3))
    >>> y.type.shape
    (3,)
    """

    min_size = 2

    def __init__(self, hidden_factors: Sequence[int] = (8, 8)):
        self.hidden_factors = widths(type(self).__name__, hidden_factors, ())

    def declare(self, name: str, size: int) -> Params:
        """Declare the weights."""
        factors = [1, *self.hidden_factors, 1]
        layers = []
        for i, (n_in, n_out) in enumerate(zip(factors[:-1], factors[1:], strict=True)):
            rows, columns = size * n_out, size * n_in
            free = param(f"{name}_{i}_weight", small_normal((rows, columns), columns**-0.5, i))
            # The logs of the weights within a block, which start near 1 / n_in.
            start = small_normal((size, n_out, n_in), 0.5, 100 + i)
            within = param(
                f"{name}_{i}_log_weight", lambda start=start, n_in=n_in: start() - np.log(n_in)
            )
            bias = param(f"{name}_{i}_bias", small_normal((rows,), 0.5, 200 + i))
            layers.append((free, within, bias))
        return {"layers": layers, "gate": param(f"{name}_gate", -1.0), "size": size}

    def forward(self, x: Variable, params: Params) -> tuple[Variable, Variable]:
        """Map, collecting the log-derivative of each unit for the element of its block."""
        size = params["size"]
        h, log_slopes = x, pt.zeros((size, 1), dtype=x.dtype)
        last = len(params["layers"]) - 1
        for i, (free, within, bias) in enumerate(params["layers"]):
            n_out, n_in = within.type.shape[1:]
            block_of_row = np.repeat(np.arange(size), n_out)
            block_of_column = np.repeat(np.arange(size), n_in)
            lower = (block_of_row[:, None] > block_of_column).astype(x.dtype)
            # Each block's own weights act on its own units, (size, n_out, n_in).
            own = (pt.exp(within) * h.reshape((size, 1, n_in))).sum(axis=-1).reshape((-1,))
            h = affine(free * lower, bias, h) + own
            log_slopes = pt.logsumexp(within + log_slopes[:, None, :], axis=-1)
            if i < last:
                # log(1 - tanh(h)^2) without cancellation.
                flat = 2 * (np.log(2.0) - h - pt.softplus(-2 * h))
                log_slopes = log_slopes + flat.reshape((size, n_out))
                h = pt.tanh(h)
        gate = params["gate"]
        log_open, log_shut = -pt.softplus(-gate), -pt.softplus(gate)
        y = pt.sigmoid(gate) * h + pt.sigmoid(-gate) * x
        return y, pt.logaddexp(log_open + log_slopes[:, 0], log_shut).sum()
