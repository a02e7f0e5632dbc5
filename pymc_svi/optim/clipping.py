"""Clipping of gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytensor_ml import optim as pml

from pymc_svi.errors import sentence
from pymc_svi.optim.arguments import is_number, positive
from pymc_svi.optim.rules import CheckedRule, Rule, with_stable_dtypes

__all__ = [
    "clip_by_global_norm",
    "clip_by_value",
]


@dataclass(frozen=True)
class _ClipByGlobalNorm(CheckedRule):
    max_norm: float
    treats_elements_alike: ClassVar[bool] = True  # the norm is that of all params together

    def __call__(self, loss_or_grads, params):
        params = list(params)
        updates = pml.clip_by_global_norm(self.max_norm)(loss_or_grads, params)
        return with_stable_dtypes(updates)

    def __repr__(self):
        return f"clip_by_global_norm({self.max_norm})"


def clip_by_global_norm(max_norm: float) -> Rule:
    """Scale all gradients together so that their joint Euclidean norm is at most ``max_norm`` [1]_.

    Parameters
    ----------
    max_norm : float
        Positive.

    Returns
    -------
    Rule
        To be put before an optimizer with :func:`chain`.

    References
    ----------
    .. [1] Pascanu, R., Mikolov, T., Bengio, Y. (2013). On the difficulty of training recurrent
       neural networks. ICML.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.chain(optim.clip_by_global_norm(1.0), optim.Momentum(0.1))
    chain(clip_by_global_norm(1.0), Momentum(step_size=0.1, mass=0.9))
    """
    return _ClipByGlobalNorm(positive("clip_by_global_norm", "max_norm", max_norm))


@dataclass(frozen=True)
class _ClipByValue(CheckedRule):
    max_value: float
    min_value: float
    treats_elements_alike: ClassVar[bool] = True

    def __call__(self, loss_or_grads, params):
        params = list(params)
        updates = pml.clip_by_value(self.min_value, self.max_value)(loss_or_grads, params)
        return with_stable_dtypes(updates)

    def __repr__(self):
        return f"clip_by_value({self.max_value}, {self.min_value})"


def clip_by_value(max_value: float, min_value: float | None = None) -> Rule:
    """Clip every element of the gradients.

    Parameters
    ----------
    max_value : float
        The largest value.
    min_value : float, optional
        The smallest; ``-max_value`` if not given.

    Returns
    -------
    Rule
        To be put before an optimizer with :func:`chain`.

    Raises
    ------
    TypeError
        If a bound isn't a number.
    ValueError
        If ``min_value`` isn't less than ``max_value``.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.chain(optim.clip_by_value(10.0), optim.SGD(0.1))
    chain(clip_by_value(10.0, -10.0), SGD(step_size=0.1))
    """
    if min_value is None:
        max_value = positive("clip_by_value", "max_value", max_value)
        min_value = -max_value
    if not (is_number(min_value) and is_number(max_value)):
        raise TypeError(
            sentence(
                "clip_by_value: bounds must be numbers", found=f"{min_value!r} and {max_value!r}"
            )
        )
    if not min_value < max_value:
        raise ValueError(
            sentence(
                "clip_by_value: min_value must be less than max_value",
                found=f"{min_value} and {max_value}",
            )
        )
    return _ClipByValue(float(max_value), float(min_value))
