"""Constraints: the sets parameters live in, and the maps to them from unconstrained space.

An optimizer moves unconstrained numbers; a guide wants a positive scale, a simplex, a Cholesky
factor. A :class:`Constraint` is the bridge. It has five jobs, and nothing else in the package
needs to know how they are done:

- ``unconstrain`` turns a starting value (numpy) into free numbers,
- ``constrain`` turns the free numbers into the parameter, as a PyTensor expression,
- ``constrain_value`` does the same in numpy, for results,
- ``log_jac_det`` is the volume change of ``constrain``,
- ``check`` and ``violation`` say whether a value is inside, and in words why it isn't.

Ready-made constraints carry NumPyro's names (``positive``, ``interval(a, b)``,
``lower_cholesky``...); any PyMC transform is accepted in their place through
:func:`as_constraint`. Users add their own by subclassing :class:`Constraint`, as the ones here do.
"""

from pymc_svi.constraints.accepted import as_constraint, from_transform
from pymc_svi.constraints.base import Constraint
from pymc_svi.constraints.elementwise import (
    greater_than,
    interval,
    less_than,
    nonnegative,
    positive,
    real,
    softplus_positive,
    unit_interval,
)
from pymc_svi.constraints.matrices import (
    corr_cholesky,
    lower_cholesky,
    scaled_unit_lower_cholesky,
    unit_lower_cholesky,
)
from pymc_svi.constraints.vectors import ordered_vector, positive_ordered_vector, simplex

__all__ = [
    "Constraint",
    "as_constraint",
    "corr_cholesky",
    "from_transform",
    "greater_than",
    "interval",
    "less_than",
    "lower_cholesky",
    "nonnegative",
    "ordered_vector",
    "positive",
    "positive_ordered_vector",
    "real",
    "scaled_unit_lower_cholesky",
    "simplex",
    "softplus_positive",
    "unit_interval",
    "unit_lower_cholesky",
]
