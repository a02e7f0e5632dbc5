"""Log-probabilities of sites, from PyMC's own ``logp``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.distributions.continuous import InterpolatedRV, TruncatedNormalRV
from pymc.distributions.truncated import TruncatedRV
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor import NoneConst
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.random.op import RandomVariable
from pytensor.xtensor.type import XTensorType

from pymc_svi.handlers.logit_densities import log_prob_in_logits

if TYPE_CHECKING:
    from pymc_svi.handlers.site import Site

__all__ = [
    "as_plain_tensor",
    "density_given",
    "is_composed",
    "scaled_and_masked",
    "site_log_prob",
    "zero",
]


def zero() -> Variable:
    """Return the log-density of what has none."""
    return pt.constant(0.0, dtype=pytensor.config.floatX)


def as_plain_tensor(variable: Variable) -> Variable:
    """Return an xtensor variable's values as an ordinary tensor; others unchanged."""
    return variable.values if isinstance(variable.type, XTensorType) else variable


def site_log_prob(site: Site) -> Variable:
    """Elementwise log-probability of a site's value, neither scaled nor masked."""
    if site.log_density_at is not None:
        return site.log_density_at(site.value)
    if site.log_density is not None:
        return site.log_density
    if site.type == "factor":
        return as_plain_tensor(site.value)
    if site.type != "sample":
        return zero()
    drawn = site.drawn() if is_composed(site.dist) else ()
    return density_given(site.dist, site.value, drawn)


def log_prob_without_total_size(site: Site) -> tuple[Variable, dict[int, Any]]:
    """Return the log-probability of each value of a site, and what its ``total_size`` makes of it.

    Returns
    -------
    log_prob : Variable
        As :attr:`Site.log_prob_of_values`, with each value counted once.
    weights : dict of int to number or Variable
        For each axis that has a total size, what a value counts for.
    """
    node = getattr(site.dist, "owner", None)
    if node is None or not isinstance(node.op, MinibatchRandomVariable):
        return site.log_prob_of_values, {}
    rv, *sizes = node.inputs
    weights = {}
    for axis, size in enumerate(sizes):
        if not NoneConst.equals(size):
            n_values = site.value.type.shape[axis] or site.value.shape[axis]
            weights[axis] = (size.data if isinstance(size, Constant) else size) / n_values
    return rv_log_prob(rv, site.value), weights


def rv_log_prob(rv: Variable, value: Variable) -> Variable:
    """Elementwise log-probability of ``value`` under the law of ``rv``."""
    # Where a node was made is recorded for error messages, which takes longer than making it;
    # here it would tell of PyMC's code and this, not of the program.
    with pytensor.config.change_flags(traceback__limit=0):
        return _rv_log_prob(rv, value)


def _rv_log_prob(rv: Variable, value: Variable) -> Variable:
    named = isinstance(value.type, XTensorType)
    if value is rv or not (named or isinstance(value.shape, Variable)):
        # A program evaluated on its own draws: the value must not be the node whose law is
        # being derived, or PyMC's search for measurable graphs would walk through it. An
        # argument of a program: its shape is made of numbers, where PyMC's densities expect an
        # expression.
        placeholder = value.type()
        log_prob = _rv_log_prob(rv, placeholder)
        known = {inp: inp for inp in rv.owner.inputs}
        return as_plain_tensor(_rebuilt(log_prob, {**known, placeholder: value}))
    written_in_logits = log_prob_in_logits(rv, value)
    if written_in_logits is not None:
        return written_in_logits
    return as_plain_tensor(pm.logp(_with_plain_bounds(rv), value, warn_rvs=False))


def _with_plain_bounds(rv: Variable) -> Variable:
    """Return a truncated or interpolated variable whose constant bounds and points are constants.

    PyMC leaves out a bound at infinity, which otherwise makes the gradient NaN, and interpolates
    between points, only where they are constants themselves, and not constants that were given
    the dimensions of the data.
    """
    node = rv.owner
    if node is None or not isinstance(node.op, TruncatedNormalRV | TruncatedRV | InterpolatedRV):
        return rv
    folded = [
        pt.constant(np.expand_dims(inp.owner.inputs[0].data, inp.owner.op.augment))
        if inp.owner is not None
        and isinstance(inp.owner.op, DimShuffle)
        and inp.owner.op.is_expand_dims
        and isinstance(inp.owner.inputs[0], Constant)
        else inp
        for inp in node.inputs
    ]
    return node.clone_with_new_inputs(folded).outputs[node.outputs.index(rv)]


def is_composed(rv: Variable) -> bool:
    """Return whether a variable's density has to be derived from a graph of others."""
    return rv.owner is not None and not isinstance(rv.owner.op, RandomVariable)


def density_given(rv: Variable, value: Variable, drawn: Sequence[Variable]) -> Variable:
    """Elementwise log-probability under a law whose parents are draws.

    PyMC derives the density of a composed variable, a random walk, a variable with named dims, by
    searching its graph for random variables. Where the parents of a site are draws themselves,
    the search must not reach into them: it would take a slice of a guide's noise for a random
    variable of its own and evaluate the law of the site at numbers that nothing else has seen.
    So it is derived at placeholders, and the draws are put in their place.
    """
    if not drawn or not is_composed(rv):
        return rv_log_prob(rv, value)
    upstream = set(ancestors([rv])) - {rv}
    placeholders = {draw: draw.type() for draw in drawn if draw in upstream}
    [law] = graph_replace([rv], placeholders, strict=False) if placeholders else [rv]
    at = value.type()
    log_prob = rv_log_prob(law, at)
    draws = {placeholder: draw for draw, placeholder in placeholders.items()}
    return graph_replace([log_prob], {at: value, **draws}, strict=False)[0]


def _rebuilt(output: Variable, known: dict[Variable, Variable]) -> Variable:
    """Return a graph with some variables replaced, without looking at what is upstream of them.

    ``graph_replace`` copies all that is upstream, which in a long chain of sites is much.
    """
    pending = [output]
    while pending:
        variable = pending[-1]
        node = variable.owner
        if variable in known:
            pending.pop()
        elif node is None:
            known[variable] = variable
        elif missing := [inp for inp in node.inputs if inp not in known]:
            pending.extend(missing)
        else:
            inputs = [known[inp] for inp in node.inputs]
            outputs = node.outputs
            if any(new is not old for new, old in zip(inputs, node.inputs, strict=True)):
                outputs = node.clone_with_new_inputs(inputs, strict=False).outputs
            known.update(zip(node.outputs, outputs, strict=True))
    return known[output]


def scaled_and_masked(log_prob: Variable, scale: Any, mask: Any) -> Variable:
    """Apply a site's scale and mask; masked entries are exactly zero, even where ``-inf``."""
    if mask is not None:
        if isinstance(mask, bool | np.bool_):
            log_prob = log_prob if mask else pt.zeros_like(log_prob)
        else:
            log_prob = pt.switch(mask, log_prob, pt.zeros((), dtype=log_prob.dtype))
    if isinstance(scale, int | float) and scale == 1:
        return log_prob
    return log_prob * pt.as_tensor(scale, dtype=log_prob.dtype)
