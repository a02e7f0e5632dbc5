"""Guides by annealed importance sampling: valid for any params, differentiable, tight."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytest
from pymc.pytensorf import find_rng_nodes, reseed_rngs, rewrite_pregrad

from pymc_svi import SVI, Trace_ELBO, constraints, handlers, optim, param, plate, subsample
from pymc_svi.errors import SiteError
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.guides import (
    AutoDAIS,
    AutoGuideList,
    AutoNormal,
    AutoSurrogateLikelihoodDAIS,
)
from tests.checks import assert_mean, built_loss
from tests.guides.checks import elbo_draws

# Two correlated measurements of two effects: Normal, with a known evidence.
CORRELATION = 0.9
LOG_EVIDENCE = -1.25


def correlated():
    """A Normal prior and one factor; the posterior has correlation 0.9."""
    a, b = pm.Normal("a"), pm.Normal("b")
    determinant = 1 - CORRELATION**2
    quadratic = (a**2 - 2 * CORRELATION * a * b + b**2) / determinant
    log_prior = -0.5 * (a**2 + b**2)
    pm.Potential("target", -0.5 * (quadratic + np.log(determinant)) - log_prior + LOG_EVIDENCE)


def params_of(guide, **changes):
    """Starting values of the params, some of them changed to make long, lossy steps."""
    trace = handlers.trace(guide).get_trace()
    rough = {
        "auto_eta0": 0.4,
        "auto_eta_coeff": 0.3,
        "auto_gamma": 0.6,
        "auto_beta_increments": np.array([0.5, 1.5, 1.0]),
        "auto_mass_matrix": np.array([0.7, 1.6]),
        "auto_z_0_loc": np.array([0.3, -0.2]),
        "auto_z_0_scale": np.array([0.9, 1.2]),
        "auto_z_0_scale_tril": np.array([[0.9, 0.0], [0.5, 1.1]]),
    }
    return {name: rough[name] for name in trace.params} | changes


@pytest.mark.parametrize("base_dist", ["diagonal", "cholesky"])
def test_weights_of_the_path_average_to_the_evidence_at_any_params(base_dist):
    guide = AutoDAIS(correlated, K=3, base_dist=base_dist, eta_max=1.0)
    elbo = elbo_draws(correlated, guide, params_of(guide), n=20_000)
    assert_mean(np.exp(elbo), np.exp(LOG_EVIDENCE))
    assert elbo.std() > 0.1  # or there would be nothing to average


def test_without_steps_to_speak_of_the_bound_is_that_of_the_base(monkeypatch):
    guide = AutoDAIS(correlated, K=3, eta_max=1.0)
    params = params_of(guide, auto_eta0=1e-9)
    loc, scale = params["auto_z_0_loc"], params["auto_z_0_scale"]
    determinant = 1 - CORRELATION**2
    second = loc**2 + scale**2
    quadratic = (second.sum() - 2 * CORRELATION * loc.prod()) / determinant
    entropy = np.log(scale).sum() + 1 + np.log(2 * np.pi)
    exact = LOG_EVIDENCE - 0.5 * (quadratic + np.log(determinant)) - np.log(2 * np.pi) + entropy
    assert_mean(elbo_draws(correlated, guide, params, n=4_000), exact)


def test_gradient_equals_finite_differences_at_the_same_noise():
    guide = AutoDAIS(correlated, K=2, base_dist="cholesky", eta_max=1.0, eta_init=0.4)
    loss, store = built_loss(correlated, guide)
    variables = store.variables
    gradients = pytensor.grad(rewrite_pregrad(loss.surrogate), list(variables.values()))
    function = pytensor.function([], [loss.value, *gradients], mode=evaluation_mode())

    def evaluated():
        reseed_rngs(find_rng_nodes(function.maker.fgraph.outputs), 3)
        return function()

    exact = dict(zip(variables, evaluated()[1:], strict=True))
    step = 1e-6
    for name, variable in variables.items():
        start = variable.get_value()
        for index in np.ndindex(start.shape):
            moved = []
            for sign in (1, -1):
                value = start.copy()
                value[index] += sign * step
                variable.set_value(value)
                moved.append(float(evaluated()[0]))
            variable.set_value(start)
            difference = (moved[0] - moved[1]) / (2 * step)
            np.testing.assert_allclose(exact[name][index], difference, rtol=1e-5, atol=1e-7)
    assert all(np.any(gradient != 0) for gradient in exact.values())


@pytest.mark.slow
def test_bound_beats_mean_field_and_stays_below_the_evidence():
    guide = AutoDAIS(correlated, K=3)
    mean_field = LOG_EVIDENCE + 0.5 * np.log(1 - CORRELATION**2)  # exact
    rate = optim.exponential_decay(0.03, 3_000, 0.01)
    svi = SVI(correlated, guide, optim.Adam(rate), Trace_ELBO(num_particles=8))
    result = svi.run(3_000, random_seed=0, progressbar=False)
    elbo = elbo_draws(correlated, guide, result.params)
    error = elbo.std() / np.sqrt(len(elbo))
    assert mean_field + 0.1 < elbo.mean() < LOG_EVIDENCE + 3.5 * error
    assert elbo.mean() > LOG_EVIDENCE - 0.1


def test_draws_follow_the_dims_and_supports_of_the_model():
    with pm.Model(coords={"city": ["x", "y"]}) as model:
        scale = pm.HalfNormal("scale")
        share = pm.Uniform("share", 0, scale, dims="city")
        pm.Normal("y", share.sum(), 0.3, observed=0.5)
    guide = AutoDAIS(model, K=2, eta_init=0.05)
    params = {n: s.value.eval() for n, s in handlers.trace(guide).get_trace().params.items()}
    draws = guide.sample_posterior(params, 50, random_seed=1)
    assert draws["share"].shape == (50, 2)
    assert (draws["share"] > 0).all() and (draws["share"] < draws["scale"][:, None]).all()
    assert guide.median(params)["share"].shape == (2,)


# --- surrogate likelihood ---------------------------------------------------------------------

DATA = np.array([0.4, 1.9, -0.3, 1.1, 0.7, 2.2])


def measured(batch=None):
    mu = pm.Normal("mu")
    with plate("N", len(DATA), subsample_size=batch):
        pm.Normal("y", mu, 1.0, observed=subsample(DATA))


def stand_in():
    mu = pm.Normal("mu")
    weights = param("weights", np.full(2, 2.5), constraint=constraints.positive)
    with handlers.scale(scale=weights):
        pm.Normal("y", mu, 1.0, observed=DATA[:2])


def log_evidence():
    n, total, squares = len(DATA), DATA.sum(), (DATA**2).sum()
    exponent = -0.5 * (squares - total**2 / (n + 1))
    return exponent - 0.5 * n * np.log(2 * np.pi) - 0.5 * np.log(n + 1)


SURROGATE = {"K": 2, "eta_init": 0.3, "eta_max": 1.0, "init_scale": 0.5}


def start_of(guide, *args):
    return {n: s.value.eval() for n, s in handlers.trace(guide).get_trace(*args).params.items()}


def test_weights_with_a_surrogate_average_to_the_evidence_of_the_model():
    guide = AutoSurrogateLikelihoodDAIS(measured, stand_in, **SURROGATE)
    params = start_of(guide)
    assert "weights" in params
    elbo = elbo_draws(measured, guide, params, n=20_000)
    assert_mean(np.exp(elbo), np.exp(log_evidence()))


def test_bound_of_minibatches_is_that_of_all_data_on_average():
    guide = AutoSurrogateLikelihoodDAIS(measured, stand_in, **SURROGATE)
    params = start_of(guide)
    full = elbo_draws(measured, guide, params, n=40_000).mean()
    small = elbo_draws(measured, guide, params, 2, n=40_000, seed=8)
    assert_mean(small, full, standard_errors=4)


def test_the_model_as_its_own_surrogate_is_autodais():
    plain = AutoDAIS(measured, **SURROGATE)
    own = AutoSurrogateLikelihoodDAIS(measured, measured, **SURROGATE)
    params = start_of(plain)
    one, other = (elbo_draws(measured, guide, params, n=5) for guide in (plain, own))
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_params_of_the_surrogate_are_learned():
    guide = AutoSurrogateLikelihoodDAIS(measured, stand_in, **SURROGATE)
    loss, store = built_loss(measured, guide)
    gradient = pytensor.grad(rewrite_pregrad(loss.surrogate), store.variables["weights"])
    value = pytensor.function([], gradient, mode=evaluation_mode())()
    assert value.shape == (2,) and np.all(value != 0)


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"K": 0}, "AutoDAIS: K must be a whole number from 1 on. Found: 0"),
        ({"K": 2.0}, "AutoDAIS: K must be a whole number"),
        ({"eta_max": 0.0}, "AutoDAIS: eta_max must be positive. Found: 0.0"),
        ({"eta_init": 0.2}, "AutoDAIS: eta_init must lie between 0 and eta_max=0.1. Found: 0.2"),
        ({"gamma_init": 1.0}, "AutoDAIS: gamma_init must lie between 0 and 1. Found: 1.0"),
        ({"init_scale": -1.0}, "AutoDAIS: init_scale must be positive"),
        ({"base_dist": "dense"}, "AutoDAIS: base_dist is .* Found: 'dense'.*\"cholesky\""),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AutoDAIS(correlated, **settings)


def test_a_subsampled_model_is_referred_to_the_guides_for_it():
    with pytest.raises(SiteError, match="site 'y' is in the subsampled plate 'N'.*AutoSemiDAIS"):
        handlers.trace(AutoDAIS(measured)).get_trace(2)


def test_a_surrogate_with_other_sites_is_refused():
    def other():
        pm.Normal("nu")

    guide = AutoSurrogateLikelihoodDAIS(measured, other)
    with pytest.raises(SiteError, match="'nu' in the surrogate, 'mu' in the model"):
        handlers.trace(guide).get_trace()


def test_it_cannot_be_a_part_of_a_list():
    guides = AutoGuideList(correlated).append(AutoNormal(handlers.block(correlated, hide=["a"])))
    with pytest.raises(TypeError, match="AutoDAIS cannot be a part.*whole model"):
        guides.append(AutoDAIS(handlers.block(correlated, expose=["a"])))
