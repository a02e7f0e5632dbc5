"""``whiten``: a model in coordinates in which its posterior is nearly standard Normal."""

from __future__ import annotations

from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.laplace import AutoLaplaceApproximation
from pymc_svi.guides.neutra import NeuTraReparam
from pymc_svi.handlers.core import Program

__all__ = ["whiten"]


def whiten(
    model: Program, *args, init_loc_fn: InitStrategy = init_to_initial_point, **kwargs
) -> Program:
    """Return a model whose latent elements are centred at its mode and scaled by its curvature.

    An optimizer moves every param by about its step size, whatever the units of the data. A
    coefficient of 60,000 is then out of reach, and one that is known to 0.001 is lost in the noise;
    elements that are strongly correlated hold each other up. Here one joint site,
    ``auto_shared_latent``, takes the place of the latent ones, which are computed from it and keep
    their names and dims: a guide of it starts at Laplace's approximation, and steps are in units of
    posterior sds. The posterior is the same.

    Parameters
    ----------
    model : callable or pymc.Model
        The model. Its posterior needs a mode in unconstrained space, and it can have no discrete
        sites.
    *args, **kwargs
        The arguments that the model will be fitted with: the coordinates are made for these.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the search for the mode starts.

    Returns
    -------
    callable
        The model in the new coordinates, for automatic guides and ``SVI``.

    Raises
    ------
    SiteError
        When the posterior has no mode, as that of a hierarchical model with centred effects, or no
        curvature there.

    See Also
    --------
    pymc_svi.guides.NeuTraReparam : coordinates by any fitted guide.

    References
    ----------
    Marzouk, Moselhy, Parno and Spantini (2016), Sampling via measure transport: an introduction.

    Examples
    --------
    A regression on a year: intercept and slope are correlated by more than 0.999.

    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import SVI, Trace_ELBO, optim
    >>> from pymc_svi.guides import AutoNormal, whiten
    >>> year = np.arange(2_000.0, 2_020.0)
    >>> sales = 300.0 * (year - 1_990.0) + np.where(year % 2, 200.0, -200.0)
    >>> with pm.Model() as model:
    ...     line = pm.Flat("line", shape=2)
    ...     _ = pm.Normal("sales", line[0] + line[1] * year, 200.0, observed=sales)
    >>> white = whiten(model)
    >>> guide = AutoNormal(white, init_scale=1.0)
    >>> svi = SVI(white, guide, optim.Adam(0.01), Trace_ELBO(sticking_the_landing=True))
    >>> result = svi.run(500, random_seed=1, progressbar=False)
    >>> draws = result.sample_posterior(4_000, random_seed=2).posterior["line"].values[0]
    >>> bool(abs(draws[:, 1].mean() - 303.0) < 0.5), bool(abs(draws[:, 1].std() - 7.76) < 0.3)
    (True, True)
    """
    guide = AutoLaplaceApproximation(model, init_loc_fn=init_loc_fn)
    mode = guide.find_mode(*args, **kwargs)
    return NeuTraReparam(guide, mode, *args, **kwargs).reparam(model)
