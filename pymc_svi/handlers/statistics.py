"""Statistics that a network updates itself, such as the running mean of a batch normalization.

They are params that are not learned. What one becomes after a step is an expression of the data
and of its present value, known only once the network is applied to that value: it is left on the
value's tag, where the fit finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytensor.graph.basic import Apply, Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import toposort
from pytensor.scan.op import Scan
from pytensor_ml.base import StatefulOp, update_chain_root
from pytensor_ml.layers import DropoutLayer
from pytensor_ml.pytensorf import rewrite_for_prediction

__all__ = ["as_predicted", "next_of", "of_this_run", "set_next"]

_TAG = "pymc_svi_next"


def set_next(value: Variable, new: Variable) -> None:
    """Say what a statistic becomes after the step; the last application of a network decides."""
    setattr(value.tag, _TAG, new)


def next_of(value: Variable) -> Variable | None:
    """Return what a statistic becomes after the step; None for other values."""
    return getattr(getattr(value, "tag", None), _TAG, None)


def of_this_run(
    outputs: Sequence[Variable], inputs: Sequence[Variable], written: Mapping[Variable, Variable]
) -> list[Variable]:
    """Cut an application of a network off from those of earlier runs of the program.

    A layer reads what its last application wrote, so that several in one program add up. It does
    not know where one run of the program ends and the next, of other data, begins.

    Parameters
    ----------
    outputs, inputs
        Of the application; nothing but it depends on the inputs.
    written
        What earlier applications in this run made of the statistics.
    """
    here, cuts = set(inputs), {}
    for node in toposort(outputs):
        if here.isdisjoint(node.inputs):
            continue
        here.update(node.outputs)
        if isinstance(node.op, StatefulOp):
            for position in node.op.update_map().values():
                before = node.inputs[position]
                chain = update_chain_root(before)
                if before not in here and chain is not None:
                    cuts[before] = written.get(chain[0], chain[0])
    return graph_replace(list(outputs), cuts, strict=False) if cuts else list(outputs)


def as_predicted(node: Apply, inputs: Sequence[Variable]) -> list[Variable] | None:
    """Return what a layer computes when a network predicts: on its statistics, without dropout.

    Parameters
    ----------
    node : Apply
        A node of a graph.
    inputs : sequence of Variable
        What stands in the place of its inputs.

    Returns
    -------
    list of Variable or None
        Its outputs; None for what is the same in training and in prediction.
    """
    if not isinstance(node.op, StatefulOp | DropoutLayer | Scan):
        return None
    # Placeholders, since the rewriting copies all that is upstream.
    here = [inp.type() for inp in inputs]
    outputs = rewrite_for_prediction(node.clone_with_new_inputs(here, strict=False).outputs)
    return graph_replace(outputs, dict(zip(here, inputs, strict=True)), strict=False)
