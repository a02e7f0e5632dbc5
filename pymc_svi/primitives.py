"""Statements of a program that PyMC does not have: ``param``, and unnamed distributions by name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.compile import view_op
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor_ml.pytensorf import (
    collect_non_trainable_updates,
    collect_trainable_params,
    rewrite_for_prediction,
)
from pytensor_ml.state import initialize_params

from pymc_svi.constraints import Constraint, as_constraint, real
from pymc_svi.errors import InitializationError, SiteError, did_you_mean, quoted, sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.handlers.distributions import (
    batch_shape,
    fresh,
    is_distribution,
    support_ndim,
    with_batch_shape,
)
from pymc_svi.handlers.interception import factor_site, sample_site
from pymc_svi.handlers.mask import mask
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.stack import apply_stack
from pymc_svi.handlers.statistics import of_this_run, set_next
from pymc_svi.handlers.values import describe_shape
from pymc_svi.handlers.walk import PARAM_TAG, PARAMS

__all__ = ["deterministic", "factor", "module", "param", "sample"]

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
        order=next(_ORDER),
    )
    return _declared(record, model).outcome


def _declared(record: ParamRecord, model: pm.Model | None) -> Site:
    """Emit the site of a param; a built model lists it."""
    site = apply_stack(record.site())
    if model is not None and hasattr(getattr(site.value, "tag", None), PARAM_TAG):
        model.root.__dict__.setdefault(PARAMS, {})[site.name] = site.value
    return site


def sample(
    name: str,
    dist: Variable,
    obs: Any = None,
    *,
    obs_mask: Any = None,
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
        Data; makes the site observed. A distribution of fewer dimensions is repeated.
    obs_mask : array_like of bool, optional
        Where the data are observed; elsewhere they are latent. This makes three sites:
        ``{name}_observed``, ``{name}_unobserved`` (to be sampled by the guide) and the
        deterministic ``{name}`` joined from them.
    dims : str or sequence of str, optional
        Names of its dimensions.
    infer : dict, optional
        Options for inference, such as ``{"is_auxiliary": True}`` for a guide site that the
        model does not have.

    Returns
    -------
    TensorVariable
        The value of the site.

    Raises
    ------
    SiteError
        If ``obs_mask`` does not have the shape of the data.
    TypeError
        If ``dist`` is not an unnamed distribution.
    ValueError
        If ``obs_mask`` is not made of True and False.

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
    if obs is not None:
        dist = _in_shape_of_data(dist, obs)
    if obs_mask is not None:
        return _partly_observed(name, dist, obs, obs_mask, dims, infer)
    return sample_site(pm.modelcontext(None), dist, name, obs, dims=dims, infer=infer)


def _in_shape_of_data(dist: Variable, obs: Any) -> Variable:
    """Repeat a distribution that has fewer dimensions than its data."""
    shape = getattr(getattr(obs, "type", obs), "shape", np.shape(obs))
    batch = shape[: len(shape) - support_ndim(dist)]
    if not is_distribution(dist) or None in batch or len(batch) <= len(batch_shape(dist)):
        return dist
    return with_batch_shape(dist, tuple(batch))


def _partly_observed(name, dist, obs, obs_mask, dims, infer) -> Variable:
    """Make the three sites of data that are observed where a mask is True."""
    where = obs_mask if isinstance(obs_mask, Variable) else np.asarray(obs_mask)
    batch = batch_shape(dist)
    if where.dtype not in ("bool", bool):
        raise ValueError(
            sentence(
                f"sample({name!r}): obs_mask is made of True and False", found=str(where.dtype)
            )
        )
    sizes = where.type.shape if isinstance(where, Variable) else where.shape
    fits = len(sizes) <= len(batch) and all(
        None in (n, m) or n in (1, m) for n, m in zip(sizes[::-1], batch[::-1], strict=False)
    )
    if obs is None or not fits:
        raise SiteError(
            sentence(
                f"sample({name!r}): obs_mask does not fit the distribution",
                found=f"{'no data' if obs is None else describe_shape(sizes)}",
                expected=f"data, and a mask that broadcasts to the batch shape {describe_shape(batch)}",
            )
        )
    elements = where
    for _ in range(support_ndim(dist)):
        elements = elements[..., None]
    data = obs if isinstance(obs, Variable) else _without_gaps(np.asarray(obs), elements)
    model = pm.modelcontext(None)
    with mask(mask=where):
        sample_site(model, dist, f"{name}_observed", data, infer=infer)
    with mask(mask=~where):
        latent = sample_site(model, fresh(dist), f"{name}_unobserved", dims=dims, infer=infer)
    return deterministic(name, pt.switch(elements, data, latent), dims=dims)


def _without_gaps(data: np.ndarray, known: Any) -> np.ndarray:
    """Fill what is not observed with a value that is: NaN there would spoil gradients."""
    if isinstance(known, Variable):
        return data
    known = np.broadcast_to(known, data.shape)
    fill = data[known].flat[0] if known.any() and data.ndim == known.ndim else 0
    return np.where(known, data, fill).astype(data.dtype)


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

    Examples
    --------
    >>> from pymc_svi import deterministic, handlers
    >>> def program():
    ...     deterministic("half", 0.5)
    >>> float(handlers.trace(program).get_trace()["half"].value.eval())
    0.5
    """
    return pm.Deterministic(name, pt.as_tensor(value), dims=dims)


