"""``module``."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pytensor_ml.layers import Linear, Sequential
from pytensor_ml.pytensorf import collect_trainable_params

from pymc_svi import SVI, module, optim
from pymc_svi.errors import SiteError
from pymc_svi.handlers import lift, trace


def evaluated(expression):
    return expression.eval(mode="FAST_COMPILE")


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
