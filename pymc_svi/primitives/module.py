"""``module``: a neural network, whose parameters are params or have a prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pymc as pm
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

from pymc_svi.constraints import real
from pymc_svi.errors import SiteError, did_you_mean, quoted, sentence
from pymc_svi.handlers.distributions import batch_shape, with_batch_shape
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.statistics import of_this_run, set_next
from pymc_svi.primitives.param import ParamRecord, declare, param
from pymc_svi.primitives.sample import sample
from pymc_svi.primitives.start_seed import init_seed

__all__ = ["module"]


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
        is_statistic=True,
    )
    return declare(record, model)


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
