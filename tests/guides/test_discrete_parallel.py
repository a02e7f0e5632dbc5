"""``AutoDiscreteParallel``: exact where discrete sites are independent given the data."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy.stats import norm

from pymc_svi import (
    TraceEnum_ELBO,
    config_enumerate,
    constraints,
    handlers,
    plate,
    subsample,
)
from pymc_svi.errors import SiteError
from pymc_svi.guides import AutoDelta, AutoDiscreteParallel, AutoGuideList
from tests.checks import assert_mean, gradient_draws
from tests.guides.checks import elbo_draws

Y = np.array([0.1, 2.2, 1.1])
LOCS = np.array([0.0, 1.0, 2.5])
WEIGHTS = np.array([0.5, 0.3, 0.2])


def mixture(batch=None):
    """A categorical and a Bernoulli site for each measurement; independent given the data."""
    with plate("N", len(Y), subsample_size=batch):
        y = subsample(Y)
        k = pm.Categorical("k", WEIGHTS)
        pm.Normal("y", pt.constant(LOCS)[k], 0.7, observed=y)
        b = pm.Bernoulli("b", 0.3)
        pm.Normal("z", 2.0 * b, 1.0, observed=y)


def joint() -> tuple[np.ndarray, np.ndarray]:
    """The joint density of each categorical and each Bernoulli element with its measurement."""
    k = WEIGHTS * norm.pdf(Y[:, None], LOCS, 0.7)
    b = np.array([0.7, 0.3]) * norm.pdf(Y[:, None], [0.0, 2.0], 1.0)
    return k, b


def exact() -> dict:
    k, b = joint()
    return {
        "k_auto_probs": k / k.sum(axis=-1, keepdims=True),
        "b_auto_probs": b[:, 1] / b.sum(axis=-1),
    }


def log_evidence() -> float:
    return sum(np.log(part.sum(axis=-1)).sum() for part in joint())


def test_bound_at_the_exact_probabilities_is_the_evidence_in_each_draw():
    elbo = elbo_draws(mixture, AutoDiscreteParallel(mixture), exact(), n=50)
    np.testing.assert_allclose(elbo, log_evidence(), rtol=0, atol=1e-9)


def test_minibatches_share_the_params_and_estimate_the_same_bound():
    guide = AutoDiscreteParallel(mixture)
    assert handlers.trace(guide).get_trace(1).params["k_auto_probs"].init.shape == (3, 3)
    elbo = elbo_draws(mixture, guide, exact(), 1, n=4_000)
    assert_mean(elbo, log_evidence())


def test_gradient_is_that_of_the_enumerated_bound():
    def model():
        b = pm.Bernoulli("b", 0.3)
        pm.Normal("y", 2.0 * b, 1.0, observed=1.7)

    # At equal probabilities, with respect to the logit.
    ratio = np.log(0.3 / 0.7) + norm.logpdf(1.7, 2.0) - norm.logpdf(1.7, 0.0)
    [draws] = gradient_draws(model, AutoDiscreteParallel(model), n=20_000).values()
    assert_mean(draws, -0.25 * ratio)


def test_gradient_of_categorical_probabilities_is_that_of_the_enumerated_bound():
    def model():
        k = pm.Categorical("k", WEIGHTS)
        pm.Normal("y", pt.constant(LOCS)[k], 0.7, observed=0.4)

    def loss(u):
        p = constraints.simplex.constrain_value(u)
        return (p * (np.log(p) - np.log(WEIGHTS) - norm.logpdf(0.4, LOCS, 0.7))).sum()

    start = constraints.simplex.unconstrain(np.full(3, 1 / 3))
    step = 1e-5 * np.eye(len(start))
    exact_gradient = [(loss(start + h) - loss(start - h)) / 2e-5 for h in step]
    [draws] = gradient_draws(model, AutoDiscreteParallel(model), n=20_000).values()
    assert_mean(draws, exact_gradient)


@pytest.mark.parametrize("of_model", [True, False])
def test_bound_of_enumerated_sites_is_exact_at_any_probabilities(of_model):
    guide = AutoDiscreteParallel(config_enumerate(mixture) if of_model else mixture)
    guide_program = guide if of_model else config_enumerate(guide)
    loss = TraceEnum_ELBO().loss(mixture, guide_program)  # elements start with equal probabilities
    k, b = joint()
    exact_loss = -sum((np.log(part) + np.log(part.shape[1])).mean(axis=1).sum() for part in (k, b))
    np.testing.assert_allclose(loss.value.eval(), exact_loss, rtol=1e-10)


def test_draws_and_quantiles_are_whole_numbers_with_the_probabilities():
    guide = AutoDiscreteParallel(mixture)
    draws = guide.sample_posterior(exact(), 4_000, random_seed=1)
    assert_mean((draws["k"][..., None] == np.arange(3)), exact()["k_auto_probs"], 4)
    median = guide.median(exact())
    assert median["b"].tolist() == (exact()["b_auto_probs"] > 0.5).astype(int).tolist()
    assert guide.quantiles(exact(), [0.1, 0.9])["k"].dtype.kind == "i"


def test_it_is_a_part_of_a_list_beside_a_continuous_one():
    def model():
        loc = pm.Normal("loc", 0.0, 3.0, shape=2)
        k = pm.Categorical("k", [0.5, 0.5], shape=3)
        pm.Normal("y", loc[k], 1.0, observed=Y)

    guide = AutoGuideList(model).append(AutoDelta(handlers.block(model, hide=["k"])))
    guide.append(AutoDiscreteParallel(handlers.block(model, expose=["k"])))
    params = {"loc_auto_loc": np.array([0.0, 2.0]), "k_auto_probs": np.full((3, 2), 0.5)}
    elbo = elbo_draws(model, guide, params, n=4_000)
    likelihood = norm.logpdf(Y[:, None], [0.0, 2.0], 1.0).mean(axis=1).sum()
    assert_mean(elbo, likelihood + norm.logpdf([0.0, 2.0], 0, 3).sum())


def test_dims_are_those_of_the_site():
    with pm.Model(coords={"row": [1, 2]}) as model:
        pm.Bernoulli("b", 0.2, dims="row")
    trace = handlers.trace(AutoDiscreteParallel(model)).get_trace()
    assert trace["b_auto_probs"].dims == ("row",)


# --- mistakes ---------------------------------------------------------------------------------


def test_continuous_and_countable_sites_are_refused():
    def model():
        pm.Normal("x")
        pm.Poisson("n", 3.0)

    with pytest.raises(SiteError, match="site 'x' is neither Bernoulli.*Hide it with handlers.blo"):
        handlers.trace(AutoDiscreteParallel(model)).get_trace()
    with pytest.raises(SiteError, match="'n' is neither.*discrete site, poisson. Write a guide"):
        handlers.trace(AutoDiscreteParallel(handlers.block(model, hide=["x"]))).get_trace()


def test_a_model_without_latent_sites_is_refused():
    with pytest.raises(SiteError, match="AutoDiscreteParallel found no latent sites"):
        handlers.trace(AutoDiscreteParallel(lambda: None)).get_trace()
