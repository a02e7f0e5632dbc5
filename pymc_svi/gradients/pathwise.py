"""Draws as differentiable functions of parameters and noise, and the registry of their rules.

PyTensor's random variables have no gradient. :func:`rsample` replaces one by an expression of the
same distribution that has: noise that does not depend on the parameters, transformed by the
parameters [1]_ [2]_. What transformation, is a rule, registered for the type of the random
variable's op by :func:`register_rsample`. The package's own rules are registered in the same way.

References
----------
.. [1] Kingma, D. P. and Welling, M. (2014). Auto-Encoding Variational Bayes. ICLR.
.. [2] Rezende, D. J., Mohamed, S. and Wierstra, D. (2014). Stochastic Backpropagation and
   Approximate Inference in Deep Generative Models. ICML.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions.distribution import SymbolicRandomVariable
from pymc.distributions.shape_utils import implicit_size_from_params, rv_size_is_none
from pytensor.graph.basic import Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.utils import rewrite_graph
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RandomVariable, RNGConsumerOp
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.shape import shape_tuple
from pytensor.tensor.variable import TensorVariable

from pymc_svi.errors import sentence
from pymc_svi.handlers.widening import in_type_of_site

__all__ = [
    "NoPathwiseDraw",
    "batch_shape",
    "draw_shape",
    "fresh_rng",
    "has_rsample",
    "noise",
    "register_rsample",
    "rng_of",
    "rsample",
]

Rule = Callable[..., TensorVariable]

_RULES: dict[type[Op], Rule] = {}


class NoPathwiseDraw(TypeError, NotImplementedError):
    """A site's distribution has no differentiable draw."""


# --- the two questions ----------------------------------------------------------------------


def rsample(rv: Variable) -> TensorVariable:
    """Return a draw of a random variable that is differentiable in its parameters.

    Parameters
    ----------
    rv : TensorVariable
        A random variable: the result of a ``.dist(...)`` or of a statement in a PyMC model.

    Returns
    -------
    TensorVariable
        An expression with the type, shape and distribution of ``rv``. Its random nodes are
        noise, drawn from the generator of ``rv`` and, where one noise is not enough, from new
        shared generators.

    Raises
    ------
    NoPathwiseDraw
        If no rule is registered for the distribution.

    Notes
    -----
    Gradients are right to first order: the implicit ones (``Gamma`` and its relatives) cannot be
    differentiated again.

    Examples
    --------
    >>> import pymc as pm
    >>> import pytensor
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.gradients import rsample
    >>> mu = pt.scalar("mu")
    >>> x = rsample(pm.Normal.dist(mu, 2.0, shape=3))
    >>> pytensor.grad(x.sum(), mu).eval({mu: 0.5}).item()
    3.0
    """
    node = rv.owner
    rule = node and _rule_for(node.op)
    if rule is None and not (node and _is_random(node.op)):
        raise NoPathwiseDraw(
            sentence(
                f"rsample: {rv} is not a random variable",
                found="an input" if node is None else f"the result of {node.op}",
                fix="Pass the random variables it is computed from, one by one",
            )
        )
    if rule is None or rv.type.dtype.startswith(("int", "uint", "bool")):
        raise no_pathwise_draw(rv)
    draw = rule(node.op, rv, *_params(node))
    draw = in_type_of_site(draw, rv.type.dtype)
    return draw if rv.type.is_super(draw.type) else rv.type.filter_variable(draw)


def has_rsample(rv: Variable) -> bool:
    """Return whether a random variable has a differentiable draw.

    Parameters
    ----------
    rv : TensorVariable
        A random variable.

    Returns
    -------
    bool
        Whether it has.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.gradients import has_rsample
    >>> has_rsample(pm.Gamma.dist(2.0, 1.0)), has_rsample(pm.Poisson.dist(2.0))
    (True, False)
    """
    try:
        rsample(rv)
    except NoPathwiseDraw:
        return False
    return True


