"""What can be drawn after a fit to batches, whose rows are not those of all data."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from pymc_svi import SVI, DataLoader, Trainer, constraints, optim, param
from pymc_svi.data import DataError
from pymc_svi.errors import SiteError
from pymc_svi.guides import AutoLaplaceApproximation, AutoNormal
from tests.models import normal_mean_posterior

FAST = {"compile_kwargs": {"mode": "FAST_COMPILE"}}
RNG = np.random.default_rng(2)
X = RNG.normal(size=(12, 2))
Y = X @ [1.0, -0.5] + RNG.normal(size=12)


def regression(X, y=None):
    w = pm.Normal("w", 0, 1, shape=X.shape[1])
    pm.Deterministic("size", (w**2).sum())
    mean = pm.Deterministic("mean", (X * w).sum(-1))
    pm.Normal("y", mean, 1.0, observed=y, shape=X.shape[0])


def fitted(model, guide, n=20, **data):
    svi = SVI(model, guide, optim.Adam(0.05), **FAST)
    return Trainer(svi, DataLoader(data, batch_size=5, drop_last=True)).fit(n=n, random_seed=0)


@pytest.fixture(scope="module")
def after_regression():
    return fitted(regression, AutoNormal(regression), X=X, y=Y)


def test_the_posterior_has_what_belongs_to_no_rows(after_regression):
    tree = after_regression.sample_posterior(30, random_seed=1)
    assert set(tree.posterior.data_vars) == {"w", "size"}
    assert "observed_data" not in tree.children  # a batch would pass for the data
    np.testing.assert_allclose(
        tree.posterior["size"], (tree.posterior["w"] ** 2).sum("w_dim_0"), rtol=1e-12
    )


def test_the_posterior_of_rows_is_that_of_the_rows_that_are_passed(after_regression):
    rows = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    posterior = after_regression.sample_posterior(30, rows, random_seed=1).posterior
    w = posterior["w"].values
    np.testing.assert_allclose(posterior["mean"], w @ rows.T)
    named = after_regression.sample_posterior(30, X=rows, random_seed=1, return_sites=["mean"])
    assert list(named.posterior.data_vars) == ["mean"]
    np.testing.assert_array_equal(named.posterior["mean"], posterior["mean"])


def test_predictions_are_for_the_rows_that_are_passed(after_regression):
    predicted = after_regression.sample_posterior_predictive(X[:3], draws=20, random_seed=1)
    assert predicted.posterior_predictive["y"].shape == (1, 20, 3)


def test_rows_that_are_not_there_are_not_made_up(after_regression):
    with pytest.raises(DataError, match=r"'mean' belong to rows.*sample_posterior\(X=rows"):
        after_regression.sample_posterior(return_sites=["w", "mean"])
    with pytest.raises(DataError, match=r"'y'.*sample_posterior_predictive\(X=rows"):
        after_regression.sample_posterior_predictive(draws=5)
    with pytest.raises(SiteError, match="no latent or deterministic site 'men'.*'mean'"):
        after_regression.sample_posterior(return_sites=["men"])


def local(y):
    z = pm.Normal("z", 0.0, 1.0, shape=y.shape[0])
    pm.Normal("y", z, 1.0, observed=y)


def amortised(y):
    pm.Normal("z", param("slope", 0.4) * y, param("sd", 0.5, constraint=constraints.positive))


def test_local_sites_are_drawn_for_rows_that_are_passed():
    result = fitted(local, amortised, y=Y)
    with pytest.raises(DataError, match="'z' belong to rows"):
        result.sample_posterior()
    z = result.sample_posterior(2_000, np.array([10.0, -10.0]), random_seed=0).posterior["z"]
    expected = result.params["slope"] * np.array([10.0, -10.0])
    error = result.params["sd"] / np.sqrt(2_000)
    assert (np.abs(z.mean(("chain", "draw")) - expected) < 4 * error).all()


def test_a_global_site_that_the_guide_computes_from_a_batch_belongs_to_its_rows():
    def model(y):
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Normal("y", mu, 1.0, observed=y)

    def guide(y):
        pm.Normal("mu", param("slope", 1.0) * y.mean(), 0.3)

    with pytest.raises(DataError, match="'mu' belong to rows"):
        fitted(model, guide, n=2, y=Y).sample_posterior()


def test_a_laplace_approximation_has_the_curvature_of_all_data(tmp_path):
    def model(y):
        mu = pm.Normal("mu", 1.0, 3.0)
        pm.Normal("y", mu, 1.5, observed=y)

    guide = AutoLaplaceApproximation(model)
    draws = fitted(model, guide, y=Y).sample_posterior(4_000, random_seed=0).posterior["mu"]
    _, sd = normal_mean_posterior(Y)
    np.testing.assert_allclose(draws.std(), sd, rtol=4 / np.sqrt(2 * 4_000))

    stream = DataLoader([{"y": Y[:6]}, {"y": Y[6:]}], total_size=12)
    with pytest.raises(DataError, match="AutoLaplaceApproximation needs all data at once"):
        Trainer(SVI(model, guide), stream).fit(n=1)
    with pm.Model() as built:
        y = pm.Data("y", Y[:3])
        mu = pm.Normal("mu", 1.0, 3.0)
        pm.Normal("obs", mu, 1.5, observed=y)
    with pytest.raises(DataError, match="3 rows in 'y', 12 in the DataLoader.*pm.set_data"):
        fitted(built, AutoLaplaceApproximation(built), y=Y)


def test_placeholders_of_a_built_model_are_not_taken_for_the_data_by_diagnose():
    with pm.Model() as model:
        y = pm.Data("y", np.zeros(3))
        mu = pm.Normal("mu", 0, 1)
        pm.Normal("obs", mu, 1, observed=y)
    svi = SVI(model, AutoNormal(model), optim.Adam(0.05), **FAST)
    for data in ({"y": Y}, Y):
        result = Trainer(svi, DataLoader(data, batch_size=4)).fit(n=600, random_seed=0)
        with model:
            pm.set_data({"y": np.zeros(3)})
        with pytest.raises(DataError, match="3 rows in pm.Data 'y'.*all 12 of the DataLoader"):
            result.diagnose(random_seed=0)
        with model:
            pm.set_data({"y": Y})
        assert result.diagnose(random_seed=0).is_reliable
