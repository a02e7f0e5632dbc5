"""The source of a loop over steps, written into the function around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.scan.op import Scan

if TYPE_CHECKING:
    from pymc_svi.engine.linker import Source

__all__ = ["LoopSource", "is_flat_loop", "is_loop"]


def is_loop(node: Apply) -> bool:
    """Whether an operation is a loop that can be written out: any but one that ends by a condition."""
    return isinstance(node.op, Scan) and not node.op.info.as_while


def is_flat_loop(node: Apply) -> bool:
    """Whether an operation is a loop that only carries a state and records what has a known shape."""
    if not is_loop(node):
        return False
    op, info = node.op, node.op.info
    histories = info.n_seqs + info.n_mit_mot + info.n_mit_sot + info.n_sit_sot
    return (
        not histories
        and all(length is node.inputs[0] for length in op.outer_nitsot(node.inputs))
        and all(None not in v.type.shape for v in op.inner_nitsot_outs(op.inner_outputs))
    )


class LoopSource:
    """The lines of one loop.

    What a step reads of a sequence or of earlier steps are views of arrays, or copies where it is one
    number; what it is to keep is written into arrays, which may be shorter than the loop: then they
    hold the last steps, and are put in order at the end.

    Parameters
    ----------
    source : Source
        The function that the loop is written into.
    node : Apply
        The loop.
    """

    def __init__(self, source: Source, node: Apply):
        self.source, self.node = source, node
        self.op, self.inner = node.op, node.op.fgraph
        self.given = {variable: source.name(variable) for variable in node.inputs}
        self.results = {variable: source.local() for variable in node.outputs}
        self.n_steps, self.step = source.local(), source.local()
        first = node.inputs[0]
        self.known_steps = int(first.data) if isinstance(first, Constant) else None
        self.before: list[str] = []  # the loop
        self.reads: list[str] = []  # at the start of a step
        self.writes: list[str] = []  # at its end
        self.after: list[str] = []  # the loop

    def lines(self) -> list[str]:
        """Return the lines."""
        op, node, inner, source = self.op, self.node, self.inner, self.source
        # Names of its own for what is inside: the graphs of several loops have variables in common.
        outside, constants = source.names, source.constants
        checks = source.checked, source.as_before, source.before_loop
        source.names, source.constants = {}, {}
        source.checked, source.before_loop = set(), self.before
        source.as_before = frozenset(op.inner_non_seqs(inner.inputs))
        self._sequences()
        self._histories()
        carried = self._carried()
        records = list(
            zip(
                op.outer_nitsot(node.inputs),
                op.outer_nitsot_outs(node.outputs),
                op.inner_nitsot_outs(inner.outputs),
                strict=True,
            )
        )
        for length, record, value in records:
            self._record(length, record, value)
        for variable, outer in zip(
            op.inner_non_seqs(inner.inputs), op.outer_non_seqs(node.inputs), strict=True
        ):
            source.names[variable] = self.given[outer]
            source.constants[variable] = constants.get(outer, outer)
        body = list(source.graph(inner.toposort()))
        for length, record, value in records:
            self._write_record(length, record, value)
        self._write_histories()
        new = [source.name(v) for v in op.inner_untraced_sit_sot_outs(inner.outputs)]
        if carried:
            self.writes.append(f"{', '.join(carried)}, = {', '.join(new)},")
        source.names = {**outside, **self.results}
        source.constants = constants
        source.checked, source.as_before, source.before_loop = checks
        return [
            f"{self.n_steps} = {self.given[node.inputs[0]]}.item()",
            *self.before,
            f"for {self.step} in range({self.n_steps}):",
            *(f"    {line}" for line in [*self.reads, *body, *self.writes] or ["pass"]),
            *self.after,
        ]

    # --- what a step is given ---------------------------------------------------------------

    def _sequences(self) -> None:
        op, node = self.op, self.node
        pairs = zip(op.outer_seqs(node.inputs), op.inner_seqs(self.inner.inputs), strict=True)
        for outer, variable in pairs:
            self._read(variable, f"{self.given[outer]}[{self.step}]")

    def _carried(self) -> list[str]:
        """Give each state that only the next step needs a variable; return their names."""
        op, source = self.op, self.source
        inputs = op.inner_untraced_sit_sot(self.inner.inputs)
        owned = op.inner_owned_untraced_sit_sot(self.inner.inputs)
        starts = [self.given[v] for v in op.outer_untraced_sit_sot(self.node.inputs)]
        names = [self.results[v] for v in op.outer_untraced_sit_sot_outs(self.node.outputs)]
        source.names |= zip(inputs, names, strict=True)
        for variable, name, start in zip(inputs, names, starts, strict=True):
            # A step may overwrite its state, which is somebody else's before the first.
            copied = start if variable in owned else f"numba_deepcopy({start})"
            self.before.append(f"{name} = {copied}")
        return names

    def _read(self, variable: Variable, expression: str) -> None:
        """Name one of a step's inputs: a view of an array, or a number in an array of its own."""
        name = self.source.new(variable)
        if variable.type.ndim:
            self.reads.append(f"{name} = {expression}")
        else:
            dtype = variable.type.numpy_dtype.name
            self.before.append(f"{name} = np.empty((), dtype=np.{dtype})")
            self.reads.append(f"{name}[()] = {expression}")

    # --- arrays of several steps ------------------------------------------------------------

    def _traced(self) -> Iterator[tuple[int, Variable, list, list, list, list]]:
        """Yield the arrays that steps read and write: where in them, and the step's variables."""
        op, info, inner = self.op, self.op.info, self.inner
        outer = [
            *op.outer_mitmot(self.node.inputs),
            *op.outer_mitsot(self.node.inputs),
            *op.outer_sitsot(self.node.inputs),
        ]
        read = [*info.mit_mot_in_slices, *info.mit_sot_in_slices, *info.sit_sot_in_slices]
        single = info.n_mit_sot + info.n_sit_sot
        written = [*info.mit_mot_out_slices, *[(0,)] * single]
        inputs = iter(
            [
                *op.inner_mitmot(inner.inputs),
                *op.inner_mitsot(inner.inputs),
                *op.inner_sitsot(inner.inputs),
            ]
        )
        outputs = iter(
            [
                *op.inner_mitmot_outs(inner.outputs),
                *op.inner_mitsot_outs(inner.outputs),
                *op.inner_sitsot_outs(inner.outputs),
            ]
        )
        for place, (array, taps, out_taps) in enumerate(zip(outer, read, written, strict=True)):
            first = -min(0, *taps)
            yield (
                place,
                array,
                [first + tap for tap in taps],
                [next(inputs) for _ in taps],
                [first + tap for tap in out_taps],
                [next(outputs) for _ in out_taps],
            )

    def _histories(self) -> None:
        for place, array, read, variables, _, _ in self._traced():
            name = self.results[self.node.outputs[place]]
            start = self.given[array]
            owned = place in self.op.destroy_map
            self.before.append(f"{name} = {start if owned else f'numba_deepcopy({start})'}")
            for offset, variable in zip(read, variables, strict=True):
                at = self._place(name, array.type.shape[0], offset)
                self._read(variable, f"{name}[{at}]")

    def _write_histories(self) -> None:
        for place, array, _, _, written, variables in self._traced():
            name = self.results[self.node.outputs[place]]
            for offset, variable in zip(written, variables, strict=True):
                at = self._place(name, array.type.shape[0], offset)
                self.writes += self._write(name, at, variable)
            if place >= self.op.info.n_mit_mot:
                self._put_in_order(name, array.type.shape[0], max(written), array.type.ndim)

    def _record(self, length: Variable, record: Variable, value: Variable) -> None:
        """Allocate what is written by each step: when the first is done, if its shape isn't known."""
        name = self.results[record]
        dtype = value.type.numpy_dtype.name
        n = f"{self.given[length]}.item()"
        shape = [n, *(str(length or 0) for length in value.type.shape)]
        self.before.append(f"{name} = np.empty(({', '.join(shape)},), dtype=np.{dtype})")

    def _write_record(self, length: Variable, record: Variable, value: Variable) -> None:
        name, result = self.results[record], self.source.name(value)
        if None in value.type.shape:
            shape = ", ".join(f"{result}.shape[{axis}]" for axis in range(value.type.ndim))
            dtype = value.type.numpy_dtype.name
            self.writes.append(f"if {self.step} == 0:")
            self.writes.append(
                f"    {name} = np.empty(({name}.shape[0], {shape},), dtype=np.{dtype})"
            )
        n_kept = int(length.data) if isinstance(length, Constant) else None
        whole = length is self.node.inputs[0]
        at = self.step if whole else self._place(name, n_kept, 0)
        self.writes += self._write(name, at, value)
        if not whole:
            self._put_in_order(name, n_kept, 0, value.type.ndim + 1)

    def _place(self, name: str, length: int | None, offset: int) -> str:
        """Return the place of a step in an array, which may hold the last few steps only."""
        place = f"{self.step} + {offset}" if offset else self.step
        if length is not None and self.known_steps is not None:
            if self.known_steps - 1 + offset < length:
                return place
        return f"({place}) % {name}.shape[0]"

    def _write(self, name: str, at: str, variable: Variable) -> Iterable[str]:
        """Yield lines that copy an element: assigning it whole brings messages that take long."""
        value, ndim = self.source.name(variable), variable.type.ndim
        if not ndim:
            yield f"{name}[{at}] = {value}.item()"
            return
        row = self.source.local()
        indices = [self.source.local() for _ in range(ndim)]
        yield f"{row} = {name}[{at}]"
        yield f"if {row}.shape != {value}.shape:"
        yield "    raise ValueError('scan: a step returns another shape than the step before')"
        for depth, index in enumerate(indices):
            yield f"{'    ' * depth}for {index} in range({row}.shape[{depth}]):"
        where = ", ".join(indices)
        yield f"{'    ' * ndim}{row}[{where}] = {value}[{where}]"

    def _put_in_order(self, name: str, length: int | None, last: int, ndim: int) -> None:
        """Let the last step be at the end of an array, and set what no step has written to zero."""
        if length == 1 and last:
            return
        if length is not None and self.known_steps is not None:
            if length == self.known_steps + last:
                return
        done, shift = self.source.local(), self.source.local()
        self.after += [
            f"{done} = {self.n_steps} + {last}",
            f"if 1 < {name}.shape[0] < {done}:",
            f"    {shift} = {done} % {name}.shape[0]",
            f"    if {shift} > 0:",
            f"        {name} = np.concatenate(({name}[{shift}:], {name}[:{shift}]))",
            f"elif {name}.shape[0] > {done}:",
            f"    {name}[{done}:] = 0",
        ]