def register_rsample(*op_types: type[Op]) -> Callable[[Rule], Rule]:
    """Register how to draw from a distribution differentiably.

    The rule ``rule(op, rv, *params) -> TensorVariable`` gets the op, the random variable (whose
    name, dtype and generator it may want) and the parameters in the op's order and convention,
    which is not always that of the PyMC class: ``pm.Gamma`` hands ``1 / beta`` to its op. It
    returns an expression of the same shape, usually of :func:`noise`, and may call
    :func:`rsample` on other distributions. The result is cast to the dtype of ``rv``.

    The rule of a base class serves its subclasses that have none.

    Parameters
    ----------
    *op_types : type
        Classes of random variable ops: ``type(MyDist.dist(...).owner.op)``.

    Returns
    -------
    callable
        A decorator that returns the rule unchanged.

    Raises
    ------
    TypeError
        If an argument is not a class of ops.

    Examples
    --------
    A user's own distribution, the absolute value of a Laplace variable:

    >>> import pymc as pm
    >>> import pytensor
    >>> import pytensor.tensor as pt
    >>> from pytensor.tensor.random.op import RandomVariable
    >>> from pymc_svi.gradients import noise, register_rsample, rsample
    >>> class HalfLaplaceRV(RandomVariable):
    ...     name = "half_laplace"
    ...     signature = "()->()"
    ...     dtype = "floatX"
    ...
    ...     @classmethod
    ...     def rng_fn(cls, rng, scale, size):
    ...         return abs(rng.laplace(0.0, scale, size))
    >>> @register_rsample(HalfLaplaceRV)
    ... def half_laplace(op, rv, scale):
    ...     return scale * noise(rv, pt.random.exponential)
    >>> scale = pt.scalar("scale")
    >>> _, rv = HalfLaplaceRV()(scale, rng=pt.random.shared_rng(seed=1), return_next_rng=True)
    >>> draw = rsample(rv)
    >>> bool(pytensor.grad(draw, scale).eval({scale: 2.0}) > 0)
    True
    """
    for op_type in op_types:
        if not (isinstance(op_type, type) and issubclass(op_type, Op)):
            raise TypeError(
                sentence(
                    "register_rsample: not a class of ops",
                    found=f"{op_type!r}",
                    fix="Pass the type of a random variable's op, type(MyDist.dist(...).owner.op)",
                )
            )

    def register(rule: Rule) -> Rule:
        for op_type in op_types:
            _RULES[op_type] = rule
        return rule

    return register


def no_pathwise_draw(rv: Variable, inside: str = "") -> NoPathwiseDraw:
    """Build the error for a random variable that cannot be drawn differentiably."""
    discrete = rv.type.dtype.startswith(("int", "uint", "bool"))
    what = f"No differentiable draw is known for {_dist_name(rv.owner.op)}"
    return NoPathwiseDraw(
        sentence(
            f"Site {rv.name!r}: {what[0].lower()}{what[1:]}" if rv.name else what,
            found=("a discrete distribution" if discrete else "a continuous distribution")
            + (f"; inside it, {inside}" if inside else ""),
            fix="Teach it with pymc_svi.gradients.register_rsample, use another distribution, or "
            "let an unconstrained one (Normal, MvNormal) go through a transformation",
        )
    )


def _rule_for(op: Op) -> Rule | None:
    return next((_RULES[cls] for cls in type(op).__mro__ if cls in _RULES), None)


def _is_random(op: Op) -> bool:
    # DiracDelta has no generator, yet is a distribution.
    return isinstance(op, RNGConsumerOp | SymbolicRandomVariable)


def _params(node) -> Sequence[Variable]:
    if isinstance(node.op, RandomVariable):
        return node.op.dist_params(node)
    if getattr(node.op, "extended_signature", None) and isinstance(node.op, SymbolicRandomVariable):
        return node.op.dist_params(node)
    return node.inputs


def _dist_name(op: Op) -> str:
    name, *_ = getattr(op, "_print_name", ("",))
    return name or getattr(op, "name", None) or type(op).__name__


# --- what rules are made of -----------------------------------------------------------------


