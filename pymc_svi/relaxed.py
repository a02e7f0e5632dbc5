"""Relaxed discrete distributions: continuous, so that gradients pass through their draws.

A program uses them where it would use a discrete distribution, in model and guide alike. The
lower the temperature, the nearer the draws are to 0 and 1, and the noisier the gradients.

A draw that rounding would bring to 0 or 1 has the next number as its value; objectives evaluate its
density as it was before (:func:`pymc_svi.gradients.interior.interior`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.logprob.transforms import LogOddsTransform, SimplexTransform
from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.gradients.interior import interior

__all__ = ["GumbelSoftmax", "RelaxedBernoulli"]


class _LogOdds(LogOddsTransform):
    """The log-odds, back from which no number is rounded to 0 or 1."""

    def backward(self, value, *inputs):
        return interior(pt.sigmoid(value))

    def log_jac_det(self, value, *inputs):
        return -pt.softplus(value) - pt.softplus(-value)


class _Simplex(SimplexTransform):
    """The logarithms without their mean, back from which no number is rounded to 0."""

    def backward(self, value, *inputs):
        value = pt.concatenate([value, -pt.sum(value, -1, keepdims=True)], axis=-1)
        return interior(pt.special.softmax(value, axis=-1))


class RelaxedBernoulli:
    r"""A Bernoulli variable on the whole interval between 0 and 1.

    .. math:: x = \sigma\left((\mathrm{logit}\, p + \ell) / T\right), \quad
        \ell \sim \mathrm{Logistic}(0, 1)

    As :math:`T` goes to 0 it becomes 1 with probability :math:`p` and 0 otherwise; at any
    temperature :math:`P(x > 1/2) = p`.

    Parameters
    ----------
    name : str
        Name of the variable; ``RelaxedBernoulli.dist(...)`` makes one without.
    temperature : float or tensor
        The temperature, positive.
    p, logit_p : tensor
        Probability of 1, or its logit.
    **kwargs
        As for any PyMC distribution: ``shape``, ``dims``, ``observed``.

    References
    ----------
    Maddison, Mnih and Teh (2017), The Concrete Distribution.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.relaxed import RelaxedBernoulli
    >>> x = RelaxedBernoulli.dist(0.1, p=0.9, shape=1_000)
    >>> bool(abs((pm.draw(x, random_seed=1) > 0.5).mean() - 0.9) < 0.03)
    True
    """

    def __new__(cls, name: str, temperature: Any, p: Any = None, logit_p: Any = None, **kwargs):
        """Register the variable in the model of the context."""
        logit = _logits(cls.__name__, p, logit_p, _logit)
        kwargs.setdefault("transform", _LogOdds())
        return pm.CustomDist(name, temperature, logit, **_BERNOULLI, **kwargs)

    @classmethod
    def dist(cls, temperature: Any, p: Any = None, logit_p: Any = None, **kwargs) -> Variable:
        """Make a variable without a name.

        Parameters
        ----------
        temperature : float or tensor
            The temperature, positive.
        p, logit_p : tensor, optional
            Probability of 1, or its logit; one of them.
        **kwargs
            As for any PyMC distribution: ``shape``.

        Returns
        -------
        TensorVariable
            The variable.

        Raises
        ------
        TypeError
            If both or none of ``p`` and ``logit_p`` are given.
        """
        logit = _logits(cls.__name__, p, logit_p, _logit)
        return pm.CustomDist.dist(temperature, logit, **_BERNOULLI, **kwargs)


class GumbelSoftmax:
    r"""A categorical variable as a point of the simplex, near to a corner: a relaxed one-hot.

    .. math:: x = \mathrm{softmax}\left((\log p + g) / T\right), \quad g_i \sim \mathrm{Gumbel}(0, 1)

    As :math:`T` goes to 0 it becomes the corner :math:`i` with probability :math:`p_i`; at any
    temperature its largest entry is :math:`i` with that probability. Mix with it, ``(x *
    values).sum(-1)``, where ``values[index]`` would choose.

    Parameters
    ----------
    name : str
        Name of the variable; ``GumbelSoftmax.dist(...)`` makes one without.
    temperature : float or scalar tensor
        The temperature, positive.
    p, logit_p : tensor
        Probabilities along the last axis, or their logarithms up to a constant.
    **kwargs
        As for any PyMC distribution: ``shape``, ``dims``, ``observed``.

    References
    ----------
    .. [1] Jang, Gu and Poole (2017), Categorical Reparameterization with Gumbel-Softmax.
    .. [2] Maddison, Mnih and Teh (2017), The Concrete Distribution.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi.relaxed import GumbelSoftmax
    >>> x = GumbelSoftmax.dist(0.5, p=np.array([0.2, 0.3, 0.5]))
    >>> draw = pm.draw(x, random_seed=1)
    >>> draw.shape, float(draw.sum())
    ((3,), 1.0)
    """

    def __new__(cls, name: str, temperature: Any, p: Any = None, logit_p: Any = None, **kwargs):
        """Register the variable in the model of the context."""
        logits = _logits(cls.__name__, p, logit_p, pt.log)
        kwargs.setdefault("transform", _Simplex())
        return pm.CustomDist(name, temperature, logits, **_CATEGORICAL, **kwargs)

    @classmethod
    def dist(cls, temperature: Any, p: Any = None, logit_p: Any = None, **kwargs) -> Variable:
        """Make a variable without a name.

        Parameters
        ----------
        temperature : float or scalar tensor
            The temperature, positive.
        p, logit_p : tensor, optional
            Probabilities along the last axis, or their logarithms up to a constant; one of them.
        **kwargs
            As for any PyMC distribution: ``shape``.

        Returns
        -------
        TensorVariable
            The variable.

        Raises
        ------
        TypeError
            If both or none of ``p`` and ``logit_p`` are given.
        """
        logits = _logits(cls.__name__, p, logit_p, pt.log)
        return pm.CustomDist.dist(temperature, logits, **_CATEGORICAL, **kwargs)


def _logits(what: str, p: Any, logit_p: Any, to_logits: Any) -> Variable:
    if (p is None) == (logit_p is None):
        raise TypeError(
            sentence(
                f"{what} takes p or logit_p",
                found="both" if p is not None else "none of them",
            )
        )
    return pt.as_tensor(logit_p) if p is None else to_logits(pt.as_tensor(p))


def _logit(p: Variable) -> Variable:
    return pt.log(p) - pt.log1p(-p)


def _draw_bernoulli(temperature: Variable, logit: Variable, size: Any) -> Variable:
    noise = pm.Logistic.dist(0.0, 1.0, size=_size(size, temperature, logit))
    return interior(pm.math.sigmoid((logit + noise) / temperature))


def _log_prob_bernoulli(value: Variable, temperature: Variable, logit: Variable) -> Variable:
    distance = temperature * _logit(value) - logit
    log_prob = (
        pt.log(temperature)
        - distance
        - 2 * pt.softplus(-distance)
        - pt.log(value)
        - pt.log1p(-value)
    )
    return pt.switch((value > 0) & (value < 1), log_prob, -np.inf)


def _draw_categorical(temperature: Variable, logits: Variable, size: Any) -> Variable:
    shape = logits.shape if _is_none(size) else (*size, logits.shape[-1])
    noise = pm.Gumbel.dist(0.0, 1.0, size=shape)
    return interior(pm.math.softmax((logits + noise) / temperature, axis=-1))


def _log_prob_categorical(value: Variable, temperature: Variable, logits: Variable) -> Variable:
    k = logits.shape[-1].astype(value.dtype)
    log_value = pt.log(value)
    log_prob = (
        pt.gammaln(k)
        + (k - 1) * pt.log(temperature)
        + (logits - (temperature + 1) * log_value).sum(axis=-1)
        - k * pt.logsumexp(logits - temperature * log_value, axis=-1)
    )
    return pt.switch((value > 0).all(axis=-1), log_prob, -np.inf)


def _size(size: Any, *params: Variable) -> Any:
    return pt.broadcast_arrays(*params)[0].shape if _is_none(size) else size


def _is_none(size: Any) -> bool:
    return size is None or (isinstance(size, Variable) and not hasattr(size.type, "dtype"))


_BERNOULLI: dict[str, Any] = {
    "dist": _draw_bernoulli,
    "logp": _log_prob_bernoulli,
    "class_name": "RelaxedBernoulli",
}
_CATEGORICAL: dict[str, Any] = {
    "dist": _draw_categorical,
    "logp": _log_prob_categorical,
    "class_name": "GumbelSoftmax",
    "signature": "(),(k)->(k)",
}
