"""What a variable of a built model remembers of its site.

A built model keeps the law, data, dims and transform of a variable. What PyMC has no place for,
scale, mask, ``infer`` options and plates, stays on the variable's tag, so that walking the model
gives the sites that running it gave.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytensor.graph.basic import Variable

if TYPE_CHECKING:
    from pymc_svi.handlers.site import Site

__all__ = ["SiteRecord", "recall", "remember"]

_TAG = "pymc_svi_site"


@dataclass(frozen=True, eq=False)
class SiteRecord:
    """The attributes of a site that PyMC does not keep."""

    scale: Any = 1.0
    mask: Any = None
    infer: dict[str, Any] = field(default_factory=dict)
    plates: tuple[Any, ...] = ()
    observed: Variable | None = None  # data given by an expression of random indices
    log_density: Variable | None = None
    dims: tuple[str | None, ...] | None = None
    event_dim: int = 0

    def variables(self) -> list[Variable]:
        """Return the expressions among the attributes."""
        held = (self.scale, self.mask, self.observed, self.log_density)
        indices = (frame.indices for frame in self.plates)
        return [v for v in (*held, *indices) if isinstance(v, Variable)]


def remember(variable: Variable, site: Site, *, observed: Variable | None = None) -> None:
    """Leave a site's record on a variable."""
    infer = {key: value for key, value in site.infer.items() if key not in ("obs", "was_observed")}
    record = SiteRecord(
        site.scale,
        site.mask,
        infer,
        site.plates,
        observed,
        site.log_density,
        site.dims,
        site.event_dim,
    )
    setattr(variable.tag, _TAG, record)


def recall(variable: Variable) -> SiteRecord:
    """Return the record on a variable; an empty one if it has none."""
    return getattr(variable.tag, _TAG, None) or SiteRecord()
