"""Compiling a training loop as one function.

PyTensor's numba backend compiles a ``scan`` as a function within a function within a function: the
step, the loop around it, the graph around that, and a wrapper around each for its cache. LLVM puts
the inner ones into the outer and optimises all of it again at each of five levels. Here the steps of
the loop and what is around it are written into a single function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numba.core.caching import FunctionCache, NullCache
from numba.core.dispatcher import Dispatcher
from pytensor.compile.mode import Mode
from pytensor.configdefaults import config
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import HasInnerGraph

# What turns one operation into a numba function, and names it in the cache on disk, has no public
# name in PyTensor.
from pytensor.link.numba.cache import CACHED_SRC_FUNCTIONS, compile_numba_function_src
from pytensor.link.numba.dispatch.basic import (
    cache_key_for_constant,
    numba_funcify_and_cache_key,
    numba_funcify_ensure_cache,
    numba_njit,
    numba_typify,
)
from pytensor.link.numba.dispatch.compile_ops import numba_deepcopy
from pytensor.link.numba.linker import NumbaLinker
from pytensor.scalar.basic import Composite
from pytensor.tensor.blockwise import BlockwiseWithCoreShape
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.shape import SpecifyShape
from pytensor.tensor.type_other import NoneTypeT

from pymc_svi.engine.batch_source import batch_lines
from pymc_svi.engine.loop_source import LoopSource, is_loop
from pymc_svi.engine.op_source import op_lines
from pymc_svi.engine.own_code import OwnCodeCompiler
from pymc_svi.engine.place_checks import place_checks

__all__ = ["Source", "with_flat_loops"]


def with_flat_loops(mode: Mode) -> Mode:
    """Return the mode with training loops compiled as one function, where it compiles with numba.

    Parameters
    ----------
    mode : Mode

    Returns
    -------
    Mode
    """
    if type(mode.linker) is not NumbaLinker:
        return mode
    return Mode(linker=FlatLoopLinker(), optimizer=mode.provided_optimizer)


class FlatLoopLinker(NumbaLinker):
    """PyTensor's numba linker, but for the loops that a training step is repeated by."""

    def fgraph_convert(self, fgraph: FunctionGraph, order: Sequence[Apply], **kwargs: Any):
        """Return a Python function for numba and the key of its cache, if it can have one."""
        return Source().function(fgraph, order)

    def jit_compile(self, fn_and_cache: tuple[Callable, str | None]) -> Callable:
        """Return the compiled function.

        It doesn't hold Python's global lock, so that another thread can read data meanwhile. Its
        numbers are the same in the process that compiles it and in those that find it in the cache.
        """
        function, cache_key = fn_and_cache
        return numba_njit(
            function,
            final_function=True,
            no_cfunc_wrapper=True,
            cache=cache_key is not None,
            nogil=True,
            pipeline_class=OwnCodeCompiler,
        )


