"""What an objective is: a loss built from a model and a guide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.handlers.core import Program

__all__ = ["ELBO", "Loss"]


@dataclass(frozen=True)
class Loss:
    """A loss as expressions.

    Attributes
    ----------
    value : scalar TensorVariable
        The loss that is reported.
    surrogate : scalar TensorVariable
        What is differentiated; the value itself unless the objective needs another expression
        with the right gradient.
    terms : dict of str to scalar TensorVariable
        The log-probability of each site, ``"model: x"`` or ``"guide: x"``, to find the one that
        is not finite when a fit breaks.
    updates : dict of SharedVariable to Variable
        What the objective itself carries from step to step, such as a running average, with its
        value after the step. It is saved and restored with the state of the fit, so each
        variable needs a name of its own.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import Trace_ELBO, param
    >>> def model():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Normal("y", x, 1.0, observed=0.5)
    >>> def guide():
    ...     pm.Normal("x", param("loc", 0.0), 1.0)
    >>> loss = Trace_ELBO().loss(model, guide)
    >>> loss.value.ndim, list(loss.terms)
    (0, ['model: x', 'model: y', 'guide: x'])
    """

    value: Variable
    surrogate: Variable
    terms: dict[str, Variable] = field(default_factory=dict)
    updates: dict[Variable, Variable] = field(default_factory=dict)

    @property
    def by_site(self) -> dict[str, Variable]:
        """The negative ELBO site by site: ``log q - log p`` of a latent one, ``-log p`` of data.

        Examples
        --------
        >>> import pymc as pm
        >>> from pymc_svi import Trace_ELBO
        >>> def model():
        ...     x = pm.Normal("x", 0.0, 1.0)
        ...     pm.Normal("y", x, 1.0, observed=0.0)
        >>> def guide():
        ...     pm.Normal("x", 0.0, 1.0)
        >>> by_site = Trace_ELBO().loss(model, guide).by_site
        >>> list(by_site), float(by_site["x"].eval())
        (['x', 'y'], 0.0)
        """
        parts: dict[str, Variable] = {}
        for name, term in self.terms.items():
            side, site = name.split(": ", 1)
            sign = -1 if side == "model" else 1
            parts[site] = sign * term + parts[site] if site in parts else sign * term
        return parts


class ELBO(ABC):
    """Base class of objectives.

    A subclass implements :meth:`loss`, which runs model and guide under handlers and returns
    expressions; nothing is evaluated there.

    Parameters
    ----------
    num_particles : int, default 1
        How many draws the loss is averaged over.
    vectorize_particles : bool, default True
        Evaluate the draws as one batch, or one after the other with less memory.

    Raises
    ------
    TypeError
        If ``num_particles`` is not a whole number.
    ValueError
        If it is below 1.

    Examples
    --------
    The evidence lower bound itself, from one draw:

    >>> import pymc as pm
    >>> from pymc_svi import ELBO, SVI, param
    >>> from pymc_svi.objectives import Loss, paired_traces
    >>> class Plain(ELBO):
    ...     def loss(self, model, guide, *args, **kwargs):
    ...         p, q = paired_traces(model, guide, *args, **kwargs)
    ...         value = q.log_prob_sum() - p.log_prob_sum()
    ...         return Loss(value, value)
    >>> def model():
    ...     pm.Normal("x", 0.0, 1.0)
    >>> def guide():
    ...     pm.Normal("x", param("loc", 2.0), 1.0)
    >>> svi = SVI(model, guide, loss=Plain())
    >>> draws = svi.sample_gradients(1_000, random_seed=0)["loc"]
    >>> bool(abs(draws.mean() - 2.0) < 0.1)
    True
    """

    def __init__(self, num_particles: int = 1, vectorize_particles: bool = True):
        if not isinstance(num_particles, int) or isinstance(num_particles, bool):
            raise TypeError(
                sentence(
                    f"{type(self).__name__}: num_particles is a whole number",
                    found=f"{num_particles!r}",
                )
            )
        if num_particles < 1:
            raise ValueError(
                sentence(
                    f"{type(self).__name__}: num_particles must be at least 1",
                    found=str(num_particles),
                )
            )
        self.num_particles = num_particles
        self.vectorize_particles = bool(vectorize_particles)

    @abstractmethod
    def loss(self, model: Program, guide: Program, /, *args, **kwargs) -> Loss:
        """Build the loss of a model and a guide, both called with the given arguments.

        Parameters
        ----------
        model, guide : callable or pymc.Model
            The programs.
        *args, **kwargs
            Arguments of both.

        Returns
        -------
        Loss
            Expressions.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_particles={self.num_particles})"
