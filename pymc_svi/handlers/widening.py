"""A value in the type of the site that it stands for."""

from __future__ import annotations

import pytensor
import pytensor.scalar as ps
from pytensor.graph.basic import Variable
from pytensor.tensor.elemwise import Elemwise

__all__ = ["Widening", "in_type_of_site"]


class Widening(ps.Cast):
    """The conversion to double precision of what stands for a site in double precision.

    A site comes in it where one of its parameters does, a constant of NumPy's for one; that is no
    wish to compute in it, other than ``x.astype("float64")``. See
    :func:`pymc_svi.gradients.narrow.narrowed`.
    """


_widened = Elemwise(Widening(ps.float64, name="widened"))


def in_type_of_site(value: Variable, dtype: str) -> Variable:
    """Return a value in the dtype of a site, which may be narrowed with the site.

    Parameters
    ----------
    value : TensorVariable
        The value.
    dtype : str
        The dtype of the site.

    Examples
    --------
    >>> import pytensor
    >>> import pytensor.tensor as pt
    >>> from pymc_svi.handlers.widening import in_type_of_site
    >>> with pytensor.config.change_flags(floatX="float32"):
    ...     x = in_type_of_site(pt.vector("x"), "float64")
    >>> x.dtype, type(x.owner.op.scalar_op).__name__
    ('float64', 'Widening')
    """
    if value.type.dtype == dtype:
        return value
    if dtype == "float64" and pytensor.config.floatX == "float32":
        return _widened(value)
    return value.astype(dtype)
