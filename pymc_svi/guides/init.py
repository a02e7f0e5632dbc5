"""Where automatic guides start: strategies that give each latent site a first value.

A strategy is called with a :class:`~pymc_svi.handlers.Site` whose distribution already depends
on the starting values of its parents, and returns a value in the site's support. All can be
used as they are (``init_loc_fn=init_to_uniform``) or with settings
(``init_loc_fn=init_to_uniform(radius=1)``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pytensor.tensor as pt
from pymc.distributions.continuous import FlatRV, HalfFlatRV
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.tensor.random.type import RandomType
from pytensor.xtensor.shape import Transpose
from pytensor.xtensor.type import XTensorType

from pymc_svi.errors import sentence
from pymc_svi.gradients import fresh_rng, vectorize_draws
from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.guides.spaces import constrain, prior_center, unconstrain
from pymc_svi.handlers import Site
from pymc_svi.handlers.distributions import resized
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.values import as_site_value

__all__ = [
    "InitStrategy",
    "init_to_feasible",
    "init_to_generated",
    "init_to_initial_point",
    "init_to_mean",
    "init_to_median",
    "init_to_sample",
    "init_to_uniform",
    "init_to_value",
]

InitStrategy = Callable[[Site], Variable]


def _with_settings(strategy):
    """Let a strategy be used as ``f``, ``f()`` or ``f(setting=...)``."""

    @functools.wraps(strategy)
    def wrapper(site: Site | None = None, **settings):
        if site is None:
            return functools.partial(wrapper, **settings)
        return strategy(site, **settings)

    return wrapper


@_with_settings
def init_to_initial_point(site: Site) -> Variable:
    """PyMC's initial point: the variable's ``initval`` if it has one, else its support point.

    The start of ``pm.fit`` and ``pm.sample``, without jitter.

    Parameters
    ----------
    site : Site
        Left out by users: ``init_to_initial_point`` is a strategy.

    Returns
    -------
    Variable
        The value.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVI
    >>> from pymc_svi.guides import AutoNormal, init_to_initial_point
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 3.0, 1.0)
    >>> svi = SVI(model, AutoNormal(model, init_loc_fn=init_to_initial_point))
    >>> float(svi.get_params(svi.init())["x_auto_loc"])
    3.0
    """
    if site.initval is None or isinstance(site.initval, str):
        if site.initval == "prior":
            return site.dist
        return _support_point(site)
    return as_site_value(site.initval, site.dist, site.name, site.dims)


@_with_settings
def init_to_feasible(site: Site) -> Variable:
    """Zero in unconstrained space.

    Parameters
    ----------
    site : Site
        Left out by users: ``init_to_feasible`` is a strategy.

    Returns
    -------
    Variable
        The value.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import init_to_feasible
    >>> def model():
    ...     pm.HalfNormal("x", 10.0)
    >>> float(init_to_feasible(handlers.trace(model).get_trace()["x"]).eval())
    1.0
    """
    center = as_plain_tensor(unconstrain(site, _support_point(site)))
    return constrain(site, pt.zeros_like(center))


@_with_settings
def init_to_uniform(site: Site, *, radius: float = 2.0) -> Variable:
    """Uniform in ``(-radius, radius)`` in unconstrained space: NumPyro's default.

    Parameters
    ----------
    site : Site
        Left out by users: ``init_to_uniform(radius=1.0)`` is a strategy.
    radius : float, default 2.0
        Positive.

    Returns
    -------
    Variable
        The value.

    Raises
    ------
    ValueError
        If the radius is not positive, when the guide is built.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVI
    >>> from pymc_svi.guides import AutoNormal, init_to_uniform
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 50.0, 1.0)
    >>> svi = SVI(model, AutoNormal(model, init_loc_fn=init_to_uniform(radius=1.0)))
    >>> bool(abs(svi.init(random_seed=1).params["x_auto_loc"]) < 1.0)
    True
    """
    if not radius > 0:
        raise ValueError(sentence("init_to_uniform: radius must be positive", found=f"{radius}"))
    shape = unconstrain(site, _support_point(site)).shape
    return constrain(site, pt.random.uniform(-radius, radius, size=shape, rng=fresh_rng()))


@_with_settings
def init_to_sample(site: Site) -> Variable:
    """One draw from the prior, given the starting values of the parents.

    A site with an improper prior, ``pm.Flat`` or ``pm.HalfFlat``, starts as by ``init_to_uniform``.

    Parameters
    ----------
    site : Site
        Left out by users: ``init_to_sample`` is a strategy.

    Returns
    -------
    Variable
        The value.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVI
    >>> from pymc_svi.guides import AutoNormal, init_to_sample
    >>> with pm.Model() as model:
    ...     x = pm.Uniform("x", 2.0, 3.0)
    >>> guide = AutoNormal(model, init_loc_fn=init_to_sample)
    >>> params = SVI(model, guide).init(random_seed=1).params
    >>> bool(2.0 < guide.median(params)["x"] < 3.0)
    True
    """
    return init_to_uniform(site) if _is_improper(site) else site.dist


@_with_settings
def init_to_median(site: Site, *, num_samples: int = 15) -> Variable:
    """Median of prior draws, taken in unconstrained space.

    A site with an improper prior, ``pm.Flat`` or ``pm.HalfFlat``, starts as by ``init_to_uniform``.

    Parameters
    ----------
    site : Site
        Left out by users: ``init_to_median(num_samples=100)`` is a strategy.
    num_samples : int, default 15
        Number of draws.

    Returns
    -------
    Variable
        The value.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.evaluation import evaluate
    >>> from pymc_svi.guides import init_to_median
    >>> def model():
    ...     pm.LogNormal("x", 1.0, 0.1)
    >>> value = init_to_median(handlers.trace(model).get_trace()["x"], num_samples=1_001)
    >>> bool(abs(evaluate(value) - 2.718) < 0.1)
    True
    """
    if _is_improper(site):
        return init_to_uniform(site)
    if isinstance(site.dist.type, XTensorType):
        values = _over_labelled_draws(site.dist, unconstrain(site, site.dist), num_samples)
    else:
        draws = resized(site.dist, (num_samples,), expand=True)
        one = site.dist.type()
        [values] = vectorize_graph([unconstrain(site, one)], {one: draws})
    return constrain(site, pt.median(values, axis=0))


@_with_settings
def init_to_mean(site: Site, *, num_samples: int = 1_000) -> Variable:
    """Mean of prior draws.

    A site with an improper prior, ``pm.Flat`` or ``pm.HalfFlat``, starts as by ``init_to_uniform``.

    Parameters
    ----------
    site : Site
        Left out by users: ``init_to_mean(num_samples=100)`` is a strategy.
    num_samples : int, default 1_000
        Number of draws.

    Returns
    -------
    Variable
        The value.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.evaluation import evaluate
    >>> from pymc_svi.guides import init_to_mean
    >>> def model():
    ...     pm.Exponential("x", 0.25)
    >>> value = init_to_mean(handlers.trace(model).get_trace()["x"], num_samples=10_000)
    >>> bool(abs(evaluate(value) - 4.0) < 0.3)
    True
    """
    if _is_improper(site):
        return init_to_uniform(site)
    if isinstance(site.dist.type, XTensorType):
        return _over_labelled_draws(site.dist, site.dist, num_samples).mean(axis=0)
    return resized(site.dist, (num_samples,), expand=True).mean(axis=0)


@_with_settings
def init_to_value(site: Site, *, values: Mapping[str, Any] | None = None) -> Variable:
    """Given values by site name; other sites start at PyMC's initial point.

    Parameters
    ----------
    site : Site
        Left out by users: ``init_to_value(values={...})`` is a strategy.
    values : dict of str to array_like, optional
        Values in constrained space.

    Returns
    -------
    Variable
        The value.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVI
    >>> from pymc_svi.guides import AutoNormal, init_to_value
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 0.0, 1.0)
    >>> svi = SVI(model, AutoNormal(model, init_loc_fn=init_to_value(values={"x": 0.5})))
    >>> float(svi.get_params(svi.init())["x_auto_loc"])
    0.5
    """
    if values is not None and site.name in values:
        return as_site_value(values[site.name], site.dist, site.name, site.dims)
    return init_to_initial_point(site)


class init_to_generated:
    """A strategy that is made anew for each start, to start several sites jointly.

    Parameters
    ----------
    generate : callable
        Called without arguments, returns the strategy of one start; called again when the
        log-density was not finite there.

    Raises
    ------
    TypeError
        If ``generate`` is not a function.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.guides import init_to_generated, init_to_value
    >>> rng = np.random.default_rng(1)
    >>> def generate():
    ...     slope = rng.normal()
    ...     return init_to_value(values={"slope": slope, "intercept": -slope})
    >>> strategy = init_to_generated(generate)
    """

    def __init__(self, generate: Callable[[], InitStrategy]):
        if not callable(generate):
            raise TypeError(
                sentence(
                    "init_to_generated: generate is a function that returns a strategy",
                    found=repr(generate),
                    fix="For example init_to_generated(lambda: init_to_value(values={...}))",
                )
            )
        self.generate = generate

    def __call__(self, site: Site) -> Variable:
        """Start one site on its own."""
        return self.generate()(site)


def _is_improper(site: Site) -> bool:
    """Return whether the prior is one that nothing can be drawn from."""
    dist = site.dist
    if isinstance(dist.type, XTensorType):
        [dist] = without_named_dims([dist.values])
    return isinstance(dist.owner.op, FlatRV | HalfFlatRV)


def _over_labelled_draws(dist: Variable, expression: Variable, n: int) -> Variable:
    """Return an expression at draws of a distribution with named dims, as a plain tensor.

    The parameters are the same for all draws.
    """
    draw = dist.owner.inputs[0] if isinstance(dist.owner.op, Transpose) else dist
    parameters = {
        inp: inp.type() for inp in draw.owner.inputs if not isinstance(inp.type, RandomType)
    }
    [alone] = graph_replace([as_plain_tensor(expression)], parameters, strict=False)
    return graph_replace(
        vectorize_draws([alone], n), {new: old for old, new in parameters.items()}, strict=False
    )[0]


def _support_point(site: Site) -> Variable:
    center = prior_center(site)
    # A prior draw where the distribution does not say where its centre is.
    return site.dist if center is None else center
