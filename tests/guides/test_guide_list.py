"""Guides of several parts, the choice of a family, and latent sites local to a minibatch."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy import stats

from pymc_svi import SVI, constraints, param, plate, subsample
from pymc_svi.guides import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuide,
    AutoGuideList,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from pymc_svi.handlers import block, trace
from tests.checks import loss_draws
from tests.guides.checks import elbo_draws
from tests.models import Regression

REGRESSION = Regression.simulated()
ARGS = (REGRESSION.X, REGRESSION.y)


def parts(model):
    """The exact marginals of a regression, in two parts."""
    guide = AutoGuideList(model)
    guide.append(AutoDiagonalNormal(block(model, expose=["intercept"])))
    guide.append(AutoMultivariateNormal(block(model, hide=["intercept"]), prefix="rest"))
    return guide


def test_parts_are_independent_and_cover_the_model():
    guide = parts(REGRESSION)
    precision = REGRESSION.precision
    params = {
        "auto_loc": REGRESSION.mean[:1],
        "auto_scale": precision[0, 0] ** -0.5 * np.ones(1),
        "rest_loc": REGRESSION.mean[1:],
        "rest_scale_tril": np.linalg.cholesky(np.linalg.inv(precision[1:, 1:])),
    }
    # The best Normal with these independent blocks: its precisions are the posterior's blocks.
    block_cov = np.zeros((3, 3))
    block_cov[0, 0] = 1 / precision[0, 0]
    block_cov[1:, 1:] = np.linalg.inv(precision[1:, 1:])
    gap = 0.5 * (np.linalg.slogdet(REGRESSION.cov)[1] - np.linalg.slogdet(block_cov)[1])
    elbos = elbo_draws(REGRESSION, guide, params, *ARGS, n=8_000)
    error = elbos.std() / np.sqrt(len(elbos))
    assert abs(elbos.mean() - (REGRESSION.log_evidence - gap)) < 4 * error
    medians = guide.median(params, *ARGS)
    np.testing.assert_allclose(medians["weights"], REGRESSION.mean[1:], atol=0.02)


def two_parts():
    def model(y=1.0):
        mu = pm.Normal("mu", shape=2)
        sigma = pm.HalfNormal("sigma")
        pm.Deterministic("twice", 2 * sigma)
        pm.Normal("y", mu, sigma, observed=[y, 0.0])

    guide = AutoGuideList(model)
    guide.append(AutoNormal(block(model, expose=["sigma"])))
    guide.append(AutoMultivariateNormal(block(model, hide=["sigma"])))
    params = {
        "sigma_auto_loc": -0.3,
        "sigma_auto_scale": 0.4,
        "auto_loc": np.array([1.0, -2.0]),
        "auto_scale_tril": np.array([[0.5, 0.0], [0.3, 0.2]]),
    }
    return model, guide, params


def test_as_a_model_a_list_has_the_laws_of_its_parts():
    _, guide, params = two_parts()
    model = guide.to_model(params)
    assert not model.observed_RVs
    assert {rv.name for rv in model.free_RVs} == {"sigma_unconstrained", "auto_latent"}
    prior = pm.draw([model["mu"], model["sigma"], model["twice"]], 4_000, random_seed=1)
    assert stats.kstest(prior[0][:, 1], stats.norm(-2.0, np.hypot(0.3, 0.2)).cdf).pvalue > 1e-3
    assert stats.kstest(prior[1], stats.lognorm(0.4, scale=np.exp(-0.3)).cdf).pvalue > 1e-3
    np.testing.assert_allclose(prior[2], 2 * prior[1])


def test_a_fitted_list_is_a_prior_of_the_next_data():
    model, guide, params = two_parts()
    sites = trace(guide.as_prior(model, params)).get_trace(5.0)
    assert set(sites.latent) == {"sigma_unconstrained", "auto_latent"}
    assert sites["sigma"].type == sites["mu"].type == "deterministic"


def test_a_list_with_a_part_of_ones_own_has_no_law():
    def model():
        pm.Normal("x")

    guide = AutoGuideList(model).append(lambda: pm.Normal("x", param("loc", 0.0), 1.0))
    with pytest.raises(NotImplementedError, match="a part of one's own has no law"):
        guide.get_posterior({"loc": 0.0})


def test_append_takes_guides_callables_and_built_models_and_chains():
    def model():
        pm.Normal("a")
        pm.Normal("b")
        pm.HalfNormal("c")

    def by_hand():
        pm.Normal("b", param("b_loc", 2.0), 0.1)

    with pm.Model() as built:
        pm.LogNormal("c", param("c_loc", 0.0), param("c_sd", 0.3, constraint=constraints.positive))
    guide = AutoGuideList(model).append(AutoDelta(block(model, expose=["a"])))
    assert guide.append(by_hand).append(built) is guide
    assert list(trace(guide).get_trace().latent) == ["a", "b", "c"]
    assert list(SVI(model, guide).build_loss()[1].sites) == ["a_auto_loc", "b_loc", "c_loc", "c_sd"]
    draws = guide.sample_posterior(
        {"a_auto_loc": 1.0, "b_loc": 2.0, "c_loc": 0.0, "c_sd": 0.3}, 2_000, random_seed=0
    )
    assert (draws["a"] == 1).all()
    assert stats.kstest(draws["b"], stats.norm(2.0, 0.1).cdf).pvalue > 1e-3


def bounded():
    u = pm.HalfNormal("u")
    pm.Uniform("x", 0.0, u)


@pytest.mark.parametrize("as_built", [False, True])
def test_bounds_follow_the_values_of_earlier_parts(as_built):
    model = bounded
    if as_built:
        with pm.Model() as model:
            bounded()
    guide = AutoGuideList(model)
    guide.append(AutoNormal(block(model, expose=["u"])))
    guide.append(AutoNormal(block(model, hide=["u"])))
    params = {"u_auto_loc": 0.0, "u_auto_scale": 1.0, "x_auto_loc": 0.0, "x_auto_scale": 1.0}
    draws = guide.sample_posterior(params, 2_000, random_seed=0)
    assert (draws["x"] < draws["u"]).all()
    assert np.isfinite(loss_draws(model, guide, n=100)).all()
    whole = loss_draws(model, AutoNormal(model), n=20_000, seed=1)
    mine = loss_draws(model, guide, n=20_000, seed=2)
    error = np.hypot(whole.std(), mine.std()) / np.sqrt(20_000)
    assert abs(whole.mean() - mine.mean()) < 4 * error


def test_a_bound_that_comes_later_is_refused_by_name():
    guide = AutoGuideList(bounded)
    guide.append(AutoNormal(block(bounded, hide=["u"])))
    guide.append(AutoNormal(block(bounded, expose=["u"])))
    with pytest.raises(ValueError, match="support of site 'x' depends on 'u'"):
        trace(guide).get_trace()


def test_lists_nest():
    inner = AutoGuideList(block(bounded, expose=["x"]))
    inner.append(AutoNormal(block(bounded, expose=["x"])))
    guide = AutoGuideList(bounded).append(AutoNormal(block(bounded, expose=["u"]))).append(inner)
    params = {"u_auto_loc": 0.0, "u_auto_scale": 1.0, "x_auto_loc": 0.0, "x_auto_scale": 1.0}
    draws = guide.sample_posterior(params, 500, random_seed=0)
    assert (draws["x"] < draws["u"]).all()


def test_a_site_in_two_parts_is_refused_by_name():
    guide = AutoGuideList(bounded).append(AutoNormal(bounded)).append(AutoDelta(bounded))
    with pytest.raises(ValueError, match="site 'u' is drawn by two parts"):
        trace(guide).get_trace()


def test_a_forgotten_site_is_found_when_guide_meets_model():
    guide = AutoGuideList(bounded).append(AutoNormal(block(bounded, expose=["u"])))
    with pytest.raises(ValueError, match="latent sites that the guide does not sample: 'x'"):
        SVI(bounded, guide).build_loss()


def test_mistakes_of_lists():
    guide = AutoGuideList(bounded)
    with pytest.raises(ValueError, match="has no parts"):
        trace(guide).get_trace()
    with pytest.raises(TypeError, match="a part is a guide"):
        guide.append(AutoNormal)
    with pytest.raises(TypeError, match="Laplace approximation cannot be a part"):
        guide.append(AutoLaplaceApproximation(bounded))
    guide.append(AutoDiagonalNormal(block(bounded, expose=["u"])))
    with pytest.raises(ValueError, match="two parts would share the params 'auto'"):
        guide.append(AutoMultivariateNormal(block(bounded, hide=["u"])))


# --- AutoGuide itself -------------------------------------------------------------------------


def of_size(n):
    def model():
        pm.Normal("x", shape=n)

    return model


@pytest.mark.parametrize(
    "size, family",
    [(3, AutoMultivariateNormal), (1_000, AutoLowRankMultivariateNormal), (200_000, AutoNormal)],
)
def test_auto_guide_chooses_by_size_and_says_why(size, family):
    guide = AutoGuide(of_size(size))
    assert isinstance(guide, AutoGuide)
    assert guide.chosen is None
    trace(guide).get_trace()
    assert type(guide.chosen) is family
    assert f"{size:,} latent elements" in guide.reason
    assert family.__name__ in repr(guide)


def test_auto_guide_is_the_guide_it_chose():
    guide = AutoGuide(bounded, init_scale=0.3)
    full = AutoMultivariateNormal(bounded, init_scale=0.3)
    np.testing.assert_array_equal(loss_draws(bounded, guide, n=5), loss_draws(bounded, full, n=5))
    params = {"auto_loc": np.array([0.1, 0.2]), "auto_scale_tril": 0.5 * np.eye(2)}
    assert guide.median(params)["u"] == full.median(params)["u"]
    assert "auto_latent" in guide.to_model(params).named_vars


def test_subclasses_of_auto_guide_are_made_as_written():
    assert type(AutoNormal(bounded)) is AutoNormal
    assert isinstance(AutoNormal(bounded), AutoGuide)


# --- latent sites local to a minibatch --------------------------------------------------------

Y = np.array([0.3, -1.0, 2.0, 0.7, 1.5, -0.4])
POSTERIOR_SD = (1 + 1 / 0.25) ** -0.5
POSTERIOR_MEAN = POSTERIOR_SD**2 * Y / 0.25
LOG_EVIDENCE = stats.norm(0, np.sqrt(1.25)).logpdf(Y)


def minibatch(y):
    with plate("N", 6, subsample_size=2):
        z = pm.Normal("z")
        pm.Normal("y", z, 0.5, observed=subsample(y))


@pytest.mark.parametrize("family", [AutoNormal, AutoDelta])
def test_params_of_local_latents_have_the_full_size(family):
    svi = SVI(minibatch, family(minibatch))
    params = svi.get_params(svi.init(Y))
    assert {value.shape for value in params.values()} == {(6,)}


def test_minibatches_of_local_latents_average_to_the_log_evidence():
    params = {"z_auto_loc": POSTERIOR_MEAN, "z_auto_scale": np.full(6, POSTERIOR_SD)}
    elbos = elbo_draws(minibatch, AutoNormal(minibatch), params, Y, n=4_000)
    possible = [3 * (LOG_EVIDENCE[i] + LOG_EVIDENCE[j]) for i in range(6) for j in range(i)]
    distance = np.abs(elbos[:, None] - possible).min(axis=1)
    assert distance.max() < 1e-6
    error = elbos.std() / np.sqrt(len(elbos))
    assert abs(elbos.mean() - LOG_EVIDENCE.sum()) < 4 * error


def test_medians_of_local_latents_come_from_the_model_without_minibatches():
    def whole(y):
        with plate("N", 6):
            z = pm.Normal("z")
            pm.Normal("y", z, 0.5, observed=y)

    params = {"z_auto_loc": POSTERIOR_MEAN, "z_auto_scale": np.full(6, POSTERIOR_SD)}
    with pytest.raises(ValueError, match="'z' is local to the subsampled plate 'N'"):
        AutoNormal(minibatch).median(params, Y)
    np.testing.assert_allclose(AutoNormal(whole).median(params, Y)["z"], POSTERIOR_MEAN)


def test_joint_guides_refuse_local_latents_by_name():
    with pytest.raises(ValueError, match="'z' is local to the subsampled plate 'N'"):
        trace(AutoMultivariateNormal(minibatch)).get_trace(Y)


def test_auto_guide_chooses_independent_normals_for_local_latents():
    guide = AutoGuide(minibatch)
    trace(guide).get_trace(Y)
    assert type(guide.chosen) is AutoNormal
    assert "'z' is local to a minibatch" in guide.reason