class Source:
    """The source of one function, and what it refers to."""

    def __init__(self) -> None:
        self.names: dict[Variable, str] = {}
        # Inputs of loops that are constants outside.
        self.constants: dict[Variable, Variable] = {}
        self.globals: dict[str, Any] = {
            "__name__": __name__,
            "np": np,
            "numba_deepcopy": numba_deepcopy,
        }
        # Whatever the source itself doesn't say: the operations and constants it refers to.
        self.keys: list[str | None] = []
        # Equal operations and equal inner graphs, within one function, are compiled once.
        self.functions: dict[tuple, Any] = {}
        self.memo: dict = {}
        self.n_locals = 0
        # Which places have been checked to be in an axis of which length.
        self.checked: set[tuple[Variable, str]] = set()
        # What a loop finds as it was before it, and what of this is checked there.
        self.as_before: frozenset[Variable] = frozenset()
        self.before_loop: list[str] = []

    def function(
        self, fgraph: FunctionGraph, order: Sequence[Apply]
    ) -> tuple[Callable, str | None]:
        """Return the function of a graph, and a key that tells it from all others."""
        arguments = [self.new(variable) for variable in fgraph.inputs]
        lines = list(self.graph(order))
        results = [self.name(variable) for variable in fgraph.outputs]
        source = "\n".join(
            [
                f"def train({', '.join(arguments)}):",
                *(f"    {line}" for line in lines),
                f"    return ({', '.join(results)},)",
            ]
        )
        key = None
        keys = [key for key in self.keys if key is not None]
        if config.numba__cache and len(keys) == len(self.keys):
            settings = f"fastmath{int(config.numba__fastmath)} own code"
            key = sha256("\n".join([source, *keys, settings]).encode()).hexdigest()
        function = compile_numba_function_src(source, "train", self.globals, cache_key=key)
        return function, key

    # --- lines ------------------------------------------------------------------------------

    def graph(self, order: Iterable[Apply]) -> Iterable[str]:
        """Yield a line or a loop for each operation."""
        for node in order:
            if is_loop(node):
                yield from LoopSource(self, node).lines()
            elif isinstance(node.op, Composite):
                yield from self.composite(node)
            elif isinstance(node.op, SpecifyShape):
                yield from self.specified(node)
            elif (lines := self.operation(node)) is not None:
                yield from lines
            else:
                yield from place_checks(self, node)
                yield self.call(node)

    def operation(self, node: Apply) -> Iterable[str] | None:
        """Return the lines of an operation, or None if it is to be a function."""
        if isinstance(node.op, BlockwiseWithCoreShape):
            return batch_lines(self, node)
        return op_lines(self, node)

    def composite(self, node: Apply) -> Iterable[str]:
        """Yield the lines of the scalar operations that one is composed of."""
        inner, outside = node.op.fgraph, self.names
        arguments = [self.name(variable) for variable in node.inputs]
        # Names of its own: the graphs of several operations can have variables in common.
        self.names = dict(zip(inner.inputs, arguments, strict=True))
        lines = list(self.graph(inner.toposort()))
        results = [self.name(variable) for variable in inner.outputs]
        self.names = outside
        self.names |= zip(node.outputs, results, strict=True)
        yield from lines

    def specified(self, node: Apply) -> Iterable[str]:
        """Yield the lines that check a shape: a message with the shapes takes a second to compile."""
        value, *shape = node.inputs
        name, result = self.name(value), self.new(node.outputs[0])
        for axis, length in enumerate(shape):
            if isinstance(length.type, NoneTypeT):
                continue
            wanted = (
                int(length.data) if isinstance(length, Constant) else f"{self.name(length)}.item()"
            )
            yield f"if {name}.shape[{axis}] != {wanted}:"
            yield f"    raise AssertionError('axis {axis} has not the length that was specified')"
        yield f"{result} = {name}"

    def call(self, node: Apply) -> str:
        """Return the line that applies one operation."""
        function, key = numba_funcify_and_cache_key(node.op, node=node, ofg_memo=self.memo)
        # What was fused for this graph alone is not worth a place in the cache.
        fused = isinstance(getattr(node.op, "scalar_op", node.op), HasInnerGraph)
        if key is not None and config.numba__cache and (not fused or _draws(node)):
            if isinstance(function, Dispatcher):
                _keep(function, key)
            else:  # numba is told elsewhere how to compile this, and PyTensor how to keep it
                function, _ = numba_funcify_ensure_cache(node.op, node=node, ofg_memo=self.memo)
        if key is not None:
            # As in the cache, the key goes with the types of the arguments.
            types = tuple(variable.type for variable in node.inputs)
            function = self.functions.setdefault((key, types), function)
        name = self.refer(function, key)
        arguments = ", ".join([self.name(variable) for variable in node.inputs])
        results = ", ".join([self.new(variable) for variable in node.outputs])
        return f"{results} = {name}({arguments})"

    def refer(self, function: Callable, key: str | None) -> str:
        """Return a name for a function, which the key stands for in the cache."""
        self.keys.append(key)
        name = f"f{len(self.keys)}"
        self.globals[name] = function
        return name

    # --- names ------------------------------------------------------------------------------

    def local(self) -> str:
        """Return a name that is not in use."""
        self.n_locals += 1
        return f"v{self.n_locals}"

    def new(self, variable: Variable) -> str:
        """Return a new name for a variable."""
        self.names[variable] = self.local()
        return self.names[variable]

    def name(self, variable: Variable) -> str:
        """Return the name of a variable, or of a constant."""
        if variable not in self.names and isinstance(variable, Constant):
            value = numba_typify(variable.data, variable=variable)
            self.names[variable] = self.constant(value, variable.data)
        return self.names[variable]

    def constant(self, value: Any, data: Any = None) -> str:
        """Return a name for a value that is always the same."""
        name = self.local()
        self.globals[name] = value
        self.keys.append(cache_key_for_constant(value if data is None else data))
        return name

    def known(self, variable: Variable) -> np.ndarray | None:
        """Return the value of a variable that is a constant, or what a loop is given as one."""
        constant = self.constants.get(variable, variable)
        return np.asarray(constant.data) if isinstance(constant, Constant) else None


class _KeyedCache(FunctionCache):
    """Numba's cache of a function, but for what the function refers to: a key stands for that."""

    def _index_key(self, sig: Any, codegen: Any) -> tuple:
        return sig, codegen.magic_tuple()


def _keep(function: Any, key: str) -> None:
    """Let numba keep the compiled function of an operation on disk, under a key.

    PyTensor wraps the function in another for this, which is compiled too. numba has no public way
    to give a function another cache than that of its file, hence the private ``_cache``.
    """
    if isinstance(function._cache, NullCache):
        CACHED_SRC_FUNCTIONS[function.py_func] = f"{key}_kept_fastmath{int(config.numba__fastmath)}"
        # By the name of its module numba restores a function; one made from a source has none.
        function.py_func.__globals__.setdefault("__name__", __name__)
        function._cache = _KeyedCache(function.py_func)


def _draws(node: Apply) -> bool:
    """Whether an operation draws random numbers."""
    return any(isinstance(variable.type, RandomType) for variable in node.inputs)
