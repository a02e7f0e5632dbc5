"""Results: params, losses and draws in ArviZ's form, on the fit's data and on new data."""

from __future__ import annotations

import arviz as az
import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr

from pymc_svi import SVI, Predictive, constraints, handlers, optim, param
from pymc_svi.errors import SiteError
from pymc_svi.guides import AutoMultivariateNormal, AutoNormal
from pymc_svi.results.sampling import draw_function
from tests.checks import as_built, assert_covariance, assert_mean, assert_variance
from tests.models import (
    MEASUREMENTS,
    NOISE,
    Regression,
    normal_mean,
    normal_mean_guide,
    normal_mean_posterior,
)

FAST = {"mode": "FAST_COMPILE"}
SETTINGS = {"random_seed": 5, "progressbar": False}


@pytest.fixture(scope="module")
def data():
    return Regression.simulated()


@pytest.fixture(scope="module")
def built(data):
    """A built model with dims, coords, data and a deterministic, and a short fit of it."""
    model = data.built()
    svi = SVI(model, AutoNormal(model), optim.Adam(0.05), compile_kwargs=FAST)
    return model, svi.run(50, **SETTINGS)


@pytest.fixture(scope="module")
def exact():
    """A fit that starts at the exact posterior of the Normal mean and does not move."""
    mean, sd = normal_mean_posterior()
    svi = SVI(normal_mean, normal_mean_guide, optim.SGD(1e-12), compile_kwargs=FAST)
    start = {"loc": mean, "scale": sd}
    return svi.run(2, MEASUREMENTS, init_params=start, **SETTINGS)


# --- the result itself ------------------------------------------------------------------------


def test_result_unpacks_into_params_state_and_losses(built):
    params, state, losses = built[1]
    assert list(params) == [
        "intercept_auto_loc",
        "intercept_auto_scale",
        "weights_auto_loc",
        "weights_auto_scale",
    ]
    assert state.step == 50
    assert losses.shape == (50,)
    assert "steps=50" in repr(built[1])


def test_params_are_constrained(built):
    params, state, _ = built[1]
    assert np.all(params["weights_auto_scale"] > 0)
    np.testing.assert_allclose(
        np.exp(state.params["weights_auto_scale"]), params["weights_auto_scale"]
    )


# --- draws from the posterior -----------------------------------------------------------------


def test_posterior_keeps_dims_and_coords_and_computes_deterministics(built, data):
    tree = built[1].sample_posterior(40, random_seed=1)
    posterior = tree.posterior
    assert set(posterior.data_vars) == {"intercept", "weights", "mean"}
    assert posterior["weights"].dims == ("chain", "draw", "feature")
    assert posterior["mean"].dims == ("chain", "draw", "row")
    assert dict(posterior.sizes) == {"chain": 1, "draw": 40, "feature": 2, "row": 12}
    assert list(posterior["feature"].values) == ["x0", "x1"]
    # The deterministic belongs to the same draw as its parents.
    intercept, weights = posterior["intercept"].values, posterior["weights"].values
    np.testing.assert_allclose(posterior["mean"].values, intercept[..., None] + weights @ data.X.T)


def test_groups_beside_the_posterior(built, data):
    result = built[1]
    tree = result.sample_posterior(3, random_seed=1)
    assert isinstance(tree, xr.DataTree)
    assert set(tree.children) == {
        "posterior",
        "fit",
        "fit_stats",
        "observed_data",
        "constant_data",
    }
    assert tree.fit["weights_auto_scale"].dims == ("feature",)
    assert list(tree.fit["feature"].values) == ["x0", "x1"]
    np.testing.assert_array_equal(tree.fit["weights_auto_loc"], result.params["weights_auto_loc"])
    np.testing.assert_array_equal(tree.fit_stats["loss"], result.losses)
    np.testing.assert_array_equal(tree.observed_data["y"], data.y)
    assert tree.observed_data["y"].dims == ("row",)
    np.testing.assert_array_equal(tree.constant_data["X"], data.X)
    assert tree.constant_data["X"].dims == ("row", "feature")


