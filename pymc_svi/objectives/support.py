"""Supports of distributions, compared between a model's site and a guide's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pymc.distributions import transforms
from pymc.logprob.transforms import Transform
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RNGConsumerOp
from pytensor.xtensor.type import XTensorType

from pymc_svi.evaluation import evaluate
from pymc_svi.handlers import Site
from pymc_svi.handlers.distributions import default_transform_of

__all__ = ["Support", "support_mismatch", "support_of"]


@dataclass(frozen=True)
class Support:
    """The support of a continuous distribution, as far as it is known.

    Attributes
    ----------
    kind : str
        "interval" with bounds, or the name of a set of vectors or matrices such as "simplex".
    lower, upper : float or None
        Smallest lower and largest upper bound of an interval; None where they depend on other
        variables.
    """

    kind: str
    lower: float | None = -np.inf
    upper: float | None = np.inf

    def __str__(self) -> str:
        if self.kind != "interval":
            return f"the {self.kind}"
        if self.lower == -np.inf and self.upper == np.inf:
            return "the real line"
        lower, upper = ("?" if b is None else f"{b:g}" for b in (self.lower, self.upper))
        return f"({lower}, {upper})"


def support_of(rv: Variable) -> Support | None:
    """Return the support of a continuous random variable, from its default transform.

    None where it is not known, as for discrete variables.
    """
    if rv.owner is None or isinstance(rv.type, XTensorType):
        return None
    if not rv.type.dtype.startswith("float"):
        return None
    transform = default_transform_of(rv)
    if transform is None:
        # Symbolic variables without a transform of their own may be anything.
        known = type(rv.owner.op).__name__ in _REAL_LINE
        return Support("interval") if known else None
    return _image(transform, rv)


def _image(transform: Transform, rv: Variable) -> Support | None:
    """Return where a transform puts the values of a random variable; None if it is not known."""
    if isinstance(transform, transforms.LogTransform | transforms.LogExpM1):
        return Support("interval", 0.0)
    if isinstance(transform, transforms.LogOddsTransform):
        return Support("interval", 0.0, 1.0)
    if isinstance(transform, transforms.CircularTransform):
        return Support("interval", -np.pi, np.pi)
    if isinstance(transform, transforms.Interval):
        lower, upper = transform.args_fn(*rv.owner.inputs)
        return Support(
            "interval",
            -np.inf if lower is None else _constant(lower, np.min),
            np.inf if upper is None else _constant(upper, np.max),
        )
    for kind, types in _KINDS.items():
        if isinstance(transform, types):
            return Support(kind)
    return None


_KINDS = {
    "simplex": (transforms.SimplexTransform, transforms.SumTo1),
    "zero-sum space": (transforms.ZeroSumTransform,),
    "ordered vectors": (transforms.Ordered,),
    "Cholesky factors of covariances": (
        transforms.CholeskyCovPacked,
        transforms.CholeskyCovTransform,
    ),
    "correlations": (transforms.CholeskyCorrTransform,),
}


def _support_of_site(site: Site) -> Support | None:
    """Return the support of a model's site, which a transform of the user's can make smaller."""
    law = support_of(site.dist)
    transform = site.transform
    parts = (
        transform.transform_list
        if isinstance(transform, transforms.ChainedTransform)
        else [transform]
    )
    if isinstance(parts[-1], transforms.Ordered):  # also of what is positive, and so on
        return Support("ordered vectors")
    if transform is None or law not in (None, Support("interval")):
        return law
    return _image(transform, site.dist) or law


_REAL_LINE = {
    "NormalRV",
    "MvNormalRV",
    "LaplaceRV",
    "LogisticRV",
    "GumbelRV",
    "CauchyRV",
    "StudentTRV",
    "MvStudentTRV",
    "SkewNormalRV",
    "ExGaussianRV",
    "MoyalRV",
    "AsymmetricLaplaceRV",
    "FlatRV",
}


def _constant(bound: Variable, extreme) -> float | None:
    """Return a bound's extreme value if it depends on nothing that is drawn or learned."""
    if not isinstance(bound, Variable):
        return float(extreme(bound))
    if isinstance(bound, Constant):
        return float(extreme(bound.data))
    for variable in ancestors([bound]):
        node = variable.owner
        if node is None and not isinstance(variable, Constant):
            return None
        if node is not None and isinstance(node.op, RNGConsumerOp):
            return None
    return float(extreme(evaluate(bound)))


def _further_out(guide: float | None, model: float | None, side: int) -> bool:
    """Whether the guide's bound lies outside the model's; ``side`` is 1 for upper bounds."""
    if guide is None:
        return False
    if model is None:  # only known at run time, but a bound all the same
        return guide == side * np.inf
    return side * guide > side * model


def support_mismatch(model_site: Site, guide_rv: Variable) -> str | None:
    """Describe how the guide's support leaves the model's; None if it does not, or is unknown."""
    model, guide = _support_of_site(model_site), support_of(guide_rv)
    if model is None or guide is None:
        return None
    if model.kind == guide.kind == "interval":
        below = _further_out(guide.lower, model.lower, -1)
        above = _further_out(guide.upper, model.upper, 1)
        if not (below or above):
            return None
    elif model.kind == guide.kind or (model.kind == "interval" and str(model) == "the real line"):
        return None
    return f"{model} in the model, {guide} in the guide"
