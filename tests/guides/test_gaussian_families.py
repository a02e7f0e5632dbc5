"""The joint Gaussian guides: diagonal, full rank, low rank, batched."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi.evaluation import evaluation_mode
from pymc_svi.guides import (
    AutoBatchedMultivariateNormal,
    AutoDiagonalNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
)
from pymc_svi.guides.continuous import AutoContinuous
from pymc_svi.guides.low_rank import low_rank_log_density
from pymc_svi.handlers import trace
from tests.checks import assert_covariance, assert_mean, loss_draws
from tests.guides.checks import (
    GaussianTarget,
    elbo_draws,
    fit,
    joint_draws,
    log_density_function,
)

TARGET = GaussianTarget.simulated()


def low_rank_params(target: GaussianTarget, share: float = 0.9) -> dict:
    """A covariance as a diagonal plus a factor of full rank."""
    smallest = np.linalg.eigvalsh(target.cov)[0] * share
    scale = np.full(len(target.mean), np.sqrt(smallest))
    factor = np.linalg.cholesky(target.cov - np.diag(scale**2)) / scale[:, None]
    return {"auto_loc": target.mean, "auto_scale": scale, "auto_cov_factor": factor}


def exact_params(guide: AutoContinuous) -> dict:
    if isinstance(guide, AutoLowRankMultivariateNormal):
        return low_rank_params(TARGET)
    return {"auto_loc": TARGET.mean, "auto_scale_tril": np.linalg.cholesky(TARGET.cov)}


CONTAINS_EVERY_NORMAL = pytest.mark.parametrize(
    "guide",
    [AutoMultivariateNormal(TARGET), AutoLowRankMultivariateNormal(TARGET, rank=3)],
    ids=lambda guide: type(guide).__name__,
)

TWO_DIMENSIONAL = GaussianTarget.simulated(2)
TWO_DIMENSIONAL_PARAMS = {
    AutoDiagonalNormal: {"auto_loc": np.array([0.3, -1.0]), "auto_scale": np.array([0.5, 1.5])},
    AutoMultivariateNormal: {
        "auto_loc": np.array([0.3, -1.0]),
        "auto_scale_tril": np.array([[0.5, 0.0], [0.7, 0.4]]),
    },
    AutoLowRankMultivariateNormal: {
        "auto_loc": np.array([0.3, -1.0]),
        "auto_scale": np.array([0.5, 1.1]),
        "auto_cov_factor": np.array([[0.8], [-1.2]]),
    },
}
FAMILIES = pytest.mark.parametrize(
    "family", TWO_DIMENSIONAL_PARAMS, ids=lambda family: family.__name__
)


@CONTAINS_EVERY_NORMAL
def test_at_the_exact_posterior_every_draw_of_the_elbo_is_the_log_evidence(guide):
    elbos = elbo_draws(TARGET, guide, exact_params(guide), n=50)
    np.testing.assert_allclose(elbos, TARGET.log_evidence, rtol=0, atol=1e-6)


@pytest.mark.slow
@CONTAINS_EVERY_NORMAL
def test_a_fit_reaches_the_log_evidence_and_the_posterior(guide):
    result = fit(TARGET, guide)
    elbos = elbo_draws(TARGET, guide, result.params)
    assert abs(elbos.mean() - TARGET.log_evidence) < 0.02
    draws = TARGET.vector(result.sample_posterior(4_000, random_seed=1).posterior)
    np.testing.assert_allclose(draws.mean(axis=0), TARGET.mean, atol=0.06)
    np.testing.assert_allclose(np.cov(draws.T), TARGET.cov, atol=0.12)


@pytest.mark.slow
def test_diagonal_fit_reaches_the_best_independent_normals():
    """Their precisions are the diagonal of the posterior's."""
    result = fit(TARGET, AutoDiagonalNormal(TARGET))
    best = np.diag(np.linalg.inv(TARGET.cov)) ** -0.5
    np.testing.assert_allclose(result.params["auto_loc"], TARGET.mean, atol=0.03)
    np.testing.assert_allclose(result.params["auto_scale"], best, rtol=0.03)