def test_dims_of_a_param_appear_in_the_fit_group():
    coords = {"city": ["a", "b", "c"]}

    def model():
        pm.Normal("x", dims="city")

    def guide():
        loc = param("loc", 0.0, dims="city")
        pm.Normal("x", loc, param("scale", 1.0, constraint=constraints.positive), dims="city")

    tree = SVI(model, guide, coords=coords, compile_kwargs=FAST).run(2, **SETTINGS)
    tree = tree.sample_posterior(2, random_seed=0)
    assert tree.fit["loc"].dims == ("city",)
    assert list(tree.fit["city"].values) == ["a", "b", "c"]
    assert tree.fit["scale"].dims == ()


def test_arviz_summarises_the_posterior(built):
    summary = az.summary(built[1].sample_posterior(200, random_seed=1))
    assert {"intercept", "weights[x0]", "weights[x1]"} <= set(summary.index)
    assert "mean" in summary.columns


def test_pymc_accepts_the_posterior_for_its_own_predictions(built):
    model, result = built
    tree = result.sample_posterior(50, random_seed=1)
    predicted = pm.sample_posterior_predictive(tree, model=model, random_seed=1, progressbar=False)
    assert predicted.posterior_predictive["y"].shape == (1, 50, 12)


def test_draws_follow_the_exact_posterior(exact):
    draws = exact.sample_posterior(20_000, random_seed=3).posterior["mu"].values[0]
    mean, sd = normal_mean_posterior()
    assert_mean(draws, mean)
    assert_variance(draws, sd**2)