def factor(name: str, log_factor: Any, *, has_rsample: bool | None = None) -> Variable:
    """Add a term to the log-density: ``pm.Potential`` that also takes numbers and arrays.

    Parameters
    ----------
    name : str
        Name of the site.
    log_factor : array_like or TensorVariable
        The term.
    has_rsample : bool, optional
        Needed in a guide, where the term is part of the log-density of its draws: True where they
        are a differentiable function of the params, as a change of variables is; False where they
        are not, so that the gradient needs the score function, the gradient of the term.

    Returns
    -------
    TensorVariable
        The term.

    Raises
    ------
    TypeError
        If ``has_rsample`` is not a boolean, or missing in a guide.

    Examples
    --------
    A guide that draws in another space than the model's:

    >>> import pymc as pm
    >>> import pytensor.tensor as pt
    >>> from pymc_svi import Trace_ELBO, deterministic, factor, param, sample
    >>> def guide():
    ...     u = sample("u", pm.Normal.dist(param("loc", 0.0)), infer={"is_auxiliary": True})
    ...     sample("x", pm.DiracDelta.dist(pt.exp(u)))
    ...     factor("log_jacobian", -u, has_rsample=True)
    >>> def model():
    ...     pm.LogNormal("x")
    >>> abs(round(float(Trace_ELBO().loss(model, guide).value.eval()), 6))  # the guide is the prior
    0.0
    """
    if has_rsample not in (None, True, False):
        raise TypeError(
            sentence(
                f"factor({name!r}): has_rsample says whether draws are differentiable",
                found=f"{has_rsample!r}",
                expected="True or False",
            )
        )
    options = {} if has_rsample is None else {"has_rsample": bool(has_rsample)}
    # A view, since pm.Potential names what it is given.
    return factor_site(name, view_op(pt.as_tensor(log_factor)), options)


