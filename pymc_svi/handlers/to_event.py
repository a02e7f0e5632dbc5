"""``to_event``: dimensions that make one element, which no plate is for."""

from __future__ import annotations

from collections.abc import Sequence

import pymc as pm
from pytensor.xtensor.type import XTensorType

from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.distributions import batch_shape, support_ndim
from pymc_svi.handlers.frame import Frame
from pymc_svi.handlers.imputation import is_partly_observed
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.stack import active_handlers
from pymc_svi.handlers.values import describe_shape

__all__ = [
    "add_event_dims",
    "checked_event_dim",
    "event_dim_around",
    "event_dim_by_name",
    "to_event",
]


class to_event(Handler):
    """Take the rightmost dimensions of the statements inside as one element: ``.to_event(n)``.

    Where a distribution is repeated within an element, as in a vector of two numbers for each of a
    plate's repetitions, the plate's dimension is the next one to the left, and the
    log-probabilities of the vector are added up. ``sample(name, dist, event_dim=1)`` says the same
    of one site, and a statement whose ``dims`` have the name of the plate says it by itself.

    Parameters
    ----------
    program : callable, optional
        The program; or the number, as in ``with to_event(1):``.
    event_dim : int
        The number of dimensions, left of those that make one value of the distribution. It is
        added to what the statement says itself.

    Raises
    ------
    SiteError
        If a statement inside has fewer dimensions, or named dims of ``pymc.dims``.
    TypeError
        If the program is a built model.
    ValueError
        If ``event_dim`` is not a whole number from 0 on.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import handlers, plate
    >>> def program():
    ...     with plate("data", 200), handlers.to_event(1):
    ...         pm.Normal("z", np.zeros((200, 2)))
    >>> site = handlers.trace(program).get_trace()["z"]
    >>> site.shape, site.log_prob.type.shape
    ((200, 2), (200,))
    """

    def __init__(self, program: Program | int | None = None, event_dim: int | None = None):
        if isinstance(program, int) and event_dim is None:
            program, event_dim = None, program
        super().__init__(program)
        if isinstance(program, pm.Model):
            raise TypeError(
                sentence(
                    "to_event is for statements, and those of a built model have been made",
                    fix="Write it around them where the model is built",
                )
            )
        self.event_dim = checked_event_dim("to_event", event_dim)


def event_dim_around() -> int:
    """Return how many dimensions the ``to_event`` around a statement add."""
    return sum(handler.event_dim for handler in active_handlers() if isinstance(handler, to_event))


def checked_event_dim(what: str, event_dim: object) -> int:
    """Return a number of dimensions, if it is one."""
    if not isinstance(event_dim, int) or isinstance(event_dim, bool) or event_dim < 0:
        raise ValueError(sentence(f"{what}: event_dim counts dimensions", found=f"{event_dim!r}"))
    return event_dim


def add_event_dims(site: Site, n: int) -> None:
    """Let more dimensions of a site make one element."""
    if n == 0 or site.part_of is not None or is_partly_observed(site.dist):
        return  # elements of both parts in a row, which have no dimensions of the whole
    if isinstance(site.dist.type, XTensorType):
        raise SiteError(
            sentence(
                f"Site {site.name!r} has named dims, which plates find by their name",
                found=f"event_dim={n} and the dims {quoted(site.dist.type.dims)}",
                fix="Leave out event_dim, or to_event, around statements of pymc.dims",
            )
        )
    shape = batch_shape(site.dist)
    if site.event_dim + n > len(shape):
        raise SiteError(
            sentence(
                f"Site {site.name!r} has fewer dimensions than event_dim says make one element",
                found=f"event_dim={site.event_dim + n}, and the batch shape {describe_shape(shape)}",
                expected="the rightmost dimensions, those that make one value of the "
                "distribution left out",
                fix="Give it a shape or parameters of one, or a smaller event_dim",
            )
        )
    site.event_dim += n


def event_dim_by_name(site: Site, frames: Sequence[Frame]) -> int:
    """Return how many dims make one element where the plates around are named among the dims."""
    if site.dims is None or site.type != "sample" or isinstance(site.dist.type, XTensorType):
        return 0
    if site.part_of is not None or is_partly_observed(site.dist):
        return 0
    dims = site.dims[: len(site.dims) - support_ndim(site.dist)]
    named = [frame for frame in frames if frame.dim_name in dims]
    offsets = {frame.name: len(dims) - dims.index(frame.dim_name) + frame.dim for frame in named}
    if len(set(offsets.values())) == 1 and min(offsets.values()) > 0:
        return min(offsets.values())
    if any(offsets.values()) and any(frame.is_subsampled for frame in named):
        raise SiteError(
            sentence(
                f"Site {site.name!r} has its dims in another order than its plates",
                found=f"the dims {quoted(map(str, dims))}, and "
                + ", ".join(f"plate {frame.name!r} at dim={frame.dim}" for frame in named),
                fix="Give the plates a dim each, counted from the right, in the order of the dims",
            )
        )
    return 0
