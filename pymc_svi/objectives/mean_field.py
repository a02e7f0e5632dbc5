"""``TraceMeanField_ELBO``: the evidence lower bound with divergences in closed form."""

from __future__ import annotations

import warnings

import numpy as np
from pytensor.graph.basic import Variable

from pymc_svi.enumeration.tables import same_scale
from pymc_svi.errors import quoted
from pymc_svi.gradients.independence import depends_on
from pymc_svi.handlers import Site, Trace
from pymc_svi.handlers.log_prob import as_plain_tensor, scaled_and_masked
from pymc_svi.objectives.kl import has_kl, kl_divergence
from pymc_svi.objectives.trace_elbo import Cost, Trace_ELBO

__all__ = ["TraceMeanField_ELBO"]


class TraceMeanField_ELBO(Trace_ELBO):
    r"""The negative evidence lower bound, with a divergence in closed form where there is one.

    At a site whose families have a formula (see :func:`register_kl`), the terms
    :math:`\log q(z) - \log p(z)` are replaced by their expectation, which is not a matter of
    chance [1]_. The others are estimated from the draw, as in :class:`Trace_ELBO`.

    This is right where the distribution of a site in the model does not depend on sites that
    the guide draws after it, as in a mean-field guide. Where it does, the site is estimated from
    its draw, and a warning says so.

    Parameters
    ----------
    num_particles, vectorize_particles, sticking_the_landing, kl_scale
        See :class:`Trace_ELBO`.

    References
    ----------
    .. [1] Kingma and Welling (2014), Auto-Encoding Variational Bayes, appendix B.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import TraceMeanField_ELBO
    >>> def model():
    ...     pm.Normal("x", 0.0, 1.0)
    >>> def guide():
    ...     pm.Normal("x", 1.0, 1.0)
    >>> float(TraceMeanField_ELBO().loss(model, guide).value.eval())
    0.5
    """

    def costs(self, model_trace: Trace, guide_trace: Trace, held: Trace | None) -> list[Cost]:
        """Return the terms of the loss, those with a formula as one of the guide."""
        costs = super().costs(model_trace, guide_trace, held)
        formulas, violations = {}, []
        for name, q in guide_trace.latent.items():
            p = model_trace.get(name)
            if p is None or not _comparable(q, p):
                continue
            if depends_on(as_plain_tensor(p.dist), as_plain_tensor(q.value)):
                violations.append(name)
                continue
            formulas[name] = _divergence(q, p)
        if violations:
            warnings.warn(
                f"{type(self).__name__}: the model's distribution of {quoted(violations)} depends "
                "on sites that the guide draws after it, so that its divergence has no closed "
                "form; it is estimated from the draw. Sample the sites in the same order in model "
                "and guide.",
                UserWarning,
                stacklevel=2,
            )
        kept = []
        for cost in costs:
            if cost.site.name not in formulas:
                kept.append(cost)
            elif cost.side == "guide":
                divergence = formulas[cost.site.name]
                kept.append(Cost("guide", cost.site, divergence, divergence))
        return kept


def _comparable(q: Site, p: Site) -> bool:
    """Whether two sites weigh the same and have a formula."""
    if any(site.log_density is not None or site.log_density_at is not None for site in (q, p)):
        return False
    if q.dist is None or not has_kl(as_plain_tensor(q.dist), as_plain_tensor(p.dist)):
        return False
    # Weights of elements are not the same if they have other elements.
    weighed = any(np.ndim(weight) for site in (q, p) for weight in (site.scale, site.mask))
    if weighed and q.event_dim != p.event_dim:
        return False
    return same_scale(q.scale, p.scale) and same_scale(q.mask, p.mask)


def _divergence(q: Site, p: Site) -> Variable:
    kl = kl_divergence(as_plain_tensor(q.dist), as_plain_tensor(p.dist))
    return scaled_and_masked(p.per_element(kl), p.scale, p.mask)
