"""``Predictive``: draws from a program, given posterior samples, a guide, or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from pytensor.graph.basic import Variable

from pymc_svi.enumeration import infer_discrete as drawn_from_posterior
from pymc_svi.errors import sentence
from pymc_svi.handlers import trace, uncondition
from pymc_svi.handlers.calls import telling_data
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.handlers.walk import scratch_model
from pymc_svi.predictive.samples import Placeholders, stacked
from pymc_svi.results.sampling import (
    FixedParams,
    GuidedRun,
    as_arguments,
    draw_function,
    guided_run,
    prediction_names,
)
from pymc_svi.results.tree import as_tree, check_draws, site_dataset

__all__ = ["Predictive"]


class Predictive:
    """Draw from a model: from its prior, given posterior samples, or through a fitted guide.

    Observed sites are drawn, also where the model is given data for them.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    posterior_samples : dict, xarray.Dataset or xarray.DataTree, optional
        Values of latent sites: arrays of shape ``(draws, *shape)`` by name, or a posterior as
        ArviZ has it, with dims (chain, draw, ...), or (sample, ...) from ``extract``. Latent sites
        without values are drawn.
    guide : callable or pymc.Model, optional
        A guide to draw the latent sites from, instead of ``posterior_samples``.
    params : dict of str to array_like, optional
        Constrained values of the params of guide and model, as in ``result.params``.
    num_samples : int, optional
        Number of draws; needed unless there are ``posterior_samples``.
    return_sites : list of str, optional
        Names of the sites to return; by default all that are drawn here.
    coords : dict, optional
        Coords for the dims that function programs use.
    infer_discrete : bool, default False
        Draw the discrete latent sites from their posterior given the data and all other sites, as
        :class:`~pymc_svi.infer_discrete` does, instead of from the model. Posterior samples that
        have the continuous sites only are completed in this way.

    Raises
    ------
    ValueError
        If there are both samples and a guide, or neither samples nor a number of draws.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import Predictive
    >>> def model(y=None):
    ...     mu = pm.Normal("mu", 0.0, 1.0)
    ...     pm.Normal("y", mu, 1.0, shape=3, observed=y)
    >>> prior = Predictive(model, num_samples=100)(random_seed=1)
    >>> prior.prior["y"].shape
    (1, 100, 3)
    >>> draws = {"mu": np.zeros(50)}
    >>> Predictive(model, draws)(random_seed=1).posterior_predictive["y"].shape
    (1, 50, 3)
    """

    def __init__(
        self,
        model: Program,
        posterior_samples: Mapping[str, Any] | xr.Dataset | xr.DataTree | None = None,
        *,
        guide: Program | None = None,
        params: Mapping[str, Any] | None = None,
        num_samples: int | None = None,
        return_sites: Sequence[str] | None = None,
        coords: Mapping[str, Any] | None = None,
        infer_discrete: bool = False,
    ):
        if posterior_samples is not None and guide is not None:
            raise ValueError(
                sentence(
                    "Predictive takes posterior_samples or a guide, not both",
                    fix="Leave one of them out",
                )
            )
        if isinstance(return_sites, str):
            return_sites = [return_sites]
        self.model = drawn_from_posterior(model) if infer_discrete else model
        self.guide = guide
        self.params = dict(params or {})
        self.return_sites = return_sites
        self.coords = coords
        self.samples, self.sample_shape, self._named = stacked(posterior_samples)
        if posterior_samples is None:
            if num_samples is None:
                raise ValueError(
                    sentence(
                        "Predictive needs posterior_samples or num_samples, the number of draws"
                    )
                )
            check_draws(num_samples)
            self.sample_shape = (1, int(num_samples))
        elif num_samples is not None and num_samples != np.prod(self.sample_shape):
            warnings.warn(
                f"num_samples={num_samples} is not used: the posterior samples have "
                f"{np.prod(self.sample_shape)} draws.",
                UserWarning,
                stacklevel=2,
            )

    def __call__(self, *args, random_seed: Any = None, **kwargs) -> xr.DataTree:
        """Draw.

        Parameters
        ----------
        *args, **kwargs
            Arguments of model and guide. Data left out (``y=None``) are drawn.
        random_seed : int, optional
            Seed.

        Returns
        -------
        xarray.DataTree
            ``posterior_predictive`` with dims (chain, draw, ...), and with a guide also
            ``posterior``; from the prior ``prior``, and ``prior_predictive`` for sites that the
            model is given data for.
        """
        args, kwargs = as_arguments(self.model, args, kwargs)
        around = pm.Model.get_context(error_if_none=False)
        models = map(built_model, (self.model, self.guide))
        placeholders: dict[str, Variable] = {}
        samples: dict[str, np.ndarray] = {}
        with scratch_model(*models, around, coords=self.coords):
            if self.guide is not None:
                run = guided_run(self.model, self.guide, self.params, args, kwargs, predictive=True)
            else:
                run, given = self._run_on_samples(args, kwargs)
                placeholders, samples = given.variables, given.samples
        names = prediction_names(run, self.return_sites)
        groups = self._groups(run, names)
        wanted = [name for sites in groups.values() for name in sites]
        draw = draw_function({name: run.trace[name].value for name in wanted}, placeholders)
        with telling_data(built_model(self.model)):
            values = draw(int(np.prod(self.sample_shape)), random_seed, samples)
        return as_tree(
            {
                group: site_dataset(
                    {name: values[name] for name in sites},
                    run.trace,
                    ("chain", "draw"),
                    self.sample_shape,
                )
                for group, sites in groups.items()
            }
        )

    def _run_on_samples(self, args, kwargs) -> tuple[GuidedRun, Placeholders]:
        given = Placeholders(self.samples, self._named)
        # Outermost: an observed site is drawn before it could be given a sample.
        with FixedParams(self.params), given:
            traced = trace(uncondition(self.model)).get_trace(*args, **kwargs)
        given.check_used(traced)
        return GuidedRun(traced, tuple(given.variables)), given

    def _groups(self, run: GuidedRun, names: list[str]) -> dict[str, list[str]]:
        if self.guide is not None:
            return {"posterior": list(run.guided), "posterior_predictive": names}
        if self.samples:
            return {"posterior_predictive": names}
        data = [n for n in names if run.trace[n].infer.get("was_observed")]
        return {
            "prior": [name for name in names if name not in data],
            "prior_predictive": data,
        }
