"""Coupling flows: one half of a vector is mapped, with params that are functions of the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.guides.flows.base import Flow, Params, dense, network, widths

__all__ = ["AffineCoupling", "SplineCoupling"]


class _Coupling(Flow):
    """The first half stays as it is; the second is mapped element by element."""

    min_size = 2
    _per_element: int

    def __init__(self, hidden_dims: Sequence[int] = (32,)):
        self.hidden_dims = widths(type(self).__name__, hidden_dims, ())

    def declare(self, name: str, size: int) -> Params:
        """Declare the network."""
        half = size // 2
        n_out = self._per_element * (size - half)
        return {"layers": dense(name, [half, *self.hidden_dims, n_out]), "half": half}

    def _conditions(self, first: Variable, params: Params) -> Variable:
        """Return the params of each mapped element, shape (elements, params)."""
        return network(params["layers"], first).reshape((-1, self._per_element))

    def forward(self, x: Variable, params: Params) -> tuple[Variable, Variable]:
        """Map the second half."""
        first, second = x[: params["half"]], x[params["half"] :]
        mapped, log_det = self._map(second, self._conditions(first, params))
        return pt.concatenate([first, mapped]), log_det.sum()

    def inverse(self, y: Variable, params: Params) -> Variable:
        """Map the second half back."""
        first, second = y[: params["half"]], y[params["half"] :]
        return pt.concatenate([first, self._map_back(second, self._conditions(first, params))])

    def _map(self, x: Variable, conditions: Variable) -> tuple[Variable, Variable]:
        raise NotImplementedError

    def _map_back(self, y: Variable, conditions: Variable) -> Variable:
        raise NotImplementedError


class AffineCoupling(_Coupling):
    r"""Shift and scale one half by functions of the other.

    .. math:: y_2 = x_2 \, e^{s(x_1)} + t(x_1)

    Parameters
    ----------
    hidden_dims : sequence of int, default (32,)
        Widths of the hidden layers of the network behind s and t.

    References
    ----------
    Dinh, Sohl-Dickstein and Bengio (2017), Density estimation using Real NVP.

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.guides.flows import AffineCoupling
    >>> flow = AffineCoupling(hidden_dims=[8])
    >>> params = flow.declare("flow", 4)
    >>> y, log_det = flow.forward(pt.arange(4.0), params)
    >>> flow.inverse(y, params).eval().round(6)
    array([0., 1., 2., 3.])
    """

    _per_element = 2

    def _map(self, x, conditions):
        log_scale = _bounded(conditions[:, 0])
        return x * pt.exp(log_scale) + conditions[:, 1], log_scale

    def _map_back(self, y, conditions):
        return (y - conditions[:, 1]) * pt.exp(-_bounded(conditions[:, 0]))


def _bounded(log_scale: Variable) -> Variable:
    """Keep a log-scale between -3 and 3: steps far off do not overflow."""
    return 3 * pt.tanh(log_scale / 3)


class SplineCoupling(_Coupling):
    """Map one half by monotone rational-quadratic splines whose knots are functions of the other.

    Outside of ``(-bound, bound)`` the map is the identity.

    Parameters
    ----------
    hidden_dims : sequence of int, default (32,)
        Widths of the hidden layers of the network behind the knots.
    bins : int, default 8
        Number of pieces.
    bound : float, default 5
        How far the splines reach.

    References
    ----------
    Durkan, Bekasov, Murray and Papamakarios (2019), Neural spline flows.

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.guides.flows import SplineCoupling
    >>> flow = SplineCoupling(bins=4)
    >>> params = flow.declare("flow", 2)
    >>> y, log_det = flow.forward(pt.constant([0.5, 1.5]), params)
    >>> flow.inverse(y, params).eval().round(6)
    array([0.5, 1.5])
    """

    _min_width = 1e-3
    _min_slope = 1e-3

    def __init__(self, hidden_dims: Sequence[int] = (32,), bins: int = 8, bound: float = 5.0):
        super().__init__(hidden_dims)
        if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or bins < 2:
            raise ValueError(sentence("SplineCoupling: bins must be at least 2", found=repr(bins)))
        if not bound > 0:
            raise ValueError(sentence("SplineCoupling: bound must be positive", found=repr(bound)))
        self.bins = int(bins)
        self.bound = float(bound)
        self._per_element = 3 * self.bins - 1

    def _knots(self, conditions: Variable) -> tuple[Variable, Variable, Variable]:
        """Return positions, values and slopes at the knots, shape (elements, bins + 1)."""
        n = self.bins
        edges = []
        for logits in (conditions[:, :n], conditions[:, n : 2 * n]):
            share = pt.special.softmax(logits, axis=-1)
            share = self._min_width + (1 - self._min_width * n) * share
            inner = pt.cumsum(share, axis=-1)[:, :-1]
            zero = pt.zeros_like(inner[:, :1])
            unit = pt.concatenate([zero, inner, pt.ones_like(zero)], axis=-1)
            edges.append(self.bound * (2 * unit - 1))
        # Slope one where the logits are zero, and at the ends, where the identity begins.
        shift = np.log(np.expm1(1 - self._min_slope))
        slopes = self._min_slope + pt.softplus(conditions[:, 2 * n :] + shift)
        one = pt.ones_like(slopes[:, :1])
        return edges[0], edges[1], pt.concatenate([one, slopes, one], axis=-1)

    def _piece(self, at: Variable, edges: Variable, *knots: Variable) -> list[Variable]:
        """Return left and right knots of the piece that each element lies in."""
        inside = (at[:, None] >= edges[:, 1:-1]).sum(axis=-1)
        onehot = pt.eq(pt.arange(self.bins), inside[:, None])
        return [
            pt.where(onehot, side, 0.0).sum(axis=-1)
            for k in knots
            for side in (k[:, :-1], k[:, 1:])
        ]

    def _map(self, x, conditions):
        xs, ys, slopes = self._knots(conditions)
        clipped = pt.clip(x, -self.bound, self.bound)
        x0, x1, y0, y1, d0, d1 = self._piece(clipped, xs, xs, ys, slopes)
        width, height = x1 - x0, y1 - y0
        mean_slope = height / width
        t = (clipped - x0) / width
        mix = t * (1 - t)
        below = mean_slope + (d0 + d1 - 2 * mean_slope) * mix
        y = y0 + height * (mean_slope * t**2 + d0 * mix) / below
        slope = mean_slope**2 * (d1 * t**2 + 2 * mean_slope * mix + d0 * (1 - t) ** 2) / below**2
        outside = pt.abs(x) >= self.bound
        return pt.where(outside, x, y), pt.where(outside, 0.0, pt.log(slope))

    def _map_back(self, y, conditions):
        xs, ys, slopes = self._knots(conditions)
        clipped = pt.clip(y, -self.bound, self.bound)
        x0, x1, y0, y1, d0, d1 = self._piece(clipped, ys, xs, ys, slopes)
        width, height = x1 - x0, y1 - y0
        mean_slope = height / width
        # A quadratic in the position within the piece.
        rise = clipped - y0
        curve = d0 + d1 - 2 * mean_slope
        a = height * (mean_slope - d0) + rise * curve
        b = height * d0 - rise * curve
        c = -mean_slope * rise
        t = 2 * c / (-b - pt.sqrt(b**2 - 4 * a * c))
        return pt.where(pt.abs(y) >= self.bound, y, x0 + t * width)
