"""``floatX=float32``: everything runs, and results are in it."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytest

from pymc_svi import SVI, DataLoader, Predictive, Trainer, optim
from pymc_svi.guides import AutoIAFNormal, AutoMultivariateNormal, AutoNormal

Y = np.random.default_rng(0).normal(2.0, 1.0, size=40)
# The prior Normal(0, 10) and known noise.
PRECISION = 0.01 + len(Y)
MEAN, SD = Y.sum() / PRECISION, PRECISION**-0.5


@pytest.fixture(autouse=True)
def float32():
    with pytensor.config.change_flags(floatX="float32"):
        yield


def model(y):
    mu = pm.Normal("mu", 0, 10)
    sd = pm.HalfNormal("sd", 1)
    pm.Dirichlet("p", np.ones(3))
    pm.Deterministic("ratio", mu / sd)
    pm.Normal("y", mu, 1.0, observed=y)


@pytest.mark.parametrize("guide", [AutoNormal, AutoMultivariateNormal, AutoIAFNormal])
def test_guides_take_steps(guide):
    svi = SVI(model, guide(model), optim.Adam(0.01), compile_kwargs={"mode": "FAST_COMPILE"})
    result = svi.run(5, Y, random_seed=0, progressbar=False)
    assert np.isfinite(result.losses).all()
    assert {value.dtype for value in result.params.values()} == {np.dtype("float32")}
    draws = result.sample_posterior(10, random_seed=0).posterior
    assert {array.dtype for array in draws.data_vars.values()} == {np.dtype("float32")}


def test_a_fit_and_its_predictions():
    steps = optim.exponential_decay(0.05, 6_000, 0.01)
    svi = SVI(model, AutoNormal(model), optim.Adam(steps))
    result = Trainer(svi, DataLoader({"y": Y}, batch_size=10)).fit(n=6_000, random_seed=0)
    posterior = result.sample_posterior(4_000, random_seed=0)
    draws = posterior.posterior["mu"].values
    assert draws.mean() == pytest.approx(MEAN, abs=0.15 * SD)
    assert draws.std() == pytest.approx(SD, rel=0.1)
    predicted = Predictive(model, posterior)(Y, random_seed=0).posterior_predictive["y"]
    assert predicted.dtype == np.float32
    assert predicted.mean() == pytest.approx(MEAN, abs=0.1)
    assert np.isfinite(result.diagnose(1_000, Y, random_seed=0).khat)
