"""Guides of models written with ``pymc.dims``: the same numbers as for the model without names."""

from __future__ import annotations

import functools

import numpy as np
import pymc as pm
import pymc.dims as pmd
import pytest

from pymc_svi import SVI
from pymc_svi.engine import Arguments
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.guides import (
    AutoDAIS,
    AutoDelta,
    AutoLaplaceApproximation,
    AutoMultivariateNormal,
    AutoNormal,
    NeuTraReparam,
    init_to_feasible,
    init_to_initial_point,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
)
from pymc_svi.handlers import trace
from tests.checks import as_built

COORDS = {"group": ["a", "b", "c"], "year": [2001, 2002]}
DATA = np.array([0.1, 0.5, -0.3])


def named():
    """A scalar, bounded sites, one across two dims and one whose sum is zero."""
    share = pmd.Beta("share", 2.0, 3.0)
    scale = pmd.HalfNormal("scale", dims="group")
    x = pmd.Normal("x", 0.0, scale, dims=("group", "year"))
    z = pmd.ZeroSumNormal("z", sigma=1.0, core_dims="group", dims="group")
    data = pmd.as_xtensor(DATA, dims=("group",))
    pmd.Normal("y", x.mean("year") + share * z, 0.5, observed=data)


def plain():
    share = pm.Beta("share", 2.0, 3.0)
    scale = pm.HalfNormal("scale", dims="group")
    x = pm.Normal("x", 0.0, scale[:, None], dims=("group", "year"))
    z = pm.ZeroSumNormal("z", sigma=1.0, dims="group")
    pm.Normal("y", x.mean(axis=1) + share * z, 0.5, observed=DATA, dims="group")


@functools.cache
def built(program) -> pm.Model:
    return as_built(program, coords=COORDS)


def started(program, guide_class, strategy=None, seed=1, **settings):
    """Return the guide and the params it starts with."""
    if strategy is not None:
        settings["init_loc_fn"] = strategy
    guide = guide_class(built(program), **settings)
    svi = SVI(built(program), guide, compile_kwargs={"mode": evaluation_mode()})
    return guide, svi, svi.init(random_seed=seed)


def moved(params: dict, seed: int = 3) -> dict[str, np.ndarray]:
    """Params away from their start; positive ones stay positive."""
    rng = np.random.default_rng(seed)
    return {name: value * np.exp(0.3 * rng.normal(size=np.shape(value))) + 0.05 * (value == 0)
            for name, value in params.items()}  # fmt: skip


def assert_same(found: dict, expected: dict, **tolerance) -> None:
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], err_msg=name, **tolerance)


@pytest.mark.parametrize("strategy", [init_to_initial_point, init_to_feasible])
def test_a_start_that_is_not_drawn_is_that_of_the_model_without_names(strategy):
    (_, one, here), (_, other, there) = (
        started(program, AutoNormal, strategy) for program in (named, plain)
    )
    assert_same(one.get_params(here), other.get_params(there))


def test_params_have_the_dims_of_the_sites():
    traces = [trace(AutoNormal(built(program))).get_trace() for program in (named, plain)]
    for name in traces[1].params:
        assert traces[0][name].dims == traces[1][name].dims, name
    assert traces[0]["scale_auto_loc"].dims == ("group",)
    assert traces[0]["z_auto_loc"].dims is None


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (init_to_mean(num_samples=2_000), {"share": 0.4, "x": 0.0, "z": 0.0}),
        (init_to_median(num_samples=301), {"share": 0.386, "x": 0.0, "z": 0.0}),
    ],
)
def test_a_start_at_the_centre_of_prior_draws_is_near_that_of_the_prior(strategy, expected):
    """Within four standard errors of a mean or a median of that many draws."""
    guide, svi, state = started(named, AutoNormal, strategy)
    found = guide.median(svi.get_params(state))
    assert found["share"] == pytest.approx(expected["share"], abs=0.06)
    np.testing.assert_allclose(found["x"], 0.0, atol=0.3)
    np.testing.assert_allclose(found["z"], 0.0, atol=0.3)
    assert found["z"].sum() == pytest.approx(0.0, abs=1e-9)
    assert (found["scale"] > 0.4).all()