def noise(
    rv: Variable,
    distribution: Callable,
    *params: Any,
    shape: Sequence[int | Variable] | None = None,
    rng: Variable | None = None,
) -> TensorVariable:
    """Return a random variable to make a draw of another one from.

    Parameters
    ----------
    rv : TensorVariable
        The random variable that is to be drawn; it lends its shape, dtype and generator.
    distribution : callable
        One of ``pytensor.tensor.random``, such as ``pt.random.normal``.
    *params : float or TensorVariable
        Its parameters, if not the standard ones. Noise whose parameters depend on nothing can be
        drawn in bulk.
    shape : sequence of int or TensorVariable, optional
        If not the shape of ``rv``.
    rng : RandomGeneratorVariable, optional
        If not the generator of ``rv``. A second noise needs :func:`fresh_rng`: two users of one
        generator would see the same numbers.

    Returns
    -------
    TensorVariable
        The random variable.

    Examples
    --------
    >>> import pymc as pm
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.gradients import noise
    >>> noise(pm.Gumbel.dist([0.0, 1.0], 1.0), pt.random.exponential).type.shape
    (2,)
    """
    _, draw = distribution(
        *params,
        size=draw_shape(rv) if shape is None else shape,
        rng=rng_of(rv) if rng is None else rng,
        dtype=rv.type.dtype,
        return_next_rng=True,
    )
    return draw


def rng_of(rv: Variable) -> Variable:
    """Return the generator that a random variable draws from, or a new one if it shares its own."""
    for inp in rv.owner.inputs:
        if isinstance(inp.type, RandomType):
            # A generator that another node has advanced belongs to that node's chain.
            return inp if inp.owner is None else fresh_rng()
    return fresh_rng()


def fresh_rng() -> Variable:
    """Return a new shared generator.

    Returns
    -------
    RandomGeneratorSharedVariable
        A generator that nothing else draws from.

    Examples
    --------
    >>> from pymc_svi.gradients import fresh_rng
    >>> fresh_rng() is fresh_rng()
    False
    """
    return pytensor.shared(np.random.default_rng())


def draw_shape(rv: Variable) -> tuple[int | Variable, ...]:
    """Return the shape of a random variable without drawing it.

    Parameters
    ----------
    rv : TensorVariable
        A random variable.

    Returns
    -------
    tuple of int or scalar TensorVariable
        Numbers where the type knows them, otherwise expressions of size and parameters.

    Examples
    --------
    >>> import pymc as pm
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.gradients import draw_shape
    >>> mu = pt.vector("mu")
    >>> rows, columns = draw_shape(pm.Normal.dist(mu, 1.0, size=(2, mu.shape[0])))
    >>> rows, columns.eval({mu: [0.0, 1.0, 2.0]}).item()
    (2, 3)
    """
    static = rv.type.shape
    if None not in static:
        return static
    node = rv.owner
    if isinstance(node.op, RandomVariable):
        shapes = [None, None, *(shape_tuple(param) for param in node.op.dist_params(node))]
        symbolic = node.op.infer_shape(node, shapes)[node.outputs.index(rv)]
    elif node.op.ndim_supp == 0:
        symbolic = batch_shape(rv)
    else:
        raise NotImplementedError(f"The op {node.op} does not tell the shape of its draws")
    return tuple(
        known if known is not None else length
        for known, length in zip(static, _without_draws(symbolic), strict=True)
    )


def batch_shape(rv: Variable) -> tuple[int | Variable, ...]:
    """Return the shape of a symbolic random variable without its support dimensions."""
    op, node = rv.owner.op, rv.owner
    static = rv.type.shape[: rv.type.ndim - op.ndim_supp]
    if None not in static:
        return static
    size = op.size_param(node)
    if rv_size_is_none(size):
        size = implicit_size_from_params(*op.dist_params(node), ndims_params=op.ndims_params)
    symbolic = _without_draws([size[i] for i in range(len(static))])
    return tuple(
        known if known is not None else length
        for known, length in zip(static, symbolic, strict=True)
    )


def _without_draws(lengths: Sequence[Variable]) -> Sequence[Variable]:
    """Return lengths as expressions of other shapes, where they were those of draws.

    A graph whose sizes hang on draws cannot be vectorized over draws.
    """
    lengths = [pt.as_tensor(length) for length in lengths]
    if not _has_draws(lengths):
        return lengths
    # A clone: the graph that the lengths belong to is not ours to rewrite.
    simple = rewrite_graph(lengths, include=("ShapeOpt", "canonicalize"), clone=True)
    return lengths if _has_draws(simple) else simple


def _has_draws(variables: Sequence[Variable]) -> bool:
    return any(v.owner and isinstance(v.owner.op, RNGConsumerOp) for v in ancestors(variables))
