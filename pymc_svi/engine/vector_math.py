"""Elementary functions that a compiler turns into vector instructions.

``exp``, ``log``, the gamma and the error function and what is made of them are most of the work in many
likelihoods. PyTensor's numba backend calls the C library or SciPy for them, one element at a time.
Written as straight-line arithmetic (range reduction and a polynomial, all branches as selections), LLVM
works on four or eight elements at once, or eight or sixteen in single precision: two to twenty times
faster for long vectors, and as accurate, but that ``gammaln`` and ``digamma`` are within some units in
the last place of 1 near their zeros.

A rewrite puts them in the place of PyTensor's; see :func:`with_vector_math`.
"""

from __future__ import annotations

import math
from types import ModuleType

import pytensor.scalar as ps
from pytensor.compile.mode import Mode, optdb
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter

# PyTensor has no public way to give a scalar function a numba implementation but its dispatch.
from pytensor.link.numba.dispatch.basic import register_funcify_and_cache_key
from pytensor.link.numba.linker import NumbaLinker
from pytensor.scalar.math import Erf, Erfc, Erfcx, GammaLn, Log1mexp, Psi, Sigmoid, Softplus
from pytensor.tensor.elemwise import Elemwise

from pymc_svi.engine import double_precision, single_precision, special_functions
from pymc_svi.engine.loop_source import is_flat_loop

__all__ = ["with_vector_math"]

_PRECISIONS: dict[str, ModuleType] = {
    "float32": single_precision,
    "float64": double_precision,
}


class _Unfused:
    """Keeps an op out of composite loops.

    LLVM only makes vector instructions of a loop when all of its body is inlined, which it does
    not do with long composites. PyTensor fuses what has C code.
    """

    def supports_c_code(self, inputs, outputs):
        return False


class _VectorExp(_Unfused, ps.Exp):
    pass


class _VectorExpm1(_Unfused, ps.Expm1):
    pass


class _VectorLog(_Unfused, ps.Log):
    pass


class _VectorLog1p(_Unfused, ps.Log1p):
    pass


class _VectorLog1mexp(_Unfused, Log1mexp):
    pass


class _VectorSoftplus(_Unfused, Softplus):
    pass


class _VectorSigmoid(_Unfused, Sigmoid):
    pass


class _VectorTanh(_Unfused, ps.Tanh):
    pass


class _VectorGammaLn(_Unfused, GammaLn):
    pass


class _VectorPsi(_Unfused, Psi):
    pass


class _VectorErf(_Unfused, Erf):
    pass


class _VectorErfc(_Unfused, Erfc):
    pass


class _VectorErfcx(_Unfused, Erfcx):
    pass


# The names of the functions, PyTensor's types for them, and what replaces these.
_KINDS = (
    ("exp", ps.Exp, _VectorExp),
    ("expm1", ps.Expm1, _VectorExpm1),
    ("log", ps.Log, _VectorLog),
    ("log1p", ps.Log1p, _VectorLog1p),
    ("log1mexp", Log1mexp, _VectorLog1mexp),
    ("softplus", Softplus, _VectorSoftplus),
    ("sigmoid", Sigmoid, _VectorSigmoid),
    ("tanh", ps.Tanh, _VectorTanh),
    ("gammaln", GammaLn, _VectorGammaLn),
    ("digamma", Psi, _VectorPsi),
    ("erf", Erf, _VectorErf),
    ("erfc", Erfc, _VectorErfc),
    ("erfcx", Erfcx, _VectorErfcx),
)
_VECTOR_OPS = {
    base: vector(ps.upgrade_to_float, name=f"vector_{name}") for name, base, vector in _KINDS
}
_CACHE_VERSION = 12


for _name, _, _vector in _KINDS:

    @register_funcify_and_cache_key(_vector)
    def _numba_function(op, node, name=_name, **kwargs):
        dtype = node.inputs[0].type.dtype
        function = getattr(special_functions, name, None) or getattr(_PRECISIONS[dtype], name)
        return function, f"pymc_svi {name} {dtype} {_CACHE_VERSION}"


@node_rewriter([Elemwise])
def _use_vector_function(fgraph, node):
    """Replace an elementary function of a tensor of floating-point numbers."""
    if any(is_flat_loop(other) for other in fgraph.apply_nodes):
        return None  # around the loop, once a call: not worth the time to compile
    vector_op = _VECTOR_OPS.get(type(node.op.scalar_op))
    [x, *others] = node.inputs
    if vector_op is None or others or x.type.dtype not in _PRECISIONS or _is_short(x):
        return None
    return [Elemwise(vector_op)(x)]


def _is_short(x) -> bool:
    """Whether a tensor has too few elements for vector instructions to matter."""
    return None not in x.type.shape and math.prod(x.type.shape) < 16


# After all rewrites that know PyTensor's functions by their types, and before loops are fused.
optdb.register("pymc_svi_vector_math", dfs_rewriter(_use_vector_function), position=48.5)


def with_vector_math(mode: Mode) -> Mode:
    """Return the mode with the vector functions, if its backend compiles with LLVM.

    Parameters
    ----------
    mode : Mode

    Returns
    -------
    Mode
    """
    return mode.including("pymc_svi_vector_math") if isinstance(mode.linker, NumbaLinker) else mode
