"""Random indices without repetition, inside a graph.

A minibatch is a random subset. Permuting all indices costs as much as the data are long;
``DistinctIndices`` makes a subset of B out of N from B uniform numbers by Floyd's algorithm,
in time and memory that depend on B only.

References
----------
Bentley and Floyd (1987), Programming pearls: a sample of brilliance.
"""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op

__all__ = ["DistinctIndices", "random_subset"]


def _floyd(uniforms: np.ndarray, n: int) -> np.ndarray:
    """Turn uniform numbers into distinct indices below n; each subset is equally likely."""
    b = uniforms.shape[0]
    chosen = np.empty(b, dtype=np.int64)
    size = 4
    while size < 2 * b:
        size *= 2
    table = np.full(size, -1, dtype=np.int64)  # a hash table of what is chosen
    for k in range(b):
        upper = n - b + k
        candidate = min(np.int64(uniforms[k] * (upper + 1)), np.int64(upper))
        slot = candidate & (size - 1)
        while table[slot] != -1 and table[slot] != candidate:
            slot = (slot + 1) & (size - 1)
        if table[slot] == candidate:
            candidate = np.int64(upper)
            slot = candidate & (size - 1)
            while table[slot] != -1:
                slot = (slot + 1) & (size - 1)
        table[slot] = candidate
        chosen[k] = candidate
    return chosen


class DistinctIndices(Op):
    """Distinct indices below ``n`` from a vector of uniform numbers.

    Parameters
    ----------
    n : int
        How many indices there are to choose from.
    """

    __props__ = ("n",)
    gufunc_signature = "(b)->(b)"

    def __init__(self, n: int):
        self.n = int(n)

    def make_node(self, uniforms) -> Apply:
        """Build the node."""
        uniforms = pt.as_tensor(uniforms)
        return Apply(self, [uniforms], [pt.tensor(dtype="int64", shape=uniforms.type.shape)])

    def perform(self, node, inputs, outputs) -> None:
        """Compute with numpy."""
        outputs[0][0] = _floyd(np.asarray(inputs[0]), self.n)

    def infer_shape(self, node, shapes):
        """As many indices as numbers."""
        return shapes

    def connection_pattern(self, node):
        """Gradients stop here."""
        return [[False]]

    def pullback(self, inputs, outputs, output_grads):
        """Gradients stop here."""
        return [DisconnectedType()()]


def random_subset(n: int, size: int) -> Variable:
    """Return an expression for ``size`` distinct indices below ``n``, new at each evaluation.

    Its random generator is a shared variable of its own.
    """
    rng = pytensor.shared(np.random.default_rng(), name="subsample")
    uniforms = pt.random.uniform(0.0, 1.0, size=(size,), rng=rng, dtype="float64")
    return DistinctIndices(n)(uniforms)


def _register_numba() -> None:
    try:
        from pytensor.link.numba.dispatch.basic import (
            numba_njit,
            register_funcify_default_op_cache_key,
        )
    except ImportError:  # numba is optional in PyTensor
        return

    @register_funcify_default_op_cache_key(DistinctIndices)
    def numba_funcify_distinct_indices(op, node, **kwargs):
        n = op.n
        floyd = numba_njit(_floyd)

        @numba_njit
        def distinct_indices(uniforms):
            return floyd(uniforms, n)

        return distinct_indices


_register_numba()
