"""Rules for distributions that are graphs of other distributions."""

from __future__ import annotations

from collections.abc import Sequence

from pymc.distributions.distribution import SymbolicRandomVariable
from pymc.distributions.timeseries import (
    GARCH11RV,
    AutoRegressiveRV,
    EulerMaruyamaRV,
    RandomWalkRV,
)
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors, toposort
from pytensor.scan.op import Scan
from pytensor.scan.utils import ScanArgs
from pytensor.tensor.random.op import RNGConsumerOp
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.variable import TensorVariable

from pymc_svi.gradients.particles import random_variables
from pymc_svi.gradients.pathwise import (
    NoPathwiseDraw,
    fresh_rng,
    no_pathwise_draw,
    register_rsample,
    rsample,
)
from pymc_svi.handlers.distributions import resized

__all__ = ["rsample_graph"]


@register_rsample(SymbolicRandomVariable)
def _symbolic(op, rv, *params):
    """Inline the graph of a distribution, with differentiable draws for those it is made of.

    This serves ``pm.CustomDist(dist=...)``, ``ZeroSumNormal``, ``ExGaussian`` and others.
    """
    try:
        return rsample_graph(op, rv, rv.owner.inputs)
    except NoPathwiseDraw as error:
        raise no_pathwise_draw(rv, inside=str(error).split(". Found")[0]) from error


@register_rsample(RandomWalkRV)
def _random_walk(op, rv, *_):
    init, innovation, steps = rv.owner.inputs
    return rsample_graph(op, rv, [rsample(init), rsample(innovation), steps])


def rsample_graph(op: Op, rv: Variable, inputs: Sequence[Variable]) -> TensorVariable:
    """Return the graph inside a symbolic random variable with its own draws differentiable.

    Parameters
    ----------
    op : SymbolicRandomVariable
        The op, whose graph is inlined.
    rv : TensorVariable
        Its output.
    inputs : sequence of Variable
        What to put in place of the op's inputs. Draws among them stay what they are.
    """
    outputs = op.fgraph.bind(list(inputs))
    [result] = _with_rsample([outputs[rv.owner.outputs.index(rv)]], inputs)
    return result


def _with_rsample(outputs: Sequence[Variable], inputs: Sequence[Variable]) -> list[Variable]:
    """Return outputs with each draw between inputs and them replaced by a differentiable one."""
    memo: dict[Variable, Variable] = {}
    for node in toposort(outputs, blockers=list(inputs)):
        new_inputs = [memo.get(inp, inp) for inp in node.inputs]
        new = node
        if any(a is not b for a, b in zip(new_inputs, node.inputs, strict=True)):
            new = node.clone_with_new_inputs(new_inputs, strict=False)
        if isinstance(node.op, RNGConsumerOp):
            # The draw does not hand its generator on, so the next node gets its own.
            results = [
                fresh_rng() if isinstance(out.type, RandomType) else rsample(out)
                for out in new.outputs
            ]
        elif isinstance(node.op, Scan) and any(_is_rng(out) for out in node.outputs):
            results = _with_noise_outside(new)
        else:
            results = new.outputs
        memo.update(zip(node.outputs, results, strict=True))
    return [memo.get(out, out) for out in outputs]


def _with_noise_outside(node: Apply) -> list[Variable]:
    """Return the outputs of a loop that makes draws, as a deterministic loop over noise.

    All noise is drawn at once, before the loop.
    """
    args = ScanArgs.from_node(node, clone=True)
    outputs = _with_rsample(args.inner_outputs, args.inner_inputs)
    values = [out for out in outputs if not isinstance(out.type, RandomType)]
    outside = dict(zip(args.inner_in_non_seqs, args.outer_in_non_seqs, strict=True))
    inside = set(args.inner_inputs) - set(outside)
    replace = {}
    for draw in random_variables(values):
        rng, *inputs = draw.owner.inputs
        if inside.intersection(ancestors(inputs)):
            raise NoPathwiseDraw(
                f"{draw.owner.op.name} noise depends on what a loop computes, and cannot be drawn "
                "before the loop"
            )
        inputs = graph_replace(inputs, outside, strict=False)
        noise = draw.owner.op.make_node(fresh_rng(), *inputs).outputs[1]
        noise = resized(noise, (args.n_steps,), expand=True)
        replace[draw] = draw.type()
        args.inner_in_seqs.append(replace[draw])
        args.outer_in_seqs.append(noise)
    values = graph_replace(values, replace, strict=False)
    for field in ("inner_in", "outer_in"):
        rest = [v for v in getattr(args, f"{field}_shared") if not isinstance(v.type, RandomType)]
        setattr(args, f"{field}_shared", rest)
    op = node.op
    loop = Scan(
        args.inner_inputs,
        values,
        args.info,
        mode=op.mode,
        truncate_gradient=op.truncate_gradient,
        name=op.name,
        allow_gc=op.allow_gc,
    )
    new_outputs = iter(loop.make_node(*args.outer_inputs).outputs)
    return [fresh_rng() if _is_rng(out) else next(new_outputs) for out in node.outputs]


def _is_rng(variable: Variable) -> bool:
    return isinstance(variable.type, RandomType)


@register_rsample(AutoRegressiveRV)
def _auto_regressive(op, rv, *_):
    rhos, sigma, init_dist, steps, rng = rv.owner.inputs
    return rsample_graph(op, rv, [rhos, sigma, rsample(init_dist), steps, rng])


@register_rsample(GARCH11RV)
def _garch(op, rv, *_):
    omega, alpha, beta, initial_vol, init_dist, steps, rng = rv.owner.inputs
    inputs = [omega, alpha, beta, initial_vol, rsample(init_dist), steps, rng]
    return rsample_graph(op, rv, inputs)


@register_rsample(EulerMaruyamaRV)
def _euler_maruyama(op, rv, *_):
    init_dist, *rest = rv.owner.inputs
    return rsample_graph(op, rv, [rsample(init_dist), *rest])
