"""Statistics of networks are carried from step to step, saved, resumed and used to predict."""

from __future__ import annotations

import pickle

import numpy as np
import pymc as pm
import pytest
from pytensor_ml.layers import BatchNorm, Dropout

from pymc_svi import SVI, RenyiELBO, Trace_ELBO, module, optim, param
from pymc_svi.checkpoint import SavedFit, load_fit, save_fit
from pymc_svi.handlers import lift, substitute, trace
from tests.checks import as_built

X = np.random.default_rng(3).normal([2.0, -1.0], [1.5, 0.5], size=(30, 2))
FAST = {"mode": "FAST_COMPILE"}
LAYER = BatchNorm("bn", n_in=2, momentum=0.1)


def model(X):
    z = pm.Normal("z", 0.0, 1.0)
    mean = pm.Deterministic("mean", module("net", LAYER)(X) + z)
    pm.Normal("y", mean, 1.0, observed=np.zeros((30, 2)))


def guide(X):
    pm.Normal("z", param("loc", 0.0), 0.1)


def running(n: int) -> dict[str, np.ndarray]:
    """The statistics after n steps on the same data, from their starts 0 and 1."""
    left = 0.9**n
    return {
        "net.bn_running_mean": (1 - left) * X.mean(axis=0),
        "net.bn_running_var": left + (1 - left) * X.var(axis=0),
    }


def assert_running(params, n):
    for name, expected in running(n).items():
        np.testing.assert_allclose(params[name], expected, rtol=1e-10)


@pytest.fixture(scope="module")
def svi():
    return SVI(model, guide, optim.Adam(0.01), compile_kwargs=FAST)


@pytest.fixture(scope="module")
def whole(svi):
    return svi.run(7, X, random_seed=5, progressbar=False)


def test_statistics_follow_the_data_and_are_no_business_of_the_optimizer(whole):
    assert_running(whole.params, 7)
    assert not [name for name in whole.state.optim_state if "running" in name]
    assert LAYER.running_mean.get_value().tolist() == [0.0, 0.0]  # the network itself is untouched


def test_a_fit_resumes_with_its_statistics_bit_for_bit(svi, whole, tmp_path):
    first = svi.run(3, X, random_seed=5, progressbar=False)
    assert_running(first.params, 3)
    save_fit(tmp_path / "state", SavedFit(first.state, first.losses, {}))
    for state in (
        first.state,
        pickle.loads(pickle.dumps(first.state)),
        load_fit(tmp_path / "state").state,
    ):
        rest = svi.run(4, X, init_state=state, progressbar=False)
        assert rest.state == whole.state
        np.testing.assert_array_equal(np.append(first.losses, rest.losses), whole.losses)


def test_a_new_fit_starts_afresh_or_where_it_is_told(svi):
    assert_running(svi.run(1, X, random_seed=1, progressbar=False).params, 1)
    at = {"net.bn_running_mean": [1.0, 1.0]}
    told = svi.run(1, X, random_seed=1, init_params=at, progressbar=False)
    expected = 0.9 + 0.1 * X.mean(axis=0)
    np.testing.assert_allclose(told.params["net.bn_running_mean"], expected)


def test_a_step_that_is_left_out_leaves_the_statistics(svi):
    start = svi.init(X, random_seed=0, init_params={"loc": 1e200})
    after = svi.run(1, X, init_state=start, stable_update=True, progressbar=False)
    assert np.isnan(after.losses).all()
    assert_running(after.params, 0)


def test_predictions_use_the_statistics_instead_of_those_of_the_batch(whole):
    posterior = whole.sample_posterior(3, random_seed=0).posterior
    mean, var = running(7).values()
    scale, loc = whole.params["net.bn_scale"], whole.params["net.bn_loc"]
    normalized = (X - mean) / np.sqrt(var + 1e-5) * scale + loc
    draws = posterior["z"].to_numpy().reshape(-1, 1, 1)
    means = posterior["mean"].to_numpy().reshape(-1, 30, 2)
    np.testing.assert_allclose(means, normalized + draws, rtol=1e-6)


def test_statistics_of_a_built_model_are_carried_and_used_to_predict_too():
    def with_dropout():
        z = pm.Normal("z", 0.0, 1.0)
        dropped = module("dropout", Dropout("drop", p=0.5))(pm.Data("X", X))
        pm.Deterministic("dropped", dropped)
        mean = pm.Deterministic("mean", module("net", LAYER)(pm.modelcontext(None)["X"]) + z)
        pm.Normal("y", mean, 1.0, observed=np.zeros((30, 2)))

    built = as_built(with_dropout)
    fit = SVI(built, lambda: guide(X), optim.Adam(0.01), compile_kwargs=FAST).run(
        3, random_seed=0, progressbar=False
    )
    assert_running(fit.params, 3)
    posterior = fit.sample_posterior(3, random_seed=0).posterior
    mean, var = running(3).values()
    scale, loc = fit.params["net.bn_scale"], fit.params["net.bn_loc"]
    normalized = (X - mean) / np.sqrt(var + 1e-5) * scale + loc
    draws = posterior["z"].to_numpy().reshape(-1, 1, 1)
    means = posterior["mean"].to_numpy().reshape(-1, 30, 2)
    np.testing.assert_allclose(means, normalized + draws, rtol=1e-6)
    np.testing.assert_array_equal(posterior["dropped"].to_numpy()[0], np.stack([X] * 3))


def test_statistics_in_the_guide_are_those_of_the_guide():
    def encoder(X):
        pm.Normal("z", module("net", LAYER)(X).sum() + param("loc", 0.0), 0.1)

    def prior(X):
        pm.Normal("z", 0.0, 1.0)

    for loss in (Trace_ELBO(num_particles=3), RenyiELBO(0.5, num_particles=2)):
        fit = SVI(prior, encoder, optim.Adam(0.01), loss, compile_kwargs=FAST).run(
            2, X, random_seed=0, progressbar=False
        )
        assert_running(fit.params, 2)


def test_every_application_of_a_network_in_a_program_contributes():
    def twice(X):
        net = module("net", LAYER)
        pm.Normal("y", net(X[:10]).sum() + net(X[10:]).sum() + param("loc", 0.0), 1.0, observed=0.0)

    fit = SVI(twice, lambda X: None, optim.Adam(0.01), compile_kwargs=FAST)
    found = fit.run(1, X, random_seed=0, progressbar=False).params["net.bn_running_mean"]
    expected = 0.9 * 0.1 * X[:10].mean(axis=0) + 0.1 * X[10:].mean(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_lifting_a_network_leaves_its_statistics():
    lifted = trace(lift(model, prior=pm.Normal.dist(0, 1))).get_trace(X)
    kinds = {name: lifted[name].type for name in lifted if name.startswith("net")}
    assert kinds["net.bn_scale"] == "sample"
    assert kinds["net.bn_running_mean"] == kinds["net.bn_running_var"] == "param"


def test_given_weights_alone_do_not_make_a_prediction():
    given = substitute(model, data={"net.bn_loc": np.zeros(2), "z": 0.0})
    mean = trace(given).get_trace(X)["mean"].value.eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(mean.mean(axis=0), 0.0, atol=1e-12)
