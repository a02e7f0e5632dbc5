"""What users of Pyro and NumPyro rely on in ``Predictive``."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

from pymc_svi import Predictive, param, plate, subsample
from pymc_svi.errors import SiteError
from tests.checks import assert_mean

X = np.array([1.0, 10.0])
DRAWS = {"w": np.array([1.0, 2.0, 3.0])}


def model(X, y=None):
    w = pm.Normal("w", 0.0, 2.0)
    mean = pm.Deterministic("mean", X * w)
    pm.Normal("y", mean, 0.1, shape=X.shape, observed=y)


def guide(X, y=None):
    pm.Normal("w", param("loc", 0.0), param("scale", 1.0))


def groups(tree) -> dict[str, list[str]]:
    return {name: list(group.data_vars) for name, group in tree.children.items()}


def test_by_default_all_that_is_drawn_here_is_returned():
    assert groups(Predictive(model, DRAWS)(X)) == {"posterior_predictive": ["mean", "y"]}
    assert groups(Predictive(model, num_samples=2)(X)) == {"prior": ["w", "mean", "y"]}
    prior = Predictive(model, num_samples=2)(X, np.zeros(2))
    assert groups(prior) == {"prior": ["w", "mean"], "prior_predictive": ["y"]}
    guided = Predictive(model, guide=guide, params={"loc": 0.0, "scale": 1.0}, num_samples=2)(X)
    assert groups(guided) == {"posterior": ["w"], "posterior_predictive": ["mean", "y"]}
    chosen = Predictive(model, DRAWS, return_sites=["w", "y"])(X)
    assert groups(chosen) == {"posterior_predictive": ["w", "y"]}


def test_deterministics_are_computed_anew_for_new_data_whatever_the_samples_say():
    stale = {**DRAWS, "mean": np.zeros((3, 2))}
    for rows in (X, np.arange(5.0)):
        found = Predictive(model, stale if rows is X else DRAWS)(rows).posterior_predictive
        np.testing.assert_allclose(found["mean"][0], DRAWS["w"][:, None] * rows)
        np.testing.assert_allclose(found["y"][0], found["mean"][0], atol=0.1 * 5)


def test_the_prior_has_its_mean_and_spread():
    w = Predictive(model, num_samples=4_000)(X, random_seed=1).prior["w"].to_numpy().ravel()
    assert_mean(w, 0.0)
    assert_mean((w / 2) ** 2, 1.0)


def test_the_guide_is_drawn_at_its_params():
    predict = Predictive(model, guide=guide, params={"loc": 7.0, "scale": 0.01}, num_samples=400)
    found = predict(X, random_seed=1)
    assert_mean(found.posterior["w"].to_numpy().ravel(), 7.0)
    assert_mean(found.posterior_predictive["y"].to_numpy()[0], 7.0 * X)
    again = predict(X, random_seed=1)
    np.testing.assert_array_equal(found.posterior["w"], again.posterior["w"])


def test_chains_and_draws_of_a_posterior_are_kept():
    posterior = Predictive(model, guide=guide, num_samples=6)(X).posterior.to_dataset()
    two = posterior.isel(draw=slice(0, 3)).rename(chain="c").isel(c=0)
    two = two.expand_dims(chain=2)
    found = Predictive(model, two)(X).posterior_predictive
    assert dict(found.sizes)["chain"] == 2 and dict(found.sizes)["draw"] == 3


def test_discrete_samples_choose_their_component():
    def mixture():
        k = pm.Categorical("k", [0.5, 0.5])
        pm.Normal("y", pt.as_tensor([0.0, 10.0])[k], 0.1)

    found = Predictive(mixture, {"k": np.array([0, 1, 1])})(random_seed=0)
    np.testing.assert_allclose(found.posterior_predictive["y"][0], [0, 10, 10], atol=0.5)


def test_params_are_found_by_name_and_a_misspelt_one_is_suggested():
    with pytest.raises(SiteError, match="no value for param 'scale'.*Did you mean 'scal'"):
        Predictive(model, guide=guide, params={"loc": 0.0, "scal": 1.0}, num_samples=2)(X)


def test_local_variables_of_new_rows_are_drawn_from_their_prior():
    def local(X):
        with plate("rows", len(X)):
            pm.Normal("z", subsample(X), 1e-3)

    assert Predictive(local, num_samples=3)(np.arange(4.0)).prior["z"].shape == (1, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs posterior_samples or num_samples"),
        ({"posterior_samples": DRAWS, "guide": guide}, "posterior_samples or a guide, not both"),
        ({"posterior_samples": {"a": np.ones(2), "b": np.ones(3)}}, "same number of draws"),
        ({"posterior_samples": {}}, "same number of draws"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Predictive(model, **arguments)


def test_a_number_of_samples_beside_samples_is_told():
    with pytest.warns(UserWarning, match="num_samples=5 is not used: .* have 3 draws"):
        Predictive(model, DRAWS, num_samples=5)


def test_samples_of_no_site_or_of_the_wrong_shape_are_refused():
    with pytest.raises(SiteError, match="None of the posterior samples.*'v'.*'w'"):
        Predictive(model, {"v": np.ones(2)})(X)
    with pytest.raises(SiteError, match=r"'w': the posterior samples have the wrong shape.*\(4,\)"):
        Predictive(model, {"w": np.ones((2, 4))})(X)
    with pytest.raises(SiteError, match="the model has no site 'z'"):
        Predictive(model, DRAWS, return_sites=["z"])(X)
