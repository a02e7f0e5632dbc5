"""``lift``: give params a prior."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import pymc as pm
from pytensor.graph.basic import Variable

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.distributions import batch_shape, fresh, is_distribution, with_batch_shape
from pymc_svi.handlers.interception import add_free_variable
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.values import describe_shape

__all__ = ["lift"]


class lift(Handler):
    """Turn params into sample sites with a prior.

    A param that is read several times is sampled once.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    prior : dict of str to distribution, distribution, or callable
        Unnamed distributions by name of the param; one for all params; or a function of the site
        that returns one, or None. A prior of fewer dimensions than the param is independent over
        the others.

    Raises
    ------
    TypeError
        If the prior is not a distribution, nor a dict or a function of them.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers, param
    >>> def program():
    ...     w = param("w", [0.0, 0.0])
    ...     pm.Normal("y", w.sum(), 1.0, observed=1.0)
    >>> bayesian = handlers.lift(program, prior={"w": pm.Normal.dist(0, 2)})
    >>> tr = handlers.trace(bayesian).get_trace()
    >>> tr["w"].type, tr["w"].shape
    ('sample', (2,))
    """

    def __init__(
        self,
        program: Program | None = None,
        prior: Mapping[str, Variable] | Variable | Callable[[Site], Variable | None] | None = None,
    ):
        super().__init__(program)
        priors = list(prior.values()) if isinstance(prior, Mapping) else [prior]
        if not (callable(prior) or all(is_distribution(dist) for dist in priors)):
            raise TypeError(
                sentence(
                    "lift: the prior is not a distribution",
                    found=f"{prior!r}",
                    expected="an unnamed distribution, a dict of them by param, or a function",
                    fix='Write prior={"w": pm.Normal.dist(0, 1)}',
                )
            )
        self.prior = prior

    def __enter__(self):
        self._values: dict[str, Any] = {}
        self._seen: list[str] = []
        return super().__enter__()

    def __exit__(self, exc_type, *exc_info) -> None:
        super().__exit__(exc_type, *exc_info)
        if exc_type is None and isinstance(self.prior, Mapping):
            for name in self.prior:
                close = get_close_matches(name, self._seen, n=1, cutoff=0.8)
                if name not in self._seen and close:
                    warnings.warn(
                        f"lift: the program has no param {name!r}. Did you mean {close[0]!r}?",
                        UserWarning,
                        stacklevel=3,
                    )

    def process_message(self, site: Site) -> None:
        """Turn a param into a sample site."""
        if site.type != "param" or site.infer.get("is_statistic"):
            return
        self._seen.append(site.name)
        prior = self._prior_of(site)
        if prior is None:
            return
        if site.name in self._values:  # read again: the same value, and not a second site
            site.value, site.stop, site.default = self._values[site.name], True, None
            return
        site.type = "sample"
        site.dist = _in_shape_of(prior, site)
        # All of it is sampled, of which a minibatch gets its part: it is not inside of those.
        site.plates = tuple(frame for frame in site.plates if not frame.is_subsampled)
        site.value = site.constraint = site.init = None
        site.default = add_free_variable(pm.Model.get_context(error_if_none=False))

    def postprocess_message(self, site: Site) -> None:
        """Remember the value for other readings."""
        if site.type == "sample" and site.name in self._seen:
            self._values[site.name] = site.value

    def _prior_of(self, site: Site) -> Variable | None:
        if isinstance(self.prior, Mapping):
            return self.prior.get(site.name)
        return self.prior(site) if callable(self.prior) else self.prior


def _in_shape_of(prior: Variable, site: Site) -> Variable:
    """Return a prior with a batch of the size of the param, where it has fewer dimensions."""
    if site.make_start is None or site.init is None:
        return fresh(prior)
    shape = site.constraint.constrain_value(site.make_start()).shape
    missing = len(shape) - prior.type.ndim
    sizes = zip(prior.type.shape[::-1], shape[::-1], strict=False)
    if missing < 0 or any(found not in (None, size) for found, size in sizes):
        raise SiteError(
            sentence(
                f"lift: the prior of param {site.name!r} does not have its shape",
                found=describe_shape(prior.type.shape),
                expected=f"{describe_shape(shape, site.dims)}, or fewer dimensions on the right, "
                "which are repeated",
            )
        )
    if missing == 0:
        return fresh(prior)
    return with_batch_shape(prior, (*shape[:missing], *batch_shape(prior)))
