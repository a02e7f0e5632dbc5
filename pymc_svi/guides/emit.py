"""From the draws of a guide in unconstrained space to its sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytensor.graph.basic import Variable

from pymc_svi.enumeration import has_finite_support
from pymc_svi.guides.spaces import constrain, log_jac_det, unconstrain
from pymc_svi.handlers import Handler, Site
from pymc_svi.handlers.distributions import support_ndim
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.plate import plate
from pymc_svi.handlers.stack import STACK

__all__ = ["emit_latents"]


class emit_latents(Handler):
    """Replace each latent site of the model by a guide's draw and hide everything else.

    Parameters
    ----------
    draw : callable
        The function that :meth:`AutoGuide.begin` returns.
    discrete : bool, default False
        Draw discrete sites that can be summed out, too; otherwise they are left to that.

    Attributes
    ----------
    unconstrained : dict of str to Variable
        The draws so far.
    """

    def __init__(self, draw: Callable[[Site], Any], discrete: bool = False):
        super().__init__()
        self.draw = draw
        self.discrete = discrete
        self.unconstrained: dict[str, Variable] = {}

    def process_message(self, site: Site) -> None:
        """Draw a latent site; stop all others."""
        if site.type in ("param", "plate"):
            return
        if not site.is_latent or site.value is not None or self._is_left_to_sums(site):
            site.stop = True
            return
        with self._outside(site):
            drawn = self.draw(site)
        if drawn is None:
            return
        unconstrained, log_density, *known = drawn
        self.unconstrained[site.name] = unconstrained
        site.value = value = constrain(site, unconstrained)
        site.log_density = log_density = _constrained_density(site, unconstrained, log_density)
        if not known:
            return

        def log_density_at(other: Variable) -> Variable:
            if other is value:
                return log_density
            u = as_plain_tensor(unconstrain(site, other))
            return _constrained_density(site, u, known[0](u))

        site.log_density_at = log_density_at

    def _is_left_to_sums(self, site: Site) -> bool:
        return not self.discrete and has_finite_support(site.dist)

    @contextmanager
    def _outside(self, site: Site) -> Iterator[None]:
        """Inside, the guide's params pass by the model's own handlers, but not its plates.

        ``block(model, expose=["x"])`` hides sites of the model; the params are the guide's.
        """
        stack = STACK.get()
        here = next(i for i, handler in enumerate(stack) if handler is self)
        plates = tuple(handler for handler in stack[here + 1 :] if isinstance(handler, plate))
        if not plates:  # those of a built model are not entered when it is walked
            plates = tuple(plate.inside(frame) for frame in site.plates)
        token = STACK.set((*stack[: here + 1], *plates))
        try:
            yield
        finally:
            STACK.reset(token)


def _constrained_density(site: Site, unconstrained: Variable, log_density: Variable) -> Variable:
    """Return the log-density of a site's value from that of its unconstrained value."""
    jacobian = log_jac_det(site, unconstrained)
    if jacobian is None:  # one density for each value of the site, as its own law has
        ndim = as_plain_tensor(unconstrained).ndim - support_ndim(site.dist)
    else:
        ndim = jacobian.ndim
    if log_density.ndim > ndim:
        log_density = log_density.sum(axis=tuple(range(ndim, log_density.ndim)))
    return log_density if jacobian is None else log_density - jacobian
