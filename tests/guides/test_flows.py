"""Normalizing flows: their maps, and the guides made of them."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi import SVI, Trace_ELBO, handlers, optim
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.guides import (
    AutoBNAFNormal,
    AutoIAFNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoNormalizingFlow,
)
from pymc_svi.guides.flows import (
    AffineCoupling,
    BlockAutoregressive,
    Chain,
    Flow,
    InverseAutoregressive,
    Planar,
    Radial,
    Reverse,
    SplineCoupling,
)
from tests.checks import assert_mean, loss_draws
from tests.guides.checks import (
    GaussianTarget,
    elbo_draws,
    joint_draws,
    log_density_function,
)

FLOWS = {
    "affine": AffineCoupling([4]),
    "spline": SplineCoupling([4], bins=5, bound=3.0),
    "iaf": InverseAutoregressive(),
    "iaf_skip": InverseAutoregressive([5], skip_connections=True),
    "planar": Planar(),
    "radial": Radial(),
    "bnaf": BlockAutoregressive([3, 2]),
    "chain": Chain([AffineCoupling([3]), Reverse(), SplineCoupling([3], bins=4), Planar()]),
    "invertible_chain": Chain([InverseAutoregressive(), Reverse(), AffineCoupling([3])]),
}
EACH = pytest.mark.parametrize("name", FLOWS)
INVERTIBLE = pytest.mark.parametrize("name", [n for n, flow in FLOWS.items() if flow.is_invertible])


def declared(flow: Flow, size: int, seed: int = 0, scale: float = 0.7) -> dict:
    """Params of a flow far from their starting values."""
    rng = np.random.default_rng(seed)
    with handlers.trace() as traced:
        params = flow.declare("flow", size)
    for site in traced.values():
        start = site.unconstrained.get_value()
        site.unconstrained.set_value(start + scale * rng.normal(size=start.shape))
    return params


def compiled(flow: Flow, size: int, **settings):
    params = declared(flow, size, **settings)
    x = pt.vector("x", shape=(size,))
    forward = pytensor.function([x], list(flow.forward(x, params)), mode=evaluation_mode())
    if not flow.is_invertible:
        return forward, None
    return forward, pytensor.function([x], flow.inverse(x, params), mode=evaluation_mode())


@EACH
@pytest.mark.parametrize("size", [2, 5])
def test_log_determinant_is_that_of_finite_differences(name, size):
    forward, _ = compiled(FLOWS[name], size)
    rng = np.random.default_rng(1)
    for x in rng.normal(size=(4, size)) * 1.5:
        h = 1e-5
        jacobian = [(forward(x + h * e)[0] - forward(x - h * e)[0]) / (2 * h) for e in np.eye(size)]
        sign, expected = np.linalg.slogdet(np.transpose(jacobian))
        assert sign > 0 or "Reverse" in repr(FLOWS[name]) or "chain" in name
        np.testing.assert_allclose(forward(x)[1], expected, atol=1e-6)


@INVERTIBLE
@pytest.mark.parametrize("size", [2, 5])
def test_inverse_undoes_the_map(name, size):
    forward, inverse = compiled(FLOWS[name], size)
    for x in np.random.default_rng(2).normal(size=(4, size)) * 2:
        np.testing.assert_allclose(inverse(forward(x)[0]), x, atol=1e-8)


def test_spline_is_the_identity_outside_its_bound_and_continuous_at_it():
    forward, inverse = compiled(SplineCoupling([3], bins=4, bound=2.0), 2)
    for x in (-7.0, -2.0, 2.0, 7.0):
        y, log_det = forward(np.array([0.3, x]))
        np.testing.assert_allclose(y[1], x)
        np.testing.assert_allclose(log_det, 0.0)
    inside = forward(np.array([0.3, 2.0 - 1e-9]))[0][1]
    np.testing.assert_allclose(inside, 2.0, atol=1e-7)
    assert inverse(np.array([0.3, 7.0]))[1] == 7.0


def test_autoregressive_elements_depend_on_the_ones_before_only():
    for flow in (FLOWS["iaf"], FLOWS["iaf_skip"], FLOWS["bnaf"]):
        forward, _ = compiled(flow, 4)
        x = np.array([0.1, -0.4, 0.8, 0.2])
        for i in range(4):
            moved = x.copy()
            moved[i] += 0.5
            changed = forward(moved)[0] != forward(x)[0]
            assert not changed[:i].any()
            assert changed[i:].all() or flow is FLOWS["iaf"]
            assert forward(moved)[0][i] > forward(x)[0][i]


@pytest.mark.parametrize("name", ["affine", "spline", "iaf", "planar", "radial"])
def test_flows_start_near_the_identity(name):
    forward, _ = compiled(FLOWS[name], 3, scale=0.0)
    x = np.array([0.5, -1.0, 1.2])
    np.testing.assert_allclose(forward(x)[0], x, atol=0.1)


# --- guides -----------------------------------------------------------------------------------


def pair():
    pm.Normal("x", shape=2)


def moved_params(guide, seed=0, scale=0.5) -> dict:
    """Params of a guide far from their starting values."""
    rng = np.random.default_rng(seed)
    store = SVI(pair, guide).build_loss()[1]
    moved = {
        name: variable.get_value() + scale * rng.normal(size=variable.get_value().shape)
        for name, variable in store.variables.items()
    }
    return store.constrained(moved)


GUIDES = {
    "coupling": lambda: AutoNormalizingFlow(
        pair, [AffineCoupling([3]), Reverse(), SplineCoupling([3], bins=4)], init_scale=0.8
    ),
    "iaf": lambda: AutoIAFNormal(pair, num_flows=2, init_scale=0.8),
}


@pytest.mark.parametrize("name", GUIDES)
def test_log_density_integrates_to_one(name):
    guide = GUIDES[name]()
    params = moved_params(guide, scale=0.3)
    draws, _ = joint_draws(guide, params, 2_000)
    axes = [np.linspace(*np.quantile(d, [0, 1]) + [-4, 4], 301) for d in draws.T]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(log_density_function(guide.get_posterior(params))(points))
    integral = density.sum() * np.prod([axis[1] - axis[0] for axis in axes])
    assert abs(integral - 1) < 5e-3


@pytest.mark.parametrize("name", GUIDES)
def test_draws_have_the_log_density_of_the_posterior(name):
    guide = GUIDES[name]()
    params = moved_params(guide)
    draws, log_densities = joint_draws(guide, params, 500)
    expected = log_density_function(guide.get_posterior(params))(draws)
    np.testing.assert_allclose(log_densities, expected, atol=1e-6)


@pytest.mark.parametrize(
    "guide",
    [*(make() for make in GUIDES.values()), AutoBNAFNormal(pair),
     AutoNormalizingFlow(pair, [Planar(), Radial(), Planar()])],
)  # fmt: skip
def test_importance_weights_of_the_prior_average_to_one(guide):
    """E_q[p / q] = 1: the guide's own log-density is that of its draws."""
    params = moved_params(guide, scale=0.2)
    params["auto_scale"] = np.full(2, 1.5)  # wider than the prior
    log_weights = elbo_draws(pair, guide, params, n=20_000)
    assert_mean(np.exp(log_weights), 1.0)


