"""Machine code that is the same whatever else its process has compiled or loaded.

A compiled function has copies of those that it calls, under their names. Optimised with it, a copy can
differ from the original in the order of a sum, and so in the last bits. Of several definitions with one
name the linker takes the first: in the process that compiled an operation its original, in one that
found the function in the cache the function's copy, and after another function with the same operation
the copy of that one. A fit that is resumed in another process would have other numbers than a whole one.

A name that is known inside only, as that of a ``static`` function in C, leaves no choice.
"""

from __future__ import annotations

from typing import Any

from llvmlite.binding import Linkage
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

__all__ = ["OwnCodeCompiler"]


class OwnCodeCompiler(Compiler):
    """Numba's compiler, for functions that call no copies but their own.

    For ``numba.njit(..., pipeline_class=...)``.
    """

    def __init__(self, *args: Any):
        super().__init__(*args)
        state = self.state
        state.library = _OwnCodeLibrary(state.targetctx.codegen(), "own_code")
        state.library.enable_object_caching()


class _OwnCodeLibrary(JITCodeLibrary):
    """The machine code of one function and of all that it calls."""

    # Numba has no public place between the optimiser and the linker. The optimiser must not know:
    # it changes how functions that are known inside only are called, and their originals are not.
    def _finalize_final_module(self) -> None:
        for function in self.get_defined_functions():
            if function.linkage == Linkage.linkonce_odr:
                function.linkage = Linkage.internal
        super()._finalize_final_module()
