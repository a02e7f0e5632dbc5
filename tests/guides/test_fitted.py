"""What every fitted guide answers: median, quantiles, draws, its law, itself as a model."""

from __future__ import annotations

import functools

import numpy as np
import pymc as pm
import pytest
from scipy import stats

from pymc_svi import handlers, plate
from pymc_svi.errors import SiteError
from pymc_svi.evaluation import evaluate
from pymc_svi.guides import (
    AutoDAIS,
    AutoDelta,
    AutoDiagonalNormal,
    AutoGaussian,
    AutoGuide,
    AutoHierarchicalNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoParticles,
    AutoRegressive,
    AutoStructured,
)
from tests.models import wedge

COORDS = {"city": ["a", "b"]}


def built() -> pm.Model:
    with pm.Model(coords=COORDS) as model:
        mu = pm.Normal("mu", dims="city")
        sigma = pm.HalfNormal("sigma")
        pm.Deterministic("twice", 2 * mu, dims="city")
        pm.Normal("y", mu, sigma, dims="city", observed=[0.0, 1.0])
    return model


LOC, SCALE = np.array([0.5, -1.0, 0.3]), np.array([0.2, 0.6, 0.4])
PARAMS = {
    AutoNormal: {
        "mu_auto_loc": LOC[:2],
        "mu_auto_scale": SCALE[:2],
        "sigma_auto_loc": LOC[2],
        "sigma_auto_scale": SCALE[2],
    },
    AutoDiagonalNormal: {"auto_loc": LOC, "auto_scale": SCALE},
    AutoMultivariateNormal: {"auto_loc": LOC, "auto_scale_tril": np.diag(SCALE)},
    AutoLowRankMultivariateNormal: {
        "auto_loc": LOC,
        "auto_scale": SCALE * 0.8,
        "auto_cov_factor": np.full((3, 2), 0.75 / np.sqrt(2)),
    },
    AutoGaussian: {"auto_loc": LOC, "auto_scale": SCALE, "auto_weights": np.zeros(3)},
    AutoStructured: {
        "mu_auto_loc": LOC[:2],
        "mu_auto_scale_tril": np.diag(SCALE[:2]),
        "sigma_auto_loc": LOC[2],
        "sigma_auto_scale_tril": SCALE[2:, None],
        "sigma_auto_weight_mu": np.zeros((1, 2)),
    },
}
FAMILIES = pytest.mark.parametrize("family", PARAMS, ids=lambda family: family.__name__)


@FAMILIES
def test_median_is_that_of_the_law(family):
    median = family(built()).median(PARAMS[family])
    np.testing.assert_allclose(median["mu"], LOC[:2])
    np.testing.assert_allclose(median["sigma"], np.exp(LOC[2]))


@FAMILIES
def test_quantiles_are_those_of_the_law(family):
    q = [0.05, 0.5, 0.9]
    quantiles = family(built()).quantiles(PARAMS[family], q)
    expected = stats.norm(LOC[:2], SCALE[:2]).ppf(np.array(q)[:, None])
    np.testing.assert_allclose(quantiles["mu"], expected, rtol=1e-6)
    expected = stats.lognorm(SCALE[2], scale=np.exp(LOC[2])).ppf(q)
    np.testing.assert_allclose(quantiles["sigma"], expected, rtol=1e-6)
    assert family(built()).quantiles(PARAMS[family], 0.3)["mu"].shape == (2,)


@FAMILIES
def test_draws_follow_the_law_and_carry_the_deterministics(family):
    draws = family(built()).sample_posterior(PARAMS[family], 5_000, random_seed=1)
    np.testing.assert_allclose(draws["twice"], 2 * draws["mu"])
    for i in range(2):
        assert stats.kstest(draws["mu"][:, i], stats.norm(LOC[i], SCALE[i]).cdf).pvalue > 1e-3
    law = stats.lognorm(SCALE[2], scale=np.exp(LOC[2]))
    assert stats.kstest(draws["sigma"], law.cdf).pvalue > 1e-3


@FAMILIES
def test_as_a_model_the_guide_has_the_same_law_dims_and_coords(family):
    model = family(built()).to_model(PARAMS[family])
    assert model.named_vars_to_dims["mu"] == ("city",)
    assert list(model.coords["city"]) == ["a", "b"]
    assert not model.observed_RVs
    with model:
        prior = pm.sample_prior_predictive(3_000, random_seed=1).prior
    np.testing.assert_allclose(prior["twice"], 2 * prior["mu"])
    assert stats.kstest(prior["mu"].values[0, :, 1], stats.norm(LOC[1], SCALE[1]).cdf).pvalue > 1e-3
    law = stats.lognorm(SCALE[2], scale=np.exp(LOC[2]))
    assert stats.kstest(prior["sigma"].values[0], law.cdf).pvalue > 1e-3


