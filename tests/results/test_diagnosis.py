"""A diagnosis tells a fit that can be believed from one that cannot."""

import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr
from scipy import stats

from pymc_svi import SVI, TraceEnum_ELBO, constraints, optim, param, plate
from pymc_svi.errors import DataError, SiteError
from pymc_svi.guides import (
    AutoDAIS,
    AutoDelta,
    AutoGuide,
    AutoIAFNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from pymc_svi.relaxed import RelaxedBernoulli
from pymc_svi.results.diagnosis import Diagnosis
from tests.models import MEASUREMENTS, normal_mean, normal_mean_guide, normal_mean_log_evidence
from tests.models import normal_mean_posterior as exact_posterior

QUIET = {"random_seed": 0, "progressbar": False}


def result_at(model, guide, *args, loss=None, **params):
    """A result whose params are these: one step of no length."""
    svi = SVI(model, guide, optim.SGD(1e-300), loss)
    return svi.run(1, *args, init_params=params, **QUIET)


def test_at_the_exact_posterior_all_weights_are_equal():
    mean, sd = exact_posterior()
    result = result_at(normal_mean, normal_mean_guide, MEASUREMENTS, loc=mean, scale=sd)
    found = result.diagnose(random_seed=0)
    assert found.covers_posterior
    assert found.ess == pytest.approx(found.draws)
    for estimate in (found.elbo, found.log_evidence):
        assert estimate == pytest.approx(normal_mean_log_evidence(), abs=1e-6)
    np.testing.assert_allclose(found.log_weights, -np.log(found.draws))


def test_weights_of_a_guide_that_is_off_give_the_exact_moments_and_evidence():
    mean, sd = exact_posterior()
    result = result_at(
        normal_mean, normal_mean_guide, MEASUREMENTS, loc=mean + 0.4 * sd, scale=1.3 * sd
    )
    found = result.diagnose(20_000, random_seed=0)
    assert found.covers_posterior
    site = found.sites["mu"]
    # Weighted averages of about 14,000 effective draws: three and a half standard errors.
    error = 3.5 / np.sqrt(found.ess)
    assert abs(float(site["corrected_mean"]) - mean) < error * sd
    assert abs(float(site["corrected_sd"]) - sd) < error * sd
    assert abs(found.log_evidence - normal_mean_log_evidence()) < error
    assert float(site["mean"]) == pytest.approx(mean + 0.4 * sd, abs=0.05 * sd)
    assert float(found.shifts()["mu"]) == pytest.approx(-0.4, abs=0.05)
    # The divergence of the guide from the posterior, in closed form.
    gap = -np.log(1.3) + (1.3**2 + 0.4**2 - 1) / 2
    assert found.elbo == pytest.approx(normal_mean_log_evidence() - gap, abs=5 * found.elbo_se)


def test_the_pareto_shape_is_that_of_the_ratio_of_the_two_laws():
    """Weights of ``N(0, 1)`` over ``N(0, s)`` draws have the tail index ``1 - s**2``."""

    def model():
        pm.Normal("x", 0.0, 1.0)

    def guide():
        pm.Normal("x", 0.0, param("s", 1.0, constraint=constraints.positive))

    narrow = result_at(model, guide, s=0.4).diagnose(50_000, random_seed=1)
    assert narrow.khat == pytest.approx(1 - 0.4**2, abs=0.2)
    assert not narrow.covers_posterior and not narrow.is_reliable
    assert "misses a part of the posterior" in str(narrow)
    assert "or more" in str(narrow)
    wide = result_at(model, guide, s=1.2).diagnose(random_seed=1)
    assert wide.khat < 0.3 and "covers the posterior" in str(wide)


def test_weights_that_are_alike_in_the_middle_of_the_guide_are_not_its_tail():
    """The guide is as good as a Normal can be: weighted draws are worth 97 % of as many.

    The Pareto law of the 190 largest weights of 4,000, most of which are from the middle, has a shape of 4.8;
    that of the 950 largest of 100,000 one of 0.54.
    """

    def model():
        x = pm.Kumaraswamy("x", 2.0, 3.0)
        pm.Normal("y", x, 0.3, observed=0.4)

    result = result_at(model, AutoNormal(model), x_auto_loc=-0.284, x_auto_scale=0.801)
    x = np.linspace(0, 1, 10_001)
    joint = 6 * x * (1 - x**2) ** 2 * stats.norm.pdf(0.4, x, 0.3)
    evidence = np.trapezoid(joint, x)
    for draws in (4_000, 10_000):
        found = result.diagnose(draws, random_seed=2)
        assert found.covers_posterior and found.khat > 0.2
        assert found.ess > 0.95 * draws
        assert found.log_evidence == pytest.approx(np.log(evidence), abs=0.01)
        corrected = float(found.sites["x"]["corrected_mean"])
        assert corrected == pytest.approx(np.trapezoid(x * joint, x) / evidence, abs=0.015)


def test_mean_field_on_a_correlated_posterior_is_found_out_and_full_rank_is_not():
    chol = np.linalg.cholesky([[1.0, 0.99], [0.99, 1.0]])

    def model():
        pm.MvNormal("x", np.zeros(2), chol=chol)

    def fitted(family):
        return (
            SVI(model, family(model), optim.Adam(0.02)).run(3_000, **QUIET).diagnose(random_seed=0)
        )

    mean_field = fitted(AutoNormal)
    assert not mean_field.covers_posterior
    assert "Try a guide with correlations, AutoMultivariateNormal" in str(mean_field)
    full = fitted(AutoMultivariateNormal)
    assert full.covers_posterior
    assert full.log_evidence == pytest.approx(0.0, abs=0.05)


def test_a_loss_that_still_falls_is_told():
    def model(y):
        mu = pm.Normal("mu", 0.0, 100.0)
        pm.Normal("y", mu, 1.0, observed=y)

    svi = SVI(model, AutoNormal(model), optim.Adam(0.01))
    short = svi.run(400, np.full(5, 50.0), **QUIET).diagnose(random_seed=0)
    assert short.loss_change < 0 and not short.has_converged
    assert "still falling, take more steps" in str(short)
    flat = SVI(normal_mean, normal_mean_guide, optim.SGD(1e-9)).run(
        400,
        MEASUREMENTS,
        init_params=dict(zip(("loc", "scale"), exact_posterior(), strict=True)),
        **QUIET,
    )
    assert flat.diagnose(random_seed=0).has_converged


def test_sites_keep_dims_and_discrete_sites_are_weighed_too():
    with pm.Model(coords={"city": ["a", "b"]}) as model:
        z = pm.Bernoulli("z", 0.5, dims="city")
        pm.Normal("y", 2.0 * z, 1.0, observed=[1.5, 0.2], dims="city")

    def guide():
        pm.Bernoulli("z", p=param("p", np.full(2, 0.5)), shape=2)

    found = SVI(model, guide, optim.SGD(1e-300)).run(1, **QUIET).diagnose(20_000, random_seed=0)
    likelihoods = stats.norm.pdf([[1.5, 0.2]], [[0.0], [2.0]], 1.0)
    exact = likelihoods[1] / likelihoods.sum(axis=0)
    corrected = found.sites["z"]["corrected_mean"]
    assert corrected.dims == ("city",) and list(corrected.city) == ["a", "b"]
    np.testing.assert_allclose(corrected, exact, atol=0.02)


def test_discrete_sites_that_were_summed_out_are_so_here_too():
    def model():
        mu = pm.Normal("mu", 0.0, 1.0)
        z = pm.Bernoulli("z", 0.3, shape=2)
        pm.Normal("y", mu + z, 1.0, observed=[0.5, 1.5])

    def guide():
        pm.Normal("mu", param("m", 0.6), 0.6)

    found = result_at(model, guide, loss=TraceEnum_ELBO()).diagnose(20_000, random_seed=0)
    grid = np.linspace(-8, 8, 4_001)
    likelihood = [
        0.7 * stats.norm.pdf(y, grid, 1.0) + 0.3 * stats.norm.pdf(y, grid + 1.0, 1.0)
        for y in (0.5, 1.5)
    ]
    joint = stats.norm.pdf(grid) * np.prod(likelihood, axis=0)
    evidence = joint.sum() * (grid[1] - grid[0])
    assert abs(found.log_evidence - np.log(evidence)) < 3.5 / np.sqrt(found.ess)
    mean = (grid * joint).sum() / joint.sum()
    assert abs(float(found.sites["mu"]["corrected_mean"]) - mean) < 3.5 * 0.7 / np.sqrt(found.ess)
    assert "z" not in found.sites


def test_sites_whose_elements_have_a_fixed_sum_are_judged():
    def model():
        pm.Dirichlet("p", np.full(3, 4.0))
        pm.ZeroSumNormal("effect", shape=4)

    found = result_at(model, AutoNormal(model)).diagnose(200, random_seed=0)
    assert np.isfinite(found.khat)
    assert set(found.sites) == {"p", "effect"}


def test_elements_that_are_the_same_in_all_draws_are_not_off():
    def model():
        pm.LKJCorr("chol", n=3, eta=2.0)  # a Cholesky factor, of rows of length 1

    found = result_at(model, AutoNormal(model)).diagnose(2_000, random_seed=0)
    is_constant = np.triu(np.ones((3, 3), dtype=bool), k=1)
    is_constant[0, 0] = True
    shift = found.shifts()["chol"].values
    np.testing.assert_array_equal(shift[is_constant], 0.0)
    assert (shift[~is_constant] != 0.0).all()
    assert found.sites["chol"]["corrected_sd"].values[0, 0] > 0, "their rounding has an sd"


def test_what_cannot_be_judged_is_refused():
    def model(y):
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Normal("y", mu, 1.0, observed=y)

    def by_plate(y):
        mu = pm.Normal("mu", 0.0, 1.0)
        with plate("rows", len(y), subsample_size=2) as rows:
            pm.Normal("y", mu, 1.0, observed=y[rows])

    def by_size(y):
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Normal("y", mu, 1.0, observed=y, total_size=100)

    y = np.arange(4.0)
    point = result_at(model, AutoDelta(model), y)
    with pytest.raises(SiteError, match="the guide puts 'mu' at a point.*AutoNormal"):
        point.diagnose()
    for estimated in (by_plate, by_size):
        result = result_at(estimated, AutoNormal(estimated), y)
        with pytest.raises(DataError, match="'y' stands for more data than are present"):
            result.diagnose()
    with pytest.raises(ValueError, match="at least 100. Found: 3"):
        result_at(model, AutoNormal(model), y).diagnose(3)


def test_a_guide_that_is_nowhere_near_has_an_infinite_k():
    def far():
        z = pm.Normal("z", 0.0, 1.0, shape=20)
        pm.Normal("y", z, 1e-5, observed=np.full(20, 3.0))

    found = (
        SVI(far, AutoNormal(far)).run(1, random_seed=0, progressbar=False).diagnose(random_seed=0)
    )
    assert found.khat == np.inf and not found.is_reliable
    assert "Pareto k      inf" in str(found)


def test_what_to_try_is_a_step_up_from_the_guide_in_use():
    def advice(guide, converged=True):
        found = Diagnosis(
            khat=1.2, threshold=0.7, ess=1.0, draws=100, elbo=0.0, elbo_se=0.1, log_evidence=0.0,
            loss_change=0.0 if converged else -9.0, loss_change_se=0.1, sites=xr.DataTree(),
            log_weights=np.zeros(100), step_up=guide(normal_mean).step_up,
        )  # fmt: skip
        return str(found).splitlines()[0]

    assert "AutoMultivariateNormal" in advice(AutoNormal)
    assert "whiten" in advice(AutoNormal) and "whiten" in advice(AutoMultivariateNormal)
    for family in (AutoMultivariateNormal, AutoIAFNormal, AutoDAIS):
        assert "AutoMultivariateNormal" not in advice(family)
    assert "AutoIAFNormal" not in advice(AutoIAFNormal) and "AutoDAIS" not in advice(AutoDAIS)
    assert "AutoIAFNormal" in advice(AutoMultivariateNormal)
    assert "more or wider layers" in advice(AutoIAFNormal)
    assert "Take more steps first; then try a guide" in advice(AutoNormal, converged=False)


def test_the_advice_is_that_of_the_guide_that_was_chosen():
    def model():
        pm.Cauchy("x", 0.0, 1.0, shape=2)

    found = result_at(model, AutoGuide(model)).diagnose(200, random_seed=0)
    assert found.step_up == AutoMultivariateNormal(model).step_up


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_draws_that_are_rounded_to_the_edge_are_no_points(precision):
    """The divergence of two relaxed Bernoullis is that of Logistic variables."""

    def model():
        RelaxedBernoulli("z", 0.01, logit_p=0.3)

    def guide():
        RelaxedBernoulli("z", 0.01, logit_p=param("logit", 0.0))

    with pytensor.config.change_flags(floatX=precision):
        exact = result_at(model, guide, logit=0.3).diagnose(random_seed=0)
        found = result_at(model, guide, logit=0.0).diagnose(random_seed=0)
    assert exact.ess == pytest.approx(exact.draws)
    assert exact.elbo == pytest.approx(0.0, abs=1e-5)
    assert found.is_reliable
    assert found.log_evidence == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("sd", [0.005, 0.001])
def test_a_posterior_that_is_narrow_beside_its_mean_is_judged_in_single_precision(sd):
    """Draws are multiples of 6e-5, so that many are equal to others."""

    def model():
        mu = pm.Normal("mu", 1000.0, 10.0)
        pm.Normal("y", mu, sd, observed=1000.0)

    def guide():
        pm.Normal("mu", param("loc", 1000.0), 1.2 * sd)

    with pytensor.config.change_flags(floatX="float32"):
        found = result_at(model, guide, loc=1000.0 + 0.5 * sd).diagnose(random_seed=0)
    assert found.covers_posterior
    assert found.sites["mu"]["mean"] == pytest.approx(1000.0 + 0.5 * sd, abs=0.06 * sd)
    assert found.sites["mu"]["sd"] == pytest.approx(1.2 * sd, rel=0.04)
    assert found.sites["mu"]["corrected_mean"] == pytest.approx(1000.0, abs=0.06 * sd)
    assert found.shifts()["mu"] == pytest.approx(-0.5, abs=0.06)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_guide_of_a_few_points_is_refused(precision):
    def guide():
        which = pm.Bernoulli.dist(0.5, shape=2)
        pm.DiracDelta("mu", param("loc", 1.0) + 0.01 * which)

    def model():
        pm.Normal("mu", shape=2)

    with pytensor.config.change_flags(floatX=precision):
        result = result_at(model, guide)
        with pytest.raises(SiteError, match="the guide puts 'mu' at 4 points"):
            result.diagnose(random_seed=0)
