"""``param``, ``sample``, ``deterministic``, ``factor`` and ``module``."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pytensor_ml.layers import Linear, Sequential
from pytensor_ml.pytensorf import collect_trainable_params
from scipy import stats

from pymc_svi import SVI, constraints, deterministic, factor, module, optim, param, sample
from pymc_svi.errors import InitializationError, SiteError
from pymc_svi.handlers import condition, lift, trace


def evaluated(expression):
    return expression.eval(mode="FAST_COMPILE")


# --- param ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", [1.5, np.float32(1.5), lambda: 1.5, [1.5]])
def test_a_param_starts_at_its_starting_value(init):
    value = evaluated(param("p", init, constraint=constraints.positive))
    np.testing.assert_allclose(value, np.full(np.shape(init() if callable(init) else init), 1.5))


def test_a_scalar_fills_the_dims_of_a_param():
    with pm.Model(coords={"city": range(3)}):
        assert evaluated(param("p", 2.0, dims="city")).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(), InitializationError, "'p' has no starting value at its first use.*an array"),
        (dict(init=-1.0, constraint=constraints.positive), InitializationError,
         "'p' starts outside its constraint positive.*must be positive; found -1.0"),
        (dict(init=np.nan), InitializationError, "'p' starts at a value that is not finite"),
        (dict(init=pt.scalar("s")), InitializationError, "'p' starts at a symbolic expression"),
        (dict(init=0.0, dims="town"), SiteError, "dim 'town' is not in the coords.*'city'"),
        (dict(init=np.zeros(2), dims="city"), SiteError,
         "dim 'city' has 3 in the model, 2 in the starting value"),
        (dict(init=np.zeros((2, 3)), dims="city"), SiteError, "2 dimensions but 1 dims|has 2 dim"),
    ],
)  # fmt: skip
def test_a_param_that_cannot_start_says_why(arguments, error, message):
    with pm.Model(coords={"city": range(3)}), pytest.raises(error, match=message):
        param("p", **arguments)


def test_a_param_without_a_name_is_refused():
    with pytest.raises(TypeError, match="first argument is its name"):
        param(1.0)


def test_a_param_inside_a_named_model_has_its_name():
    with pm.Model(name="m"), trace() as run:
        param("p", 0.0)
    assert list(run) == ["m::p"]


# --- sample --------------------------------------------------------------------------------------


def test_sample_registers_an_unnamed_distribution():
    with pm.Model() as model:
        x = sample("x", pm.Normal.dist(0, 1, shape=2))
        sample("y", pm.Normal.dist(x.sum(), 1), obs=0.3)
    assert [rv.name for rv in model.free_RVs] == ["x"]
    assert [rv.name for rv in model.observed_RVs] == ["y"]


def test_a_scalar_distribution_is_repeated_over_its_data():
    def program():
        sample("y", pm.Normal.dist(1.0, 2.0), obs=np.array([0.0, 1.0, 2.0]))

    total = evaluated(trace(program).get_trace().log_prob_sum())
    assert total == pytest.approx(stats.norm(1, 2).logpdf([0.0, 1.0, 2.0]).sum())


@pytest.mark.parametrize("wrong", [pm.Normal, 3.0, None])
def test_sample_of_what_is_no_distribution_says_what_to_write(wrong):
    with pm.Model(), pytest.raises(TypeError, match="unnamed distribution.*pm.Normal.dist"):
        sample("x", wrong)


DATA = np.array([0.3, np.nan, -1.2, np.nan])
KNOWN = ~np.isnan(DATA)


def masked_program():
    mu = pm.Normal("mu")
    y = sample("y", pm.Normal.dist(mu, 1.0, shape=4), obs=DATA, obs_mask=KNOWN)
    pm.Normal("z", y.sum(), 1.0, observed=0.4)


def masked_model() -> pm.Model:
    with pm.Model() as model:
        masked_program()
    return model


@pytest.mark.parametrize("model", [masked_program, masked_model()], ids=["function", "built"])
def test_data_are_observed_where_the_mask_is_true_and_latent_elsewhere(model):
    filled = np.array([9.0, 0.7, 9.0, 0.1])  # the nines are not looked at
    run = trace(condition(model, data={"mu": 0.2, "y_unobserved": filled})).get_trace()
    whole = np.where(KNOWN, DATA, filled)
    np.testing.assert_allclose(evaluated(run["y"].value), whole)
    parts = [stats.norm.logpdf(0.2), stats.norm(0.2).logpdf(whole).sum(),
             stats.norm(whole.sum()).logpdf(0.4)]  # fmt: skip
    assert evaluated(run.log_prob_sum()) == pytest.approx(sum(parts))
    gradient = pt.grad(run.log_prob_sum(), run["mu"].value) if model is not masked_program else 0
    assert np.isfinite(evaluated(pt.as_tensor(gradient)))


def test_a_mask_of_vectors_masks_whole_vectors():
    known = np.array([True, False, True])

    def program():
        dist = pm.MvNormal.dist(np.zeros(2), np.eye(2), shape=(3, 2))
        sample("y", dist, obs=np.ones((3, 2)), obs_mask=known)

    run = trace(program).get_trace()
    kept = evaluated(run["y_observed"].log_prob) != 0
    assert kept.tolist() == known.tolist()
    value = evaluated(run["y"].value)
    assert (value[known] == 1).all() and not (value[~known] == 1).any()


@pytest.mark.parametrize("where", [np.ones(3, dtype=bool), np.ones((2, 4), dtype=bool)])
def test_a_mask_of_the_wrong_shape_is_refused(where):
    with pm.Model(), pytest.raises(SiteError, match="obs_mask does not fit"):
        sample("y", pm.Normal.dist(shape=4), obs=np.zeros(4), obs_mask=where)


# --- deterministic and factor --------------------------------------------------------------------


def test_deterministic_and_factor_take_numbers():
    def program():
        deterministic("d", [1.0, 2.0])
        factor("f", 3.0)

    run = trace(program).get_trace()
    assert evaluated(run["d"].value).tolist() == [1.0, 2.0]
    assert evaluated(run.log_prob_sum()) == 3.0


# --- module --------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(20, 2))


@pytest.mark.slow  # matrix products take half a minute to compile
def test_weights_become_params_that_a_fit_learns():
    layer = Linear("fc", n_in=2, n_out=1)
    y = X @ [1.0, -2.0] + 0.5

    def model(X, y):
        mean = module("net", layer)(X)[:, 0]
        pm.Normal("y", mean, 0.1, observed=y)

    def guide(X, y):
        pass

    result = SVI(model, guide, optim.Adam(0.05)).run(1500, X, y, progressbar=False, random_seed=0)
    np.testing.assert_allclose(result.params["net.fc_W"][:, 0], [1.0, -2.0], atol=0.02)
    np.testing.assert_allclose(result.params["net.fc_b"], [0.5], atol=0.02)


def test_a_network_applied_twice_has_one_set_of_weights():
    network = Sequential(Linear("a", n_in=2, n_out=3), pt.tanh, Linear("b", n_in=3, n_out=1))

    def program():
        net = module("net", network)
        return pm.Deterministic("difference", net(X) - net(X))

    run = trace(program).get_trace()
    assert set(run) == {"net.a_W", "net.a_b", "net.b_W", "net.b_b", "difference"}
    assert (evaluated(run["difference"].value) == 0).all()


@pytest.mark.parametrize(
    "prior",
    [
        pm.Normal.dist(0, 2),
        {"fc_W": pm.Normal.dist(0, 2)},
        lambda name, shape: pm.Normal.dist(0, 2, shape=shape) if name == "fc_W" else None,
    ],
)
def test_a_prior_makes_a_bayesian_network(prior):
    layer = Linear("fc", n_in=2, n_out=3)

    def program():
        module("net", layer, prior=prior)(X)

    run = trace(program).get_trace()
    assert (run["net.fc_W"].type, run["net.fc_W"].shape) == ("sample", (2, 3))
    assert run["net.fc_b"].type == ("sample" if isinstance(prior, pt.TensorVariable) else "param")


def test_a_prior_of_no_parameter_of_the_network_is_refused():
    layer = Linear("fc", n_in=2, n_out=1)
    with (
        pytest.raises(SiteError, match="no parameter 'fc_w'.*'fc_W', 'fc_b'.*mean 'fc_W'"),
        pm.Model(),
    ):
        module("net", layer, prior={"fc_w": pm.Normal.dist()})(X)


def test_redrawn_weights_follow_the_seed_and_others_are_those_of_the_network():
    X = np.ones((4, 2))

    def start(seed, **settings):
        network = Sequential(Linear("one", n_in=2, n_out=3), Linear("two", n_in=3, n_out=2))
        weights = {}

        def model():
            pm.Normal("y", module("net", network, **settings)(X).sum(axis=1), 1.0, observed=X[:, 0])
            found = collect_trainable_params(network(pt.as_tensor(X)))
            weights.update({weight.name: weight.get_value() for weight in found})

        found = SVI(model, lambda: None).init(random_seed=seed).params
        return {name: np.asarray(value) for name, value in found.items()}, weights

    (first, own), (second, _) = start(3, redraw=True), start(3, redraw=True)
    assert first.keys() == {"net.one_W", "net.one_b", "net.two_W", "net.two_b"}
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    assert not np.allclose(first["net.one_W"], own["one_W"])
    assert not np.allclose(first["net.one_W"], start(4, redraw=True)[0]["net.one_W"])
    assert not np.allclose(first["net.one_W"].ravel(), first["net.two_W"].ravel())
    assert np.abs(first["net.one_W"]).max() <= np.sqrt(6 / 5)  # Xavier's uniform law
    kept, own = start(3)
    np.testing.assert_array_equal(kept["net.one_W"], own["one_W"])


def test_a_network_in_a_built_model_can_be_lifted():
    layer = Linear("fc", n_in=2, n_out=1)
    with pm.Model() as model:
        pm.Normal("y", module("net", layer)(X)[:, 0], 1.0, observed=np.zeros(20))
    run = trace(lift(model, prior=pm.Normal.dist())).get_trace()
    assert [site.name for site in run.sites("sample")] == ["net.fc_W", "net.fc_b", "y"]


def test_layers_of_the_same_name_are_refused():
    network = Sequential(Linear("fc", n_in=2, n_out=3), Linear("fc", n_in=3, n_out=1))
    with pytest.raises(SiteError, match="the same name"), pm.Model():
        module("net", network)(X)
