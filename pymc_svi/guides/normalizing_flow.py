"""Guides by normalizing flows: ``AutoNormalizingFlow``, ``AutoIAFNormal``, ``AutoBNAFNormal``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.constraints import softplus_positive
from pymc_svi.errors import SiteError, sentence
from pymc_svi.guides.continuous import AutoContinuous, standard_normal
from pymc_svi.guides.fitted import GivenParams
from pymc_svi.guides.flows import BlockAutoregressive, Chain, Flow, InverseAutoregressive, Reverse
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.normal import check_init_scale
from pymc_svi.guides.prototype import Prototype
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.stack import no_handlers
from pymc_svi.primitives import param

__all__ = ["AutoBNAFNormal", "AutoIAFNormal", "AutoNormalizingFlow"]

FlowLike = Flow | Sequence[Flow] | Callable[[int], "Flow | Sequence[Flow]"]


class AutoNormalizingFlow(AutoContinuous):
    r"""Guide by a normalizing flow: standard Normal noise through an invertible map.

    .. math:: u = \mathrm{loc} + \mathrm{scale} \cdot f(\epsilon), \qquad
        \log q(u) = \log \mathcal{N}(\epsilon) - \log \lvert \det J \rvert

    The flows of :mod:`pymc_svi.guides.flows` start near the identity, so the guide starts near
    :class:`AutoDiagonalNormal`. The params are ``auto_loc``, ``auto_scale`` and those of the
    flows, ``auto_flow_...``.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    flow : Flow, sequence of Flow, or callable
        The flow, flows to be applied one after the other, or a function of the number of
        unconstrained elements that returns either.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the location starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start, in unconstrained space.

    Raises
    ------
    TypeError
        If ``flow`` is not a flow.

    References
    ----------
    Rezende and Mohamed (2015), Variational inference with normalizing flows.
    Papamakarios et al. (2021), Normalizing flows for probabilistic modeling and inference.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoNormalizingFlow
    >>> from pymc_svi.guides.flows import AffineCoupling, Reverse
    >>> def model():
    ...     x = pm.Normal("x")
    ...     pm.Normal("y", x**2, 0.5)
    >>> guide = AutoNormalizingFlow(model, [AffineCoupling(), Reverse(), AffineCoupling()])
    >>> list(handlers.trace(guide).get_trace().latent)
    ['_auto_latent', 'x', 'y']
    """

    step_up = "more or wider layers, or AutoDAIS for several modes"

    def __init__(
        self,
        model: Program,
        flow: FlowLike,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        self.init_scale = check_init_scale(type(self).__name__, init_scale)
        if not callable(flow):
            flow = _as_flow(flow)
        self.flow = flow

    def flow_of(self, size: int) -> Flow:
        """Return the flow for vectors of a size.

        Parameters
        ----------
        size : int
            Number of unconstrained elements.

        Returns
        -------
        Flow
            The flow.

        Raises
        ------
        TypeError
            If the function that was given for the flow returned something else.
        """
        if not isinstance(self.flow, Flow):
            return _as_flow(self.flow(size))
        return self.flow

    def draw_joint(self, prototype: Prototype) -> tuple[Variable, ...]:
        """Declare location, scale and flow; draw."""
        size = prototype.size
        flow, loc, scale, params = self._declare(size, lambda: self.start_vector(prototype))
        noise = standard_normal(size)
        mapped, log_det = flow.forward(noise, params)
        joint = loc + scale * mapped
        log_density = _normal(noise) - log_det - pt.log(scale).sum()
        if not flow.is_invertible:
            return joint, log_density

        def log_density_at(value: Variable) -> Variable:
            return _density(flow, params, (value - loc) / scale) - pt.log(scale).sum()

        return joint, log_density, log_density_at

    def _declare(self, size: int, start):
        flow = self.flow_of(size)
        if size < flow.min_size:
            raise SiteError(
                sentence(
                    f"{type(self).__name__} needs at least {flow.min_size} latent elements",
                    found=f"latent dim = {size}",
                    fix="Use AutoDiagonalNormal",
                )
            )
        loc = param(f"{self.prefix}_loc", start)
        scale = param(
            f"{self.prefix}_scale",
            lambda: np.full(size, self.init_scale),
            constraint=softplus_positive,
        )
        return flow, loc, scale, flow.declare(f"{self.prefix}_flow", size)

    def noise_map(self, params, *args, **kwargs):
        """Return the map of noise to the fitted vector."""
        size = len(params[f"{self.prefix}_loc"])
        with no_handlers(), GivenParams(params, constant=True):
            flow, loc, scale, flow_params = self._declare(size, None)

        def apply(noise: Variable) -> tuple[Variable, Variable]:
            mapped, log_det = flow.forward(noise, flow_params)
            return loc + scale * mapped, log_det + pt.log(scale).sum()

        return apply

    def get_posterior(self, params, *args, **kwargs):
        """Return the law of the vector, if the flow can be inverted."""
        size = len(params[f"{self.prefix}_loc"])
        with no_handlers(), GivenParams(params, constant=True):
            flow, loc, scale, flow_params = self._declare(size, None)
        if not flow.is_invertible:
            return super().get_posterior(params)

        def logp(value, dummy):
            return _density(flow, flow_params, (value - loc) / scale) - pt.log(scale).sum()

        def draw(dummy, size):
            noise = pm.Normal.dist(0.0, 1.0, shape=loc.type.shape)
            return loc + scale * flow.forward(noise, flow_params)[0]

        return pm.CustomDist.dist(
            np.zeros(size), logp=logp, dist=draw, class_name="NormalizingFlow"
        )


class AutoIAFNormal(AutoNormalizingFlow):
    """Guide by inverse autoregressive flows, with the order of the elements reversed in between.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the location starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start, in unconstrained space.
    num_flows : int, default 3
        Number of flows.
    hidden_dims : sequence of int, optional
        Widths of the hidden layers; by default two layers with a unit for each latent element.
    skip_connections : bool, default False
        Add direct connections from inputs to outputs.
    nonlinearity : callable, default ``pytensor.tensor.tanh``
        What the hidden units apply.

    Raises
    ------
    ValueError
        If ``num_flows`` is below 1.

    References
    ----------
    Kingma et al. (2016), Improving variational inference with inverse autoregressive flow.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoIAFNormal
    >>> def model():
    ...     pm.Normal("x", shape=3)
    >>> guide = AutoIAFNormal(model, hidden_dims=[8, 8])
    >>> handlers.trace(guide).get_trace()["x"].shape
    (3,)
    """

    def __init__(
        self,
        model: Program,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
        num_flows: int = 3,
        hidden_dims: Sequence[int] | None = None,
        skip_connections: bool = False,
        nonlinearity: Callable[[Variable], Variable] = pt.tanh,
    ):
        def one() -> Flow:
            return InverseAutoregressive(
                hidden_dims, skip_connections=skip_connections, nonlinearity=nonlinearity
            )

        flow = _several(type(self).__name__, num_flows, one)
        super().__init__(model, flow, prefix=prefix, init_loc_fn=init_loc_fn, init_scale=init_scale)


class AutoBNAFNormal(AutoNormalizingFlow):
    """Guide by block neural autoregressive flows, with the elements reversed in between.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the location starts; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start, in unconstrained space.
    num_flows : int, default 1
        Number of flows.
    hidden_factors : sequence of int, default (8, 8)
        How many units each latent element has in the hidden layers.

    Raises
    ------
    ValueError
        If ``num_flows`` is below 1.

    References
    ----------
    De Cao, Titov and Aziz (2019), Block neural autoregressive flow.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoBNAFNormal
    >>> def model():
    ...     pm.Normal("x", shape=3)
    >>> handlers.trace(AutoBNAFNormal(model, hidden_factors=[4])).get_trace()["x"].shape
    (3,)
    """

    def __init__(
        self,
        model: Program,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
        num_flows: int = 1,
        hidden_factors: Sequence[int] = (8, 8),
    ):
        flow = _several(type(self).__name__, num_flows, lambda: BlockAutoregressive(hidden_factors))
        super().__init__(model, flow, prefix=prefix, init_loc_fn=init_loc_fn, init_scale=init_scale)


def _several(guide: str, num_flows: int, one: Callable[[], Flow]) -> Flow:
    whole = isinstance(num_flows, int | np.integer) and not isinstance(num_flows, bool)
    if not whole or num_flows < 1:
        raise ValueError(sentence(f"{guide}: num_flows must be at least 1", found=repr(num_flows)))
    flows: list[Flow] = [one()]
    for _ in range(num_flows - 1):
        flows += [Reverse(), one()]
    return Chain(flows)


def _as_flow(flow: Flow | Sequence[Flow]) -> Flow:
    if isinstance(flow, Flow):
        return flow
    if not isinstance(flow, Sequence):
        raise TypeError(
            sentence(
                "A flow is a Flow or a list of them",
                found=repr(flow),
                fix="For example [AffineCoupling(), Reverse(), AffineCoupling()]",
            )
        )
    return Chain(flow)


def _normal(noise: Variable) -> Variable:
    return -0.5 * (noise**2).sum() - 0.5 * noise.shape[0] * np.log(2 * np.pi)


def _density(flow: Flow, params, mapped: Variable) -> Variable:
    noise = flow.inverse(mapped, params)
    return _normal(noise) - flow.forward(noise, params)[1]
