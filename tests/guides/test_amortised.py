"""Guides that are networks: fitted on minibatches, applied to rows they have not seen."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from pytensor_ml.layers import Linear

from pymc_svi import SVI, DataLoader, Predictive, Trainer, constraints, module, optim, param

# A row is its code plus noise: the posterior of the code is Normal around slope * row.
CODE_SD, NOISE = 2.0, 1.0
SLOPE = CODE_SD**2 / (CODE_SD**2 + NOISE**2)
SD = (1 / CODE_SD**2 + 1 / NOISE**2) ** -0.5
NEW = np.array([-3.0, 0.5, 4.0, 10.0, 0.0])


@pytest.fixture(scope="module")
def fitted():
    encoder = Linear("mean", n_in=1, n_out=1)

    def model(x):
        z = pm.Normal("z", 0.0, CODE_SD, shape=x.shape[0])
        pm.Normal("x", z, NOISE, observed=x)

    def guide(x):
        mean = module("encoder", encoder)(x[:, None])[:, 0]
        pm.Normal("z", mean, param("sd", 0.3, constraint=constraints.positive))

    rows = np.random.default_rng(2).normal(0.0, np.hypot(CODE_SD, NOISE), size=400)
    svi = SVI(model, guide, optim.Adam(optim.exponential_decay(0.05, 1_500, 0.01)))
    loader = DataLoader({"x": rows}, batch_size=50)
    return model, guide, Trainer(svi, loader).fit(n=1_500, random_seed=1)


def test_encoder_learns_the_exact_map(fitted):
    _, _, result = fitted
    assert result.params["encoder.mean_W"].item() == pytest.approx(SLOPE, abs=0.01)
    assert result.params["encoder.mean_b"].item() == pytest.approx(0.0, abs=0.02)
    assert result.params["sd"] == pytest.approx(SD, abs=0.02)


def test_fitted_encoder_gives_the_posterior_of_new_rows(fitted):
    _, _, result = fitted
    z = result.sample_posterior(4_000, NEW, random_seed=3).posterior["z"].values[0]
    assert z.shape == (4_000, 5)
    np.testing.assert_allclose(z.mean(axis=0), SLOPE * NEW, atol=0.15)
    np.testing.assert_allclose(z.std(axis=0), SD, atol=0.05)


def test_predictive_applies_the_encoder_to_new_rows(fitted):
    model, guide, result = fitted
    predictive = Predictive(model, guide=guide, params=result.params, num_samples=4_000)
    drawn = predictive(NEW, random_seed=3)
    np.testing.assert_allclose(
        drawn.posterior["z"].mean(("chain", "draw")).values, SLOPE * NEW, atol=0.15
    )
    spread = drawn.posterior_predictive["x"].std(("chain", "draw")).values
    np.testing.assert_allclose(spread, np.hypot(SD, NOISE), atol=0.06)
