"""``log_likelihood`` is PyMC's, for programs of both kinds, and what ArviZ compares models by."""

import arviz as az
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy.stats import norm

from pymc_svi import SVI, Predictive, handlers, log_likelihood, optim
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.guides import AutoNormal

COUNTS = np.array([2, 0, 3])
PAIRS = np.array([[0.5, -0.2], [1.0, 0.3], [0.1, 0.9]])


def program():
    a = pm.Normal("a", 0.0, 1.0)
    s = pm.HalfNormal("s", 1.0)
    pm.Poisson("counts", pm.math.exp(a), observed=COUNTS, dims="city")
    pm.MvNormal("pairs", a, np.eye(2) * s**2, observed=PAIRS, dims=("city", "axis"))


COORDS = {"city": ["x", "y", "z"], "axis": ["u", "v"]}


@pytest.fixture(scope="module")
def built():
    with pm.Model(coords=COORDS) as model:
        program()
    return model


@pytest.fixture(scope="module")
def posterior(built):
    svi = SVI(built, AutoNormal(built), optim.Adam(0.05))
    return svi.run(200, random_seed=0, progressbar=False).sample_posterior(50, random_seed=1)


@pytest.mark.parametrize("as_function", [True, False])
def test_it_is_pymcs_with_dims_and_coords(built, posterior, as_function):
    if as_function:
        found = log_likelihood(program, posterior, coords=COORDS)
    else:
        found = log_likelihood(built, posterior)
    with built:
        expected = pm.compute_log_likelihood(posterior.copy(), progressbar=False)
    for name in ("counts", "pairs"):
        mine, theirs = found.log_likelihood[name], expected.log_likelihood[name]
        assert mine.dims == ("chain", "draw", "city") and list(mine.city) == COORDS["city"]
        np.testing.assert_allclose(mine.values, theirs.values.reshape(mine.shape), rtol=1e-6)
    assert "posterior" in found and "observed_data" in found


def test_arviz_compares_fits_by_it(built, posterior):
    tree = log_likelihood(built, posterior)
    assert np.isfinite(az.loo(tree, var_name="counts").elpd)


def test_scales_and_total_sizes_are_left_out_and_masked_elements_are_zero():
    def model(total_size=None):
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Normal("y", mu, 1.0, observed=np.zeros(3), total_size=total_size)

    draws = {"mu": np.array([0.5, 1.0])}
    plain = log_likelihood(model, draws).log_likelihood["y"]
    for weighted in (handlers.scale(model, scale=7.0), lambda: model(total_size=300)):
        np.testing.assert_allclose(log_likelihood(weighted, draws).log_likelihood["y"], plain)
    mask = np.array([True, False, True])
    masked = log_likelihood(handlers.mask(model, mask=mask), draws).log_likelihood["y"]
    np.testing.assert_allclose(masked, plain * mask)


def test_what_is_not_draws_is_told(built, posterior):
    with pytest.raises(TypeError, match="Found: Model. .* The model comes first, then the samples"):
        log_likelihood(posterior, built)
    result = SVI(built, AutoNormal(built)).run(1, random_seed=0, progressbar=False)
    with pytest.raises(TypeError, match="Found: SVIRunResult. .*result.sample_posterior"):
        Predictive(built, result)


def test_predictions_that_a_model_got_after_the_fit_need_no_samples():
    """As ``gp.conditional`` adds them."""
    y = np.array([0.5, 1.0])
    with pm.Model() as built:
        mu = pm.Normal("mu")
        pm.Normal("y", mu, 1.0, observed=y)
    svi = SVI(built, AutoNormal(built), compile_kwargs={"mode": "FAST_COMPILE"})
    result = svi.run(1, random_seed=0, progressbar=False)
    posterior = result.sample_posterior(4, random_seed=1)
    expected = log_likelihood(built, posterior).log_likelihood
    with built:
        pm.Normal("new", mu, 1.0)
    xr.testing.assert_identical(log_likelihood(built, posterior).log_likelihood["y"], expected["y"])
    with pytest.raises(PairingError, match=r"'new'.*handlers.block\(model, hide=\['new'\]\)"):
        result.diagnose()
    fitted = SVI(
        handlers.block(built, hide=["new"]), svi.guide, compile_kwargs={"mode": "FAST_COMPILE"}
    )
    again = fitted.run(1, init_state=result, progressbar=False)
    assert again.state.step == 2


