"""Block neural autoregressive flow: a network that is monotone in each element."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.guides.flows.base import Flow, Params, affine, small_normal, widths
from pymc_svi.primitives import param

__all__ = ["BlockAutoregressive"]


# The slope of a unit far out.
_LEAK = 0.01
# Where the gate starts, as a logit: open enough for what the network adds to be learned fast.
_GATE = 2.0


class BlockAutoregressive(Flow):
    r"""A network whose i-th output increases with the i-th element and follows those before it.

    Each element has a block of units in each hidden layer. Weights within a block are positive,
    weights to later blocks free, weights to earlier ones zero; those of a unit are divided by their
    norm and have a scale of their own [2]_. The units of the network f are
    :math:`\tanh(h) + 0.01 h`. With a gate :math:`\alpha` that is learned,

    .. math:: y = \alpha f(x) + (1 - \alpha) x

    has a slope of at least :math:`1 - \alpha`: the tails of a guide stay those of a normal.

    Parameters
    ----------
    hidden_factors : sequence of int, default (8, 8)
        How many units each element has in the hidden layers.

    References
    ----------
    .. [1] De Cao, Titov and Aziz (2019), Block neural autoregressive flow.
    .. [2] Salimans and Kingma (2016), Weight normalization.

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
            log_norm = param(f"{name}_{i}_log_norm", np.zeros(rows))
            layers.append((free, within, bias, log_norm))
        return {"layers": layers, "gate": param(f"{name}_gate", _GATE), "size": size}

    def forward(self, x: Variable, params: Params) -> tuple[Variable, Variable]:
        """Map, collecting the log-derivative of each unit for the element of its block."""
        size = params["size"]
        h, log_slopes = x, pt.zeros((size, 1), dtype=x.dtype)
        last = len(params["layers"]) - 1
        for i, layer in enumerate(params["layers"]):
            free, within, bias = _normalized(size, *layer)
            n_out, n_in = within.type.shape[1:]
            # Each block's own weights act on its own units, (size, n_out, n_in).
            own = (pt.exp(within) * h.reshape((size, 1, n_in))).sum(axis=-1).reshape((-1,))
            h = affine(free, bias, h) + own
            log_slopes = pt.logsumexp(within + log_slopes[:, None, :], axis=-1)
            if i < last:
                # log(1 - tanh(h)^2) without cancellation.
                flat = 2 * (np.log(2.0) - h - pt.softplus(-2 * h))
                slope = pt.logaddexp(flat, np.log(_LEAK))
                log_slopes = log_slopes + slope.reshape((size, n_out))
                h = pt.tanh(h) + _LEAK * h
        gate = params["gate"]
        log_open, log_shut = -pt.softplus(-gate), -pt.softplus(gate)
        y = pt.sigmoid(gate) * h + pt.sigmoid(-gate) * x
        return y, pt.logaddexp(log_open + log_slopes[:, 0], log_shut).sum()


def _normalized(
    size: int, free: Variable, within: Variable, bias: Variable, log_norm: Variable
) -> tuple[Variable, Variable, Variable]:
    """Return a layer's weights to later blocks, the logs of those within blocks, and its biases."""
    n_out, n_in = within.type.shape[1:]
    block_of_row = np.repeat(np.arange(size), n_out)
    block_of_column = np.repeat(np.arange(size), n_in)
    free = free * (block_of_row[:, None] > block_of_column).astype(free.dtype)
    squares = (free**2).sum(axis=-1) + pt.exp(2 * within).sum(axis=-1).reshape((-1,))
    log_factor = log_norm - 0.5 * pt.log(squares)
    scaled = free * pt.exp(log_factor)[:, None]
    return scaled, within + log_factor.reshape((size, n_out, 1)), bias
