"""What a fit gives: the params, the losses, and draws from the posterior in ArviZ's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm
import xarray as xr

from pymc_svi.engine import Arguments, SVIState
from pymc_svi.errors import DataError, SiteError, did_you_mean, quoted, sentence
from pymc_svi.handlers import Trace
from pymc_svi.handlers.calls import telling_data
from pymc_svi.handlers.core import built_model
from pymc_svi.results.diagnosis import Diagnosis, diagnose
from pymc_svi.results.sampling import (
    GuidedRun,
    draw_function,
    fitted_guide,
    guided_run,
    prediction_names,
)
from pymc_svi.results.tree import (
    as_tree,
    check_draws,
    data_of_predictions,
    given_data,
    site_dataset,
)

if TYPE_CHECKING:
    from pymc_svi.svi import SVI  # only for its name in signatures: svi imports this module

__all__ = ["SVIRunResult"]


class SVIRunResult:
    """The result of :meth:`SVI.run`.

    Parameters
    ----------
    params : dict of str to numpy.ndarray
        The params at the end of the fit, in constrained space.
    state : SVIState
        The state at the end, to resume from.
    losses : numpy.ndarray
        The loss of each step, shape (num_steps,).
    svi : SVI or None
        The method, whose programs are drawn from; None for a method without a guide.
    arguments : Arguments
        The arguments of the programs to draw with.
    param_sites : Trace
        The params as sites, with their dims.
    fitted_on : Arguments, optional
        All data, where the guide needs them once the fit is over.
    of_rows : callable, default ``frozenset``
        Returns the names of the sites that belong to the rows of one batch.
    about : dict, optional
        What the fit was of: the seed of the data's order, and their sizes.

    Attributes
    ----------
    params, state, losses, about
        As above.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVI
    >>> from pymc_svi.guides import AutoNormal
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     y = pm.Normal("y", x, 1.0, observed=2.0)
    >>> result = SVI(model, AutoNormal(model)).run(100, random_seed=1, progressbar=False)
    >>> result.losses.shape
    (100,)
    >>> result.sample_posterior(50, random_seed=2).posterior["x"].shape
    (1, 50)
    """

    def __init__(
        self,
        params: dict[str, np.ndarray],
        state: SVIState,
        losses: np.ndarray,
        *,
        svi: SVI | None,
        arguments: Arguments,
        param_sites: Trace,
        fitted_on: Arguments | None = None,
        of_rows: Callable[[], frozenset[str]] = frozenset,
        about: Mapping[str, Any] | None = None,
    ):
        self.params = params
        self.state = state
        self.losses = losses
        self._svi = svi
        self._arguments = arguments
        self._params = param_sites
        self._fitted_on = arguments if fitted_on is None else fitted_on
        # Finds the sites whose values belong to rows that come in batches.
        self._find_of_rows = of_rows
        # What a fit has to know to go on from here beside the state: the order of its data.
        self.about = dict(about or {})

    def __iter__(self):
        """Unpack as ``params, state, losses``, as NumPyro's result does."""
        return iter((self.params, self.state, self.losses))

    def __repr__(self) -> str:
        final = np.nanmean(self.losses[-100:])
        return (
            f"SVIRunResult(params={list(self.params)}, steps={len(self.losses)}, loss={final:.4g})"
        )

    def sample_posterior(
        self,
        draws: int = 1_000,
        *args,
        random_seed: Any = None,
        return_sites: Sequence[str] | None = None,
        **kwargs,
    ) -> xr.DataTree:
        """Draw from the fitted guide.

        Each draw is made in one run of guide and model, so that bounds and transforms that
        depend on other sites see the values of the same draw, and deterministics are computed
        from it.

        Parameters
        ----------
        draws : int, default 1_000
            Number of draws.
        *args, **kwargs
            Arguments of the model, for sites that follow from data: other ones than in the fit
            give the values for other data. After a fit to a ``DataLoader``, sites that belong
            to rows are left out without them. A built model uses its present data.
        random_seed : int, optional
            Seed.
        return_sites : list of str, optional
            Names to return; by default all that the guide draws, and all deterministics.

        Returns
        -------
        xarray.DataTree
            ``posterior`` with dims (chain, draw, ...), one chain; ``fit``, the constrained
            params; ``fit_stats``, the losses by step; ``observed_data`` and ``constant_data``.

        Raises
        ------
        DataError
            If sites are asked for that belong to rows of data, and no data are passed.
        SiteError
            If a name in ``return_sites`` is not that of a site.
        """
        check_draws(draws)
        given = bool(args or kwargs)
        run = self._guided_run(Arguments(args, kwargs) if given else self._arguments)
        traced = run.trace
        names = [*run.guided, *(site.name for site in traced.sites("deterministic"))]
        of_rows = frozenset() if given else self._find_of_rows()
        if isinstance(return_sites, str):
            return_sites = [return_sites]
        names = _chosen(names, return_sites, of_rows)
        values = draw_function({name: traced[name].value for name in names})(draws, random_seed)
        params = {name: value for name, value in self.params.items() if name in self._params}
        return as_tree(
            {
                "posterior": site_dataset(values, traced, ("chain", "draw")),
                "fit": site_dataset(params, self._params),
                "fit_stats": xr.Dataset({"loss": ("step", self.losses)}),
                **given_data(traced, leave_out=of_rows),
            }
        )

    def sample_posterior_predictive(
        self,
        *args,
        draws: int = 1_000,
        random_seed: Any = None,
        return_sites: Sequence[str] | None = None,
        predictions: bool = False,
        **kwargs,
    ) -> xr.DataTree:
        """Draw data from the model, its latent sites drawn from the fitted guide.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the model: other ones than in the fit predict for new data, and data
            left out (``y=None``) are drawn. Without any, those of the fit. A built model uses
            its present data; change them with ``pm.set_data``.
        draws : int, default 1_000
            Number of draws.
        random_seed : int, optional
            Seed.
        return_sites : list of str, optional
            Names to return, of any site; by default all that the guide does not draw.
        predictions : bool, default False
            Name the group ``predictions`` instead of ``posterior_predictive``.

        Returns
        -------
        xarray.DataTree
            ``posterior`` and ``posterior_predictive`` with dims (chain, draw, ...); beside them
            ``observed_data`` and ``constant_data``, or ``predictions_constant_data``.
        """
        check_draws(draws)
        self._refuse_number_of_draws(args)
        given = bool(args or kwargs)
        run = self._guided_run(
            Arguments(args, kwargs) if given else self._arguments, predictive=True
        )
        names = prediction_names(run, return_sites)
        of_rows = frozenset() if given else self._find_of_rows()
        if of_rows.intersection(names):
            asked = [name for name in names if name in of_rows]
            raise _needs_data(asked, "sample_posterior_predictive")
        draw = draw_function({name: run.trace[name].value for name in (*run.guided, *names)})
        with telling_data(built_model(self._svi_with_guide().model)):
            values = draw(draws, random_seed)
        group = "predictions" if predictions else "posterior_predictive"
        return as_tree(
            {
                which: site_dataset({n: values[n] for n in sites}, run.trace, ("chain", "draw"))
                for which, sites in (("posterior", run.guided), (group, names))
            }
            | data_of_predictions(run.trace, run.observed, values, predictions, of_rows)
        )

    def _refuse_number_of_draws(self, args: tuple) -> None:
        """Refuse a number in place of data, which ``sample_posterior`` would take for the draws."""
        if (
            len(args) != 1
            or not _is_number(args[0])
            or any(map(_is_number, self._arguments.values))
        ):
            return
        raise TypeError(
            sentence(
                "sample_posterior_predictive: the number of draws goes by name, other arguments are "
                "those of the model",
                found=repr(args[0]),
                fix=f"Write draws={args[0]!r}",
            )
        )

    def diagnose(self, draws: int = 4_000, *args, random_seed: Any = None, **kwargs) -> Diagnosis:
        """Say whether the fit can be believed.

        Draws of the fitted guide are weighed by posterior over guide. How heavy the tail of the
        weights is tells whether the guide covers the posterior; where it does, the weighted draws
        also tell how far its means and sds are off.

        Parameters
        ----------
        draws : int, default 4_000
            Number of draws, at least 100.
        *args, **kwargs
            Arguments of the model; by default those of the fit. After a fit to a
            ``DataLoader``, all of the data.
        random_seed : int, optional
            Seed.

        Returns
        -------
        Diagnosis
            Print it, or ask for ``is_reliable``, ``khat``, ``sites``...

        Raises
        ------
        DataError
            If the model sees a minibatch, whose density is an estimate.
        SiteError
            If the guide puts a site at a point.
        ValueError
            If there are fewer than 100 draws.

        Examples
        --------
        >>> import pymc as pm
        >>> from pymc_svi import SVI, optim
        >>> from pymc_svi.guides import AutoNormal
        >>> def model():
        ...     mu = pm.Normal("mu", 0.0, 1.0)
        ...     pm.Normal("y", mu, 1.0, observed=[1.0, 2.0])
        >>> svi = SVI(model, AutoNormal(model), optim.Adam(0.02))
        >>> result = svi.run(2_000, random_seed=0, progressbar=False)
        >>> result.diagnose(random_seed=0).is_reliable
        True
        """
        if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 100:
            raise ValueError(
                sentence(
                    "diagnose: draws must be a whole number of at least 100",
                    found=repr(draws),
                    fix="Arguments of the model come after it, or by name: diagnose(y=y)",
                )
            )
        given = bool(args or kwargs)
        svi = self._svi_with_guide()
        if self.about.get("data") and not given:
            model = built_model(svi.model)
            if model is None:
                raise DataError(
                    sentence(
                        "diagnose: the fit saw its data in batches, of which the result holds none",
                        fix="Pass all of the data as arguments of the model: "
                        "result.diagnose(X=X, y=y)",
                    )
                )
            _check_all_rows(model, self.about["data"])
        arguments = Arguments(args, kwargs) if given else self._arguments
        args, kwargs = arguments.split(arguments.variables(svi.model))
        with svi.context(), telling_data(built_model(svi.model)):
            guide = fitted_guide(svi.guide, self.params, self._fitted_on)
            return diagnose(
                svi.model,
                guide,
                self.params,
                self.losses,
                args,
                kwargs,
                int(draws),
                random_seed,
                getattr(svi.guide, "step_up", None),
            )

    def _guided_run(self, arguments: Arguments, predictive: bool = False) -> GuidedRun:
        svi = self._svi_with_guide()
        args, kwargs = arguments.split(arguments.variables(svi.model))
        with svi.context(), telling_data(built_model(svi.model)):
            return guided_run(
                svi.model,
                svi.guide,
                self.params,
                args,
                kwargs,
                predictive=predictive,
                fitted_on=self._fitted_on,
            )

    def _svi_with_guide(self) -> SVI:
        if self._svi is None:
            raise TypeError(
                sentence(
                    "The method of this fit has no guide to draw from",
                    found=f"the params {quoted(self.params)}",
                    fix="Use result.params",
                )
            )
        return self._svi


