"""Stein variational gradient descent as a method."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytest

from pymc_svi import ASVGD, SVGD, DataLoader, Trainer, fit, optim
from pymc_svi.errors import SiteError

Y = np.random.default_rng(0).normal(2.0, 1.5, size=90)


@pytest.fixture(autouse=True)
def quickly_compiled():
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        yield


def normal_data(y):
    mu = pm.Normal("mu", 1.0, 3.0)
    pm.Normal("y", mu, 1.5, observed=y)


def test_directions_from_minibatches_average_to_that_of_all_data():
    # With a step this small the particles stay, and their change is the sum of the directions.
    def change(batch_size, steps):
        method = SVGD(normal_data, optim=optim.SGD(1e-9), num_particles=5)
        trainer = Trainer(method, DataLoader({"y": Y}, batch_size=batch_size))
        start = trainer.fit(n=1, random_seed=1).params["auto_particles"]
        return trainer.fit(n=1 + steps, random_seed=1).params["auto_particles"] - start

    first, second = change(30, 5), change(30, 2)
    whole = change(90, 1)
    np.testing.assert_allclose((first - second) / 3, whole, rtol=1e-5)


def test_svgd_takes_the_model_of_the_context_and_reproduces_pymc():
    # The model that PyMC tests its own SVGD on: a Normal mean with known noise.
    data = np.random.default_rng(3).normal(4.0, 3.0, size=1_000)
    with pm.Model() as model:
        mu = pm.Normal("mu", 4.0, 2.0)
        pm.Normal("y", mu, 3.0, observed=data)
        result = Trainer(
            SVGD(optim=pm.adagrad_window(learning_rate=0.1, n_win=50), jitter=1.0)
        ).fit(n=600, random_seed=1)
    precision = 1 / 4 + len(data) / 9
    posterior = result.sample_posterior(4_000, random_seed=0).posterior["mu"].values
    particles = result.params["auto_particles"]
    np.testing.assert_allclose(particles.mean(), (1.0 + data.sum() / 9) / precision, atol=5e-3)
    np.testing.assert_allclose(posterior.std(), precision**-0.5, rtol=0.1)
    again = fit(model, "svgd", 5, num_particles=4, random_seed=1)
    assert again.params["auto_particles"].shape == (4, 1)


def test_asvgd_learns_a_guide_from_its_draws():
    with pm.Model():
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Normal("y", mu, 1.0, observed=1.0)
        method = ASVGD(optim=optim.Adam(optim.cosine_decay(0.05, 500)), num_particles=50)
        result = Trainer(method).fit(n=500, random_seed=0)
    # A symmetric kernel leaves the mean of a symmetric posterior where it is.
    np.testing.assert_allclose(result.params["auto_loc"], 0.5, atol=0.02)
    assert 0.5 < result.sample_posterior(1_000, random_seed=0).posterior["mu"].std() < 0.72


def test_fit_refuses_an_objective_beside_stein_methods():
    from pymc_svi import Trace_ELBO

    with pytest.raises(TypeError, match="'svgd' has its own objective"):
        fit(normal_data, "svgd", 1, loss=Trace_ELBO())


def test_particles_cannot_be_weighed_against_the_posterior():
    method = SVGD(normal_data, num_particles=8)
    result = method.run(2, Y, random_seed=0, progressbar=False)
    with pytest.raises(SiteError, match="the guide puts 'mu' at 8 points.*no density"):
        result.diagnose(random_seed=0)
