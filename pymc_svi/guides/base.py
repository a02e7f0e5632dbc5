"""What automatic guides share: they follow the model, draw in unconstrained space, and start somewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pymc as pm
import pytensor
from pymc.pytensorf import find_rng_nodes, reseed_rngs
from pytensor.graph.basic import Variable

from pymc_svi.errors import InitializationError, SiteError, sentence
from pymc_svi.guides.init import (
    InitStrategy,
    constrain,
    init_to_initial_point,
    log_jac_det,
    unconstrain,
)
from pymc_svi.handlers import Handler, Site, block, trace
from pymc_svi.handlers.core import Program, run_program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.stack import no_handlers
from pymc_svi.handlers.values import as_site_value
from pymc_svi.primitives import init_seed

__all__ = ["AutoGuide", "Latent", "Prototype"]


@dataclass(frozen=True)
class Latent:
    """A latent site of the model, as a guide sees it.

    Attributes
    ----------
    name : str
        Its name.
    shape : tuple of int
        Its shape in unconstrained space.
    dims : tuple of (str or None), optional
        Its dims, if the unconstrained value has them too.
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[str | None, ...] | None

    @property
    def size(self) -> int:
        """Number of unconstrained elements."""
        return int(np.prod(self.shape))


class Prototype:
    """The latent sites of a model, found by one run of it, and where they start."""

    def __init__(self, model: Program, init_loc_fn: InitStrategy, args, kwargs):
        # Run apart from the handlers around: this run is not part of the guide's.
        with no_handlers():
            start = _Start(init_loc_fn)
            with start:
                traced = trace(model).get_trace(*args, **kwargs)
        self._names = list(start.unconstrained)
        self._compute = pytensor.function(
            [], list(start.unconstrained.values()), mode="FAST_COMPILE"
        )
        self._rngs = find_rng_nodes(self._compute.maker.fgraph.outputs)
        values = self.start(0)
        self.latents = {
            name: Latent(name, values[name].shape, _unconstrained_dims(traced[name], values[name]))
            for name in self._names
        }

    @lru_cache(maxsize=2)  # noqa: B019, as short-lived as the guide's run that made it
    def start(self, seed: int) -> Mapping[str, np.ndarray]:
        """Return the starting values in unconstrained space."""
        if self._rngs:
            reseed_rngs(self._rngs, seed)
        values = dict(zip(self._names, map(np.asarray, self._compute()), strict=True))
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise InitializationError(
                    sentence(
                        f"Site {name!r} starts outside its support",
                        found=f"the unconstrained value {value}",
                        fix="Choose another init_loc_fn, or init_to_value(values={...})",
                    )
                )
        return values


def _unconstrained_dims(site: Site, value: np.ndarray):
    same_ndim = site.dims is not None and len(site.dims) == value.ndim
    elementwise = getattr(site.transform, "ndim_supp", 0) == 0
    return site.dims if same_ndim and elementwise else None


class _Start(Handler):
    """Give each latent site its starting value."""

    def __init__(self, init_loc_fn: InitStrategy):
        super().__init__()
        self.init_loc_fn = init_loc_fn
        self.unconstrained: dict[str, Variable] = {}

    def process_message(self, site: Site) -> None:
        if not site.is_latent or site.value is not None:
            return
        check_continuous(site)
        value = self.init_loc_fn(site)
        site.value = as_site_value(value, site.dist, site.name, site.dims)
        self.unconstrained[site.name] = as_plain_tensor(unconstrain(site, site.value))


def check_continuous(site: Site) -> None:
    """Refuse a discrete latent site, which has no unconstrained space."""
    dtype = as_plain_tensor(site.dist).type.dtype
    if not dtype.startswith("float"):
        raise SiteError(
            sentence(
                f"Site {site.name!r} is discrete ({dtype}); this guide handles continuous sites only",
                fix="Marginalise it out of the model, condition on it, or write a guide for it",
            )
        )


class AutoGuide(ABC):
    """Base of the guides that are made from a model.

    An automatic guide runs the model itself: each latent site is given a draw instead of its
    prior, so that the sites downstream, and the bounds that depend on other sites, see the
    values of this very draw. Observed sites, factors and deterministics are left out.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the guide's params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the guide starts; see :mod:`pymc_svi.guides.init`.
    """

    def __init__(
        self,
        model: Program,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
    ):
        name = type(self).__name__
        if not (callable(model) or isinstance(model, pm.Model)):
            raise TypeError(
                sentence(
                    f"{name}: the first argument is the model",
                    found=f"{type(model).__name__}",
                    expected="a function that creates PyMC variables, or a pm.Model",
                )
            )
        if not callable(init_loc_fn):
            raise TypeError(
                sentence(
                    f"{name}: init_loc_fn is a function of a site",
                    found=f"{init_loc_fn!r}",
                    fix="Use one of pymc_svi.guides.init_to_*, "
                    "such as init_to_value(values={'x': 1.0})",
                )
            )
        self.model = model
        self.prefix = prefix
        self.init_loc_fn = init_loc_fn
        # The latent sites of the model at the first run. Later runs leave other sites alone:
        # data that are not passed when predicting make no new latent sites.
        self._names: tuple[str, ...] | None = None

    def __call__(self, *args, **kwargs) -> None:
        """Run the guide: emit one site for each latent site of the model."""
        model = self.model
        if self._names is not None:
            model = block(model, hide_fn=lambda s: s.is_latent and s.name not in self._names)
        prototype = Prototype(model, self.init_loc_fn, args, kwargs)
        if not prototype.latents:
            raise SiteError(
                sentence(
                    f"{type(self).__name__} found no latent sites in the model",
                    fix="Use a guide that does nothing: lambda *args, **kwargs: None",
                )
            )
        self._names = tuple(prototype.latents)
        draw = self.begin(prototype)
        with _Latents(draw):
            run_program(model, *args, **kwargs)

    @abstractmethod
    def begin(self, prototype: Prototype):
        """Declare what all sites share; return the function that draws one site.

        The function is called with a site and returns its unconstrained value and the
        log-density of that value, elementwise or for the site as a whole.
        """

    def start_of(self, prototype: Prototype, name: str):
        """Return the function that makes the starting value of a site's location."""
        return lambda: prototype.start(init_seed())[name]

    def __repr__(self) -> str:
        model = getattr(self.model, "__name__", None) or "model"
        return f"{type(self).__name__}({model})"


class _Latents(Handler):
    """Replace each latent site of the model by a guide's draw and hide everything else."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def process_message(self, site: Site) -> None:
        if site.type == "param":
            return
        if not site.is_latent or site.value is not None:
            site.stop = True
            return
        unconstrained, log_density = self.draw(site)
        site.value = constrain(site, unconstrained)
        jacobian = log_jac_det(site, unconstrained)
        if jacobian is not None:
            if log_density.ndim > jacobian.ndim:
                log_density = log_density.sum(axis=tuple(range(jacobian.ndim, log_density.ndim)))
            log_density = log_density - jacobian
        site.log_density = log_density