def test_flow_guides_start_near_independent_normals():
    target = GaussianTarget.simulated()
    flow = loss_draws(target, AutoIAFNormal(target), n=4_000)
    normal = loss_draws(target, AutoNormal(target), n=4_000)
    error = np.hypot(flow.std(), normal.std()) / np.sqrt(4_000)
    assert abs(flow.mean() - normal.mean()) < 4 * error + 0.3


def test_a_fitted_flow_is_a_model_and_has_quantiles():
    guide = GUIDES["coupling"]()
    params = moved_params(guide, scale=0.2)
    draws = guide.sample_posterior(params, 20_000, random_seed=1)["x"]
    np.testing.assert_allclose(guide.median(params)["x"], np.median(draws, axis=0), atol=0.05)
    quantiles = guide.quantiles(params, [0.1, 0.9])["x"]
    np.testing.assert_allclose(quantiles, np.quantile(draws, [0.1, 0.9], axis=0), atol=0.08)
    model = guide.to_model(params)
    prior = pm.draw(model["x"], 5_000, random_seed=2, mode=evaluation_mode())
    np.testing.assert_allclose(np.quantile(prior, 0.9, axis=0), quantiles[1], atol=0.1)


def banana():
    a = pm.Normal("a")
    pm.Normal("b", a**2 - 1, 0.3)


@pytest.mark.slow
def test_flows_beat_full_rank_on_the_banana():
    """The log evidence is zero; the best full-rank Normal is more than 0.5 nats below."""

    def best(guide, step_size=0.01):
        schedule = optim.exponential_decay(step_size, 4_000, 0.02)
        svi = SVI(banana, guide, optim.Adam(schedule), Trace_ELBO(num_particles=8))
        result = svi.run(4_000, random_seed=0, progressbar=False)
        return elbo_draws(banana, guide, result.params, n=5_000).mean()

    full = best(AutoMultivariateNormal(banana))
    assert best(AutoIAFNormal(banana, hidden_dims=[16, 16])) > full + 0.4


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [AutoIAFNormal, AutoBNAFNormal])
def test_flows_between_elements_need_two_of_them(family):
    def single():
        pm.Normal("x")

    with pytest.raises(ValueError, match="latent dim = 1. Use AutoDiagonalNormal"):
        handlers.trace(family(single)).get_trace()


def test_mistakes_of_flows():
    with pytest.raises(ValueError, match="num_flows must be at least 1"):
        AutoIAFNormal(pair, num_flows=0)
    with pytest.raises(ValueError, match="init_scale must be positive"):
        AutoBNAFNormal(pair, init_scale=-1.0)
    with pytest.raises(ValueError, match="at least one unit"):
        AutoBNAFNormal(pair, hidden_factors=[0])
    with pytest.raises(TypeError, match="A flow is a Flow or a list of them"):
        AutoNormalizingFlow(pair, 3)
    with pytest.raises(TypeError, match="A flow is a Flow or a list of them"):
        AutoNormalizingFlow(pair, [Planar])
    with pytest.raises(ValueError, match="bins must be at least 2"):
        SplineCoupling(bins=1)
    with pytest.raises(NotImplementedError, match="cannot be inverted"):
        Planar().inverse(pt.vector(), {})


def test_a_flow_can_be_a_function_of_the_size():
    guide = AutoNormalizingFlow(pair, lambda size: InverseAutoregressive([4 * size]))
    traced = handlers.trace(guide).get_trace()
    assert traced["auto_flow_0_weight"].shape == (8, 2)