@FAMILIES
def test_log_density_integrates_to_one(family):
    grid = np.linspace(-12, 12, 241)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    guide = family(TWO_DIMENSIONAL)
    log_density = log_density_function(guide.get_posterior(TWO_DIMENSIONAL_PARAMS[family]))
    integral = np.exp(log_density(points)).sum() * (grid[1] - grid[0]) ** 2
    assert abs(integral - 1) < 1e-6


@FAMILIES
def test_the_density_of_the_draws_is_that_of_the_posterior(family):
    """And so the guide's entropy is the Monte Carlo one under its own log-density."""
    guide, params = family(TWO_DIMENSIONAL), TWO_DIMENSIONAL_PARAMS[family]
    draws, log_densities = joint_draws(guide, params, 4_000)
    expected = log_density_function(guide.get_posterior(params))(draws)
    np.testing.assert_allclose(log_densities, expected, atol=1e-6)
    loc, sd = guide.moments(params)
    assert_mean(draws, loc)
    assert_mean((draws - loc) ** 2, sd**2)


@FAMILIES
def test_gaussian_entropy_equals_the_monte_carlo_estimate(family):
    guide, params = family(TWO_DIMENSIONAL), TWO_DIMENSIONAL_PARAMS[family]
    _, log_densities = joint_draws(guide, params, 4_000)
    cov = {
        AutoDiagonalNormal: lambda p: np.diag(p["auto_scale"] ** 2),
        AutoMultivariateNormal: lambda p: p["auto_scale_tril"] @ p["auto_scale_tril"].T,
        AutoLowRankMultivariateNormal: lambda p: (
            np.diag(p["auto_scale"])
            @ (np.eye(2) + p["auto_cov_factor"] @ p["auto_cov_factor"].T)
            @ np.diag(p["auto_scale"])
        ),
    }[family](params)
    assert_mean(-log_densities, 0.5 * np.linalg.slogdet(2 * np.pi * np.e * cov)[1])


def test_low_rank_draws_have_the_covariance_of_its_params():
    params = TWO_DIMENSIONAL_PARAMS[AutoLowRankMultivariateNormal]
    draws, _ = joint_draws(AutoLowRankMultivariateNormal(TWO_DIMENSIONAL, rank=1), params, 5_000)
    scale, factor = np.diag(params["auto_scale"]), params["auto_cov_factor"]
    assert_covariance(draws, scale @ (np.eye(2) + factor @ factor.T) @ scale)


def test_low_rank_gradient_is_that_of_the_dense_density():
    rng = np.random.default_rng(0)
    factor, x, scale = (pt.tensor(shape=shape) for shape in ((6, 2), (6,), (6,)))
    ours = low_rank_log_density(x / scale, scale, factor)
    cov = pt.diag(scale) @ (pt.eye(6) + factor @ factor.T) @ pt.diag(scale)
    dense = pm.logp(pm.MvNormal.dist(np.zeros(6), cov=cov), x)
    values = rng.normal(size=(6, 2)), rng.normal(size=6), rng.uniform(0.5, 2, 6)
    results = [
        pytensor.function(
            [factor, x, scale],
            [density, *pytensor.grad(density, [factor, x, scale])],
            mode=evaluation_mode(),
        )(*values)
        for density in (ours, dense)
    ]
    for mine, expected in zip(*results, strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-10)


def test_low_rank_rank_is_the_root_of_the_dimension_and_at_most_it():
    def model():
        pm.Normal("x", shape=30)

    def shape(**settings):
        guide = AutoLowRankMultivariateNormal(model, **settings)
        return trace(guide).get_trace()["auto_cov_factor"].shape

    assert shape() == (30, 5)
    assert shape(rank=50) == (30, 30)


def test_low_rank_makes_nothing_of_size_d_by_d():
    """100,000 latents: a (D, D) array would take 80 GB."""

    def model():
        x = pm.Normal("x", shape=100_000)
        pm.Normal("y", x.sum(), 1.0, observed=1.0)

    guide = AutoLowRankMultivariateNormal(model, rank=20)
    assert np.isfinite(loss_draws(model, guide, n=1)).all()


