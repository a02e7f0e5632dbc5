"""What a flow is, and the flows that others are made with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.primitives import init_seed, param

__all__ = [
    "Chain",
    "Flow",
    "Params",
    "Reverse",
    "affine",
    "dense",
    "network",
    "small_normal",
    "widths",
]

Params = Mapping[str, Any]

# Up to this many columns a product of a matrix and a vector is cheaper as one fused loop than as
# a call of BLAS, whose wrappers take long to compile on a new machine.
_SMALL = 64


class Flow(ABC):
    """A map of vectors of unconstrained numbers to such vectors, invertible, with params.

    A subclass declares its params and maps a vector forward, from noise to value, together with
    the log-determinant of the Jacobian. Where it can map back it says how in :meth:`inverse`.

    Examples
    --------
    A flow of one's own, a rotation of the first two elements:

    >>> import numpy as np
    >>> import pytensor.tensor as pt
    >>> from pymc_svi import param
    >>> from pymc_svi.guides.flows import Flow
    >>> class Rotation(Flow):
    ...     def declare(self, name, size):
    ...         return {"angle": param(f"{name}_angle", 0.1)}
    ...
    ...     def forward(self, x, params):
    ...         sin, cos = pt.sin(params["angle"]), pt.cos(params["angle"])
    ...         turned = pt.stack([cos * x[0] - sin * x[1], sin * x[0] + cos * x[1]])
    ...         return pt.concatenate([turned, x[2:]]), pt.zeros(())
    >>> flow = Rotation()
    >>> y, log_det = flow.forward(pt.ones(3), flow.declare("flow", 3))
    >>> y.eval().round(3)
    array([0.895, 1.095, 1.   ])
    """

    min_size = 1

    @abstractmethod
    def declare(self, name: str, size: int) -> Params:
        """Declare the params for vectors of a size; their names start with ``name``."""

    @abstractmethod
    def forward(self, x: Variable, params: Params) -> tuple[Variable, Variable]:
        """Return the image of a vector, and the log-determinant of the Jacobian there."""

    def inverse(self, y: Variable, params: Params) -> Variable:
        """Return the vector whose image is ``y``."""
        raise NotImplementedError(
            sentence(f"{type(self).__name__} cannot be inverted in closed form")
        )

    @property
    def is_invertible(self) -> bool:
        """Whether :meth:`inverse` is there."""
        return type(self).inverse is not Flow.inverse


class Chain(Flow):
    """Flows one after the other.

    Parameters
    ----------
    flows : sequence of Flow
        The first maps the noise, the last gives the value.
    """

    def __init__(self, flows: Sequence[Flow]):
        self.flows = tuple(flows)
        for flow in self.flows:
            if not isinstance(flow, Flow):
                raise TypeError(
                    sentence(
                        "A flow is a Flow or a list of them",
                        found=repr(flow),
                        fix="For example [AffineCoupling(), Reverse(), AffineCoupling()]",
                    )
                )
        self.min_size = max((flow.min_size for flow in self.flows), default=1)

    def declare(self, name: str, size: int) -> Params:
        """Declare the params of all flows; each has its number in the names."""
        return {i: flow.declare(f"{name}_{i}", size) for i, flow in enumerate(self.flows)}  # type: ignore[misc]

    def forward(self, x: Variable, params: Params) -> tuple[Variable, Variable]:
        """Map through all flows."""
        log_det: Any = 0.0
        for i, flow in enumerate(self.flows):
            x, one = flow.forward(x, params[i])  # type: ignore[index]
            log_det = log_det + one
        return x, pt.as_tensor(log_det)

    def inverse(self, y: Variable, params: Params) -> Variable:
        """Map back through all flows."""
        for i, flow in reversed(list(enumerate(self.flows))):
            y = flow.inverse(y, params[i])  # type: ignore[index]
        return y

    @property
    def is_invertible(self) -> bool:
        """Whether every flow is."""
        return all(flow.is_invertible for flow in self.flows)


class Reverse(Flow):
    """Reverse the order of the elements, so that the next flow treats others first."""

    def declare(self, name: str, size: int) -> Params:
        """Declare nothing."""
        return {}

    def forward(self, x: Variable, params: Params) -> tuple[Variable, Variable]:
        """Reverse."""
        return x[::-1], pt.zeros((), dtype=x.dtype)

    def inverse(self, y: Variable, params: Params) -> Variable:
        """Reverse again."""
        return y[::-1]


def affine(weight: Variable, bias: Variable, x: Variable) -> Variable:
    """Return ``weight @ x + bias`` for a vector."""
    columns = weight.type.shape[-1]
    if columns is not None and columns <= _SMALL:
        return (weight * x).sum(axis=-1) + bias
    return weight @ x + bias


def small_normal(shape: tuple[int, ...], scale: float, salt: int) -> Callable[[], np.ndarray]:
    """Return a function that draws starting weights; another ``salt`` draws others."""

    def draw() -> np.ndarray:
        return np.random.default_rng([init_seed(), salt, *shape]).normal(0.0, scale, shape)

    return draw


def widths(owner: str, hidden_dims: Sequence[int] | None, default: Sequence[int]) -> list[int]:
    """Return the widths of hidden layers, checked."""
    chosen = list(default if hidden_dims is None else hidden_dims)
    for n in chosen:
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(
                sentence(f"{owner}: hidden layers have at least one unit", found=repr(hidden_dims))
            )
    return chosen


def dense(name: str, sizes: Sequence[int]) -> list[tuple[Variable, Variable]]:
    """Declare weights and biases of a network; its last layer starts near zero."""
    layers = []
    for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        scale = 0.01 if i == len(sizes) - 2 else n_in**-0.5
        weight = param(f"{name}_weight_{i}", small_normal((n_out, n_in), scale, i))
        bias = param(f"{name}_bias_{i}", lambda n_out=n_out: np.zeros(n_out))
        layers.append((weight, bias))
    return layers


def network(layers: Sequence[tuple[Variable, Variable]], x: Variable) -> Variable:
    """Return the output of a network with tanh units."""
    for weight, bias in layers[:-1]:
        x = pt.tanh(affine(weight, bias, x))
    return affine(*layers[-1], x)
