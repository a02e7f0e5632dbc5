"""The score-function estimator, for draws that are not differentiable.

The gradient of an expected cost, ``E_q[f(z)]``, is ``E_q[f(z) grad log q(z)]`` [1]_. Its variance
falls without bias when the cost of a draw holds only what the draw can change [2]_, which the
graph knows: terms that have the draw among their ancestors, element by element.

References
----------
.. [1] Williams, R. J. (1992). Simple Statistical Gradient-Following Algorithms for Connectionist
   Reinforcement Learning. Machine Learning 8.
.. [2] Schulman, J., Heess, N., Weber, T. and Abbeel, P. (2015). Gradient Estimation Using
   Stochastic Computation Graphs. NeurIPS.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.xtensor import as_xtensor
from pytensor.xtensor.type import XTensorType

from pymc_svi.config import complain
from pymc_svi.errors import sentence
from pymc_svi.gradients.draws import pathwise
from pymc_svi.gradients.independence import follow_axes, reduced_along
from pymc_svi.gradients.pathwise import NoPathwiseDraw
from pymc_svi.gradients.stand_in import detached
from pymc_svi.handlers import Site, Trace
from pymc_svi.handlers.log_prob import as_plain_tensor

__all__ = ["downstream_cost", "pathwise_or_score", "scored_factors", "uses_score_function"]

SCORE_FUNCTION = "score_function"


class pathwise_or_score(pathwise):
    """Give latent sites differentiable draws, and ordinary ones where there is no rule.

    A site drawn in the ordinary way, which ``infer={"score_function": True}`` asks for too, has
    that option set in its trace. Its value is a constant in the eyes of differentiation. For a
    continuous site that has not asked for it there is a warning.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program, usually a guide.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.gradients.score_function import pathwise_or_score, uses_score_function
    >>> def guide():
    ...     pm.Normal("x")
    ...     pm.Poisson("k", 3.0)
    >>> tr = handlers.trace(pathwise_or_score(guide)).get_trace()
    >>> uses_score_function(tr["x"]), uses_score_function(tr["k"])
    (False, True)
    """

    def process_message(self, site: Site) -> None:
        """Draw a latent site that has no value yet."""
        if not site.is_latent or site.value is not None:
            return
        if not site.infer.get(SCORE_FUNCTION):
            try:
                super().process_message(site)
                return
            except NoPathwiseDraw:
                _warn_if_continuous(site)
        site.infer = {**site.infer, SCORE_FUNCTION: True}
        site.value = _undifferentiated(site.dist)


def _warn_if_continuous(site: Site) -> None:
    """Warn of a noisy gradient that a user who wrote a continuous site does not expect."""
    if as_plain_tensor(site.dist).type.dtype.startswith("float"):
        complain(
            sentence(
                f"Site {site.name!r} is continuous but has no differentiable draw, so that its "
                "gradient is the score function's, which is noisier",
                found=str(site.dist.owner.op),
                fix="Use another distribution, give this one a draw with register_rsample, or say that "
                'it is meant, sample(name, dist, infer={"score_function": True})',
            ),
            NoPathwiseDraw,
            default="warn",
        )


def uses_score_function(site: Site) -> bool:
    """Return whether a guide's site was drawn without a derivative."""
    return bool(site.is_latent and site.infer.get(SCORE_FUNCTION))


def scored_factors(guide_trace: Trace) -> list[Site]:
    """Return the factors that are the log-density of draws without a derivative."""
    return guide_trace.sites("factor", where=lambda site: site.infer.get("has_rsample") is False)


def _undifferentiated(rv: Variable) -> Variable:
    if isinstance(rv.type, XTensorType):
        return as_xtensor(detached(rv.values), dims=rv.type.dims)
    return detached(rv)


def downstream_cost(site: Site, costs: Sequence[Variable]) -> Variable | None:
    """Return what the elements of a draw can change, of a sum of costs.

    Parameters
    ----------
    site : Site
        A guide's site.
    costs : sequence of TensorVariable
        Terms of a loss, each elementwise.

    Returns
    -------
    TensorVariable or None
        Of a shape that broadcasts against the site's log-probability: for each element the sum
        of the terms that depend on it. None if none does.
    """
    value = as_plain_tensor(site.value)
    ndim = site.unscaled_log_prob.ndim
    parts = []
    for cost in costs:
        axes = follow_axes(value, cost)
        if axes is not None:
            parts.append(reduced_along(cost, axes, ndim))
    if not parts:
        return None
    return pt.add(*parts) if len(parts) > 1 else parts[0]
