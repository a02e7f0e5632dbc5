"""Operations in place of others that numba takes seconds to compile.

They compute the same. What PyTensor compiles instead handles cases (any order of strides, any
diagonal, any number of parts) of which a training step has one.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.mode import Mode, optdb
from pytensor.compile.rewriting import inline_ofg_node
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.numba.linker import NumbaLinker
from pytensor.scalar import AND, OR, Add, Maximum, Minimum, Mul, identity
from pytensor.tensor.basic import ExtractDiag, Split
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise

__all__ = ["with_simpler_ops"]

# The reductions that PyTensor can fuse.
_FUSED = (Add, Mul, Maximum, Minimum, AND, OR)
# From how many elements on it matters whether loops are vector instructions.
_MANY = 64
# Of how many parts an array may be for slices to compile faster than a split.
_FEW = 4


@node_rewriter([CAReduce])
def _reduce_an_identity(fgraph: FunctionGraph, node: Apply):
    """Make a reduction over some axes part of an elementwise loop, of an identity.

    PyTensor fuses reductions into elementwise loops; what has no such loop it computes by sorting
    the axes by their strides.
    """
    [x] = node.inputs
    fused = x.owner is not None and isinstance(x.owner.op, Elemwise)
    if fused or x.type.ndim < 2 or not isinstance(node.op.scalar_op, _FUSED):
        return None
    return [node.op(Elemwise(identity)(x))]


@node_rewriter([ExtractDiag])
def _slice_a_diagonal(fgraph: FunctionGraph, node: Apply):
    """Take the main diagonal of square matrices as a slice."""
    [x] = node.inputs
    *batch, n, m = x.type.shape
    last_two = {node.op.axis1, node.op.axis2} == {x.type.ndim - 2, x.type.ndim - 1}
    if node.op.offset or not last_two or None in batch or n is None or n != m:
        return None
    return [x.reshape((*batch, n * n))[..., :: n + 1]]


@node_rewriter([Split])
def _slice_parts(fgraph: FunctionGraph, node: Apply):
    """Take the few parts of an array as slices."""
    x, sizes = node.inputs
    axis = node.op.axis
    if not isinstance(sizes, Constant) or node.op.len_splits > _FEW:
        return None
    lengths = np.asarray(sizes.data)
    if x.type.shape[axis] != lengths.sum():
        return None  # left to say so itself
    ends = [0, *np.cumsum(lengths).tolist()]
    before = (slice(None),) * axis
    return [x[(*before, slice(start, end))] for start, end in itertools.pairwise(ends)]


@node_rewriter([Elemwise])
def _drop_an_axis_of_one(fgraph: FunctionGraph, node: Apply):
    """Compute a column as a vector.

    PyTensor makes columns of vectors that are multiplied by a matrix, and of what they are computed from.
    A loop over rows of one element makes no vector instructions.
    """
    shape = node.outputs[0].type.shape
    if len(shape) < 2 or shape[-1] != 1 or (None not in shape and math.prod(shape) < _MANY):
        return None
    columns = node.op(*[_without_last_axis(x) for x in node.inputs], return_list=True)
    return [pt.expand_dims(column, -1) for column in columns]


def _without_last_axis(x: Variable) -> Variable:
    order = list(range(x.type.ndim - 1))
    if x.owner is not None and isinstance(x.owner.op, DimShuffle):
        *before, last = x.owner.op.new_order
        if last == "x":
            [x], order = x.owner.inputs, before
    return x if order == list(range(x.type.ndim)) else x.dimshuffle(order)


@node_rewriter([DimShuffle])
def _undo_an_axis_of_one(fgraph: FunctionGraph, node: Apply):
    """Leave out an axis of one element that is put there and taken away again.

    Operations on both sides of it would not be fused.
    """
    [x] = node.inputs
    if x.owner is None or not isinstance(x.owner.op, DimShuffle):
        return None
    before = x.owner.op.new_order
    order = [axis if axis == "x" else before[axis] for axis in node.op.new_order]
    [source] = x.owner.inputs
    return [source] if order == list(range(source.type.ndim)) else None


@node_rewriter([OpFromGraph])
def _inline_gradients(fgraph: FunctionGraph, node: Apply):
    """Write out the gradient of an operation that is a graph itself, such as ``logsumexp``.

    PyTensor writes out the operation, but compiles its gradient as a function, which computes
    everything again.
    """
    return inline_ofg_node(node) if type(node.op) is OpFromGraph else None


@node_rewriter([Blockwise])
def _vectorize_graphs(fgraph: FunctionGraph, node: Apply):
    """Compute an operation that is a graph, such as ``logsumexp``, for a whole batch at a time.

    PyTensor compiles it as a function, which is called for each item of the batch.
    """
    core = node.op.core_op
    if not isinstance(core, OpFromGraph):
        return None
    inner = core.fgraph.unfreeze()  # what is in it and follows from nothing stays as it is
    outputs = vectorize_graph(inner.outputs, dict(zip(inner.inputs, node.inputs, strict=True)))
    # What follows from inputs alone that the items share would have no batch.
    same = all(
        new.type.broadcastable == old.type.broadcastable
        for new, old in zip(outputs, node.outputs, strict=True)
    )
    return outputs if same else None


# Before anything else is rewritten (0), so that they share what they have in common.
for _name, _rewrite in (("batches", _vectorize_graphs), ("gradients", _inline_gradients)):
    optdb.register(f"pymc_svi_{_name}", dfs_rewriter(_rewrite), "pymc_svi_simpler", position=-0.02)
# Before elementwise operations are fused (49).
for _name, _rewrite in (
    ("diagonals", _slice_a_diagonal),
    ("parts", _slice_parts),
    ("columns", _drop_an_axis_of_one),
):
    optdb.register(f"pymc_svi_{_name}", dfs_rewriter(_rewrite), "pymc_svi_simpler", position=48.4)
# After the columns.
optdb.register(
    "pymc_svi_axes", dfs_rewriter(_undo_an_axis_of_one), "pymc_svi_simpler", position=48.5
)
# Just before PyTensor fuses reductions into elementwise loops (100).
optdb.register(
    "pymc_svi_reductions", dfs_rewriter(_reduce_an_identity), "pymc_svi_simpler", position=99.9
)


def with_simpler_ops(mode: Mode) -> Mode:
    """Return the mode with operations that compile fast, if it compiles with numba.

    Parameters
    ----------
    mode : Mode

    Returns
    -------
    Mode
    """
    return mode.including("pymc_svi_simpler") if isinstance(mode.linker, NumbaLinker) else mode
