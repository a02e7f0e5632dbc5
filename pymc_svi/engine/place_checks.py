"""Checks that the places exist which an operation reads or writes.

PyTensor's numba functions for advanced indexing do not look: a label that is too large reads, and its
gradient writes, whatever lies there in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.rewriting.fused_elemwise import FusedElemwise
from pytensor.tensor.subtensor import (
    AdvancedIncSubtensor,
    AdvancedSubtensor,
    indices_from_subtensor,
)

from pymc_svi.engine.rows import check_places

if TYPE_CHECKING:
    from pymc_svi.engine.linker import Source

__all__ = ["place_checks"]


def place_checks(source: Source, node: Apply) -> Iterator[str]:
    """Yield the lines that check the places in arrays that an operation is given.

    Places that a loop finds as they are, such as the labels of all rows, are checked before it.

    Parameters
    ----------
    source : Source
        The function that they are written into.
    node : Apply
        The operation.

    Yields
    ------
    str
        The lines.
    """
    for index, array, axis in _looked_up(node):
        n = array.type.shape[axis]
        length = f"{source.name(array)}.shape[{axis}]" if n is None else str(n)
        if (index, length) in source.checked or _all_exist(source, index, n):
            continue
        source.checked.add((index, length))
        line = f"{source.refer(check_places, 'check_places 1')}({source.name(index)}, {length})"
        if index in source.as_before and (n is not None or array in source.as_before):
            source.before_loop.append(line)
        else:
            yield line


def _looked_up(node: Apply) -> Iterator[tuple[Variable, Variable, int]]:
    """Yield each array of whole numbers that says where in another, and along which axis of it."""
    op = node.op
    if isinstance(op, FusedElemwise):
        yield from _looked_up_in_fused(node)
    elif isinstance(op, AdvancedSubtensor | AdvancedIncSubtensor):
        array, *rest = node.inputs
        indices = rest if isinstance(op, AdvancedSubtensor) else rest[1:]
        places = indices_from_subtensor(indices, op.idx_list)
        # A mask of several axes shifts those after it; PyTensor leaves masks to numpy.
        if any(isinstance(p, Variable) and p.type.dtype == "bool" for p in places):
            return
        for axis, place in enumerate(places):
            if isinstance(place, Variable):
                yield place, array, axis


def _looked_up_in_fused(node: Apply) -> Iterator[tuple[Variable, Variable, int]]:
    """Yield what elements of a loop read and write, whose inputs are arrays, indices, targets."""
    reads, writes = node.op.indexed_inputs, node.op.indexed_outputs
    written = sorted({output for entry in writes if entry is not None for output in entry[0]})
    n_targets = len(written)
    first_target = len(node.inputs) - n_targets
    target_of = dict(zip(written, node.inputs[first_target:], strict=True))
    indices = node.inputs[first_target - len(reads) : first_target]
    for index, read, write in zip(indices, reads, writes, strict=True):
        if read is not None:
            for position in read[0]:
                yield index, node.inputs[position], read[1]
        if write is not None:
            for output in write[0]:
                yield index, target_of[output], write[1]


def _all_exist(source: Source, index: Variable, n: int | None) -> bool:
    """Whether places are known to be in an axis of a known length."""
    known = source.known(index)
    if known is None or n is None:
        return False
    return bool(((known >= -n) & (known < n)).all())