def module(
    name: str,
    network: Callable[..., Variable],
    prior: Mapping[str, Variable] | Variable | Callable[..., Variable | None] | None = None,
    *,
    redraw: bool = False,
) -> Callable[..., Variable]:
    """Register a neural network: its trainable parameters become params, or have a prior.

    The statistics that a network keeps for itself, such as the running mean of a batch
    normalization, are carried from step to step with the params, under their names, and are part
    of states, checkpoints and results. Where they are given, as they are when a fitted program
    predicts, a network in a function program runs as for prediction: on the statistics and not on
    those of the batch, without dropout.

    Parameters
    ----------
    name : str
        Prefix of the names: a weight ``W`` of the network becomes the param ``{name}.W``.
    network : callable
        A network of ``pytensor_ml`` layers, such as ``Sequential(Linear("fc", 2, 1))``. Make it
        outside the program, so that each run of the program finds the same network.
    prior : distribution, dict of str to distribution, or callable, optional
        Prior of the parameters: one for all; by name within the network; or a function of name
        and shape that returns one, or None. A prior of fewer dimensions is independent over the
        others. Parameters without a prior are learned.
    redraw : bool, default False
        Start at parameters that are drawn anew from the initializers of their layers, with the
        ``random_seed`` of the fit: equal seeds give equal fits, though ``pytensor_ml`` draws a new
        network's parameters without a seed. By default they start where the network has them,
        such as those that it was pretrained to.

    Returns
    -------
    callable
        The network on these parameters. It can be called several times.

    Raises
    ------
    SiteError
        If two parameters of the network have the same name.
    TypeError
        If the network cannot be called, or a prior is not a distribution.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pytensor_ml.layers import Linear
    >>> from pymc_svi import handlers, module
    >>> layer = Linear("fc", n_in=2, n_out=1)
    >>> def program(X):
    ...     return module("net", layer)(X)
    >>> list(handlers.trace(program).get_trace(np.ones((4, 2))))
    ['net.fc_W', 'net.fc_b']
    >>> def bayesian(X):
    ...     return module("net", layer, prior=pm.Normal.dist(0, 1))(X)
    >>> handlers.trace(bayesian).get_trace(np.ones((4, 2)))["net.fc_W"].shape
    (2, 1)
    """
    if not callable(network):
        raise TypeError(
            sentence(
                f"module({name!r}): the network is not a function of its input",
                found=f"{network!r}",
                expected="pytensor_ml layers, for example Sequential(Linear(...), ...)",
            )
        )
    values: dict[Variable, Variable] = {}
    written: dict[Variable, Variable] = {}  # what a statistic has become in this run
    given: list[bool] = []  # of each statistic, whether a handler gave its value

    def apply(*inputs: Any, **kwargs: Any) -> Any:
        own = [view_op(pt.as_tensor(value)) for value in inputs]
        output = network(*own, **kwargs)
        outputs = list(output) if isinstance(output, tuple | list) else [output]
        outputs = of_this_run(outputs, own, written)
        taken = [known.name for known in values]
        # Found from the output backwards; named from the input forwards.
        for weight in reversed(collect_trainable_params(outputs)):
            if weight not in values:
                if weight.name in taken:
                    raise SiteError(
                        sentence(
                            f"module({name!r}): two parameters of the network have the same name",
                            found=f"{weight.name!r}",
                            fix="Give the layers different names",
                        )
                    )
                taken.append(weight.name)
                values[weight] = _weight_site(name, weight, prior, redraw)
        _check_priors(name, prior, taken)
        statistics = collect_non_trainable_updates(outputs)
        written.update(statistics)
        sites = {stat: _statistic_site(name, stat) for stat in statistics if stat not in values}
        given.extend(site.unconstrained is None for site in sites.values())
        values.update({stat: site.outcome for stat, site in sites.items()})
        if given and all(given):
            outputs = rewrite_for_prediction(outputs)
        outputs = graph_replace(outputs, values, strict=False)
        for stat, new in statistics.items():
            set_next(values[stat], graph_replace(new, values, strict=False))
        return outputs if isinstance(output, tuple | list) else outputs[0]

    return apply


def _check_priors(module_name: str, prior: Any, names: Sequence[str]) -> None:
    """Refuse the prior of a parameter that the network does not have: another would be learned."""
    for name in prior if isinstance(prior, Mapping) else ():
        if name not in names:
            raise SiteError(
                sentence(
                    f"module({module_name!r}): the network has no parameter {name!r} for the prior",
                    found=f"the parameters {quoted(names)}",
                )
                + did_you_mean(name, names)
            )


def _statistic_site(module_name: str, statistic: Variable) -> Site:
    model = pm.Model.get_context(error_if_none=False)
    name = f"{module_name}.{statistic.name}"
    record = ParamRecord(
        name=name if model is None else model.name_for(name),
        init=statistic.get_value,
        constraint=real,
        dims=None,
        dim_lengths={},
        event_dim=None,
        order=next(_ORDER),
        is_statistic=True,
    )
    return _declared(record, model)


def _weight_site(module_name: str, weight: Variable, prior: Any, redraw: bool) -> Variable:
    name, value = f"{module_name}.{weight.name}", weight.get_value()
    if isinstance(prior, Mapping):
        prior = prior.get(weight.name)
    elif callable(prior) and not isinstance(prior, Variable):
        prior = prior(weight.name, value.shape)
    if prior is None:

        def drawn() -> np.ndarray:
            rng = np.random.default_rng([init_seed(), crc32(name.encode())])
            return initialize_params([weight], rng=rng)[0]

        start = drawn if redraw else weight.get_value
        return param(name, start).astype(weight.type.dtype)
    missing = value.ndim - prior.type.ndim
    shape = (*value.shape[: max(missing, 0)], *batch_shape(prior))
    return sample(name, with_batch_shape(prior, shape)).astype(weight.type.dtype)
