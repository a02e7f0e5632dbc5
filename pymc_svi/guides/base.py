"""What automatic guides share: they follow the model and draw in unconstrained space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pymc as pm
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from scipy.special import ndtri

from pymc_svi.errors import SiteError, sentence
from pymc_svi.guides.emit import emit_latents
from pymc_svi.guides.fitted import FittedGuide
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.prior import FittedPrior
from pymc_svi.guides.prototype import Latent, Prototype, refuse_local
from pymc_svi.handlers import block
from pymc_svi.handlers.core import Program, built_model, run_program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.values import describe_shape
from pymc_svi.handlers.walk import scratch_model
from pymc_svi.primitives import init_seed

__all__ = ["AutoGuide"]

Marginals = Mapping[str, tuple[np.ndarray, np.ndarray]]

# How many draws quantiles are taken from where there is no formula.
_QUANTILE_DRAWS = 20_000


class AutoGuide(ABC):
    """Base of the guides that are made from a model; called itself, it chooses a family.

    An automatic guide runs the model itself: each latent site is given a draw instead of its
    prior, so that the sites downstream, and the bounds that depend on other sites, see the
    values of this very draw. Observed sites, factors and deterministics are left out.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    prefix : str, default "auto"
        Part of the names of the guide's params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the guide starts; see :mod:`pymc_svi.guides.init`.

    Attributes
    ----------
    latent_names : tuple of str or None
        The latent sites of the model at the first run; None before it. Later runs leave other
        sites alone: data that are not passed when predicting make no new latent sites.
    last_run : tuple or None
        Positional and keyword arguments of the last call, and a model with the coords around it.

    Raises
    ------
    TypeError
        If the model is not a program, or ``init_loc_fn`` not a function.

    Examples
    --------
    A guide whose draws all have one learned scale:

    >>> import pymc as pm
    >>> from pymc_svi import constraints, handlers, param
    >>> from pymc_svi.gradients import rsample
    >>> from pymc_svi.guides import AutoGuide
    >>> class AutoOneScale(AutoGuide):
    ...     def begin(self, prototype):
    ...         scale = param("scale", 0.1, constraint=constraints.positive)
    ...
    ...         def draw(site):
    ...             loc = param(f"{site.name}_loc", self.start_of(prototype, site.name))
    ...             law = pm.Normal.dist(loc, scale)
    ...             value = rsample(law)
    ...             return value, pm.logp(law, value)
    ...
    ...         return draw
    >>> def model():
    ...     pm.Normal("x", 0.0, 1.0)
    ...     pm.HalfNormal("s", 1.0)
    >>> handlers.trace(AutoOneScale(model)).get_trace()
    Trace(param scale, param x_loc, sample x, param s_loc, sample s)

    ``AutoGuide(model)`` makes one that fits the model:

    >>> AutoGuide(model)
    AutoGuide(model): not chosen before the first run
    """

    # What ``AutoGuide(model)`` makes; set by the module that has the choice.
    chooser: ClassVar[type[AutoGuide] | None] = None
    # Whether :meth:`fitted` computes something from the data of the fit.
    computes_from_data: ClassVar[bool] = False
    # Whether the draws follow the density of the whole model, the data's too.
    follows_model: ClassVar[bool] = False
    # What to try where the family turns out to be too simple, for messages.
    step_up: str = "a guide with correlations, AutoMultivariateNormal, or a flow, AutoIAFNormal"

    def __init__(
        self,
        model: Program,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
    ):
        name = type(self).__name__
        if not (callable(model) or isinstance(model, pm.Model)):
            raise TypeError(
                sentence(
                    f"{name}: the first argument is the model",
                    found=f"{type(model).__name__}",
                    expected="a function that creates PyMC variables, or a pm.Model",
                )
            )
        if not callable(init_loc_fn):
            raise TypeError(
                sentence(
                    f"{name}: init_loc_fn is a function of a site",
                    found=f"{init_loc_fn!r}",
                    fix="Use one of pymc_svi.guides.init_to_*, "
                    "such as init_to_value(values={'x': 1.0})",
                )
            )
        self.model = model
        self.prefix = prefix
        self.init_loc_fn = init_loc_fn
        self.latent_names: tuple[str, ...] | None = None
        self._last_shapes: dict[str, tuple[int, ...]] = {}
        self.last_run: tuple[tuple, dict[str, Any], pm.Model] | None = None

    def __new__(cls, *args, **kwargs):
        """Make a guide; ``AutoGuide`` itself makes one that chooses a family."""
        return super().__new__(cls.chooser if cls is AutoGuide and cls.chooser else cls)

    # --- running ------------------------------------------------------------------------------

    def __call__(self, *args, **kwargs) -> None:
        """Run the guide: emit one site for each latent site of the model."""
        context = scratch_model(built_model(self.model), pm.Model.get_context(error_if_none=False))
        self.last_run = args, kwargs, context
        self.run(args, kwargs)

    def run(self, args: tuple, kwargs: Mapping[str, Any]) -> Mapping[str, Variable]:
        """Emit the guide's sites; return its draws in unconstrained space by site name.

        Parameters
        ----------
        args, kwargs
            Arguments of the model.

        Returns
        -------
        dict of str to Variable
            The draws.

        Raises
        ------
        SiteError
            If the model has no latent sites, or one that the guide cannot draw.
        """
        model = self.visible_model()
        prototype = Prototype(model, self.init_loc_fn, args, kwargs)
        if not prototype.latents:
            raise SiteError(
                sentence(
                    f"{type(self).__name__} found no latent sites in the model",
                    fix="Use a guide that does nothing: lambda *args, **kwargs: None",
                )
            )
        if self.computes_from_data or self.follows_model:
            prototype.refuse_discrete(type(self).__name__)
        self.latent_names = tuple(prototype.latents)
        try:
            latents = emit_latents(self.begin(prototype))
            with latents:
                run_program(model, *args, **kwargs)
        except ValueError as error:
            self._tell_changed_shapes(prototype, error)
            raise
        self._last_shapes = {name: latent.shape for name, latent in prototype.latents.items()}
        return latents.unconstrained

    def _tell_changed_shapes(self, prototype: Prototype, error: ValueError) -> None:
        """Say which sites do not have the shape any more that the params were made for."""
        for name, latent in prototype.latents.items():
            before = self._last_shapes.get(name, latent.shape)
            if before != latent.shape:
                dims = latent.dims if len(before) == len(latent.shape) else None
                raise SiteError(
                    sentence(
                        f"Site {name!r} has another shape than when the guide was fitted",
                        found=describe_shape(latent.shape, latent.dims),
                        expected=describe_shape(before, dims),
                        fix="The guide knows nothing of new elements. Predict with the draws of the "
                        f"other sites, taken before the data change, and {name!r} is drawn from its "
                        "prior: Predictive(model, posterior_samples=tree.posterior.to_dataset()[[...]])",
                    )
                ) from error

    def visible_model(self) -> Program:
        """Return the model without latent sites that it did not have at the first run.

        Returns
        -------
        callable or pymc.Model
            The program.
        """
        known = self.latent_names
        if known is None:
            return self.model
        return block(self.model, hide_fn=lambda site: site.is_latent and site.name not in known)

    @abstractmethod
    def begin(self, prototype: Prototype):
        """Declare what all sites share; return the function that draws one site.

        The function is called with a site and returns its unconstrained value and the
        log-density of that value, elementwise or for the site as a whole, and, if the guide
        knows it, the log-density as a function of an unconstrained value. It may also set the
        site's ``value`` and ``log_density`` itself and return None.

        Parameters
        ----------
        prototype : Prototype
            The latent sites of the model, with their shapes and starting values.

        Returns
        -------
        callable
            The function that draws.
        """

    def start_of(self, prototype: Prototype, name: str):
        """Return the function that makes the starting value of a site's location.

        Parameters
        ----------
        prototype : Prototype
            The latent sites of the model.
        name : str
            Name of the site.

        Returns
        -------
        callable
            For ``param(name, init)``; called without arguments.
        """
        latent = prototype.latents[name]
        return lambda: latent.full(prototype.start(init_seed())[name])

    # --- once it is fitted --------------------------------------------------------------------

    def fitted(self, params: Mapping[str, Any], *args, **kwargs) -> Program:
        """Return the program to draw from when the params are those of a fit.

        It is the guide itself for most. A guide that has more to compute once the fit is over,
        as a Laplace approximation has, does so here.

        Parameters
        ----------
        params : dict of str to array_like
            Constrained values of the params.
        *args, **kwargs
            Arguments of the fit; by default those the guide was last run with.

        Returns
        -------
        callable
            The program.
        """
        return lambda *args, **kwargs: self.run(args, kwargs)

    def median(self, params: Mapping[str, Any], *args, **kwargs) -> dict[str, np.ndarray]:
        """Return a central value of each latent site, inside its support.

        The medians of the unconstrained elements, mapped to the supports. That is the median
        of each element where the map acts on elements and follows no other site.

        Parameters
        ----------
        params : dict of str to array_like
            Constrained values of the params, as in ``result.params``.
        *args, **kwargs
            Arguments of the model; by default those the guide was last run with.

        Returns
        -------
        dict of str to numpy.ndarray
            By site name.
        """
        fitted = self.at(params, *args, **kwargs)
        latents = fitted.prototype().latents
        refuse_local(latents)
        marginals = self.marginals(params, latents)
        if marginals is None:
            draws = fitted.draws(_QUANTILE_DRAWS, 0, unconstrained=True)
            center = {name: np.median(value, axis=0) for name, value in draws.items()}
        else:
            center = {name: loc for name, (loc, _) in marginals.items()}
        values = fitted.constrained(latents, {name: v[None] for name, v in center.items()})
        return {name: value[0] for name, value in values.items()}

    def quantiles(
        self,
        params: Mapping[str, Any],
        q: float | Sequence[float],
        *args,
        random_seed: Any = 0,
        **kwargs,
    ) -> dict[str, np.ndarray]:
        """Return quantiles of each element of each latent site.

        Exact for guides whose marginals are Normal, at sites whose map to unconstrained space
        acts on elements and follows no other site; from 20,000 draws otherwise.

        Parameters
        ----------
        params : dict of str to array_like
            Constrained values of the params, as in ``result.params``.
        q : float or sequence of float
            Probabilities between 0 and 1.
        *args, **kwargs
            Arguments of the model; by default those the guide was last run with.
        random_seed : int, default 0
            Seed of the draws.

        Returns
        -------
        dict of str to numpy.ndarray
            By site name, with a leading axis for ``q`` unless that is a number.

        Raises
        ------
        ValueError
            If ``q`` are not probabilities.
        """
        probabilities = np.atleast_1d(np.asarray(q, dtype="float64"))
        if probabilities.ndim != 1 or not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ValueError(sentence("quantiles: q must be probabilities", found=repr(q)))
        fitted = self.at(params, *args, **kwargs)
        latents = fitted.prototype().latents
        refuse_local(latents)
        marginals = self.marginals(params, latents)
        exact = fitted.on_their_own(latents) if marginals else set()
        values: dict[str, np.ndarray] = {}
        if marginals and exact:
            # The last two rows tell whether the map is increasing.
            z = ndtri(np.concatenate([probabilities, 1 - probabilities, [0.25, 0.75]]))
            points = {
                name: loc + sd * z.reshape(-1, *[1] * loc.ndim)
                for name, (loc, sd) in marginals.items()
            }
            n = len(probabilities)
            for name, value in fitted.constrained(latents, points).items():
                rising = value[-1] >= value[-2]
                values[name] = np.where(rising, value[:n], value[n : 2 * n])
        if len(exact) < len(latents):
            draws = fitted.draws(_QUANTILE_DRAWS, random_seed)
            for name in latents:
                if name not in exact:
                    values[name] = np.quantile(draws[name], probabilities, axis=0)
        return {name: values[name][0] if np.ndim(q) == 0 else values[name] for name in latents}

    def sample_posterior(
        self,
        params: Mapping[str, Any],
        draws: int = 1_000,
        *args,
        random_seed: Any = None,
        **kwargs,
    ) -> dict[str, np.ndarray]:
        """Draw the latent sites, and the deterministics that follow from them.

        ``result.sample_posterior`` gives the same as a DataTree with dims and coords.

        Parameters
        ----------
        params : dict of str to array_like
            Constrained values of the params, as in ``result.params``.
        draws : int, default 1_000
            Number of draws.
        *args, **kwargs
            Arguments of the model; by default those the guide was last run with.
        random_seed : int, optional
            Seed.

        Returns
        -------
        dict of str to numpy.ndarray
            Arrays of shape ``(draws, *shape)`` by site name.
        """
        fitted = self.at(params, *args, **kwargs)
        return fitted.draws(draws, random_seed, deterministics=True)

    def get_posterior(self, params: Mapping[str, Any], *args, **kwargs) -> Any:
        """Return the fitted distribution in unconstrained space, as an unnamed PyMC one.

        One distribution over all elements for guides that draw them jointly; a dict of them by
        site name for guides that draw each site on its own.

        Parameters
        ----------
        params : dict of str to array_like
            Constrained values of the params, as in ``result.params``.
        *args, **kwargs
            Arguments of the model; by default those the guide was last run with.

        Returns
        -------
        TensorVariable or dict of str to TensorVariable
            The distribution.

        Raises
        ------
        NotImplementedError
            By guides that have none.
        """
        raise NotImplementedError(
            sentence(
                f"{type(self).__name__} has no distribution of its own in unconstrained space",
                fix="Use its draws, sample_posterior(params), or how it makes them, "
                "to_model(params)",
            )
        )

    def to_model(self, params: Mapping[str, Any], *args, **kwargs) -> pm.Model:
        """Return the fitted guide as a model: its law, without the data.

        The unconstrained elements are its random variables, or whatever else the guide draws to
        make them; the latent sites of the original model, under their names and with their dims,
        and its deterministics follow from them. ``pm.sample_prior_predictive`` of it draws from
        the guide.

        Parameters
        ----------
        params : dict of str to array_like
            Constrained values of the params, as in ``result.params``.
        *args, **kwargs
            Arguments of the model; by default those the guide was last run with.

        Returns
        -------
        pymc.Model
            The model.
        """
        fitted = self.at(params, *args, **kwargs)
        latents = fitted.prototype().latents
        refuse_local(latents)
        try:
            posterior = self.get_posterior(params, *fitted.args, **fitted.kwargs)
        except NotImplementedError:
            return fitted.as_model_of_draws(f"{self.prefix}_draw")
        return fitted.as_model(latents, self.register_posterior, posterior)

    def as_prior(self, model: Program, params: Mapping[str, Any], *args, **kwargs) -> Program:
        """Return a model with the fitted guide in the place of its prior.

        For data that arrive one batch after the other: the posterior of the first is the prior
        of the second. The latent sites of the new model are the unconstrained elements,
        ``auto_latent`` for guides that draw jointly and ``x_unconstrained`` for others; the sites
        of the old one are deterministics that follow from them.

        Parameters
        ----------
        model : callable or pymc.Model
            The model, of the next data.
        params : dict of str to array_like
            Constrained values of the params, as in ``result.params``.
        *args, **kwargs
            Arguments of the fit; by default those the guide was last run with.

        Returns
        -------
        callable
            The program.

        Examples
        --------
        >>> import numpy as np
        >>> import pymc as pm
        >>> from pymc_svi import handlers
        >>> from pymc_svi.guides import AutoDiagonalNormal
        >>> def model(y):
        ...     mu = pm.Normal("mu", 0.0, 10.0)
        ...     pm.Normal("y", mu, 1.0, observed=y)
        >>> guide = AutoDiagonalNormal(model)
        >>> fitted = {"auto_loc": np.array([1.0]), "auto_scale": np.array([0.5])}
        >>> updated = guide.as_prior(model, fitted, np.array([0.9, 1.1]))
        >>> handlers.trace(updated).get_trace(np.array([1.2]))
        Trace(sample auto_latent, deterministic mu, sample y)
        """
        fitted = self.at(params, *args, **kwargs)
        latents = fitted.prototype().latents
        refuse_local(latents)
        posterior = self.get_posterior(params, *fitted.args, **fitted.kwargs)
        return FittedPrior(model, self, posterior, latents)

    def register_posterior(
        self, model: pm.Model, posterior: Any, latents: Mapping[str, Latent]
    ) -> Mapping[str, Variable]:
        """Make the variables of :meth:`get_posterior` part of a model; return each site's.

        Parameters
        ----------
        model : pymc.Model
            The model.
        posterior
            What :meth:`get_posterior` returned.
        latents : dict of str to Latent
            The latent sites.

        Returns
        -------
        dict of str to Variable
            Unconstrained values by site name.
        """
        points: dict[str, Variable] = {}
        for name, dist in posterior.items():
            # The law of a site may be that given the sites before it.
            earlier = {
                posterior[other]: as_plain_tensor(point)
                for other, point in points.items()
                if point is not posterior[other]
            }
            [given] = graph_replace([dist], earlier, strict=False) if earlier else [dist]
            points[name] = model.register_rv(given, f"{name}_unconstrained")
        return points

    def marginals(
        self, params: Mapping[str, Any], latents: Mapping[str, Latent]
    ) -> Marginals | None:
        """Return mean and standard deviation of each unconstrained element, if all are Normal.

        Parameters
        ----------
        params : dict of str to array_like
            Constrained values of the params.
        latents : dict of str to Latent
            The latent sites.

        Returns
        -------
        dict of str to tuple of numpy.ndarray, or None
            Means and standard deviations by site name; None if they are not all Normal.
        """
        return None

    def at(self, params: Mapping[str, Any], *args, **kwargs) -> FittedGuide:
        """Return the guide at fixed params, ready to be evaluated.

        Parameters
        ----------
        params : dict of str to array_like
            Constrained values of the params.
        *args, **kwargs
            Arguments of the model; by default those the guide was last run with.

        Returns
        -------
        FittedGuide
            The guide.

        Raises
        ------
        TypeError
            If ``params`` is not a dict.
        """
        if not isinstance(params, Mapping):
            raise TypeError(
                sentence(
                    f"{type(self).__name__}: params are a dict of arrays by name",
                    found=type(params).__name__,
                    fix="Pass result.params",
                )
            )
        context = scratch_model(built_model(self.model), pm.Model.get_context(error_if_none=False))
        if not args and not kwargs and self.last_run is not None:
            args, kwargs, context = self.last_run
        return FittedGuide(self, params, args, kwargs, context)

    def __repr__(self) -> str:
        model = getattr(self.model, "__name__", None) or "model"
        return f"{type(self).__name__}({model})"
