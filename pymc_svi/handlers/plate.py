"""``plate``: independent repetitions of the statements inside, in whole or in minibatches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Constant, Variable

from pymc_svi.errors import SiteError, sentence
from pymc_svi.handlers.core import Handler
from pymc_svi.handlers.frame import Frame, checked_indices, differs_by_batch
from pymc_svi.handlers.in_plate import broadcast, broadcast_factor, param_axis, taken
from pymc_svi.handlers.indices import random_subset
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.stack import active_handlers, apply_stack
from pymc_svi.handlers.to_event import event_dim_by_name

__all__ = ["plate", "plate_stack"]


class plate(Handler):
    """Declare that the statements inside are repeated independently.

    The sites inside get a batch dimension of the plate's size, where they do not have one already.
    With ``subsample_size`` only a random part is present, drawn without repetition and anew at each
    evaluation, and log-probabilities inside, of latent sites as well, are multiplied by
    ``size / subsample_size``, so that their sum is an unbiased estimate of the full one.

    ``with plate(...) as indices`` gives the indices of the present repetitions. They are a site:
    a model replayed on its guide takes the guide's, and ``substitute(data={"N": indices})`` fixes
    them. Make a plate inside the program that uses it.

    Parameters
    ----------
    name : str
        Name of the plate. Where it is a dim of the model, its sites get this dim.
    size : int, optional
        Number of repetitions; the length of the dim if not given.
    subsample_size : int, optional
        Number of repetitions in a minibatch.
    dim : int, optional
        The batch dimension, counted from the right: -1, -2... The rightmost that no plate around
        has if not given.

    Raises
    ------
    SiteError
        If the size contradicts the length of the dim of its name.
    TypeError
        If the name is not a string.
    ValueError
        If there is no size, or a size or ``dim`` is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import handlers, plate, subsample
    >>> y = np.arange(6.0)
    >>> def program():
    ...     mu = pm.Normal("mu")
    ...     with plate("N", 6, subsample_size=2):
    ...         pm.Normal("y", mu, 1.0, observed=subsample(y))
    >>> tr = handlers.trace(handlers.substitute(program, data={"N": [0, 5]})).get_trace()
    >>> tr["y"].value.eval(), tr["y"].scale
    (array([0., 5.]), 3.0)
    """

    def __init__(
        self,
        name: str,
        size: int | None = None,
        subsample_size: int | None = None,
        dim: int | None = None,
    ):
        super().__init__(None)
        if not isinstance(name, str) or not name:
            raise TypeError(sentence("plate: the first argument is its name", found=f"{name!r}"))
        if dim is not None and (not isinstance(dim, int) or dim >= 0):
            raise ValueError(
                sentence(
                    f"Plate {name!r}: dim counts from the right",
                    found=f"{dim!r}",
                    expected="-1, -2, ...",
                )
            )
        self.name = name
        self.size, self.dim_name = _size_of(name, size)
        self.length = size if differs_by_batch(size) else None
        self.subsample_size = self.size if subsample_size is None else int(subsample_size)
        if not 1 <= self.subsample_size <= self.size:
            raise ValueError(
                sentence(
                    f"Plate {name!r}: subsample_size must lie between 1 and the size",
                    found=f"subsample_size={subsample_size} of size {self.size}",
                )
            )
        self.dim = dim
        self.frame: Frame | None = None

    @classmethod
    def inside(cls, frame: Frame) -> plate:
        """Return the plate of a frame, which is all that a built model remembers of it.

        Parameters
        ----------
        frame : Frame
            The frame.

        Returns
        -------
        plate
            The plate, entered already.
        """
        known = cls(frame.name, frame.size, frame.subsample_size, frame.dim)
        known.frame = frame
        return known

    # --- entering ------------------------------------------------------------------------------

    def __enter__(self) -> Any:
        taken = {frame.dim: frame.name for frame in _frames_around()}
        if self.name in taken.values():
            raise ValueError(
                sentence(f"Plate {self.name!r} is inside itself", fix="Rename one of them")
            )
        dim = self.dim
        if dim is None:
            dim = next(-n for n in range(1, len(taken) + 2) if -n not in taken)
        elif dim in taken:
            raise ValueError(
                sentence(
                    f"Plates {taken[dim]!r} and {self.name!r} collide at dim={dim}",
                    fix="Move one of them to the left with another dim",
                )
            )
        if self.frame is None:
            self.frame = self._emit(dim)
        elif self.frame.dim != dim:
            self.frame = replace(self.frame, dim=dim)
        super().__enter__()
        return self.frame.indices

    def _emit(self, dim: int) -> Frame:
        """Let the handlers see the plate, and get its indices."""

        def default(site: Site) -> None:
            if site.value is None:
                if self.subsample_size < self.size:
                    site.value = random_subset(self.size, self.subsample_size)
                else:
                    site.value = (
                        np.arange(self.size) if self.length is None else pt.arange(self.length)
                    )

        frame = Frame(
            self.name, dim, self.size, self.subsample_size, None, self.dim_name, self.length
        )
        site = apply_stack(Site("plate", self.name, plates=(frame,), default=default))
        indices = checked_indices(site.outcome, frame)
        frame = replace(frame, indices=indices)
        site.plates = (frame,)
        if isinstance(indices, Variable) and not isinstance(indices, Constant):
            indices.name = site.name
        return frame

    def is_called(self, name: str | None, dim: int | None) -> bool:
        """Whether this plate is entered and has this name or this dim.

        Parameters
        ----------
        name : str or None
            A name.
        dim : int or None
            A batch dimension, counted from the right.

        Returns
        -------
        bool
            Whether it is.
        """
        return self.frame is not None and (self.name == name or self.frame.dim == dim)

    def __iter__(self) -> Iterator[int]:
        """Repeat one after the other: ``for i in plate("N", 3)``; names inside must differ."""
        if self.subsample_size < self.size:
            raise ValueError(
                sentence(
                    f"Plate {self.name!r}: a plate that is iterated over cannot be subsampled",
                    fix='Use it as a context manager, "with plate(...) as indices"',
                )
            )
        if self.length is not None:
            raise ValueError(
                sentence(
                    f"Plate {self.name!r}: a plate that is iterated over has one size",
                    found="the rows of a batch, which are not as many in each",
                    fix='Use it as a context manager, "with plate(...) as indices", or '
                    "DataLoader(..., drop_last=True)",
                )
            )
        return iter(range(self.size))

    # --- what it does to the sites inside --------------------------------------------------------

    def process_message(self, site: Site) -> None:
        """Broadcast and scale a site."""
        frame = self.frame
        assert frame is not None
        if site.type == "plate":
            return
        if site.emitted_as == "param" and site.type == "sample":
            # Lifted: all of it is sampled, of which a minibatch gets its part.
            if not frame.is_subsampled:
                site.plates = (frame, *site.plates)
            return
        if not site.plates and not site.event_dim:
            site.event_dim = event_dim_by_name(site, _frames_around())
        site.plates = (frame, *site.plates)
        if site.type == "sample" and site.part_of is None:
            broadcast(site, frame)
        elif site.type == "factor":
            site.log_density = broadcast_factor(site, frame)
        if site.type in ("sample", "factor") and frame.is_subsampled:
            site.scale = site.scale * (frame.size / frame.subsample_size)

    def postprocess_message(self, site: Site) -> None:
        """Hand the present part of a full-size param on to the program."""
        frame = self.frame
        assert frame is not None
        if site.emitted_as != "param" or not frame.is_subsampled:
            return
        axis = param_axis(site, frame)
        if axis is not None:
            value = as_plain_tensor(site.outcome)
            site.result = taken(value, frame, axis, f"param {site.name!r}")


def _frames_around() -> tuple[Frame, ...]:
    entered = (handler.frame for handler in active_handlers() if isinstance(handler, plate))
    return tuple(frame for frame in entered if frame is not None)


def plate_stack(prefix: str, sizes: Sequence[int], rightmost_dim: int = -1):
    """Return a context of nested plates, one for each size, for a whole batch shape.

    Parameters
    ----------
    prefix : str
        The plates are called ``prefix_0``, ``prefix_1``...
    sizes : sequence of int
        Sizes from left to right.
    rightmost_dim : int, default -1
        The batch dimension of the last size.

    Returns
    -------
    context manager
        Enters the plates, and leaves them.

    Raises
    ------
    ValueError
        If ``rightmost_dim`` is not negative.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers, plate_stack
    >>> def program():
    ...     with plate_stack("plates", [2, 3, 4]):
    ...         pm.Normal("x")
    >>> handlers.trace(program).get_trace()["x"].shape
    (2, 3, 4)
    """
    if rightmost_dim >= 0:
        raise ValueError(
            sentence("plate_stack: rightmost_dim counts from the right", found=str(rightmost_dim))
        )
    return _plate_stack(prefix, list(sizes), rightmost_dim)


@contextmanager
def _plate_stack(prefix, sizes, rightmost_dim):
    with ExitStack() as stack:
        for i, size in enumerate(reversed(sizes)):
            stack.enter_context(plate(f"{prefix}_{i}", size, dim=rightmost_dim - i))
        yield


def _size_of(name: str, size: Any) -> tuple[int, str | None]:
    """Return the size of a plate, and the PyMC dim that has its name."""
    model = pm.Model.get_context(error_if_none=False)
    lengths = {} if model is None else model.dim_lengths
    length = int(np.asarray(lengths[name].eval())) if name in lengths else None
    if size is None:
        if length is None:
            raise ValueError(
                sentence(
                    f"Plate {name!r} has no size",
                    found=f"the dims {sorted(lengths)}",
                    fix=f"Write plate({name!r}, size), or give it the name of a dim",
                )
            )
        return length, name
    if isinstance(size, Variable):
        size = size.eval(mode="FAST_COMPILE")
    if isinstance(size, bool) or int(size) != size or size < 1:
        raise ValueError(
            sentence(f"Plate {name!r}: the size is a positive whole number", found=f"{size!r}")
        )
    if length is not None and length != size:
        raise SiteError(
            sentence(
                f"Plate {name!r}: dim {name!r} has {length} in the model, {int(size)} in the plate",
                fix="Leave the size out, or rename the plate",
            )
        )
    return int(size), name if length is not None else None
