"""The handler that makes a guide's draws differentiable."""

from __future__ import annotations

from pymc_svi.errors import SiteError, sentence
from pymc_svi.gradients.pathwise import rsample
from pymc_svi.handlers import Handler, Site

__all__ = ["pathwise"]


class pathwise(Handler):
    """Give each latent site a draw that is differentiable in its distribution's parameters.

    Sites that a handler inside has already given a value keep it.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program, usually a guide.

    Raises
    ------
    NoPathwiseDraw
        For a site whose distribution has no differentiable draw.
    """

    def process_message(self, site: Site) -> None:
        """Draw a latent site that has no value yet."""
        if site.is_latent and site.value is None:
            if site.draw is not None:
                raise SiteError(
                    sentence(
                        f"Site {site.name!r} of the guide is within a scan, each step of which "
                        "depends on the one before",
                        fix="Write it as one statement for all steps, or use an automatic guide",
                    )
                )
            site.dist.name = site.dist.name or site.name
            site.value = rsample(site.dist)