def test_quantiles_of_a_site_below_a_random_bound_are_those_of_the_draws():
    params = {"auto_loc": np.array([0.2, 0.4]), "auto_scale": np.array([0.5, 1.0])}
    guide = AutoDiagonalNormal(wedge)
    draws = guide.sample_posterior(params, 50_000, random_seed=2)
    assert (draws["x"] < draws["u"]).all()
    quantiles = guide.quantiles(params, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(quantiles["x"], np.quantile(draws["x"], [0.1, 0.5, 0.9]), rtol=0.03)
    assert np.median(draws["x"]) < guide.median(params)["u"]


def test_quantiles_through_a_decreasing_transform_rise():
    def model():
        pm.TruncatedNormal("x", 0.0, 1.0, upper=1.0, initval=0.0)

    guide = AutoDiagonalNormal(model)
    params = {"auto_loc": np.array([0.0]), "auto_scale": np.array([0.5])}
    low, high = guide.quantiles(params, [0.1, 0.9])["x"]
    assert low < high < 1
    np.testing.assert_allclose(1 - np.exp(0.5 * stats.norm.ppf(0.9)), low, rtol=1e-6)


def test_median_of_a_simplex_is_a_simplex():
    def model():
        pm.Dirichlet("p", np.ones(3))

    params = {"auto_loc": np.array([0.3, -0.2]), "auto_scale": np.ones(2)}
    guide = AutoDiagonalNormal(model)
    np.testing.assert_allclose(guide.median(params)["p"].sum(), 1.0)
    assert guide.quantiles(params, [0.2, 0.8])["p"].shape == (2, 3)


def test_a_missing_param_is_named():
    with pytest.raises(ValueError, match="no value for param 'auto_scale'"):
        AutoDiagonalNormal(built()).sample_posterior({"auto_loc": LOC}, 2)


@pytest.mark.parametrize("q", [1.5, [-0.1, 0.5], [[0.5]]])
def test_quantiles_refuse_what_is_no_probability(q):
    with pytest.raises(ValueError, match="q must be probabilities"):
        AutoNormal(built()).quantiles(PARAMS[AutoNormal], q)


def test_a_guide_from_outside_gets_them_from_its_draws():
    class Shifted(AutoGuide):
        """A guide with two public methods of its own: standard Normals."""

        def begin(self, prototype):
            noise = pm.Normal.dist(0.0, 1.0, shape=3)
            ends = {"mu": noise[:2], "sigma": noise[2]}
            return lambda site: (
                ends[site.name],
                -0.5 * ends[site.name] ** 2 - np.log(2 * np.pi) / 2,
            )

    guide = Shifted(built())
    np.testing.assert_allclose(guide.median({})["mu"], 0.0, atol=0.05)
    np.testing.assert_allclose(guide.quantiles({}, 0.9)["mu"], 1.28, atol=0.06)
    with pytest.raises(NotImplementedError, match="has no distribution of its own.*to_model"):
        guide.get_posterior({})


# --- guides without a law of their own in unconstrained space -------------------------------------

DRAWN = {
    "AutoRegressive": AutoRegressive,
    "AutoHierarchicalNormal": AutoHierarchicalNormal,
    "AutoParticles": functools.partial(AutoParticles, num_particles=7),
    "AutoDAIS": functools.partial(AutoDAIS, K=2),
    "AutoStructured of functions": functools.partial(
        AutoStructured,
        conditionals="normal",
        dependencies={"sigma": {"mu": lambda mu: 0.5 * mu.sum() ** 2}},
    ),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_every_guide_as_a_model_draws_what_the_guide_draws(kind):
    guide = DRAWN[kind](built())
    starts = handlers.trace(guide).get_trace().sites("param")
    params = {site.name: evaluate(site.value) + 0.05 for site in starts}
    model = guide.to_model(params)
    assert model.named_vars_to_dims["mu"] == ("city",)
    assert not model.observed_RVs
    with model:
        prior = pm.sample_prior_predictive(4_000, random_seed=1).prior
    np.testing.assert_allclose(prior["twice"], 2 * prior["mu"])
    draws = guide.sample_posterior(params, 4_000, random_seed=2)
    for i in range(2):
        assert stats.ks_2samp(prior["mu"].values[0, :, i], draws["mu"][:, i]).pvalue > 1e-3
    assert stats.ks_2samp(prior["sigma"].values[0], draws["sigma"]).pvalue > 1e-3
    product = prior["sigma"].values[0] * prior["mu"].values[0, :, 0]
    assert stats.ks_2samp(product, draws["sigma"] * draws["mu"][:, 0]).pvalue > 1e-3


@pytest.mark.parametrize("ask", ["to_model", "as_prior"])
@pytest.mark.parametrize("family", [AutoNormal, AutoHierarchicalNormal, AutoRegressive])
def test_a_law_of_a_minibatch_is_refused(family, ask):
    def model():
        mu = pm.Normal("mu")
        with plate("n", 10, subsample_size=4):
            z = pm.Normal("z", mu)
            pm.Normal("y", z, 1.0, observed=np.zeros(4))

    guide = family(model)
    starts = handlers.trace(guide).get_trace().sites("param")
    with pytest.raises(SiteError, match="'z' is local to the subsampled plate 'n'"):
        asked = functools.partial(guide.as_prior, model) if ask == "as_prior" else guide.to_model
        asked({site.name: evaluate(site.value) for site in starts})


def test_draws_of_points_are_the_points_and_what_follows_from_them():
    guide = AutoDelta(built())
    points = {"mu": np.array([1.0, 2.0]), "sigma": np.array(0.5)}
    draws = guide.sample_posterior({f"{name}_auto_loc": x for name, x in points.items()}, 3)
    points["twice"] = 2 * points["mu"]
    assert set(draws) == set(points)
    for name, value in points.items():
        np.testing.assert_array_equal(draws[name], np.broadcast_to(value, (3, *value.shape)))
