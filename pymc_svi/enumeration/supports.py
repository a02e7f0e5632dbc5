"""Which values a discrete variable can take, where these are finitely many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pymc.distributions.discrete import DiscreteUniformRV
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.basic import (
    BernoulliRV,
    BetaBinomialRV,
    BinomialRV,
    CategoricalRV,
    HyperGeometricRV,
)
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.random.type import RandomType

from pymc_svi.errors import SiteError, sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.handlers import Site
from pymc_svi.handlers.log_prob import as_plain_tensor

__all__ = ["has_finite_support", "register_support", "support_of"]

Support = Callable[..., np.ndarray]
_SUPPORTS: dict[type, Support] = {}


def register_support(op_type: type[RandomVariable]) -> Callable[[Support], Support]:
    """Register the values that the variables of an op can take.

    Parameters
    ----------
    op_type : type of RandomVariable
        The op.

    Returns
    -------
    callable
        A decorator of ``support(*dist_params) -> array`` of shape (values,), given the
        distribution's parameters as arrays. Values that some elements cannot take do no harm:
        their log-probability is ``-inf``.

    Examples
    --------
    >>> import numpy as np
    >>> from pytensor.tensor.random.basic import GeometricRV
    >>> from pymc_svi.enumeration import register_support
    >>> @register_support(GeometricRV)  # cut off where it hardly matters
    ... def first_fifty(p):
    ...     return np.arange(1, 51)
    >>> import pymc as pm
    >>> from pymc_svi.enumeration.supports import has_finite_support
    >>> has_finite_support(pm.Geometric.dist(0.9))
    True
    >>> from pymc_svi.enumeration.supports import _SUPPORTS
    >>> del _SUPPORTS[GeometricRV]
    """

    def register(support: Support) -> Support:
        _SUPPORTS[op_type] = support
        return support

    return register


@register_support(BernoulliRV)
def _(p):
    return np.arange(2)


@register_support(BinomialRV)
@register_support(BetaBinomialRV)
def _(n, *_):
    return np.arange(np.max(n, initial=0) + 1)


@register_support(DiscreteUniformRV)
def _(lower, upper):
    return np.arange(np.min(lower), np.max(upper) + 1)


@register_support(HyperGeometricRV)
def _(good, bad, draws):
    return np.arange(np.max(np.minimum(good, draws)) + 1)


def has_finite_support(rv: Variable) -> bool:
    """Return whether the values of a random variable can be enumerated.

    Parameters
    ----------
    rv : TensorVariable
        A random variable.

    Returns
    -------
    bool
        Whether they can.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.enumeration import has_finite_support
    >>> has_finite_support(pm.Binomial.dist(5, 0.5)), has_finite_support(pm.Poisson.dist(1.0))
    (True, False)
    """
    node = _node(rv)
    return node is not None and isinstance(node.op, (CategoricalRV, *_SUPPORTS))


def support_of(site: Site) -> np.ndarray:
    """Return the values that a discrete site can take.

    Parameters
    ----------
    site : Site
        A sample site.

    Returns
    -------
    numpy.ndarray
        Shape (values,); the union over the elements of the site.

    Raises
    ------
    SiteError
        If they are not finitely many, or depend on something random.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.enumeration import support_of
    >>> def program():
    ...     pm.Binomial("n", 3, 0.5)
    >>> support_of(handlers.trace(program).get_trace()["n"])
    array([0, 1, 2, 3])
    """
    node = _node(site.dist)
    if node is None or not has_finite_support(site.dist):
        raise SiteError(
            sentence(
                f"Site {site.name!r} cannot be enumerated",
                found=type(node.op).__name__ if node is not None else str(site.dist),
                expected="finitely many values: Bernoulli, Categorical, Binomial, DiscreteUniform, "
                "OrderedLogistic and the like",
                fix="Truncate it, register its values with register_support, or sample it in "
                "the guide",
            )
        )
    params = node.op.dist_params(node)
    if isinstance(node.op, CategoricalRV):
        n_values = params[0].type.shape[-1]
        if n_values is None:
            n_values = evaluate(params[0].shape[-1])
        return np.arange(int(n_values))
    support = next(f for op_type, f in _SUPPORTS.items() if isinstance(node.op, op_type))
    if isinstance(node.op, BernoulliRV):
        return support(params[0])  # its parameter may be learned
    if isinstance(node.op, BinomialRV | BetaBinomialRV):
        values = [_fixed(site, params[0]), *params[1:]]  # the others may be learned
    elif isinstance(node.op, DiscreteUniformRV | HyperGeometricRV):
        values = [_fixed(site, p) for p in params]
    else:
        counts = ("int", "uint")
        values = [_fixed(site, p) if p.type.dtype.startswith(counts) else p for p in params]
    return np.asarray(support(*values)).astype("int64")


def _fixed(site: Site, param: Variable) -> np.ndarray:
    """Return the number that a bound of the support is."""
    if any(isinstance(var.owner and var.owner.op, RandomVariable) for var in ancestors([param])):
        raise SiteError(
            sentence(
                f"Site {site.name!r} cannot be enumerated: its number of values is random",
                fix="Use the largest number there can be as a constant; values that are out of "
                "reach have probability zero",
            )
        )
    if any(_can_change(var) for var in ancestors([param])):
        raise SiteError(
            sentence(
                f"Site {site.name!r} cannot be enumerated: its number of values is not a constant",
                found=f"{param}, which is data or a param and can change",
                fix="Use the largest number there can be as a constant; values that are out of "
                "reach have probability zero",
            )
        )
    return evaluate(param)


def _can_change(variable: Variable) -> bool:
    return isinstance(variable, SharedVariable) and not isinstance(variable.type, RandomType)


def _node(rv: Variable):
    """Return the node that draws a variable, without named dims."""
    plain = as_plain_tensor(rv)
    if plain.owner is None or not isinstance(plain.owner.op, RandomVariable):
        [plain] = without_named_dims([plain])
    node = plain.owner
    return node if node is not None and isinstance(node.op, RandomVariable) else None