# --- batches ----------------------------------------------------------------------------------

GROUPS = np.array([0.5, -1.0, 2.0])


def grouped():
    """Three independent pairs (a, b), each with one measurement of a + b."""
    a = pm.Normal("a", 0.0, 1.0, shape=3)
    b = pm.Normal("b", 0.0, 2.0, shape=(3, 1))
    pm.Normal("y", a + b[:, 0], 0.5, observed=GROUPS)


def grouped_posterior():
    """The exact posterior of each pair, and the log evidence."""
    design = np.array([1.0, 1.0])
    prior = np.diag([1.0, 4.0])
    cov = np.linalg.inv(np.linalg.inv(prior) + np.outer(design, design) / 0.25)
    means = GROUPS[:, None] * (cov @ design) / 0.25
    variance = design @ prior @ design + 0.25
    evidence = (-0.5 * GROUPS**2 / variance - 0.5 * np.log(2 * np.pi * variance)).sum()
    return means, cov, evidence


def test_batched_guide_contains_the_posterior_of_independent_groups():
    means, cov, evidence = grouped_posterior()
    params = {
        "auto_loc": means,
        "auto_scale_tril": np.broadcast_to(np.linalg.cholesky(cov), (3, 2, 2)),
    }
    elbos = elbo_draws(grouped, AutoBatchedMultivariateNormal(grouped), params, n=50)
    np.testing.assert_allclose(elbos, evidence, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_batched_fit_reaches_the_log_evidence():
    guide = AutoBatchedMultivariateNormal(grouped)
    result = fit(grouped, guide)
    assert abs(elbo_draws(grouped, guide, result.params).mean() - grouped_posterior()[2]) < 0.02
    assert result.params["auto_scale_tril"].shape == (3, 2, 2)


def test_batched_guide_names_the_site_without_the_batch():
    def scalar():
        pm.Normal("a", shape=3)
        pm.Normal("alone")

    def other():
        pm.Normal("a", shape=3)
        pm.Normal("b", shape=4)

    with pytest.raises(ValueError, match="site 'alone' has fewer than 1 batch dimensions"):
        trace(AutoBatchedMultivariateNormal(scalar)).get_trace()
    with pytest.raises(ValueError, match="sites 'a' and 'b' have different batch shapes"):
        trace(AutoBatchedMultivariateNormal(other)).get_trace()


# --- mistakes ---------------------------------------------------------------------------------


@FAMILIES
def test_init_scale_must_be_positive(family):
    with pytest.raises(ValueError, match=f"{family.__name__}: init_scale must be positive"):
        family(TARGET, init_scale=0.0)


@pytest.mark.parametrize("rank", [0, -1, 1.5, True])
def test_rank_must_be_a_positive_whole_number(rank):
    with pytest.raises(ValueError, match="rank must be at least 1"):
        AutoLowRankMultivariateNormal(TARGET, rank=rank)


@pytest.mark.parametrize("batch_ndim", [0, -1, 1.5, True])
def test_batch_ndim_must_be_a_positive_whole_number(batch_ndim):
    with pytest.raises(ValueError, match="batch_ndim must be at least 1"):
        AutoBatchedMultivariateNormal(TARGET, batch_ndim=batch_ndim)


@FAMILIES
def test_discrete_latents_are_left_to_sums_or_refused_by_name(family):
    def model(rv):
        pm.Normal("x")
        rv("z", 0.5)

    assert "z" not in trace(family(model)).get_trace(pm.Bernoulli)
    with pytest.raises(ValueError, match="Site 'z' is discrete"):
        trace(family(model)).get_trace(pm.Poisson)


@FAMILIES
def test_a_model_without_latents_is_refused(family):
    def model():
        pm.Normal("y", 0.0, 1.0, observed=1.0)

    with pytest.raises(ValueError, match=f"{family.__name__} found no latent sites"):
        trace(family(model)).get_trace()
