"""``param``: what a fit learns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.stack import apply_stack
from pymc_svi.handlers.values import describe_shape
from pymc_svi.handlers.walk import PARAM_TAG, PARAMS

__all__ = ["ParamRecord", "declare", "param"]

_ORDER = itertools.count()


@dataclass(frozen=True, eq=False)
class ParamRecord:
    """What a ``param`` statement said; a built model carries it on the variable's tag."""

    name: str
    init: Any
    constraint: Constraint
    dims: tuple[str | None, ...] | None
    dim_lengths: Mapping[str, Variable]
    event_dim: int | None
    order: int = field(default_factory=lambda: next(_ORDER))
    is_statistic: bool = False  # of a network: carried from step to step, not learned

    def site(self) -> Site:
        """Return a new site that says the same."""
        infer: dict[str, Any] = {} if self.event_dim is None else {"event_dim": self.event_dim}
        if self.is_statistic:
            infer["is_statistic"] = True
        return Site(
            "param",
            self.name,
            dims=self.dims,
            constraint=self.constraint,
            init=self.init,
            infer=infer,
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
            None if dim is None else int(evaluate(self.dim_lengths[dim])) for dim in self.dims
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
    SiteError
        If a dim is not in the coords of the model.
    TypeError
        If the name is not a string, or the constraint is not one.

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
    )
    return declare(record, model).outcome


def declare(record: ParamRecord, model: pm.Model | None) -> Site:
    """Emit the site of a param; a built model lists it.

    Parameters
    ----------
    record : ParamRecord
        What the statement said.
    model : pymc.Model or None
        The model around.

    Returns
    -------
    Site
        The site, with its value.
    """
    site = apply_stack(record.site())
    if model is not None and hasattr(getattr(site.value, "tag", None), PARAM_TAG):
        model.root.__dict__.setdefault(PARAMS, {})[site.name] = site.value
    return site
