"""Between the support of a site and unconstrained space, given the values of its parents."""

from __future__ import annotations

from pymc.dims.distributions.transforms import IntervalTransform, LogOddsTransform, LogTransform
from pymc.distributions.distribution import support_point
from pymc.logprob.transforms import Transform
from pytensor.graph.basic import Variable
from pytensor.xtensor import as_xtensor
from pytensor.xtensor.type import XTensorType

from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.handlers import Site
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.values import as_site_value

__all__ = [
    "acts_on_elements",
    "constrain",
    "log_jac_det",
    "prior_center",
    "unconstrain",
    "unconstrained_center",
]


def unconstrain(site: Site, value: Variable) -> Variable:
    """Map a value of a site to unconstrained space."""
    if site.transform is None:
        return value
    return site.resolve(site.transform.forward(value, *site.dist.owner.inputs))


def constrain(site: Site, value: Variable) -> Variable:
    """Map an unconstrained value to the support of a site, given the values of its parents."""
    if site.transform is None:
        named = isinstance(site.dist.type, XTensorType)
        return as_site_value(value, site.dist, site.name, site.dims) if named else value
    value = _with_dims(site, value)
    constrained = site.resolve(site.transform.backward(value, *site.dist.owner.inputs))
    return as_site_value(constrained, site.dist, site.name, site.dims)


def log_jac_det(site: Site, value: Variable) -> Variable | None:
    """Log-determinant of the Jacobian of :func:`constrain`; None for the identity."""
    if site.transform is None:
        return None
    value = _with_dims(site, value)
    return as_plain_tensor(site.resolve(site.transform.log_jac_det(value, *site.dist.owner.inputs)))


def _with_dims(site: Site, value: Variable) -> Variable:
    """Return an unconstrained value with named dims where the site's transform works on them."""
    if not isinstance(site.dist.type, XTensorType):
        return value
    return as_xtensor(value, dims=unconstrain(site, site.dist).type.dims)


def acts_on_elements(transform: Transform | None) -> bool:
    """Return whether a transform maps each element of a site on its own."""
    if isinstance(transform, LogTransform | LogOddsTransform | IntervalTransform):
        return True  # of ``pymc.dims``, which doesn't say
    return getattr(transform, "ndim_supp", 0) == 0


def prior_center(site: Site) -> Variable | None:
    """Return the support point of a site's prior, given its parents; None if it has none."""
    dist = site.dist
    if isinstance(dist.type, XTensorType):
        [dist] = without_named_dims([dist.values])
    try:
        center = support_point(dist)
    except NotImplementedError:
        return None
    return center if dist is site.dist else as_xtensor(center, dims=site.dist.type.dims)


def unconstrained_center(site: Site) -> Variable | None:
    """Return the support point of a site's prior in unconstrained space; None if it has none."""
    center = prior_center(site)
    return None if center is None else as_plain_tensor(unconstrain(site, center))
