"""``AutoGuide(model)``: choose a family by the size of the model and the kinds of its sites."""

from __future__ import annotations

import logging

from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.low_rank import AutoLowRankMultivariateNormal
from pymc_svi.guides.multivariate_normal import AutoMultivariateNormal
from pymc_svi.guides.normal import AutoNormal, check_init_scale
from pymc_svi.guides.prototype import Prototype
from pymc_svi.handlers.core import Program

__all__ = ["ChosenGuide"]

_log = logging.getLogger("pymc_svi")

# Up to this many elements a full covariance is cheap, beyond the second a factor of rank 20 too
# costs more than it is likely to bring.
_FULL_RANK = 200
_LOW_RANK = 100_000
_MOST_FACTORS = 20


class ChosenGuide(AutoGuide):
    """What ``AutoGuide(model)`` makes: a guide that chooses its family when it meets its model.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the guide starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start, in unconstrained space.

    Attributes
    ----------
    chosen : AutoGuide or None
        The guide it stands for; None before the first run.
    reason : str
        Why it is that one.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoGuide
    >>> def model():
    ...     x = pm.Normal("x", shape=3)
    ...     pm.Normal("y", x, 1.0, observed=[0.0, 1.0, 2.0])
    >>> guide = AutoGuide(model)
    >>> list(handlers.trace(guide).get_trace().latent)
    ['_auto_latent', 'x']
    >>> guide
    AutoGuide(model): AutoMultivariateNormal, as a full covariance is cheap for 3 latent elements
    """

    def __init__(
        self,
        model: Program,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        self.init_scale = check_init_scale("AutoGuide", init_scale)
        self.chosen: AutoGuide | None = None
        self.reason = "not chosen before the first run"

    def begin(self, prototype: Prototype):
        """Choose, and begin as the chosen guide does."""
        return self._choice(prototype).begin(prototype)

    def marginals(self, params, latents):
        """Return what the chosen guide does."""
        return self.chosen.marginals(params, latents) if self.chosen else None

    def get_posterior(self, params, *args, **kwargs):
        """Return what the chosen guide does."""
        fitted = self.at(params, *args, **kwargs)
        chosen = self.chosen or self._choice(fitted.prototype())
        return chosen.get_posterior(params, *fitted.args, **fitted.kwargs)

    def register_posterior(self, model, posterior, latents):
        """Do what the chosen guide does."""
        assert self.chosen is not None
        return self.chosen.register_posterior(model, posterior, latents)

    def _choice(self, prototype: Prototype) -> AutoGuide:
        if self.chosen is None:
            family, settings, self.reason = _choose(prototype)
            self.chosen = family(
                self.model,
                prefix=self.prefix,
                init_loc_fn=self.init_loc_fn,
                init_scale=self.init_scale,
                **settings,
            )
            self.step_up = self.chosen.step_up
            _log.info("AutoGuide: %s, %s.", family.__name__, self.reason)
        return self.chosen

    def __repr__(self) -> str:
        model = super().__repr__().removeprefix(type(self).__name__)
        family = type(self.chosen).__name__ + ", " if self.chosen else ""
        return f"AutoGuide{model}: {family}{self.reason}"


def _choose(prototype: Prototype) -> tuple[type, dict, str]:
    local = [
        name
        for name, latent in prototype.latents.items()
        if any(frame.is_subsampled for frame in latent.site.plates)
    ]
    if local:
        reason = f"as {local[0]!r} is local to a minibatch, and other families know no such sites"
        return AutoNormal, {}, reason
    size = prototype.size
    if size <= _FULL_RANK:
        noun = "element" if size == 1 else "elements"
        return AutoMultivariateNormal, {}, f"as a full covariance is cheap for {size} latent {noun}"
    if size <= _LOW_RANK:
        rank = min(_MOST_FACTORS, round(size**0.5))
        reason = (
            f"as the {size:,} latent elements make a full covariance costly; "
            f"the strongest correlations fit into rank {rank}"
        )
        return AutoLowRankMultivariateNormal, {"rank": rank}, reason
    reason = f"as {size:,} latent elements leave room for their means and scales only"
    return AutoNormal, {}, reason


AutoGuide.chooser = ChosenGuide
