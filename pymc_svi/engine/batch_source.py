"""Operations that are repeated for each item of a batch, as loops of the function around them.

Several particles are a batch. As a function that finds out at run time how its arguments are
broadcast, such an operation takes numba seconds to compile; a training step knows the shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Constant, Variable

if TYPE_CHECKING:
    from pymc_svi.engine.linker import Source

__all__ = ["batch_lines"]


def batch_lines(source: Source, node: Apply) -> Iterator[str] | None:
    """Return the lines of a ``Blockwise`` operation, or None if it is to be a function.

    Parameters
    ----------
    source : Source
        The function that they are written into.
    node : Apply
        The operation, with the shapes of what it gives for an item.

    Returns
    -------
    iterator of str or None
        The lines.
    """
    [blockwise] = node.op.fgraph.apply_nodes
    inputs = node.inputs[: len(blockwise.inputs)]  # the shapes come after them
    if any(None in variable.type.shape for variable in (*inputs, *node.outputs)):
        return None
    n_batch = blockwise.op.batch_ndim(blockwise)
    items = [_item(source, variable, n_batch) for variable in inputs]
    core = blockwise.op.core_op.make_node(*items)
    if any(
        result.type.ndim != out.type.ndim - n_batch
        for result, out in zip(core.outputs, node.outputs, strict=True)
    ):
        return None
    return _loop(source, inputs, core, node.outputs, n_batch)


def _item(source: Source, variable: Variable, n_batch: int) -> Variable:
    """Return a variable for an item, or the item itself if it is known and the same for all."""
    lengths, shape = variable.type.shape[:n_batch], variable.type.shape[n_batch:]
    known = source.known(variable)
    if known is not None and all(length == 1 for length in lengths):
        return pt.constant(known.reshape(shape))
    return variable.type.clone(shape=shape)()


def _loop(
    source: Source,
    inputs: Sequence[Variable],
    core: Apply,
    outputs: Sequence[Variable],
    n_batch: int,
) -> Iterator[str]:
    batch = outputs[0].type.shape[:n_batch]
    numbers = [source.local() for _ in batch]
    indent = "    " * n_batch
    arrays = [source.name(variable) for variable in inputs]
    results = []
    for out in outputs:
        results.append(source.new(out))
        yield f"{results[-1]} = np.empty({out.type.shape}, dtype=np.{out.type.dtype})"
    for depth, (number, length) in enumerate(zip(numbers, batch, strict=True)):
        yield f"{'    ' * depth}for {number} in range({length}):"

    for array, variable, item in zip(arrays, inputs, core.inputs, strict=True):
        if isinstance(item, Constant):
            continue
        lengths = variable.type.shape[:n_batch]
        at = ["0" if n == 1 else number for n, number in zip(lengths, numbers, strict=True)]
        value = f"{array}[{', '.join(at)}]"
        if not item.type.ndim:  # numba gives a number where there is an array without axes
            value = f"np.asarray({value})"
        yield f"{indent}{source.new(item)} = {value}"
    for line in source.graph([core]):
        yield indent + line
    for result, item in zip(results, core.outputs, strict=True):
        yield from _copied(source, result, numbers, item, indent)


def _copied(
    source: Source, result: str, numbers: Sequence[str], item: Variable, indent: str
) -> Iterator[str]:
    """Yield the lines that write what was computed for an item to its place.

    One number after the other: assigning arrays takes longer to compile.
    """
    name = source.name(item)
    own = [source.local() for _ in range(item.type.ndim)]
    for depth, i in enumerate(own):
        yield f"{indent}{'    ' * depth}for {i} in range({result}.shape[{len(numbers) + depth}]):"
    inner = indent + "    " * len(own)
    yield f"{inner}{result}[{', '.join([*numbers, *own])}] = {name}[{', '.join(own) or '()'}]"
