"""The handler that makes a guide's draws differentiable."""

from __future__ import annotations

from pytensor.graph.basic import Variable
from pytensor.tensor.elemwise import DimShuffle
from pytensor.xtensor import as_xtensor
from pytensor.xtensor.type import XTensorType

from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.gradients.pathwise import rsample
from pymc_svi.handlers import Handler, Site

__all__ = ["pathwise"]


class pathwise(Handler):
    """Give each latent site a draw that is differentiable in its distribution's parameters.

    Sites that a handler inside has already given a value keep it.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program, usually a guide.

    Raises
    ------
    NoPathwiseDraw
        For a site whose distribution has no differentiable draw.
    """

    def process_message(self, site: Site) -> None:
        """Draw a latent site that has no value yet."""
        if site.is_latent and site.value is None:
            site.dist.name = site.dist.name or site.name
            site.value = _draw(site.dist)


def _draw(rv: Variable) -> Variable:
    """Return a differentiable draw of a variable, with named dims if the variable has them."""
    if not isinstance(rv.type, XTensorType):
        return rsample(rv)
    [plain] = without_named_dims([rv.values])
    order = None
    if isinstance(plain.owner.op, DimShuffle):  # the user's order of dims is not the draw's
        order, plain = plain.owner.op.new_order, plain.owner.inputs[0]
    plain.name = rv.name
    value = rsample(plain)
    return as_xtensor(value if order is None else value.dimshuffle(order), dims=rv.type.dims)
