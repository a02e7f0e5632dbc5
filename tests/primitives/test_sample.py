"""``sample``, of data that are partly observed too."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy import stats

from pymc_svi import plate, sample
from pymc_svi.errors import SiteError
from pymc_svi.handlers import condition, trace


def evaluated(expression):
    return expression.eval(mode="FAST_COMPILE")


def test_sample_registers_an_unnamed_distribution():
    with pm.Model() as model:
        x = sample("x", pm.Normal.dist(0, 1, shape=2))
        sample("y", pm.Normal.dist(x.sum(), 1), obs=0.3)
    assert [rv.name for rv in model.free_RVs] == ["x"]
    assert [rv.name for rv in model.observed_RVs] == ["y"]


def test_a_scalar_distribution_is_repeated_over_its_data():
    def program():
        sample("y", pm.Normal.dist(1.0, 2.0), obs=np.array([0.0, 1.0, 2.0]))

    total = evaluated(trace(program).get_trace().log_prob_sum())
    assert total == pytest.approx(stats.norm(1, 2).logpdf([0.0, 1.0, 2.0]).sum())


def test_a_distribution_of_length_one_is_repeated_over_its_data():
    """As PyMC does it; here one law for each row, inside a plate of columns."""
    data = np.arange(6.0).reshape(3, 2)
    mu = np.array([[0.0], [1.0], [2.0]])

    def program():
        with plate("rows", 3, dim=-2), plate("columns", 2):
            sample("y", pm.Normal.dist(mu, 2.0), obs=data)

    total = evaluated(trace(program).get_trace().log_prob_sum())
    assert total == pytest.approx(stats.norm(mu, 2).logpdf(data).sum())


@pytest.mark.parametrize("wrong", [pm.Normal, 3.0, None])
def test_sample_of_what_is_no_distribution_says_what_to_write(wrong):
    with pm.Model(), pytest.raises(TypeError, match="unnamed distribution.*pm.Normal.dist"):
        sample("x", wrong)


DATA = np.array([0.3, np.nan, -1.2, np.nan])
KNOWN = ~np.isnan(DATA)


def masked_program():
    mu = pm.Normal("mu")
    y = sample("y", pm.Normal.dist(mu, 1.0, shape=4), obs=DATA, obs_mask=KNOWN)
    pm.Normal("z", y.sum(), 1.0, observed=0.4)


def masked_model() -> pm.Model:
    with pm.Model() as model:
        masked_program()
    return model


@pytest.mark.parametrize("model", [masked_program, masked_model()], ids=["function", "built"])
def test_data_are_observed_where_the_mask_is_true_and_latent_elsewhere(model):
    filled = np.array([9.0, 0.7, 9.0, 0.1])  # the nines are not looked at
    run = trace(condition(model, data={"mu": 0.2, "y_unobserved": filled})).get_trace()
    whole = np.where(KNOWN, DATA, filled)
    np.testing.assert_allclose(evaluated(run["y"].value), whole)
    parts = [stats.norm.logpdf(0.2), stats.norm(0.2).logpdf(whole).sum(),
             stats.norm(whole.sum()).logpdf(0.4)]  # fmt: skip
    assert evaluated(run.log_prob_sum()) == pytest.approx(sum(parts))
    gradient = pt.grad(run.log_prob_sum(), run["mu"].value) if model is not masked_program else 0
    assert np.isfinite(evaluated(pt.as_tensor(gradient)))


def test_a_mask_of_vectors_masks_whole_vectors():
    known = np.array([True, False, True])

    def program():
        dist = pm.MvNormal.dist(np.zeros(2), np.eye(2), shape=(3, 2))
        sample("y", dist, obs=np.ones((3, 2)), obs_mask=known)

    run = trace(program).get_trace()
    kept = evaluated(run["y_observed"].log_prob) != 0
    assert kept.tolist() == known.tolist()
    value = evaluated(run["y"].value)
    assert (value[known] == 1).all() and not (value[~known] == 1).any()


@pytest.mark.parametrize("where", [np.ones(3, dtype=bool), np.ones((2, 4), dtype=bool)])
def test_a_mask_of_the_wrong_shape_is_refused(where):
    with pm.Model(), pytest.raises(SiteError, match="obs_mask does not fit"):
        sample("y", pm.Normal.dist(shape=4), obs=np.zeros(4), obs_mask=where)
