"""Checks of traces: plates that are missing, plates that do not match."""

from __future__ import annotations

from pytensor.xtensor.type import XTensorType

from pymc_svi.config import complain
from pymc_svi.errors import PairingError, SiteError, did_you_mean, quoted, sentence
from pymc_svi.handlers.distributions import batch_shape
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.trace import Trace
from pymc_svi.handlers.values import describe_shape

__all__ = ["check_plates", "check_plates_match"]


def check_plates(run: Trace) -> None:
    """Warn of batch dimensions without a plate, at sites that are inside some plate.

    In a program that declares independence with plates, a dimension without one is often a
    forgotten plate, and where the plates are subsampled a wrong scale.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers, plate
    >>> from pymc_svi.config import validation
    >>> def program():
    ...     with plate("rows", 3):
    ...         pm.Normal("x", shape=(2, 3))
    >>> with validation("error"):
    ...     handlers.check_plates(handlers.trace(program).get_trace())
    Traceback (most recent call last):
    pymc_svi.errors.SiteError: Site 'x' has 2 repetitions along dim=-2, for which there is no plate.
    ...
    """
    for site in run.sites("sample"):
        if site.plates and site.part_of is None and not isinstance(site.dist.type, XTensorType):
            _check_site(site)


def _check_site(site: Site) -> None:
    covered = {frame.dim for frame in site.plates}
    shape = batch_shape(site.dist)
    for dim, size in zip(range(-1, -len(shape) - 1, -1), reversed(shape), strict=True):
        if dim not in covered and size not in (1, None):
            complain(
                sentence(
                    f"Site {site.name!r} has {size} repetitions along dim={dim}, for which there "
                    "is no plate",
                    found=f"batch shape {describe_shape(shape)} inside the plates "
                    f"{quoted(frame.name for frame in site.plates)}",
                    fix=f"Add a plate of size {size} with dim={dim}, or reorder the dimensions",
                ),
                SiteError,
                default="warn",
            )


def check_plates_match(model_trace: Trace, guide_trace: Trace) -> None:
    """Check that each plate of the guide is one of the model's, of the same sizes."""
    model = {site.name: site.plates[0] for site in model_trace.sites("plate")}
    for site in guide_trace.sites("plate"):
        name, frame = site.name, site.plates[0]
        if name not in model:
            complain(
                sentence(
                    f"The guide has a plate {name!r} that the model does not have",
                    found=f"the model's plates are {quoted(model)}",
                )
                + did_you_mean(name, model),
                PairingError,
                default="warn",
            )
            continue
        other = model[name]
        if (frame.size, frame.subsample_size) != (other.size, other.subsample_size):
            complain(
                sentence(
                    f"Plate {name!r} has different sizes in model and guide",
                    found=f"{other.subsample_size} of {other.size} in the model, "
                    f"{frame.subsample_size} of {frame.size} in the guide",
                    fix="Use the same size and subsample_size",
                ),
                PairingError,
            )
