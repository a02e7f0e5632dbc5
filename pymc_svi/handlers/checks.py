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

    Parameters
    ----------
    run : Trace
        The trace of a program.

    Raises
    ------
    SiteError
        Instead of the warning, where checks are errors: ``SVI(..., validate="error")``.

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
    shape = shape[: len(shape) - site.event_dim]
    for dim, size in zip(range(-1, -len(shape) - 1, -1), reversed(shape), strict=True):
        if dim not in covered and size not in (1, None):
            complain(
                sentence(
                    f"Site {site.name!r} has {size} repetitions along dim={dim}, for which there "
                    "is no plate",
                    found=f"batch shape {describe_shape(shape)} inside the plates "
                    f"{quoted(frame.name for frame in site.plates)}",
                    fix=f"Add a plate of size {size} with dim={dim}, reorder the dimensions, or say "
                    "that the rightmost ones make one element, with handlers.to_event(n): or "
                    "sample(..., event_dim=n)",
                ),
                SiteError,
                default="warn",
            )


def check_plates_match(model_trace: Trace, guide_trace: Trace) -> None:
    """Check that each plate of the guide is one of the model's, of the same sizes.

    Parameters
    ----------
    model_trace, guide_trace : Trace
        The traces of the two programs.

    Raises
    ------
    PairingError
        If a plate has other sizes, or a site is in a minibatch on one side only.

    Examples
    --------
    >>> from pymc_svi import handlers, plate
    >>> def program(size):
    ...     with plate("rows", size):
    ...         pass
    >>> model, guide = (handlers.trace(program).get_trace(size) for size in (10, 8))
    >>> handlers.check_plates_match(model, guide)
    Traceback (most recent call last):
    pymc_svi.errors.PairingError: Plate 'rows' has different sizes in model and guide. ...
    """
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
    _check_minibatches_of_sites(model_trace, guide_trace)


def _check_minibatches_of_sites(model_trace: Trace, guide_trace: Trace) -> None:
    """Check that a local variable is weighed as one of a minibatch on both sides, or on none."""
    for name, guide_site in guide_trace.latent.items():
        model_site = model_trace.get(name)
        if model_site is None or model_site.type != "sample":
            continue
        sites = {"model": model_site, "guide": guide_site}
        frames = {
            side: {frame.name: frame for frame in site.plates if frame.is_subsampled}
            for side, site in sites.items()
        }
        differing = set(frames["model"]) ^ set(frames["guide"])
        if not differing or _equal_scales(model_site, guide_site):
            continue
        plate = min(differing)
        inside, outside = ("model", "guide") if plate in frames["model"] else ("guide", "model")
        frame = frames[inside][plate]
        complain(
            sentence(
                f"Site {name!r} is in the subsampled plate {plate!r} in the {inside} but not in the "
                f"{outside}, so that its terms would be weighed differently",
                found=f"weights {model_site.scale} in the model, {guide_site.scale} in the guide",
                fix=f"Write it inside plate({plate!r}, {frame.size}, "
                f"subsample_size={frame.subsample_size}) in the {outside} too",
            ),
            PairingError,
        )


def _equal_scales(first: Site, second: Site) -> bool:
    numbers = [site.scale for site in (first, second) if isinstance(site.scale, int | float)]
    return len(numbers) == 2 and numbers[0] == numbers[1]
