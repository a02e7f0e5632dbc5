"""``reparam``: express sites by others that are easier to infer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from pytensor.graph.basic import Variable
from pytensor.xtensor.type import XTensorType

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.distributions import batch_shape, support_ndim, with_batch_shape
from pymc_svi.handlers.plate import plate
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.stack import STACK
from pymc_svi.handlers.values import as_site_value

__all__ = ["Reparam", "reparam"]


class Reparam(Protocol):
    """What ``reparam`` asks of a reparameterisation.

    It is called with the site, creates sites of its own with ``sample`` and ``param``, and returns
    the value of the site as an expression of theirs; or None to leave the site alone. With
    ``keeps_law`` the site stays a sample site with its law, observed at that value; otherwise it
    becomes deterministic.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers, sample
    >>> class Negated:
    ...     keeps_law = False
    ...
    ...     def __call__(self, site):
    ...         return -sample(f"{site.name}_negated", pm.Normal.dist(0.0, 1.0))
    >>> def model():
    ...     pm.Normal("x", 0.0, 1.0)
    >>> run = handlers.reparam(model, config={"x": Negated()})
    >>> tr = handlers.trace(handlers.condition(run, data={"x_negated": 2.0})).get_trace()
    >>> float(tr["x"].value.eval())
    -2.0
    """

    keeps_law: bool

    def __call__(self, site: Site) -> Variable | None:
        """Create the other sites and return the site's value."""


class reparam(Handler):
    """Replace sample sites by a reparameterisation of them.

    The sites that take the place of one are inside the same plates, scales and masks; handlers
    outside see them, and the original as a deterministic site.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    config : dict of str to Reparam, or callable
        Reparameterisations by site name, or a function of the site that returns one or None, such
        as :class:`~pymc_svi.reparam.AutoReparam`.

    Raises
    ------
    TypeError
        If ``config`` is neither a dict nor a function.

    Examples
    --------
    Non-centring a hierarchical model:

    >>> import pymc as pm
    >>> from pymc_svi import LocScaleReparam, handlers
    >>> def model():
    ...     tau = pm.HalfNormal("tau", 5.0)
    ...     pm.Normal("theta", 0.0, tau, shape=8)
    >>> non_centred = handlers.reparam(model, config={"theta": LocScaleReparam(0.0)})
    >>> {name: site.type for name, site in handlers.trace(non_centred).get_trace().items()}
    {'tau': 'sample', 'theta_decentered': 'sample', 'theta': 'deterministic'}
    """

    def __init__(
        self,
        program: Program | None = None,
        config: Mapping[str, Reparam] | Callable[[Site], Reparam | None] | None = None,
    ):
        super().__init__(program)
        if not (isinstance(config, Mapping) or callable(config)):
            raise TypeError(
                sentence(
                    "reparam: config is a dict of reparameterisations or a function of a site",
                    found=f"{config!r}",
                    fix='Write config={"theta": LocScaleReparam(0.0)}',
                )
            )
        self.config = config

    def process_message(self, site: Site) -> None:
        """Express a site by others."""
        if site.type != "sample":
            return
        if isinstance(self.config, Mapping):
            strategy = self.config.get(site.name)
        else:
            strategy = self.config(site)
        if strategy is None:
            return
        if site.observed:
            if not isinstance(self.config, Mapping):
                return
            raise SiteError(
                sentence(
                    f"Site {site.name!r} is observed and cannot be reparameterised",
                    found=f"{strategy!r}",
                    fix="Remove it from the config, or condition the sites that take its place",
                )
            )
        stack = STACK.get()
        outside = stack[: next(i for i, handler in enumerate(stack) if handler is self)]
        token = STACK.set((*outside, _Inside(site)))
        try:
            value = strategy(site)
        finally:
            STACK.reset(token)
        if value is None:
            return
        if any(isinstance(handler, plate) for handler in outside):
            _repeat(site, value)  # what these plates did to the sites in its place
        site.value = as_site_value(value, site.dist, site.name, site.dims)
        if strategy.keeps_law:
            site.observed = True
        else:
            site.type = "deterministic"


def _repeat(site: Site, value: Variable) -> None:
    """Give a site the batch shape of its value, if this is a repetition of its own."""
    if isinstance(site.dist.type, XTensorType):
        return
    own, ndim = batch_shape(site.dist), value.type.ndim - support_ndim(site.dist)
    found = value.type.shape[:ndim]
    repeated = [n for n, m in zip(found[::-1], own[::-1], strict=False) if m == 1 != n]
    if ndim > len(own) or (ndim == len(own) and repeated):
        if site.dims is not None:
            site.dims = (None,) * (ndim - len(own)) + site.dims
        lengths = [value.shape[i] if n is None else n for i, n in enumerate(found)]
        site.dist = with_batch_shape(site.dist, tuple(lengths))


class _Inside(Handler):
    """Put the sites of a reparameterisation into the plates, scale and mask of the original."""

    def __init__(self, original: Site):
        super().__init__()
        self.original = original

    def process_message(self, site: Site) -> None:
        """Take over what the handlers inside did to the original site."""
        if site.type in ("sample", "factor"):
            site.scale, site.mask = self.original.scale, self.original.mask
            site.plates = self.original.plates
        if site.type == "sample" and not site.event_dim:
            site.event_dim = min(self.original.event_dim, len(batch_shape(site.dist)))