def test_draws_depend_on_the_seed_and_on_nothing_else(exact):
    first, second, third = (
        exact.sample_posterior(5, random_seed=seed).posterior["mu"].values for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.any(first == third)
    unseeded = [exact.sample_posterior(5).posterior["mu"].values for _ in range(2)]
    assert not np.any(unseeded[0] == unseeded[1])


def test_cloudpickle_keeps_a_result_whole(exact, built):
    for result, site in ((exact, "mu"), (built[1], "weights")):
        again = cloudpickle.loads(cloudpickle.dumps(result))
        assert again.state == result.state
        draws = (
            each.sample_posterior(5, random_seed=1).posterior[site] for each in (again, result)
        )
        xr.testing.assert_identical(*draws)


def test_many_draws_in_batches_are_as_good_as_in_one(exact, monkeypatch):
    from pymc_svi.results import sampling

    monkeypatch.setattr(sampling, "_BATCH_ELEMENTS", 1_000)
    draws = exact.sample_posterior(10_000, random_seed=3).posterior["mu"].values[0]
    assert draws.shape == (10_000,)
    assert len(np.unique(draws)) == 10_000, "no batch repeats another"
    assert_mean(draws, normal_mean_posterior()[0])


@pytest.mark.parametrize("draws", [0, -1, 1.5, "10", True])
def test_a_number_of_draws_that_is_none_is_refused(exact, draws):
    with pytest.raises((ValueError, TypeError), match="draws must be a whole number of at least 1"):
        exact.sample_posterior(draws)
    with pytest.raises((ValueError, TypeError), match="draws must be a whole number of at least 1"):
        exact.sample_posterior_predictive(draws=draws)


def test_a_number_of_draws_goes_by_name_where_the_model_takes_arguments(exact, built):
    for result in (exact, built[1]):
        with pytest.raises(TypeError, match="goes by name.*Found: 50. Write draws=50"):
            result.sample_posterior_predictive(50)


def test_names_of_arguments_that_are_other_ones_here_are_told(exact, built):
    for result in (exact, built[1]):
        with pytest.raises(TypeError, match="What is num_samples elsewhere is draws here"):
            result.sample_posterior(num_samples=50)
        with pytest.raises(TypeError, match="What is var_names elsewhere is return_sites here"):
            result.sample_posterior_predictive(var_names=["y"])


def test_auxiliary_sites_of_a_guide_are_not_part_of_the_posterior():
    def model():
        pm.Normal("x")
        pm.Normal("z", observed=1.0)

    guide = AutoMultivariateNormal(model)
    result = SVI(model, guide, compile_kwargs=FAST).run(2, **SETTINGS)
    assert list(result.sample_posterior(2).posterior.data_vars) == ["x"]


def test_a_fit_without_latents_has_params_alone():
    def model(y):
        pm.Normal("y", param("m", 0.0), 1.0, observed=y)

    result = SVI(model, lambda y: None, compile_kwargs=FAST).run(2, MEASUREMENTS, **SETTINGS)
    tree = result.sample_posterior(3)
    assert "posterior" not in tree.children
    assert set(tree.fit.data_vars) == {"m"}


def test_results_of_two_fits_keep_their_own_data():
    """An earlier result is not changed by fitting the same SVI to other data."""
    svi = SVI(normal_mean, normal_mean_guide, compile_kwargs=FAST)
    first = svi.run(2, MEASUREMENTS, **SETTINGS)
    before = first.sample_posterior(3, random_seed=0)
    svi.run(2, MEASUREMENTS + 1, **SETTINGS)
    after = first.sample_posterior(3, random_seed=0)
    np.testing.assert_array_equal(after.observed_data["y"], MEASUREMENTS)
    np.testing.assert_array_equal(after.posterior["mu"], before.posterior["mu"])


# --- predictions ------------------------------------------------------------------------------


def test_predictions_of_a_function_program_have_the_exact_mean_and_covariance(exact):
    """y is left out, so it is drawn: mean of mu, variance of mu plus noise, shared through mu."""
    mean, sd = normal_mean_posterior()
    tree = exact.sample_posterior_predictive(y=None, draws=20_000, random_seed=2)
    draws = tree.posterior_predictive["y"].values[0]
    assert_mean(draws, np.full(4, mean))
    assert_covariance(draws, np.full((4, 4), sd**2) + NOISE**2 * np.eye(4))
    residual = draws - tree.posterior["mu"].values[0][:, None]
    assert_variance(residual, np.full(4, NOISE**2))


def test_without_arguments_those_of_the_fit_are_used(exact):
    tree = exact.sample_posterior_predictive(draws=20_000, random_seed=2)
    assert_mean(tree.posterior_predictive["y"].values[0], np.full(4, normal_mean_posterior()[0]))


def test_function_program_on_new_data(data):
    svi = SVI(data, AutoMultivariateNormal(data), optim.SGD(1e-12), compile_kwargs=FAST)
    start = {"auto_loc": data.mean, "auto_scale_tril": np.linalg.cholesky(data.cov)}
    result = svi.run(1, data.X, data.y, init_params=start, **SETTINGS)
    X = np.array([[1.0, 2.0], [0.0, 0.0], [-1.0, 3.0]])
    tree = result.sample_posterior_predictive(X, draws=20_000, random_seed=1)
    design = np.column_stack([np.ones(3), X])
    draws = tree.posterior_predictive["y"].values[0]
    assert_mean(draws, design @ data.mean)
    assert_covariance(draws, design @ data.cov @ design.T + data.noise**2 * np.eye(3))


def test_built_model_on_new_data(data):
    model = data.built()
    svi = SVI(model, AutoMultivariateNormal(model), optim.SGD(1e-12), compile_kwargs=FAST)
    start = {"auto_loc": data.mean, "auto_scale_tril": np.linalg.cholesky(data.cov)}
    result = svi.run(1, init_params=start, **SETTINGS)
    X = np.array([[1.0, 2.0], [0.0, 0.0], [-1.0, 3.0]])
    with model:
        pm.set_data({"X": X, "y_data": np.zeros(3)})
    tree = result.sample_posterior_predictive(draws=20_000, random_seed=1, predictions=True)
    design = np.column_stack([np.ones(3), X])
    assert set(tree.children) == {"posterior", "predictions", "predictions_constant_data"}
    np.testing.assert_array_equal(tree.predictions_constant_data["X"], X)
    predictions = tree.predictions
    assert predictions["y"].dims == ("chain", "draw", "row")
    assert_mean(predictions["y"].values[0], design @ data.mean)
    assert_mean(predictions["mean"].values[0], design @ data.mean)
    assert_covariance(
        predictions["y"].values[0], design @ data.cov @ design.T + data.noise**2 * np.eye(3)
    )


def test_data_stand_beside_draws_of_them_but_not_beside_those_of_other_rows(built, exact):
    model, result = built
    tree = result.sample_posterior_predictive(draws=3, random_seed=1)
    beside = {"posterior", "posterior_predictive", "observed_data", "constant_data"}
    assert set(tree.children) == beside
    expected = result.sample_posterior(3, random_seed=1)
    xr.testing.assert_equal(tree.observed_data.to_dataset(), expected.observed_data.to_dataset())
    xr.testing.assert_equal(tree.constant_data.to_dataset(), expected.constant_data.to_dataset())
    observed = exact.sample_posterior_predictive(draws=3).observed_data
    np.testing.assert_array_equal(observed["y"], MEASUREMENTS)
    assert "observed_data" not in exact.sample_posterior_predictive(draws=3, y=None)


@pytest.mark.parametrize("family", [AutoNormal, AutoMultivariateNormal])
@pytest.mark.parametrize("of", ["dims", "shape"])
def test_rows_are_predicted_where_observed_data_are_still_those_of_the_fit(data, family, of):
    with pm.Model(coords={"row": np.arange(len(data.y)), "feature": ["a", "b"]}) as model:
        X = pm.Data("X", data.X, dims=("row", "feature"))
        w = pm.Normal("w", dims="feature")
        mean = pm.Deterministic("mean", X @ w)
        length = {"dims": "row"} if of == "dims" else {"shape": mean.shape}
        length_of_data = {"dims": "row"} if of == "dims" else {}
        pm.Normal("y", mean, 1.0, observed=pm.Data("y_data", data.y, **length_of_data), **length)
    result = SVI(model, family(model), compile_kwargs=FAST).run(1, **SETTINGS)
    new = np.array([[1.0, 2.0], [0.0, 0.0], [-1.0, 3.0]])
    with model:
        pm.set_data({"X": new}, coords={"row": np.arange(3)})
    tree = result.sample_posterior_predictive(draws=10_000, random_seed=1)
    predicted, w = tree.posterior_predictive, tree.posterior["w"].values[0]
    np.testing.assert_allclose(predicted["mean"].values[0], w @ new.T)
    noise = (predicted["y"] - predicted["mean"].values).values[0]
    assert_mean(noise, np.zeros(3))
    assert_covariance(noise, np.eye(3))
    tree = result.sample_posterior(5, random_seed=1)  # without data of other rows
    assert tree.posterior["mean"].shape == (1, 5, 3)
    assert ("observed_data" in tree) == (of == "shape")
    with pytest.raises((ValueError, AssertionError)) as caught:
        result.diagnose(100)
    assert any("changed the number of rows" in note for note in caught.value.__notes__)


def test_return_sites_chooses_what_is_returned(built):
    result = built[1]
    everything = result.sample_posterior_predictive(draws=3, random_seed=1)
    assert set(everything.posterior_predictive.data_vars) == {"y", "mean"}
    chosen = result.sample_posterior_predictive(draws=3, random_seed=1, return_sites=["mean"])
    assert set(chosen.posterior_predictive.data_vars) == {"mean"}
    assert set(result.sample_posterior(3, return_sites="mean").posterior.data_vars) == {"mean"}
    with pytest.raises(SiteError, match="the model has no site 'men'.*Did you mean 'mean'"):
        result.sample_posterior_predictive(draws=3, return_sites=["men"])


def test_predictions_use_the_draws_of_the_same_posterior(built):
    """Same seed, same posterior draws with and without predictions around them."""
    tree = built[1].sample_posterior_predictive(draws=5, random_seed=1)
    intercept = tree.posterior["intercept"].values[..., None]
    assert tree.posterior_predictive["mean"].shape == (1, 5, 12)
    assert np.isfinite(intercept).all()


def test_new_latents_of_new_data_are_drawn_from_the_model():
    """A group that the fit has not seen is drawn from its prior, given the guide's draws."""

    def guide(group, y=None):
        pm.Normal("m", param("loc", 5.0), 0.01)

    def fitted_model(group, y=None):
        m = pm.Normal("m", 0.0, 1.0)
        if y is None:
            pm.Normal("new", m, 0.1, shape=2)
        pm.Normal("y", m, 1.0, shape=3, observed=y)

    svi = SVI(fitted_model, guide, optim.SGD(1e-12), compile_kwargs=FAST)
    result = svi.run(1, np.arange(3), np.ones(3), **SETTINGS)
    tree = result.sample_posterior_predictive(np.arange(3), draws=5_000, random_seed=0)
    assert list(tree.posterior.data_vars) == ["m"]
    new = tree.posterior_predictive["new"].values[0]
    assert_mean(new, np.full(2, 5.0))
    assert_variance(new, np.full(2, 0.01 + 1e-4))


# --- the rest of PyMC -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_that_was_fitted_can_still_be_sampled():
    model = as_built(normal_mean, MEASUREMENTS)
    SVI(model, AutoNormal(model), compile_kwargs=FAST).run(3, **SETTINGS)
    with model:
        trace = pm.sample(200, tune=200, chains=1, cores=1, random_seed=1, progressbar=False)
    mean, sd = normal_mean_posterior()
    assert float(trace.posterior["mu"].mean()) == pytest.approx(mean, abs=0.4 * sd)


def test_deterministics_that_depend_on_data_alone_and_on_params_are_computed():
    def model(y):
        scale = param("scale", 2.0, constraint=constraints.positive)
        x = pm.Normal("x", 0.0, scale)
        pm.Deterministic("twice", 2 * x)
        pm.Deterministic("total", pt.sum(pt.as_tensor(y)))
        pm.Deterministic("of scale", scale + 0)
        pm.Normal("y", x, 1.0, observed=y)

    svi = SVI(model, AutoNormal(model), compile_kwargs=FAST)
    result = svi.run(2, MEASUREMENTS, **SETTINGS)
    posterior = result.sample_posterior(6, random_seed=0).posterior
    np.testing.assert_allclose(posterior["twice"], 2 * posterior["x"])
    np.testing.assert_allclose(posterior["total"], np.full((1, 6), MEASUREMENTS.sum()))
    np.testing.assert_allclose(posterior["of scale"], np.full((1, 6), result.params["scale"]))


def test_draws_of_a_site_without_elements_have_its_shape():
    with pm.Model() as model:
        pm.Normal("none", shape=(0,))
        pm.Normal("y", pm.Normal("x"), 1.0, observed=[1.0])
    fast = {"compile_kwargs": {"mode": "FAST_COMPILE"}}
    result = SVI(model, AutoNormal(model), **fast).run(1, progressbar=False)
    posterior = result.sample_posterior(7).posterior
    assert posterior["none"].shape == (1, 7, 0) and posterior["x"].shape == (1, 7)


def test_sites_that_cannot_be_vectorised_are_predicted_draw_by_draw():
    with pm.Model() as model:
        p = pm.Beta("p", 2.0, 2.0)
        split = pm.Dirichlet("split", np.ones(3))
        pm.ZeroInflatedPoisson("visits", p, 4.0, observed=[0, 1, 3])
        pm.Multinomial("k", n=5, p=split, observed=[1, 2, 2])
        pm.NormalMixture("y", [0.5, 0.5], pt.stack([p, -p]), 0.1, observed=[0.0, 1.0])

    def guide():  # the prior, of which the moments are known
        pm.Beta("p", param("a", 2.0), 2.0)
        pm.Dirichlet("split", np.ones(3))

    fast = {"compile_kwargs": {"mode": "FAST_COMPILE"}}
    result = SVI(model, guide, optim.SGD(1e-12), **fast).run(1, progressbar=False)
    predicted = result.sample_posterior_predictive(draws=3_000, random_seed=0)
    draws = {name: values[0].values for name, values in predicted.posterior_predictive.items()}
    assert draws["visits"].shape == (3_000, 3) and draws["y"].shape == (3_000, 2)
    assert np.all(draws["k"].sum(axis=-1) == 5)
    assert_mean(draws["k"][:, 0], 5 / 3)
    # 5 * 1/3 * 2/3 of a multinomial, times (5 + 3) / (1 + 3) as its probabilities vary.
    assert_variance(draws["k"][:, 0], 20 / 9)
    assert_mean(draws["visits"][:, 0], 2.0)
    # Elements of one draw share p: E[4p * 4p] = 16 (1/4 + 1/20).
    assert_mean(draws["visits"][:, 0] * draws["visits"][:, 1], 4.8)
    assert_mean(draws["y"][:, 0] ** 2, 0.3 + 0.01)
    assert_mean(draws["y"][:, 0] * draws["y"][:, 1], 0.0)


# --- loops in a model ------------------------------------------------------------------------------


def walk(steps=30):
    """A loop over data, on a draw, with a draw of its own sum."""
    x = pm.Normal("x", 1.0, 0.5)
    path = pytensor.scan(
        lambda v, last, x: 0.5 * last + x * v,
        sequences=[pt.arange(float(steps))],
        outputs_info=[pt.zeros(())],
        non_sequences=[x],
        return_updates=False,
    )
    pm.Deterministic("path", path)
    pm.Normal("noise", path[-1], 1.0)


def test_many_draws_of_a_loop_are_drawn_one_after_the_other_in_compiled_code():
    traced = handlers.trace(walk).get_trace()
    outputs = {name: traced[name].value for name in ("x", "path", "noise")}
    draw = draw_function(outputs)
    few, many = draw(10, 3), draw(4_000, 3)
    weights = np.zeros(30)
    for v in range(30):  # the path is linear in x
        weights[v] = 0.5 * (weights[v - 1] if v else 0.0) + v
    for draws in (few, many):
        np.testing.assert_allclose(draws["path"], draws["x"][:, None] * weights, rtol=1e-10)
    assert_mean(many["x"], 1.0)
    assert_mean(many["noise"] - many["path"][:, -1], 0.0)
    assert_variance(many["noise"] - many["path"][:, -1], 1.0)
    assert len(np.unique(many["x"])) == 4_000
    again = draw(4_000, 3)
    np.testing.assert_array_equal(again["noise"], many["noise"])
    # The numbers do not depend on what was drawn before.
    np.testing.assert_array_equal(draw_function(outputs)(4_000, 3)["noise"], many["noise"])
    np.testing.assert_array_equal(draw(10, 3)["noise"], few["noise"])


def test_many_draws_of_a_loop_at_given_values():
    x = pt.scalar("x")
    path = pytensor.scan(
        lambda v, last, x: last + x * v,
        sequences=[pt.arange(4.0)],
        outputs_info=[pt.zeros(())],
        non_sequences=[x],
        return_updates=False,
    )
    noisy = path[-1] + pm.Normal.dist(0.0, 1e-3)
    given = np.linspace(-1.0, 1.0, 300)
    found = draw_function({"y": noisy}, {"x": x})(300, 0, {"x": given})["y"]
    np.testing.assert_allclose(found, 6 * given, atol=0.01)
    assert np.std(found - 6 * given) > 5e-4


@pytest.mark.parametrize("draws", [3, 300])
def test_functions_of_the_user_see_the_parameters_of_one_draw(draws):
    """They need not know of a further axis: ``mu.mean()`` would be that of all draws."""
    noise = [-1.0, 0.0, 1.0]

    def custom(mu, rng, size):
        return mu.mean() + np.array(noise)

    def simulator(rng, mu, size):
        return np.cumsum(mu)

    def model():
        mu = pm.Normal("mu", 0.0, 1.0, shape=3)
        pm.CustomDist("y", mu, logp=lambda y, mu: -((y - mu) ** 2), random=custom, observed=noise)
        pm.Simulator("z", simulator, mu, observed=noise)

    samples = {"mu": np.random.default_rng(1).normal(size=(draws, 3))}
    found = Predictive(model, samples)(random_seed=1).posterior_predictive
    means = samples["mu"].mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(found["y"].values[0], means + noise)
    np.testing.assert_allclose(found["z"].values[0], np.cumsum(samples["mu"], axis=-1))
