"""``sample``: a site from an unnamed distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.distributions import (
    batch_shape,
    fresh,
    is_distribution,
    support_ndim,
    with_batch_shape,
)
from pymc_svi.handlers.interception import sample_site
from pymc_svi.handlers.mask import mask
from pymc_svi.handlers.to_event import checked_event_dim
from pymc_svi.handlers.values import describe_shape
from pymc_svi.primitives.terms import deterministic

__all__ = ["sample"]


def sample(
    name: str,
    dist: Variable,
    obs: Any = None,
    *,
    obs_mask: Any = None,
    dims: str | Sequence[str | None] | None = None,
    infer: dict[str, Any] | None = None,
    event_dim: int = 0,
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
        Data; makes the site observed. A distribution of fewer dimensions, or of length
        one along some, is repeated, as PyMC does.
    obs_mask : array_like of bool, optional
        Where the data are observed; elsewhere they are latent. This makes three sites:
        ``{name}_observed``, ``{name}_unobserved`` (to be sampled by the guide) and the
        deterministic ``{name}`` joined from them.
    dims : str or sequence of str, optional
        Names of its dimensions.
    infer : dict, optional
        Options for inference, such as ``{"is_auxiliary": True}`` for a guide site that the
        model does not have.
    event_dim : int, default 0
        How many dimensions, left of those that make one value of the distribution, make one
        element of the plates around, as ``.to_event(n)`` says in Pyro.

    Returns
    -------
    TensorVariable
        The value of the site.

    Raises
    ------
    SiteError
        If ``obs_mask`` does not have the shape of the data, or the distribution fewer dimensions
        than ``event_dim``.
    TypeError
        If ``dist`` is not an unnamed distribution.
    ValueError
        If ``obs_mask`` is not made of True and False, or ``event_dim`` not a whole number from 0
        on.

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
    event_dim = checked_event_dim(f"sample({name!r})", event_dim)
    dims = (dims,) if isinstance(dims, str) else dims
    if obs is not None:
        dist = _in_shape_of_data(dist, obs)
    if obs_mask is not None:
        return _partly_observed(name, dist, obs, obs_mask, dims, infer, event_dim)
    model = pm.modelcontext(None)
    return sample_site(model, dist, name, obs, dims=dims, infer=infer, event_dim=event_dim)


def _in_shape_of_data(dist: Variable, obs: Any) -> Variable:
    """Repeat a distribution that has fewer dimensions than its data, or some of length one."""
    shape = getattr(getattr(obs, "type", obs), "shape", np.shape(obs))
    batch = shape[: len(shape) - support_ndim(dist)]
    if not is_distribution(dist):
        return dist
    batch = tuple(obs.shape[i] if n is None else n for i, n in enumerate(batch))
    own = batch_shape(dist)
    repeated = len(batch) == len(own) and any(n == 1 != m for n, m in zip(own, batch, strict=True))
    if len(batch) > len(own) or repeated:
        return with_batch_shape(dist, batch)
    return dist


def _partly_observed(name, dist, obs, obs_mask, dims, infer, event_dim) -> Variable:
    """Make the three sites of data that are observed where a mask is True."""
    where = obs_mask if isinstance(obs_mask, Variable) else np.asarray(obs_mask)
    batch = batch_shape(dist)
    batch = batch[: len(batch) - event_dim]
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
    for _ in range(support_ndim(dist) + event_dim):
        elements = elements[..., None]
    data = obs if isinstance(obs, Variable) else _without_gaps(np.asarray(obs), elements)
    model = pm.modelcontext(None)
    with mask(mask=where):
        sample_site(model, dist, f"{name}_observed", data, infer=infer, event_dim=event_dim)
    with mask(mask=~where):
        latent = sample_site(
            model,
            fresh(dist),
            f"{name}_unobserved",
            dims=dims,
            infer=infer,
            event_dim=event_dim,
        )
    return deterministic(name, pt.switch(elements, data, latent), dims=dims)


def _without_gaps(data: np.ndarray, known: Any) -> np.ndarray:
    """Fill what is not observed with a value that is: NaN there would spoil gradients."""
    if isinstance(known, Variable):
        return data
    known = np.broadcast_to(known, data.shape)
    fill = data[known].flat[0] if known.any() and data.ndim == known.ndim else 0
    return np.where(known, data, fill).astype(data.dtype)
