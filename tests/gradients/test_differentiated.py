"""Models with an operation that has no gradient: what users are told, and the way out works."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pytensor.graph.op import Op

from pymc_svi import SVI, param, sample
from pymc_svi.errors import SiteError
from pymc_svi.guides import AutoDAIS, AutoNormal


class Solver(Op):
    """A solver of one's own, without a gradient."""

    itypes = (pt.dvector,)
    otypes = (pt.dvector,)

    def perform(self, node, inputs, outputs):
        outputs[0][0] = np.cumsum(inputs[0])


def black_box():
    rate = pm.HalfNormal("rate", shape=2)
    pm.Normal("y", Solver()(rate), 1.0, observed=[1.0, 2.0])


def simulator():
    loc = pm.Normal("loc")
    pm.Simulator("y", lambda rng, loc, size: rng.normal(loc, size=size), loc, observed=[1.0])


@pytest.mark.parametrize("model", [black_box, simulator])
def test_the_site_without_a_gradient_is_named(model):
    with pytest.raises(SiteError, match="site 'y' in the model has no gradient.*score_function"):
        SVI(model, AutoNormal(model)).init(random_seed=0)


def test_a_flat_prior_without_data_is_told():
    def model():
        pm.Flat("x")
        pm.Normal("z")

    with pytest.raises(SiteError, match="does not change with 'x_auto_loc'.*flat prior"):
        SVI(model, AutoNormal(model)).init(random_seed=0)


def test_guides_that_follow_the_density_of_the_model_tell_it_too():
    with pytest.raises(SiteError, match="has no gradient. Found: .*Solver"):
        SVI(black_box, AutoDAIS(black_box)).init(random_seed=0)


def test_the_score_function_needs_no_gradient():
    def guide():
        law = pm.LogNormal.dist(param("loc", np.zeros(2)), 0.1)
        sample("rate", law, infer={"score_function": True})

    gradients = SVI(black_box, guide).sample_gradients(20_000, random_seed=0)["loc"]
    # Of E[0.5 r^2 + 0.5 (r_0 - 1)^2 + 0.5 (r_0 + r_1 - 2)^2] - loc at r = exp(loc) about 1.
    m, v = np.exp(0.005), np.exp(0.02)  # E[r], E[r^2]
    exact = [v + (v - m) + (v + m * m - 2 * m) - 1, v + (v + m * m - 2 * m) - 1]
    error = gradients.std(0) / np.sqrt(len(gradients))
    assert np.all(np.abs(gradients.mean(0) - exact) < 4 * error)
