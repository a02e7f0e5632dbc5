"""Where PyMC statements become sites.

Every PyMC distribution ends in :meth:`pymc.Model.register_rv` and hands its return value on to
the user's code; ``pm.Deterministic``, ``pm.Potential`` and ``pm.Data`` end in
:meth:`pymc.Model.add_named_variable`. :func:`install` wraps these two public methods. While no
handler is active the wrappers do nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
import pymc as pm
from pymc.data import is_valid_observed
from pymc.distributions.transforms import ChainedTransform
from pymc.pytensorf import convert_observed_data
from pymc.util import UNSET
from pytensor.compile import view_op
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import graph_replace
from pytensor.sparse.type import SparseTensorType
from scipy import sparse

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.distributions import default_transform_of, pymc_transform_of
from pymc_svi.handlers.imputation import is_partly_observed, no_density_of_its_own, observed_part
from pymc_svi.handlers.plates import sized_like_data
from pymc_svi.handlers.record import remember
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.stack import active_handlers, apply_stack, no_handlers
from pymc_svi.handlers.to_event import add_event_dims, event_dim_around
from pymc_svi.handlers.values import Drawn, as_observed_value, as_site_value, as_tensor_variable

__all__ = ["factor_site", "install", "sample_site"]

# The unobserved part of a variable that is being imputed -> the value its site took.
_IMPUTED: ContextVar[dict[Variable, Variable] | None] = ContextVar("imputed", default=None)
_ORIGINAL = "pymc_svi_original"
# The infer options of the ``sample`` or ``factor`` statement that is being registered.
_INFER: ContextVar[dict[str, Any]] = ContextVar("infer", default={})  # noqa: B039, only read


def install() -> None:
    """Wrap the two methods of :class:`pymc.Model`; doing it again replaces the wrappers."""
    for name, wrap in (
        ("register_rv", _wrap_register_rv),
        ("add_named_variable", _wrap_add_named_variable),
    ):
        method = getattr(pm.Model, name)
        wrapped = wrap(getattr(method, _ORIGINAL, method))
        setattr(wrapped, _ORIGINAL, wrapped.__wrapped__)
        setattr(pm.Model, name, wrapped)


def _wrap_register_rv(register_rv):
    @functools.wraps(register_rv)
    def register_rv_as_site(self, rv_var, name, *, observed=None, **kwargs):
        if not active_handlers() and not _INFER.get():
            return register_rv(self, rv_var, name, observed=observed, **kwargs)
        data = None if observed is None else convert_observed_data(observed)
        if isinstance(data, np.ma.MaskedArray):
            return _register_partly_observed(
                functools.partial(register_rv, self), self, rv_var, name, data, kwargs
            )
        return _emit_sample(functools.partial(register_rv, self), self, rv_var, name, data, kwargs)

    return register_rv_as_site


def sample_site(model, rv, name, observed=None, *, dims=None, infer=None, event_dim=0) -> Variable:
    """Register an unnamed random variable, with ``infer`` options for the handlers.

    ``Model.register_rv`` has no place for such options, so a context variable carries them.
    """
    options = dict(infer or {})
    if event_dim:
        options["event_dim"] = event_dim
    token = _INFER.set(options)
    try:
        return model.register_rv(rv, name, observed=observed, dims=dims)
    finally:
        _INFER.reset(token)


def factor_site(name, value, infer) -> Variable:
    """Register a potential, with ``infer`` options for the handlers."""
    token = _INFER.set(dict(infer))
    try:
        return pm.Potential(name, value)
    finally:
        _INFER.reset(token)


def _emit_sample(register, model, rv, name, data, kwargs) -> Variable:
    full_name = model.name_for(name)
    dims = as_dims(kwargs.get("dims"))
    observed = data is not None
    value = data
    if observed and not _is_sparse(data):
        rv = sized_like_data(rv, data, dims)
        value = as_observed_value(data, rv, full_name, dims)

    def default(site: Site) -> None:
        if site.type == "deterministic":  # a handler expressed the site by others
            site.value = add_deterministic(model, site)
            return
        # PyMC has no dims of which only some have names; the record keeps them.
        options = dict(kwargs, dims=complete(site.dims))
        data, kept = site.value if site.observed else None, None
        if data is not None and not is_valid_observed(data):
            data, kept = None, data  # data of random indices: PyMC keeps such a variable free
        if data is None:
            options.pop("total_size", None)
        options.pop("initval", None)
        if not site.observed and site.initval is not None:
            options["initval"] = site.initval
        site.dist = register(site.dist, site.name, observed=data, **options)
        remember(site.dist, site, observed=kept)
        if site.value is None:
            site.value = site.dist

    infer = dict(_INFER.get())
    event_dim = infer.pop("event_dim", 0) + event_dim_around()
    if kwargs.get("total_size") is not None:
        infer["total_size"] = kwargs["total_size"]
    site = Site(
        "sample",
        full_name,
        dist=rv,
        value=value,
        observed=observed,
        dims=dims,
        transform=_transform_of(
            rv, kwargs.get("default_transform", UNSET), kwargs.get("transform", UNSET)
        ),
        initval=_as_initval(kwargs.get("initval"), rv),
        infer=infer,
        default=default,
    )
    imputed = _IMPUTED.get()
    if imputed is not None:
        site.part_of = full_name.removesuffix("_unobserved")
    if is_partly_observed(rv):
        site.log_density = no_density_of_its_own()
    add_event_dims(site, event_dim)
    apply_stack(site)
    if imputed is not None:
        imputed[rv] = site.outcome
    return handed_back(site)


def _as_initval(initval: Any, rv: Variable) -> Any:
    """Return a starting value in floatX: PyMC refuses one of NumPy's where that is float32."""
    if initval is None or isinstance(initval, str | Variable):
        return initval
    array = np.asarray(initval)
    both = array.dtype.kind == "f" and rv.type.dtype.startswith("float")
    return array.astype(rv.type.dtype) if both else initval