def _chosen(
    names: Sequence[str], return_sites: Sequence[str] | None, of_rows: frozenset[str]
) -> list[str]:
    """Return the names of the sites to draw, none of which may belong to rows."""
    if return_sites is None:
        chosen = [name for name in names if name not in of_rows]
        if not chosen and names:
            raise _needs_data(names)
        return chosen
    for name in return_sites:
        if name not in names:
            raise SiteError(
                sentence(
                    f"return_sites: there is no latent or deterministic site {name!r}",
                    found=quoted(names),
                )
                + did_you_mean(name, names)
            )
    asked = [name for name in return_sites if name in of_rows]
    if asked:
        raise _needs_data(asked)
    return list(return_sites)


def _check_all_rows(model: pm.Model, data: Mapping[str, Any]) -> None:
    """Check that a model has the data that it was fitted to in batches, not placeholders."""
    total = data["total_size"]
    for variable in model.data_vars:
        rows = np.shape(variable.get_value(borrow=True))[:1]
        if variable.name in data["columns"] or "" in data["columns"]:
            if rows != (total,):
                raise DataError(
                    sentence(
                        "diagnose: the model has other data than it was fitted to in batches",
                        found=f"{rows[0]} rows in pm.Data {variable.name!r}",
                        expected=f"all {total} of the DataLoader",
                        fix=f'Put them there: with model: pm.set_data({{"{variable.name}": ...}})',
                    )
                )


def _needs_data(names: Sequence[str], method: str = "sample_posterior") -> DataError:
    return DataError(
        sentence(
            f"{quoted(names)} belong to rows of data, of which a result holds none after a fit "
            "to batches",
            fix=f"Pass the rows to draw them for, as arguments of the model: "
            f"result.{method}(X=rows, ...)",
        )
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
