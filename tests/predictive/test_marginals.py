"""Marginal probabilities are those of brute force."""

import numpy as np
import pymc as pm
import pytest

from pymc_svi import compute_marginals, config_enumerate, param
from pymc_svi.errors import PairingError, SiteError
from tests.enumeration import models
from tests.enumeration.brute_force import brute_posterior
from tests.enumeration.test_infer_discrete import SOME


def no_sites():
    """A guide that leaves everything to the sums."""


@pytest.mark.parametrize("model", SOME, ids=lambda model: model.__name__)
def test_marginals_equal_brute_force(model):
    found = compute_marginals(model, no_sites, num_samples=1)
    values, probabilities = brute_posterior(model)
    for name in values[0]:
        for value in found[f"{name}_value"].values:
            indicator = np.array([v[name] == value for v in values], dtype=float)
            exact = np.tensordot(probabilities, indicator, axes=1)
            mine = found[name].sel({f"{name}_value": value})
            np.testing.assert_allclose(mine.values, exact, atol=1e-10)


def test_they_have_dims_and_average_over_the_guide():
    def model():
        x = pm.Normal("x", 0.0, 1.0)
        z = pm.Bernoulli("z", pm.math.sigmoid(x), dims="row")
        pm.Normal("y", 1.0 * z, 1.0, observed=[0.5, 0.5], dims="row")

    def guide():
        pm.Normal("x", param("loc", 0.0), 2.0)

    found = compute_marginals(
        model, guide, params={"loc": 0.0}, coords={"row": ["a", "b"]}, num_samples=4_000,
        random_seed=0,
    )  # fmt: skip
    assert found["z"].dims == ("row", "z_value") and list(found["row"].values) == ["a", "b"]
    # The data say nothing, and the average of a logistic function of a symmetric draw is 1/2.
    np.testing.assert_allclose(found["z"].values, 0.5, atol=3.5 * 0.3 / np.sqrt(4_000))


def test_mistakes_are_told():
    def continuous():
        pm.Normal("x", 0.0, 1.0)

    with pytest.raises(SiteError, match="no discrete site that the guide leaves out"):
        compute_marginals(continuous, continuous)

    def guide():
        pm.Bernoulli("a", 0.5)

    with pytest.raises(PairingError, match="the guide sums over sites of its own"):
        compute_marginals(models.nested, config_enumerate(guide))
