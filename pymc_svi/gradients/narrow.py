"""What a program computes in single precision, in single precision.

By NumPy's rules ``float32`` with ``int64`` is ``float64``, and so is ``float32`` with a number of NumPy.
Counts, ``x.shape[0]`` and ``np.log(2.0)`` therefore make double precision of all that follows, at
half the speed. With ``floatX="float32"`` neither an integer nor a constant asks for that; what
does is ``x.astype("float64")`` and shared variables.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytensor
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.compile.builders import SymbolicOp
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.traversal import io_toposort
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.math import Prod, Sum
from pytensor.tensor.variable import TensorConstant

from pymc_svi.handlers.widening import Widening

__all__ = ["common_dtype", "narrowed"]

_NARROW, _WIDE = "float32", "float64"
# Integers that make double precision of single precision.
_LONG_INTEGERS = {"int32", "int64", "uint32", "uint64"}


def narrowed(outputs: Sequence[Variable]) -> list[Variable]:
    """Return outputs without double precision that nobody has asked for.

    Parameters
    ----------
    outputs : sequence of Variable
        The outputs. With ``floatX="float64"`` they are returned as they are.

    Returns
    -------
    list of Variable
        The outputs; those that were in double precision may be in single precision.

    Examples
    --------
    >>> import pytensor
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.gradients.narrow import narrowed
    >>> count = pt.lvector("count")
    >>> with pytensor.config.change_flags(floatX="float32"):
    ...     x = pt.vector("x")
    ...     [narrow] = narrowed([count * x])
    >>> (count * x).dtype, narrow.dtype
    ('float64', 'float32')
    """
    outputs = list(outputs)
    if pytensor.config.floatX != _NARROW:
        return outputs
    new: dict[Variable, Variable] = {}
    for node in io_toposort([], outputs):
        inputs = [new[x] if x in new else _narrow_constant(x) for x in node.inputs]
        new.update(zip(node.outputs, _apply(node, inputs), strict=True))
    return [new[x] if x in new else _narrow_constant(x) for x in outputs]


def common_dtype(*variables: Variable) -> str:
    """Return the dtype in which an op of one dtype computes with some variables.

    Parameters
    ----------
    *variables : TensorVariable
        The variables.

    Returns
    -------
    str
        Theirs as PyTensor joins them; with ``floatX="float32"`` no wider one.
    """
    if pytensor.config.floatX == _NARROW:
        return _NARROW
    return ps.upcast(*(x.type.dtype for x in variables), _NARROW)


def _narrow_constant(x: Variable) -> Variable:
    """Return a constant in single precision, unless it is out of range there."""
    if not isinstance(x, TensorConstant) or x.type.dtype != _WIDE:
        return x
    with np.errstate(over="ignore", under="ignore"):
        data = x.data.astype(_NARROW)
    if ((data == 0) != (x.data == 0)).any() or (np.isinf(data) != np.isinf(x.data)).any():
        return x
    return pt.constant(data, name=x.name)


def _apply(node: Apply, inputs: list[Variable]) -> list[Variable]:
    """Return the outputs of a node for inputs some of which are narrow now."""
    if any(_dtype(x) == _WIDE for x in node.outputs) and not any(
        _dtype(x) == _WIDE for x in inputs
    ):
        op, inputs = _for_narrow(node.op, inputs)
    else:
        op = node.op
    if op is node.op and all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
        return node.outputs
    try:
        outputs = _outputs(op, inputs)
    except (TypeError, ValueError, NotImplementedError):
        # The op insists on the types that it was made for, as loops do.
        inputs = [_as_before(x, old) for x, old in zip(inputs, node.inputs, strict=True)]
        outputs = node.op.make_node(*inputs).outputs
    for new, old in zip(outputs, node.outputs, strict=True):
        new.name = old.name
        new.tag = copy.copy(old.tag)
    return outputs


def _outputs(op: Op, inputs: list[Variable]) -> list[Variable]:
    if isinstance(op, SymbolicOp):  # it has a graph for each type, which a call builds
        return op(*inputs, return_list=True)
    if isinstance(op, Blockwise) and isinstance(op.core_op, SymbolicOp):
        core = [_core(x, len(dims)) for x, dims in zip(inputs, op.inputs_sig, strict=True)]
        [output, *_] = op.core_op(*core, return_list=True)
        op = Blockwise(output.owner.op, signature=op.signature)
    return op.make_node(*inputs).outputs


def _core(x: Variable, ndim: int) -> Variable:
    """Return a variable for one of the tensors of which x is a batch."""
    shape = x.type.shape[x.type.ndim - ndim :]
    return pt.tensor(dtype=x.type.dtype, shape=shape)


def _for_narrow(op: Op, inputs: list[Variable]) -> tuple[Op, list[Variable]]:
    """Return an op and inputs for it with which the outputs are narrow, if there are any."""
    if isinstance(op, Elemwise) and isinstance(op.scalar_op, ps.Cast):
        # Of integers a mean makes one; of narrow numbers only who wants wide ones.
        if _dtype(inputs[0]) != _NARROW or isinstance(op.scalar_op, Widening):
            op = Elemwise(ps.basic.convert_to_float32)
    elif isinstance(op, Elemwise):
        inputs = [x.astype(_NARROW) if _dtype(x) in _LONG_INTEGERS else x for x in inputs]
    elif isinstance(op, Sum | Prod) and op.dtype == _WIDE:
        op = type(op)(axis=op.axis, dtype=_NARROW, acc_dtype=op.acc_dtype)
    return op, inputs


def _as_before(x: Variable, old: Variable) -> Variable:
    return x if _dtype(x) == _dtype(old) else x.astype(_dtype(old))


def _dtype(x: Variable) -> str | None:
    return getattr(x.type, "dtype", None)
