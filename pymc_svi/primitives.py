"""Statements of a program that PyMC does not have: ``param``, and unnamed distributions by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.compile import view_op
from pytensor.graph.basic import Variable

from pymc_svi.constraints import Constraint, as_constraint, real
from pymc_svi.errors import InitializationError, SiteError, sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.handlers.interception import sample_site
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.stack import apply_stack
from pymc_svi.handlers.values import describe_shape
from pymc_svi.handlers.walk import PARAM_TAG

__all__ = ["deterministic", "factor", "param", "sample"]

_ORDER = itertools.count()

# The seed with which starting values that are drawn are drawn; see :func:`init_seed`.
_INIT_SEED: ContextVar[int] = ContextVar("init_seed", default=0)


def init_seed() -> int:
    """Return the seed for starting values that are drawn."""
    return _INIT_SEED.get()


@contextmanager
def seeded_inits(seed: int) -> Iterator[None]:
    """Inside, starting values that are drawn are drawn with this seed."""
    token = _INIT_SEED.set(seed)
    try:
        yield
    finally:
        _INIT_SEED.reset(token)


@dataclass(frozen=True, eq=False)
class ParamRecord:
    """What a ``param`` statement said; a built model carries it on the variable's tag."""

    name: str
    init: Any
    constraint: Constraint
    dims: tuple[str | None, ...] | None
    dim_lengths: Mapping[str, Variable]
    event_dim: int | None
    order: int

    def site(self) -> Site:
        """Return a new site that says the same."""
        return Site(
            "param",
            self.name,
            dims=self.dims,
            constraint=self.constraint,
            init=self.init,
            infer={} if self.event_dim is None else {"event_dim": self.event_dim},
            default=self.make_value,
            make_start=self.unconstrained_start,
        )

    def make_value(self, site: Site) -> None:
        """Default action: a new variable at the starting value."""
        if site.value is None:
            start = self.unconstrained_start()
            site.unconstrained = pytensor.shared(start, name=self.name, shape=start.shape)
            # A node of its own: the param must be found again in the graph of a built model,
            # also where its constraint is the identity.
            site.value = view_op(site.constraint.constrain(site.unconstrained), name=self.name)
        elif not isinstance(site.value, Variable):
            site.value = pt.as_tensor(np.asarray(site.value, dtype=pytensor.config.floatX))
        setattr(site.value.tag, PARAM_TAG, self)

    def unconstrained_start(self) -> np.ndarray:
        """Evaluate, check and unconstrain the starting value."""
        if self.init is None:
            raise InitializationError(
                sentence(
                    f"Param {self.name!r} has no starting value at its first use",
                    fix=f"Write param({self.name!r}, init) with an array or a function that makes one",
                )
            )
        init = self.init() if callable(self.init) else self.init
        if isinstance(init, Variable):
            raise InitializationError(
                sentence(
                    f"Param {self.name!r} starts at a symbolic expression",
                    found=f"{init} of type {init.type}",
                    expected="numbers",
                    fix="Give an array, or a function without arguments that makes one",
                )
            )
        value = np.array(init, dtype=pytensor.config.floatX)
        value = self.broadcast_to_dims(value)
        if not np.isfinite(value).all():
            raise InitializationError(
                sentence(
                    f"Param {self.name!r} starts at a value that is not finite", found=f"{init!r}"
                )
            )
        if not self.constraint.check(value):
            raise InitializationError(
                sentence(
                    f"Param {self.name!r} starts outside its constraint {self.constraint!r}",
                    found=self.constraint.violation(value),
                    fix="Change the starting value or the constraint",
                )
            )
        return np.asarray(self.constraint.unconstrain(value), dtype=pytensor.config.floatX)

    def broadcast_to_dims(self, value: np.ndarray) -> np.ndarray:
        """Check a starting value against the dims; a scalar fills them."""
        if self.dims is None:
            return value
        lengths = [
            None if dim is None else int(evaluate(self.dim_lengths[dim]))
            for dim in self.dims
        ]
        if value.ndim == 0 and None not in lengths and self.constraint.event_dim == 0:
            return np.full([n for n in lengths if n is not None], value)
        if value.ndim != len(self.dims):
            raise SiteError(
                sentence(
                    f"Param {self.name!r} has {value.ndim} dimensions but {len(self.dims)} dims",
                    found=f"a starting value of shape {value.shape}",
                    expected=describe_shape(lengths, self.dims),
                )
            )
        for dim, length, size in zip(self.dims, lengths, value.shape, strict=True):
            if length is not None and size != length:
                raise SiteError(
                    sentence(
                        f"Param {self.name!r}: dim {dim!r} has {length} in the model, "
                        f"{size} in the starting value",
                        fix="Give a starting value of that length, or a scalar to fill the dims",
                    )
                )
        return value