def test_mistakes_are_told():
    def model(y=None):
        mu = pm.Normal("mu", 0.0, 1.0)
        tau = pm.HalfNormal("tau", 1.0)
        pm.Normal("y", mu, tau, observed=y)

    full = {"mu": np.zeros(2), "tau": np.ones(2)}
    with pytest.raises(SiteError, match="no posterior samples of 'tau'.*Give every latent site"):
        log_likelihood(model, {"mu": np.zeros(2)}, np.ones(3))
    with pytest.raises(SiteError, match="None of the posterior samples.*Did you mean .mu."):
        log_likelihood(model, {"mux": np.zeros(2)}, np.ones(3))
    with pytest.raises(SiteError, match="no observed site"):
        log_likelihood(lambda: pm.Normal("mu", 0.0, 1.0), {"mu": np.zeros(2)})
    with pytest.raises(SiteError, match="wrong shape"):
        log_likelihood(model, {**full, "mu": np.zeros((2, 5))}, np.ones(3))


# --- samples with dims ------------------------------------------------------------------------


def square():
    w = pm.Normal("w", 0.0, 1.0, dims=("row", "column"))
    pm.Deterministic("total", w @ np.array([1.0, 10.0]), dims="row")
    pm.Normal("y", w, 1.0, observed=np.arange(4.0).reshape(2, 2), dims=("row", "column"))


SQUARE = {"row": ["a", "b"], "column": ["u", "v"]}


@pytest.mark.parametrize(
    "change",
    [
        lambda draws: draws,
        lambda draws: draws.transpose("column", "draw", "row", "chain"),
        lambda draws: draws.isel(row=[1, 0], column=[1, 0]),
        lambda draws: xr.DataTree.from_dict({"posterior": draws.transpose()}),
        lambda draws: {"w": draws["w"].transpose("row", "draw", "column", "chain")},
        lambda draws: draws.isel(chain=0, drop=True).transpose(),
        lambda draws: draws.stack(sample=("chain", "draw")),  # as arviz.extract does
    ],
    ids=["as in the model", "dims", "labels", "tree", "arrays", "one chain", "stacked"],
)
def test_samples_go_by_the_names_of_dims_and_labels(change):
    values = np.random.default_rng(0).normal(size=(1, 5, 2, 2))
    draws = xr.Dataset({"w": (("chain", "draw", "row", "column"), values)}, SQUARE)
    found = Predictive(square, change(draws), return_sites=["total"], coords=SQUARE)(random_seed=0)
    total = found.posterior_predictive["total"].values
    np.testing.assert_allclose(total, values @ [1.0, 10.0])
    scores = log_likelihood(square, change(draws), coords=SQUARE).log_likelihood["y"].values
    np.testing.assert_allclose(scores, norm.logpdf(np.arange(4.0).reshape(2, 2), values))


def test_samples_of_which_the_draws_cannot_be_told_are_refused():
    w = xr.DataArray(np.zeros((1, 5, 2, 2)), dims=("chain", "draw", "row", "column"))
    with pytest.raises(TypeError, match="some have dims and some do not. Found: 'z' without"):
        Predictive(square, {"w": w, "z": np.zeros(5)})
    with pytest.raises(ValueError, match="there is no dim of draws. Found: the dims 'row', 'colu"):
        Predictive(square, xr.Dataset({"w": w[0, 0]}))


def test_samples_with_other_names_of_dims_go_by_position():
    values = np.random.default_rng(0).normal(size=(1, 5, 2, 2))
    draws = xr.Dataset({"w": (("chain", "draw", "w_dim_0", "w_dim_1"), values)})
    found = Predictive(square, draws, return_sites=["total"], coords=SQUARE)(random_seed=0)
    total = found.posterior_predictive["total"].values
    np.testing.assert_allclose(total, values @ [1.0, 10.0])
