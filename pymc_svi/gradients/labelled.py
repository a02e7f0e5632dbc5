"""The rule for the labelled random variables of ``pymc.dims``."""

from __future__ import annotations

from pytensor.xtensor.basic import xtensor_from_tensor
from pytensor.xtensor.rewriting.vectorization import lower_rv
from pytensor.xtensor.shape import Transpose
from pytensor.xtensor.vectorization import XRV

from pymc_svi.gradients.pathwise import NoPathwiseDraw, no_pathwise_draw, register_rsample, rsample

__all__: list[str] = []


@register_rsample(XRV)
def _labelled(op, rv, *params):
    # As PyTensor compiles it: the random variable without labels, and its labels back.
    _, lowered = lower_rv.transform(None, rv.owner)
    [unlabelled] = lowered.owner.inputs
    try:
        draw = rsample(unlabelled)
    except NoPathwiseDraw as error:
        raise no_pathwise_draw(rv) from error
    return xtensor_from_tensor(draw, dims=rv.type.dims)


@register_rsample(Transpose)
def _transposed(op, rv, draw):
    # pymc.dims puts the dimensions of a draw in the order that was asked for.
    return op(rsample(draw))
