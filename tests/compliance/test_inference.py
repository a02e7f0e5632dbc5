"""What users of Pyro and NumPyro rely on in SVI, beyond ``tests/test_svi.py`` and ``tests/objectives``."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy import stats

from pymc_svi import SVI, RenyiELBO, Trace_ELBO, constraints, optim, param, plate
from pymc_svi.guides import AutoNormal
from pymc_svi.handlers import mask, substitute
from tests.checks import built_loss

OBJECTIVES = {
    "elbo": Trace_ELBO(),
    "renyi 0": RenyiELBO(alpha=0.0, num_particles=3),
    "renyi 2": RenyiELBO(alpha=2.0, num_particles=2),
}
FAST = {"mode": "FAST_COMPILE"}


def no_guide(*args):
    pass


@pytest.mark.parametrize("loss", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("part", [None, 10], ids=["all rows", "minibatch"])
def test_without_latents_all_bounds_are_the_log_likelihood_also_of_a_minibatch(loss, part):
    def model():
        p = param("p", 0.6, constraint=constraints.unit_interval)
        with plate("rows", 100, subsample_size=part):
            pm.Bernoulli("y", p, observed=np.ones(part or 100))

    built, store = built_loss(model, no_guide, loss=loss)
    assert float(built.value.eval(mode="FAST_COMPILE")) == pytest.approx(-100 * np.log(0.6))
    [unconstrained] = store.variables.values()
    gradient = pt.grad(built.surrogate, unconstrained).eval(mode="FAST_COMPILE")
    assert float(gradient) == pytest.approx(-100 * 0.4)  # of -100 log p by the logit of p


@pytest.mark.parametrize("loss", OBJECTIVES.values(), ids=OBJECTIVES)
def test_plates_beside_each_other_add_up_to_one_number(loss):
    def model():
        with plate("a", 3):
            pm.Normal("x", observed=np.zeros(3))
        with plate("b", 4, dim=-2):
            pm.Normal("y", param("m", 0.0), 1.0, observed=np.zeros((4, 1)))

    value = built_loss(model, no_guide, loss=loss)[0].value.eval(mode="FAST_COMPILE")
    assert np.shape(value) == () and float(value) == pytest.approx(-7 * stats.norm.logpdf(0.0))


def test_what_is_masked_leaves_the_posterior_at_the_prior():
    def model():
        x = pm.Normal("x", 1.0, 0.5)
        with mask(mask=False):
            pm.Normal("y", x, 1.0, observed=50.0)

    guide = AutoNormal(model)
    at_prior = {"x_auto_loc": 1.0, "x_auto_scale": 0.5}
    svi = SVI(
        model, guide, optim.SGD(0.1), Trace_ELBO(sticking_the_landing=True), compile_kwargs=FAST
    )
    result = svi.run(3, init_params=at_prior, random_seed=0, progressbar=False)
    for name, value in at_prior.items():  # no gradient there, in any draw
        assert result.params[name] == pytest.approx(value, abs=1e-12)
    # PyMC has the root of 2 pi in single precision.
    np.testing.assert_allclose(result.losses, 0.0, atol=1e-8)


def test_few_steps_are_as_good_as_many_with_a_progress_bar():
    def model():
        pm.Normal("y", param("m", 1.0), 1.0, observed=0.0)

    svi = SVI(model, no_guide, optim.SGD(0.5), compile_kwargs=FAST)
    for n in (1, 2, 30):
        result = svi.run(n, random_seed=0, progressbar=True)
        assert result.losses.shape == (n,)
        assert float(result.params["m"]) == pytest.approx(0.5**n)


def test_a_param_that_is_given_a_value_is_not_learned():
    def model():
        pm.Normal("y", param("a", 1.0) + param("b", 1.0), 1.0, observed=0.0)

    fixed = substitute(model, data={"a": 2.0})
    result = SVI(fixed, no_guide, optim.SGD(0.5), compile_kwargs=FAST).run(
        30, random_seed=0, progressbar=False
    )
    assert set(result.params) == {"b"}
    assert float(result.params["b"]) == pytest.approx(-2.0)
