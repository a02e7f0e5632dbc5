"""What tells a model from another one: the law of each site, as far as it is written in numbers."""

from __future__ import annotations

import zlib
from collections.abc import Collection

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.type import TensorType

from pymc_svi.handlers import Site, Trace
from pymc_svi.handlers.log_prob import as_plain_tensor

__all__ = ["laws_of"]

# How many numbers are written out; of more, a checksum.
_FEW = 10
_ROWS_OF_SAMPLE = 1_000


def laws_of(run: Trace, fed: Collection[Variable] = ()) -> dict[str, str]:
    """Return the law of each site of a model, such as ``"Normal(0, 1)"``.

    Parameters
    ----------
    run : Trace
        A run of the model.
    fed : collection of Variable
        What batches take the place of, and so has no values of its own.

    Returns
    -------
    dict of str to str
        By the name of the site; what is computed is ``...``.
    """
    return {name: _law(site, fed) for name, site in run.items() if site.type == "sample"}


def _law(site: Site, fed: Collection[Variable]) -> str:
    node = site.dist.owner
    if node is None:
        return "..."
    op = node.op
    name = getattr(op, "_print_name", (type(op).__name__.removesuffix("RV"),))[0]
    if isinstance(op, RandomVariable):
        params = op.dist_params(node)
    else:
        params = [v for v in node.inputs if isinstance(v.type, TensorType)]
    # A shared variable may be a param, which changes.
    numbers = [_short(v.data) if isinstance(v, Constant) else "..." for v in params]
    law = f"{name}({', '.join(numbers)})"
    value = as_plain_tensor(site.value)
    if not site.observed or value in fed:
        return law
    if isinstance(value, Constant):
        return f"{law} = {_short(value.data)}"
    if isinstance(value, SharedVariable):
        return f"{law} = {_short(value.get_value(borrow=True))}"
    return law


def _short(value: np.ndarray) -> str:
    array = np.asarray(value)
    if array.size <= _FEW:
        return " ".join(np.array2string(array, precision=8, separator=", ").split())
    some = np.ascontiguousarray(array[:: max(1, len(array) // _ROWS_OF_SAMPLE)])
    return f"{array.shape} numbers {zlib.crc32(some.tobytes()):x}"