def handed_back(site: Site) -> Any:
    """Return what the user's program gets: PyMC writes attributes on it, so never the data."""
    outcome = site.outcome
    if isinstance(outcome, Drawn) or _is_sparse(outcome):
        return outcome
    return view_op(outcome) if site.observed or site.result is not None else outcome


def add_free_variable(model) -> Callable[[Site], None]:
    """Return a default action: register the site's distribution in a model, and draw it."""

    def default(site: Site) -> None:
        if site.type == "deterministic":
            site.value = add_deterministic(model, site)
            return
        if model is not None:
            data = site.value if site.observed else None
            with no_handlers():
                site.dist = model.register_rv(
                    site.dist, site.name, observed=data, dims=complete(site.dims)
                )
            remember(site.dist, site)
        if site.value is None:
            site.value = site.dist

    return default


def add_deterministic(model, site: Site) -> Variable:
    """Register a site that a handler turned into a deterministic; return its variable."""
    with no_handlers():
        return pm.Deterministic(
            site.name, as_tensor_variable(site.value), model=model, dims=complete(site.dims)
        )


def _register_partly_observed(register, model, rv, name, data, kwargs) -> Variable:
    """Observed data with missing values: PyMC registers three variables for one statement.

    The unobserved part comes back through ``register_rv`` and the joined array through
    ``Deterministic``, where the observed part is offered to the handlers as well.
    """
    token = _IMPUTED.set({})
    try:
        return register(rv, name, observed=data, **kwargs)
    finally:
        _IMPUTED.reset(token)


def _join_parts(model, var, imputed) -> None:
    """Offer the observed part to the handlers, and join both parts' values."""
    observed_rv = model[f"{var.name}_observed"]
    parts = var.owner.inputs[0]

    def join(value: Variable) -> Variable:
        return graph_replace(parts, {**imputed, observed_rv: value}, strict=False)

    site = observed_part(observed_rv, model.rvs_to_values[observed_rv], join)
    apply_stack(site)
    remember(observed_rv, site)
    var.owner.inputs[0] = join(site.outcome)


def _wrap_add_named_variable(add_named_variable):
    @functools.wraps(add_named_variable)
    def add_named_variable_as_site(self, var, dims=None):
        infer = _INFER.get()
        kind = _kind_of(self, var) if active_handlers() or infer else None
        if kind is None:
            return add_named_variable(self, var, dims)
        if kind == "deterministic" and (imputed := _IMPUTED.get()):
            _join_parts(self, var, imputed)

        def default(site: Site) -> None:
            var.name = site.name
            add_named_variable(self, var, dims)
            remember(var, site)
            if site.value is not var:
                _put_in_place(kind, var, site)

        site = Site(kind, var.name, value=var, dims=as_dims(dims), default=default)
        if kind == "factor":
            site.infer = dict(infer)
        apply_stack(site)
        if kind == "deterministic" and site.result is not None:
            # pm.Deterministic returns the variable it made: the site gets a copy of it.
            site.value = var.owner.clone().outputs[0]
            var.owner.inputs[0] = as_site_value(site.result, var, site.name, site.dims)

    return add_named_variable_as_site


def _kind_of(model, var):
    # PyMC files a variable in one of these lists just before it names it.
    for kind, variables in (
        ("deterministic", model.deterministics),
        ("factor", model.potentials),
        ("data", model.data_vars),
    ):
        if variables and variables[-1] is var:
            return kind
    return None  # a random variable: register_rv speaks for it


def as_dims(dims: Any) -> tuple[str | None, ...] | None:
    """Return dims as a tuple, as PyMC takes them in several forms."""
    return (dims,) if isinstance(dims, str) else (None if dims is None else tuple(dims))


def complete(dims: tuple[str | None, ...] | None) -> tuple[str | None, ...] | None:
    """Return dims as PyMC takes them: all of them have names, or there are none."""
    return None if dims is None or None in dims else dims


def _put_in_place(kind, var, site) -> None:
    """Make the variable that PyMC is about to return stand for the value a handler gave.

    ``pm.Deterministic`` and ``pm.Data`` return the variable they made, so it is changed itself:
    nothing else refers to it yet.
    """
    value = as_site_value(site.value, var, site.name, site.dims)
    if kind == "deterministic":
        var.owner.inputs[0] = value
    elif kind == "data":
        if not isinstance(value, Constant):
            raise SiteError(
                sentence(
                    f"Data site {site.name!r} was given an expression",
                    expected="numbers",
                    fix="Give it an array",
                )
            )
        var.set_value(value.data)
    else:
        raise SiteError(
            sentence(
                f"Site {site.name!r} is a factor, which has no value to replace",
                fix="Hide it with block, or weight it with scale or mask",
            )
        )
    site.value = var


def _transform_of(rv, default_transform, transform):
    """Return the transform that ``Model.create_value_var`` will choose for a variable.

    The handlers need it before the variable is registered. Where PyMC chooses none of its own for a
    distribution, that of its support.
    """
    if transform is UNSET:
        return default_transform_of(rv) if default_transform is UNSET else default_transform
    if default_transform is UNSET:
        default_transform = pymc_transform_of(rv)
    if transform is not None and default_transform is not None:
        return ChainedTransform([default_transform, transform])
    return transform


def _is_sparse(value: Any) -> bool:
    return sparse.issparse(value) or isinstance(getattr(value, "type", None), SparseTensorType)