@pytest.mark.parametrize("strategy", [init_to_sample, init_to_uniform])
def test_a_random_start_is_in_the_support(strategy):
    guide, svi, state = started(named, AutoNormal, strategy)
    found = guide.median(svi.get_params(state))
    assert 0 < found["share"] < 1
    assert (found["scale"] > 0).all()
    assert len(np.unique(found["x"])) == 6


@pytest.fixture(scope="module")
def fullrank():
    """A full-rank guide of each of the two, at the same params."""
    guide, svi, state = started(named, AutoMultivariateNormal)
    other, _, _ = started(plain, AutoMultivariateNormal)
    params = moved(svi.get_params(state))
    return guide, other, params


def test_medians_and_quantiles_are_those_of_the_model_without_names(fullrank):
    guide, other, params = fullrank
    assert_same(guide.median(params), other.median(params))
    # Of the zero-sum site by draws, which are other ones.
    found, expected = (g.quantiles(params, [0.1, 0.9]) for g in (guide, other))
    assert_same(found | {"z": 0}, expected | {"z": 0})
    np.testing.assert_allclose(found["z"], expected["z"], atol=0.02)


def test_noise_is_mapped_to_the_same_values(fullrank):
    guide, other, params = fullrank
    noise = np.random.default_rng(0).normal(size=(2, 5, 12))
    found, expected = (NeuTraReparam(g, params).transform_sample(noise) for g in (guide, other))
    assert_same(found, expected)


def test_laplaces_hessian_is_that_of_the_model_without_names():
    guides = [AutoLaplaceApproximation(built(program)) for program in (named, plain)]
    place = {"auto_loc": np.linspace(-0.2, 0.2, 12)}
    with pytest.warns(UserWarning, match="has not reached the mode"):
        normals = [guide.normal_params(place) for guide in guides]
    assert_same(*normals, atol=1e-12)


def test_points_in_the_supports_have_the_same_loss():
    (guide, one, here), (_, other, there) = (
        started(program, AutoDelta) for program in (named, plain)
    )
    params = one.get_params(here)
    assert_same(params, other.get_params(there))
    assert one.evaluate(here) == pytest.approx(other.evaluate(there), rel=1e-9)
    values = guide.sample_posterior(params, 3)
    assert values["x"].shape == (3, 3, 2)
    np.testing.assert_allclose(values["scale"], np.tile(params["scale_auto_loc"], (3, 1)))


def test_annealed_draws_follow_the_density_of_the_model_without_names():
    """Nothing is random but the noise, which is that of the seed."""
    losses = {}
    for program in (named, plain):
        _, svi, state = started(program, AutoDAIS, K=2, eta_init=0.1, eta_max=0.5)
        losses[program] = svi.evaluate(state)
    assert losses[named] == pytest.approx(losses[plain], rel=1e-9)


@pytest.mark.parametrize("family", [AutoNormal, AutoMultivariateNormal])
def test_each_step_has_noise_of_its_own(family):
    """Loss and gradient are lowered together: one lowered alone had draws that stayed the same."""
    with pm.Model(coords={"school": range(3)}) as model:
        mu, tau = pmd.Normal("mu"), pmd.HalfNormal("tau")
        z = pmd.ZeroSumNormal("z", core_dims="school")
        pmd.Normal("y", mu + tau * z, 1.0, observed=pmd.as_xtensor(np.zeros(3), dims=("school",)))
    training = SVI(model, family(model)).training_for(Arguments((), {}))
    _, updates = training.step(stable=False)
    assert training.generators and set(training.generators) <= set(updates)
