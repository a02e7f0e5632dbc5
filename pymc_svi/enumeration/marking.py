"""Saying which discrete sites are summed out, and giving them a variable to be summed over."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

from pymc_svi.enumeration.supports import has_finite_support
from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers import Handler, Site
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.values import as_site_value

__all__ = ["config_enumerate", "is_enumerated", "markov", "summed"]

_MODES = ("parallel", "sequential")


class config_enumerate(Handler):
    """Have the discrete sites of a program summed out, those with finitely many values.

    Sites whose ``infer`` options say something about it already keep them.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        A guide, or a model. Discrete sites of a model that its guide leaves out are summed out
        by :class:`~pymc_svi.TraceEnum_ELBO` in any case.
    default : {"parallel", "sequential", None}, default "parallel"
        What to set. The sums are the same either way; None leaves the sites to be drawn.

    Raises
    ------
    ValueError
        If ``default`` is none of the three.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import config_enumerate, handlers, param
    >>> @config_enumerate
    ... def guide():
    ...     pm.Bernoulli("z", logit_p=param("logit", 0.0))
    >>> handlers.trace(guide).get_trace()["z"].infer
    {'enumerate': 'parallel'}
    """

    def __init__(self, program: Program | None = None, default: str | None = "parallel"):
        super().__init__(program)
        if default is not None and default not in _MODES:
            raise ValueError(
                sentence(
                    "config_enumerate: unknown default",
                    found=repr(default),
                    expected="'parallel', 'sequential' or None",
                )
            )
        self.default = default

    def process_message(self, site: Site) -> None:
        """Set the option of a discrete latent site."""
        if site.is_latent and "enumerate" not in site.infer and has_finite_support(site.dist):
            site.infer = {**site.infer, "enumerate": self.default}


class summed(Handler):
    """Give sites that are to be summed out a variable in the place of a draw.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    unless : container of str, optional
        For a model: names of sites that have a value from elsewhere. All others that can be
        enumerated are. Without it, for a guide: only those whose options ask for it are.
    """

    def __init__(self, program: Program | None = None, unless: Container[str] | None = None):
        super().__init__(program)
        self.unless = unless

    def process_message(self, site: Site) -> None:
        """Give a site its variable."""
        if not site.is_latent or site.value is not None:
            return
        asked = site.infer.get("enumerate")
        if asked is not None and asked not in _MODES:
            raise SiteError(
                sentence(
                    f"Site {site.name!r}: unknown way to enumerate",
                    found=repr(asked),
                    expected="'parallel' or 'sequential'",
                )
            )
        if self.unless is None:
            wanted = asked is not None
        else:
            known = site.name in self.unless
            wanted = not known and (asked is not None or has_finite_support(site.dist))
        if wanted:
            plain = as_plain_tensor(site.dist)
            placeholder = plain.type()
            placeholder.name = site.name
            site.infer = {**site.infer, "summed_over": placeholder}
            site.value = as_site_value(placeholder, site.dist, site.name, site.dims)


def is_enumerated(site: Site) -> bool:
    """Whether a site has a variable to be summed over."""
    return "summed_over" in site.infer


def markov(iterable: Iterable | Callable | None = None, history: int = 1) -> Any:
    """Declare that each step of a loop depends on those before it through ``history`` sites only.

    ``for t in markov(range(100)): ...`` as in Pyro. :class:`~pymc_svi.TraceEnum_ELBO` reads from
    the graph which sites depend on which, and sums a chain out step by step with or without it;
    the time to compile grows with the length of the loop.

    Parameters
    ----------
    iterable : iterable or callable
        What is looped over, or a function, as a decorator.
    history : int, default 1
        How many earlier steps a step depends on.

    Returns
    -------
    iterable or callable
        What it was given.

    Raises
    ------
    ValueError
        If ``history`` is not a whole number from 0 on.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import markov
    >>> def model(ys):
    ...     z = 0
    ...     for t in markov(range(len(ys))):
    ...         z = pm.Bernoulli(f"z{t}", 0.2 + 0.6 * z)
    ...         pm.Normal(f"y{t}", z, 1.0, observed=ys[t])
    """
    if isinstance(history, bool) or not isinstance(history, int) or history < 0:
        raise ValueError(sentence("markov: history is a whole number", found=repr(history)))
    if iterable is None:
        return lambda function: markov(function, history)
    return iterable
