"""Operations that are written as lines of the function around them.

As functions of their own, which handle any strides, shapes and indices, each of these takes numba a
tenth of a second to compile, or a whole one. A training step knows the shapes, and often the
indices: then a line or a short loop does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.basic import Alloc, AllocDiag
from pytensor.tensor.blas import BatchedDot
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.extra_ops import CumOp
from pytensor.tensor.linalg.decomposition.cholesky import Cholesky
from pytensor.tensor.linalg.solvers.triangular import SolveTriangular
from pytensor.tensor.math import Dot
from pytensor.tensor.shape import Reshape
from pytensor.tensor.subtensor import (
    AdvancedIncSubtensor,
    AdvancedSubtensor,
    indices_from_subtensor,
)

from pymc_svi.engine.products import batched_product, column_product, product
from pymc_svi.engine.rows import row_taker

if TYPE_CHECKING:
    from pymc_svi.engine.linker import Source

__all__ = ["op_lines"]

# Up to how many rows linear algebra is done by plain loops; LAPACK is faster for more.
_FEW_ROWS = 32
# Up to how many numbers it doesn't matter whether the loops over them are vector instructions.
_FEW_NUMBERS = 256
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
# More indices would make the compiled function, which they are part of, long.
_MANY_PLACES = 10_000


def op_lines(source: Source, node: Apply) -> Iterable[str] | None:
    """Return the lines of an operation, or None if it is to be a function.

    Parameters
    ----------
    source : Source
        The function that they are written into.
    node : Apply
        The operation.
    """
    writer = _WRITERS.get(type(node.op))
    return None if writer is None else writer(source, node)


def _dimshuffle(source: Source, node: Apply) -> Iterable[str] | None:
    """Drop, permute and add axes by indexing."""
    [x], [out] = node.inputs, node.outputs
    op = node.op
    if not x.type.ndim or not out.type.ndim or not _is_small(x):
        return None  # PyTensor's keeps lengths of 1 known, which loops over long axes need
    kept = [axis for axis in op.new_order if axis != "x"]
    if not kept:  # indexing would give a number on the way
        name = source.name(x)
        return [f"{source.new(out)} = np.ascontiguousarray({name}).reshape({out.type.shape})"]
    if kept == sorted(kept):
        transposed = ""
    elif len(kept) == 2:
        transposed = ".T"
    else:
        return None
    dropped = ["0" if axis in op.drop else ":" for axis in range(x.type.ndim)]
    added = ["None" if axis == "x" else ":" for axis in op.new_order]
    value = source.name(x)
    if op.drop:
        value += f"[{', '.join(dropped)}]"
    value += transposed
    if "None" in added:
        value += f"[{', '.join(added)}]"
    return [f"{source.new(out)} = {value}"]


def _is_small(x: Variable) -> bool:
    return None not in x.type.shape and np.prod(x.type.shape) <= _FEW_NUMBERS


def _reshape(source: Source, node: Apply) -> Iterable[str] | None:
    """Give an array another shape, which is known."""
    x, [out] = node.inputs[0], node.outputs
    if not x.type.ndim or not out.type.ndim or None in (*x.type.shape, *out.type.shape):
        return None
    name = source.name(x)
    return [f"{source.new(out)} = np.ascontiguousarray({name}).reshape({out.type.shape})"]


def _gather(source: Source, node: Apply) -> Iterable[str] | None:
    """Take elements at known places, or whole rows."""
    x, *index = node.inputs
    places = _places(source, x, index, node.op.idx_list)
    if places is None:
        return _gather_rows(source, node)
    array = source.name(x)
    names = [source.constant(along.ravel()) for along in places]
    taken, i = source.local(), source.local()
    n, shape = places[0].size, node.outputs[0].type.shape
    return [
        f"{taken} = np.empty({n}, dtype=np.{x.type.dtype})",
        f"for {i} in range({n}):",
        f"    {taken}[{i}] = {array}[{_at(names, i)}]",
        f"{source.new(node.outputs[0])} = {taken}.reshape({shape})",
    ]


def _gather_rows(source: Source, node: Apply) -> Iterable[str] | None:
    """Take rows by their numbers."""
    x, *index = node.inputs
    first, *rest = indices_from_subtensor(index, node.op.idx_list)
    if len(index) != 1 or any(place != slice(None) for place in rest):
        return None
    if isinstance(first, slice) or first.type.ndim != 1 or first.type.dtype not in _INTEGERS:
        return None
    columns = x.type.shape[1:]
    width = None if None in columns else math.prod(columns)
    function = source.refer(row_taker(width), f"row_taker 2 {width}")
    rows = f"{source.name(x)}, {source.name(first)}"
    return [f"{source.new(node.outputs[0])} = {function}({rows})"]


def _scatter(source: Source, node: Apply) -> Iterable[str] | None:
    """Write, or add, elements to known places."""
    x, values, *index = node.inputs
    op = node.op
    places = _places(source, x, index, op.idx_list)
    if places is None:
        return None
    shape = values.type.shape
    if None in shape or (op.ignore_duplicates and not op.set_instead_of_inc):
        return None
    array, value = source.name(x), source.name(values)
    names = [source.constant(along.ravel()) for along in places]
    result, i, n = source.new(node.outputs[0]), source.local(), places[0].size
    assignment = "=" if op.set_instead_of_inc else "+="
    lines = [f"{result} = {array if op.inplace else f'{array}.copy()'}"]
    if all(length == 1 for length in shape):
        number = f"{value}[{', '.join('0' for _ in shape) or '()'}]"
    else:
        numbers, number = source.local(), i
        lines.append(f"{numbers} = np.ascontiguousarray({value}).reshape(-1)")
        which = np.broadcast_to(np.arange(np.prod(shape)).reshape(shape), places[0].shape)
        if which.size > np.prod(shape):  # some numbers go to several places
            number = f"{source.constant(which.ravel())}[{i}]"
        number = f"{numbers}[{number}]"
    return [
        *lines,
        f"for {i} in range({n}):",
        f"    {result}[{_at(names, i)}] {assignment} {number}",
    ]


def _places(
    source: Source, x: Variable, index: Sequence[Variable], idx_list: Sequence
) -> list[np.ndarray] | None:
    """Return the elements that known arrays of indices name: their numbers along each axis.

    There is an array for each of the last axes; all of those before are taken as a whole.
    """
    if None in x.type.shape:
        return None
    asked = indices_from_subtensor(index, idx_list)
    n_whole = len(asked) - len(index)
    whole, last = asked[:n_whole], asked[n_whole:]
    if len(asked) != x.type.ndim or any(place != slice(None) for place in whole):
        return None
    if not last or any(isinstance(place, slice) for place in last):
        return None
    known = [array for variable in index if (array := source.known(variable)) is not None]
    if len(known) < len(index) or any(not a.ndim or a.dtype.kind not in "iu" for a in known):
        return None
    shape = (*x.type.shape[:n_whole], *np.broadcast_shapes(*(array.shape for array in known)))
    if np.prod(shape) > _MANY_PLACES:
        return None
    before = np.indices(shape)[:n_whole]
    places = [array.astype("int64") for array in np.broadcast_arrays(*before, *known)]
    inside = all(
        not along.size or (0 <= along.min() and along.max() < length)
        for along, length in zip(places, x.type.shape, strict=True)
    )
    return places if inside else None


def _at(names: Sequence[str], i: str) -> str:
    return ", ".join(f"{name}[{i}]" for name in names)


def _solve_triangular(source: Source, node: Apply) -> Iterable[str] | None:
    """Solve a small triangular system by substitution."""
    a, b = node.inputs
    op = node.op
    n = a.type.shape[0]
    if n is None or a.type.shape != (n, n) or b.type.shape[0] != n or n > _FEW_ROWS:
        return None
    if not _in_one_precision(node):
        return None
    return _substitution(source, node, n, op.lower, op.unit_diagonal, op.b_ndim)


def _substitution(
    source: Source, node: Apply, n: int, lower: bool, unit_diagonal: bool, ndim: int
) -> Iterator[str]:
    a, b = map(source.name, node.inputs)
    x = source.new(node.outputs[0])
    i, j, k = source.local(), source.local(), source.local()
    rows = f"range({n})" if lower else f"range({n - 1}, -1, -1)"
    before = f"range({i})" if lower else f"range({i} + 1, {n})"
    # One right-hand side is a number in each row, several are a vector.
    columns, depth = (f"for {k} in range({x}.shape[1]):", 1) if ndim == 2 else ("", 0)
    at = f", {k}" if ndim == 2 else ""
    indent = "    " * depth

    def each(line: str, level: int) -> Iterator[str]:
        if columns:
            yield "    " * level + columns
        yield "    " * level + indent + line

    yield f"{x} = {b}.copy()"
    yield f"for {i} in {rows}:"
    yield f"    for {j} in {before}:"
    yield from each(f"{x}[{i}{at}] -= {a}[{i}, {j}] * {x}[{j}{at}]", 2)
    if not unit_diagonal:
        yield f"    if {a}[{i}, {i}] == 0:"  # as PyTensor: there is no solution
        yield f"        {x}[:] = np.nan"
        yield "        break"
        yield from each(f"{x}[{i}{at}] /= {a}[{i}, {i}]", 1)


def _cholesky(source: Source, node: Apply) -> Iterable[str] | None:
    """Factor a small matrix, row by row; a matrix that has no factor gives NaN, as in PyTensor."""
    [a] = node.inputs
    n = a.type.shape[0]
    if n is None or a.type.shape != (n, n) or n > _FEW_ROWS or not _in_one_precision(node):
        return None
    lower = node.op.lower
    matrix, x = source.name(a), source.new(node.outputs[0])
    i, j, k, value = (source.local() for _ in range(4))

    def at(row: str, column: str) -> str:
        return f"[{row}, {column}]" if lower else f"[{column}, {row}]"

    return [
        f"{x} = np.zeros(({n}, {n}), dtype=np.{a.type.dtype})",
        f"for {i} in range({n}):",
        f"    for {j} in range({i} + 1):",
        f"        {value} = {matrix}{at(i, j)}",
        f"        for {k} in range({j}):",
        f"            {value} -= {x}{at(i, k)} * {x}{at(j, k)}",
        f"        if {j} < {i}:",
        f"            {x}{at(i, j)} = {value} / {x}{at(j, j)}",
        f"        elif {value} > 0:",
        f"            {x}{at(i, i)} = np.sqrt({value})",
        "        else:",
        f"            {x}[:] = np.nan",
        f"    if not {x}{at(i, i)} > 0:",
        "        break",
    ]


def _alloc(source: Source, node: Apply) -> Iterable[str] | None:
    """Repeat an array along some axes, to a known shape."""
    x, [out] = node.inputs[0], node.outputs
    shape = out.type.shape
    if not shape or None in (*x.type.shape, *shape):
        return None
    name, result = source.name(x), source.new(out)
    indices = [source.local() for _ in shape]
    own = indices[len(shape) - x.type.ndim :]
    at = ["0" if n == 1 else index for n, index in zip(x.type.shape, own, strict=True)] or ["()"]
    return [
        f"{result} = np.empty({shape}, dtype=np.{out.type.dtype})",
        *(
            f"{'    ' * depth}for {index} in range({length}):"
            for depth, (index, length) in enumerate(zip(indices, shape, strict=True))
        ),
        f"{'    ' * len(shape)}{result}[{', '.join(indices)}] = {name}[{', '.join(at)}]",
    ]


def _alloc_diag(source: Source, node: Apply) -> Iterable[str] | None:
    """Put a vector on the diagonal of a matrix."""
    [x], [out] = node.inputs, node.outputs
    op = node.op
    if x.type.ndim != 1 or None in x.type.shape or (op.axis1, op.axis2) != (0, 1):
        return None
    [n], offset = x.type.shape, op.offset
    name, result, i = source.name(x), source.new(out), source.local()
    size = n + abs(offset)
    return [
        f"{result} = np.zeros(({size}, {size}), dtype=np.{out.type.dtype})",
        f"for {i} in range({n}):",
        f"    {result}[{i} + {max(-offset, 0)}, {i} + {max(offset, 0)}] = {name}[{i}]",
    ]


def _cumulate(source: Source, node: Apply) -> Iterable[str] | None:
    """Add up, or multiply, the elements along an axis of an array of known shape."""
    [x], [out] = node.inputs, node.outputs
    shape, axis = x.type.shape, node.op.axis
    if None in shape or axis is None or x.type.dtype != out.type.dtype:
        return None
    axis %= x.type.ndim
    name, result = source.name(x), source.new(out)
    indices = [source.local() for _ in shape]
    loops = [
        f"{'    ' * depth}for {index} in range({int(depth == axis)}, {length}):"
        for depth, (index, length) in enumerate(zip(indices, shape, strict=True))
    ]
    last = [f"{index} - 1" if i == axis else index for i, index in enumerate(indices)]
    operator = "+" if node.op.mode == "add" else "*"
    line = f"{result}[{', '.join(indices)}] {operator}= {result}[{', '.join(last)}]"
    return [f"{result} = {name}.copy()", *loops, f"{'    ' * len(shape)}{line}"]


def _dot(source: Source, node: Apply) -> Iterable[str] | None:
    """Multiply two matrices, or a matrix and a vector that is a matrix of one column."""
    x, y = node.inputs
    if not _in_one_precision(node):
        return None
    left, right = _operand(source, x), _operand(source, y)
    which = column_product if y.type.shape[1] == 1 else product
    function = source.refer(which, f"{which.__name__} 1")
    return [f"{source.new(node.outputs[0])} = {function}({left}, {right})"]


def _batched_dot(source: Source, node: Apply) -> Iterable[str] | None:
    """Multiply the matrices of two stacks."""
    if not _in_one_precision(node):
        return None
    function = source.refer(batched_product, "batched_product 1")
    left, right = (_operand(source, variable) for variable in node.inputs)
    return [f"{source.new(node.outputs[0])} = {function}({left}, {right})"]


def _operand(source: Source, variable: Variable) -> str:
    """Return an operand of a product: a small one may be copied, so that it lies row by row."""
    name = source.name(variable)
    return f"np.ascontiguousarray({name})" if _is_small(variable) else name


def _in_one_precision(node: Apply) -> bool:
    dtypes = {variable.type.dtype for variable in (*node.inputs, *node.outputs)}
    return len(dtypes) == 1 and dtypes <= {"float32", "float64"}


_WRITERS: dict[type, Callable[[Source, Apply], Iterable[str] | None]] = {
    AdvancedIncSubtensor: _scatter,
    AdvancedSubtensor: _gather,
    Alloc: _alloc,
    AllocDiag: _alloc_diag,
    BatchedDot: _batched_dot,
    Cholesky: _cholesky,
    CumOp: _cumulate,
    DimShuffle: _dimshuffle,
    Dot: _dot,
    Reshape: _reshape,
    SolveTriangular: _solve_triangular,
}
