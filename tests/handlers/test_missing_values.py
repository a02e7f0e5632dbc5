"""Handlers on data with missing values, of which PyMC makes an observed and a latent part."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy import stats

from pymc_svi import Predictive, sample
from pymc_svi.errors import SiteError
from pymc_svi.guides import AutoNormal
from pymc_svi.handlers import condition, do, seed, substitute, trace, uncondition
from tests.checks import as_built

pytestmark = pytest.mark.filterwarnings("ignore::pymc.exceptions.ImputationWarning")
COV = np.array([[1.0, 0.6], [0.6, 2.0]])


def numbers():
    mu = pm.Normal("mu", 0.0, 1.0)
    x = pm.Normal("x", mu, 1.0, observed=np.ma.masked_invalid([0.3, np.nan]))
    pm.Normal("y", x.sum(), 1.0, observed=1.0)


def vectors():
    data = np.ma.masked_invalid([[0.3, np.nan], [1.0, 2.0]])
    x = pm.MvNormal("x", np.zeros(2), COV, observed=data)
    pm.Deterministic("total", x.sum())


def both(program):
    return program, as_built(program)


def value(run, name):
    return run[name].value.eval(mode="FAST_COMPILE")


def test_conditioning_the_whole_is_refused_and_its_missing_part_named():
    for program in both(numbers):
        with pytest.raises(SiteError, match="'x' is a deterministic.*the site 'x_unobserved'"):
            trace(condition(program, data={"x": [1.0, 2.0]})).get_trace()
        run = trace(condition(program, data={"x_unobserved": [2.0], "mu": 0.0})).get_trace()
        assert value(run, "x").tolist() == [0.3, 2.0]
        expected = stats.norm.logpdf([0.0, 0.3, 2.0]).sum() + stats.norm.logpdf(1.0, 2.3)
        assert float(run.log_prob_sum().eval(mode="FAST_COMPILE")) == pytest.approx(expected)


def test_with_a_mask_of_what_is_observed_it_is_refused_too():
    def program():
        known = np.array([True, False])
        sample("x", pm.Normal.dist(0.0, 1.0, shape=2), obs=[0.3, 0.0], obs_mask=known)

    with pytest.raises(SiteError, match="the site 'x_unobserved'"):
        trace(condition(program, data={"x": [1.0, 2.0]})).get_trace()


def test_conditioning_what_is_computed_is_refused():
    def computing():
        pm.Data("n", np.zeros(2))
        pm.Deterministic("twice", 2 * pm.Normal("x"))

    for program in both(computing):
        with pytest.raises(SiteError, match="'twice' is a deterministic.*computed from.*do"):
            trace(condition(program, data={"twice": 1.0})).get_trace()
        with pytest.raises(SiteError, match="'n' is a data.*substitute"):
            trace(condition(program, data={"n": [1.0, 2.0]})).get_trace()


@pytest.mark.parametrize("handler", [substitute, do])
def test_the_whole_can_be_substituted_and_intervened_on(handler):
    for program in both(numbers):
        run = trace(handler(program, data={"x": [1.0, 2.0]})).get_trace()
        [y] = [run["y"].log_prob.eval(mode="FAST_COMPILE")]
        assert float(y) == pytest.approx(stats.norm.logpdf(1.0, 3.0))


def test_data_taken_away_are_drawn_and_what_follows_sees_the_draw():
    for program in both(numbers):
        run = trace(seed(uncondition(program), rng_seed=1)).get_trace()
        assert not run.observed
        drawn = np.append(value(run, "x_observed"), value(run, "x_unobserved"))
        np.testing.assert_array_equal(value(run, "x"), drawn)
        assert drawn[0] != 0.3


def test_vectors_are_drawn_whole_and_keep_their_joint_density():
    observed, missing = np.array([0.1, -0.4, 0.7]), np.array([1.5])
    whole = np.array([[0.1, 1.5], [-0.4, 0.7]])
    expected = stats.multivariate_normal(np.zeros(2), COV).logpdf(whole).sum()
    for program in both(vectors):
        at = {"x_observed": observed, "x_unobserved": missing}
        run = trace(substitute(uncondition(program), data=at)).get_trace()
        density = run.log_prob_sum().eval(mode="FAST_COMPILE")
        assert float(density) == pytest.approx(expected)
        assert float(value(run, "total")) == pytest.approx(whole.sum())
        draws = Predictive(program, num_samples=4_000)(random_seed=0)
        rows = np.concatenate([draws[g].ds["x"] for g in draws.children if "x" in draws[g].ds])
        for row in np.moveaxis(rows.reshape(-1, 2, 2), 1, 0):
            found = np.cov(row.T)
            np.testing.assert_allclose(found, COV, atol=3.5 * 2 * np.sqrt(2 / 4_000))


def test_missing_data_are_drawn_in_predictions():
    for program in both(numbers):
        draws = Predictive(program, {"mu": np.full(2_000, 5.0)})(random_seed=2)
        x = draws.posterior_predictive["x"].to_numpy().reshape(-1, 2)
        np.testing.assert_allclose(x.mean(axis=0), 5.0, atol=3.5 / np.sqrt(2_000))
        y = draws.posterior_predictive["y"].to_numpy().ravel()
        assert y.var() == pytest.approx(3.0, rel=3.5 * np.sqrt(2 / 2_000))


def test_an_automatic_guide_has_one_density_for_each_masked_vector():
    def program():
        known = np.array([True, False, True])
        rows = pm.MvNormal.dist(np.zeros((3, 2)), COV)
        sample("x", rows, obs=np.ones((3, 2)), obs_mask=known)

    for model in both(program):
        density = trace(AutoNormal(model)).get_trace()["x_unobserved"].log_prob
        assert density.type.shape == (3,)
        assert (density.eval(mode="FAST_COMPILE") != 0).tolist() == [False, True, False]


@pytest.mark.parametrize("gaps", [np.array([1.0, np.nan]), np.ma.masked_equal([1.0, 9.0], 9.0)])
def test_data_with_gaps_are_no_condition(gaps):
    def program():
        pm.Normal("x", shape=2)

    for model in both(program):
        with pytest.raises(
            SiteError, match="'x' was given missing values. Found: 1 of 2.*obs_mask"
        ):
            trace(condition(model, data={"x": gaps})).get_trace()