def param(
    name: str,
    init: Any = None,
    *,
    constraint: Any = real,
    dims: str | Sequence[str | None] | None = None,
    event_dim: int | None = None,
) -> Variable:
    """Declare a learnable parameter.

    Works in guides and in models, in function programs and inside ``with pm.Model():``. A name
    that occurs in model and guide is one parameter; its starting value then needs to be given
    only where it is met first, in the guide.

    Parameters
    ----------
    name : str
        Name of the parameter.
    init : array_like or callable, optional
        Starting value, in constrained space, or a function without arguments that makes one.
        A scalar fills the ``dims``.
    constraint : constraint or pymc Transform, default ``constraints.real``
        Where the value lives; see :mod:`pymc_svi.constraints`.
    dims : str or sequence of str, optional
        Names of its dimensions, as for PyMC variables; they appear in the results.
    event_dim : int, optional
        How many dimensions on the right are not indexed by plates.

    Returns
    -------
    TensorVariable
        The parameter's value, in constrained space.

    Raises
    ------
    InitializationError
        If there is no starting value, or it is not finite or outside the constraint.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import constraints, param
    >>> with pm.Model() as guide:
    ...     loc = param("loc", 0.0)
    ...     scale = param("scale", 0.5, constraint=constraints.positive)
    ...     x = pm.Normal("x", loc, scale)
    >>> float(scale.eval())
    0.5
    """
    if not isinstance(name, str) or not name:
        raise TypeError(
            sentence(
                "param: the first argument is its name", found=f"{name!r}", expected="a string"
            )
        )
    model = pm.Model.get_context(error_if_none=False)
    dims = (dims,) if isinstance(dims, str) else (None if dims is None else tuple(dims))
    lengths = {} if model is None else dict(model.dim_lengths)
    missing = [dim for dim in dims or () if dim is not None and dim not in lengths]
    if missing:
        raise SiteError(
            sentence(
                f"Param {name!r}: dim {missing[0]!r} is not in the coords of the model",
                found=f"the dims {sorted(lengths)}",
                fix="Add it to the coords: pm.Model(coords=...) or SVI(..., coords=...)",
            )
        )
    record = ParamRecord(
        name=name if model is None else model.name_for(name),
        init=init,
        constraint=as_constraint(constraint),
        dims=dims,
        dim_lengths={dim: lengths[dim] for dim in dims or () if dim is not None},
        event_dim=event_dim,
        order=next(_ORDER),
    )
    site = apply_stack(record.site())
    return site.outcome


def sample(
    name: str,
    dist: Variable,
    obs: Any = None,
    *,
    dims: str | Sequence[str | None] | None = None,
    infer: dict[str, Any] | None = None,
) -> Variable:
    """Create a sample site from an unnamed distribution, in Pyro's manner.

    Ordinary statements such as ``pm.Normal("x", 0, 1)`` are sites already; this is for
    distributions made with ``.dist`` and for ``infer`` options.

    Parameters
    ----------
    name : str
        Name of the site.
    dist : TensorVariable
        An unnamed distribution, such as ``pm.Normal.dist(0, 1)``.
    obs : array_like, optional
        Data; makes the site observed.
    dims : str or sequence of str, optional
        Names of its dimensions.
    infer : dict, optional
        Options for inference, such as ``{"is_auxiliary": True}`` for a guide site that the
        model does not have.

    Returns
    -------
    TensorVariable
        The value of the site.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers, sample
    >>> def program():
    ...     return sample("x", pm.Normal.dist(0.0, 1.0, shape=3))
    >>> handlers.trace(program).get_trace()["x"].shape
    (3,)
    """
    if not isinstance(dist, Variable) or dist.owner is None:
        given = f"the class {dist.__name__}" if isinstance(dist, type) else type(dist).__name__
        raise TypeError(
            sentence(
                f"sample({name!r}): the second argument is an unnamed distribution",
                found=given,
                fix="Make it with .dist, for example pm.Normal.dist(0, 1)",
            )
        )
    dims = (dims,) if isinstance(dims, str) else dims
    return sample_site(pm.modelcontext(None), dist, name, obs, dims=dims, infer=infer)


def deterministic(name: str, value: Any, dims: Any = None) -> Variable:
    """Record a value under a name: ``pm.Deterministic`` that also takes numbers and arrays.

    Parameters
    ----------
    name : str
        Name of the site.
    value : array_like or TensorVariable
        The value.
    dims : str or sequence of str, optional
        Names of its dimensions.

    Returns
    -------
    TensorVariable
        The value.
    """
    return pm.Deterministic(name, pt.as_tensor(value), dims=dims)


def factor(name: str, log_factor: Any) -> Variable:
    """Add a term to the log-density: ``pm.Potential`` that also takes numbers and arrays.

    Parameters
    ----------
    name : str
        Name of the site.
    log_factor : array_like or TensorVariable
        The term.

    Returns
    -------
    TensorVariable
        The term.
    """
    # A view, since pm.Potential names what it is given.
    return pm.Potential(name, view_op(pt.as_tensor(log_factor)))
