"""A site: one named effect of a program, as the handlers see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from pytensor.graph.basic import Variable

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.distributions import support_ndim
from pymc_svi.handlers.log_prob import as_plain_tensor, scaled_and_masked, site_log_prob

__all__ = ["Site", "SiteType"]

SiteType = Literal["sample", "param", "deterministic", "factor", "plate", "data"]


@dataclass(eq=False)
class Site:
    """One named effect of a program: the message that travels through the handler stack.

    A handler reads a site and changes it; see :class:`~pymc_svi.handlers.Handler`.

    Attributes
    ----------
    type : {"sample", "param", "deterministic", "factor", "plate", "data"}
        What kind of effect it is.
    name : str
        The name of the site, unique within a program.
    dist : Variable, optional
        For ``sample`` sites the random variable whose law the site has, with the values of the
        sites upstream already in the place of its parents.
    value : Variable, optional
        The value of the site, at which its law is evaluated. A handler that sets it before the
        default action decides it; for a latent site left alone it is a draw, for an observed one
        the data.
    result : Variable, optional
        What the program goes on with where that is not the value: an intervention of ``do``, the
        part of a param that belongs to a minibatch.
    observed : bool
        Whether the value is data: its log-probability is a likelihood term.
    dims : tuple of (str or None), optional
        Names of the dimensions.
    transform : pymc Transform, optional
        The map to unconstrained space of a latent site, as PyMC or the user chose it.
    initval : array_like, str or Variable, optional
        The starting value that the user asked PyMC for.
    scale : float or scalar Variable
        Factor on the log-probability; handlers multiply into it.
    mask : Variable or bool, optional
        Where False, the log-probability is exactly zero; handlers combine with ``&``.
    infer : dict
        Options for inference algorithms, such as ``{"is_auxiliary": True}``.
    plates : tuple of Frame
        The plates around the site, outermost first.
    event_dim : int
        How many dimensions, left of those that make one value of ``dist``, make one element of the
        plates around: their log-probabilities are added up.
    part_of : str, optional
        Name of the statement of which the site is a part: observed data with missing values make
        two sites.
    log_density : Variable, optional
        The log-density of the value where it does not follow from ``dist``: a draw that was
        made in another space carries its own.
    log_density_at : callable, optional
        The log-density as a function of the value, beside a ``log_density`` that is written in
        the noise of one particular draw: for a site that is given another value, or is run
        again on the same one with its params held.
    drawn : callable
        Gives the draws that the law may depend on, known to the trace that the site is in.
    draw : callable, optional
        Makes a draw of the site where ``dist`` alone does not: of a site that stands for many
        steps, each of which depends on the one before.
    constraint, init
        Of a ``param``: its constraint and its starting value (or a callable that makes one).
    unconstrained : SharedVariable, optional
        Of a ``param``: the variable an optimizer moves.
    stop : bool
        Set by a handler to hide the site from the handlers outside it.
    default : callable, optional
        What happens when no handler gave a value; set by whoever emits the site.
    make_start : callable
        Of a ``param``: makes its starting value anew, in unconstrained space.
    resolve : callable
        Puts values in the place of variables that a transform captured when a model was built.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def model():
    ...     pm.Normal("x", 0.0, 1.0, shape=3)
    >>> site = handlers.trace(model).get_trace()["x"]
    >>> site.type, site.is_latent, site.shape, site.log_prob.type.shape
    ('sample', True, (3,), (3,))
    """

    type: SiteType
    name: str
    dist: Any = None
    value: Any = None
    result: Any = None
    observed: bool = False
    dims: tuple[str | None, ...] | None = None
    transform: Any = None
    initval: Any = None
    scale: Any = 1.0
    mask: Any = None
    infer: dict[str, Any] = field(default_factory=dict)
    plates: tuple[Any, ...] = ()
    event_dim: int = 0
    part_of: str | None = None
    log_density: Variable | None = None
    log_density_at: Callable[[Any], Variable] | None = field(default=None, repr=False)
    drawn: Callable[[], Sequence[Variable]] = field(default=tuple, repr=False)
    draw: Callable[[], Variable] | None = field(default=None, repr=False)
    constraint: Any = None
    init: Any = None
    unconstrained: Any = None
    stop: bool = False
    # What happens when no handler gave a value; set by whoever emits the site.
    default: Callable[[Site], None] | None = field(default=None, repr=False)
    # Of a param: makes its starting value anew, in unconstrained space.
    make_start: Callable[[], Any] = field(default=lambda: None, repr=False)
    # Puts values in the place of variables that a transform captured when a model was built.
    resolve: Callable[[Variable], Variable] = field(default=lambda variable: variable, repr=False)

    def __post_init__(self) -> None:
        # ``lift`` makes a sample site of a param, which plates go on treating as a param.
        self.emitted_as: SiteType = self.type

    @property
    def is_latent(self) -> bool:
        """Whether this is a ``sample`` site that is not observed."""
        return self.type == "sample" and not self.observed

    @property
    def log_prob(self) -> Variable:
        """Elementwise log-probability of the value, scaled and masked, as an expression.

        Zero for sites that are neither ``sample`` nor ``factor``.
        """
        made_of = (self.value, self.dist, self.scale, self.mask, self.log_density, self.event_dim)
        cached = getattr(self, "_log_prob", None)
        if cached is None or any(a is not b for a, b in zip(cached[0], made_of, strict=True)):
            value = self.unscaled_log_prob
            self._check_weight("scale", self.scale, value)
            self._check_weight("mask", self.mask, value)
            value = scaled_and_masked(value, self.scale, self.mask)
            cached = self._log_prob = (made_of, value)
        return cached[1]

    def _check_weight(self, what: str, weight: Any, log_prob: Variable) -> None:
        """Check that a scale or a mask broadcasts to the log-probability.

        One that is larger would count the log-probability several times.
        """
        found = weight.type.shape if isinstance(weight, Variable) else np.shape(weight)
        expected = log_prob.type.shape
        beyond = found[: max(len(found) - len(expected), 0)]
        pairs = zip(found[::-1], expected[::-1], strict=False)
        if any(n not in (1, None) for n in beyond) or any(
            None not in (n, m) and n not in (1, m) for n, m in pairs
        ):
            raise SiteError(
                sentence(
                    f"Site {self.name!r}: the {what} does not fit its log-probability",
                    found=f"shape {found}",
                    expected=f"shape {expected}, or one that broadcasts to it",
                    fix=f"Put the {what} around statements of its shape only",
                )
            )

    @property
    def outcome(self) -> Any:
        """What the program goes on with: ``result`` if a handler set it, else the value."""
        return self.value if self.result is None else self.result

    @property
    def unscaled_log_prob(self) -> Variable:
        """Elementwise log-probability before ``scale`` and ``mask``."""
        return self.per_element(self.log_prob_of_values)

    @property
    def event_ndim(self) -> int:
        """How many dimensions on the right make one element, which plates do not index."""
        if self.dist is None:
            return self.event_dim
        return self.event_dim + support_ndim(as_plain_tensor(self.dist))

    def parts_of_element(self, log_prob: Variable) -> int:
        """Return how many axes of a log-probability, on the right, make one element.

        Parameters
        ----------
        log_prob : Variable
            A log-probability of the site.

        Returns
        -------
        int
            Their number; 0 where it has been added up already.
        """
        if not self.event_dim or self.dist is None:
            return 0
        return max(log_prob.ndim - (as_plain_tensor(self.dist).ndim - self.event_ndim), 0)

    def per_element(self, log_prob: Variable) -> Variable:
        """Add a log-probability up over the dimensions that make one element.

        Parameters
        ----------
        log_prob : Variable
            A log-probability of the site.

        Returns
        -------
        Variable
            It, with one number for each element.
        """
        parts = self.parts_of_element(log_prob)
        return log_prob.sum(axis=tuple(range(-parts, 0))) if parts else log_prob

    @property
    def log_prob_of_values(self) -> Variable:
        """Log-probability of each value of ``dist``, before ``event_dim``, scale and mask."""
        try:
            return site_log_prob(self)
        except ValueError as error:
            if isinstance(error, SiteError) or self.type != "sample":
                raise
            raise SiteError(
                sentence(
                    f"Site {self.name!r}: its value does not fit its distribution",
                    found=f"a value of shape {self.shape}{_shapes_of_parameters(self.dist)} "
                    f"({str(error).splitlines()[0]})",
                    fix="Give it as many rows as its parameters have, in the same order of dimensions",
                )
            ) from error

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Static shape of the value; ``None`` where it is only known at run time."""
        if self.value is None:
            return ()
        if isinstance(self.value, Variable):
            return tuple(self.value.type.shape)
        return np.shape(self.value)

    def copy(self, **changes) -> Site:
        """Return a copy with some attributes changed.

        Parameters
        ----------
        **changes
            New values by name.

        Returns
        -------
        Site
            The copy.
        """
        return replace(self, infer=dict(self.infer), **changes)


def _shapes_of_parameters(dist: Variable) -> str:
    node = dist.owner
    if not hasattr(getattr(node, "op", None), "dist_params"):
        return ""
    shapes = [str(p.type.shape) for p in node.op.dist_params(node) if hasattr(p.type, "shape")]
    return f", parameters of shapes {', '.join(shapes)}"
