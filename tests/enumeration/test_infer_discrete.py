"""Discrete sites are drawn from their joint posterior, which brute force lists."""

from collections import Counter

import numpy as np
import pymc as pm
import pytest
from scipy.stats import norm

from pymc_svi import Predictive, handlers, infer_discrete
from pymc_svi.errors import SiteError
from pymc_svi.results.sampling import draw_function
from tests.enumeration import models
from tests.enumeration.brute_force import brute_posterior

SOME = [
    models.labels, models.nested, models.chain, models.chains_in_a_plate, models.plates,
    models.elements_meet, models.elements_meet_along_one_axis, models.tree,
    models.crossing_under_cells,
]  # fmt: skip


def values_of(model, temperature, n):
    traced = handlers.trace(infer_discrete(model, temperature=temperature)).get_trace()
    return draw_function({name: site.value for name, site in traced.latent.items()})(n, 0)


def key(values):
    return tuple((name, *np.ravel(values[name]).tolist()) for name in sorted(values))


@pytest.mark.parametrize("model", SOME, ids=lambda model: model.__name__)
def test_draws_have_the_joint_posterior(model):
    """A chi-squared statistic of all joint values that are likely enough."""
    n = 4_000
    draws = values_of(model, 1, n)
    found = Counter(key({name: v[i] for name, v in draws.items()}) for i in range(n))
    values, probabilities = brute_posterior(model)
    counts = np.array([found[key(v)] for v in values])
    assert counts.sum() == n
    often = probabilities * n > 5
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(probabilities[often], max(probabilities[~often].sum(), 1e-12)) * n
    keep = expected > 5
    statistic = np.sum((observed[keep] - expected[keep]) ** 2 / expected[keep])
    degrees = keep.sum() - 1
    assert statistic < degrees + 4 * np.sqrt(2 * degrees) + 4


@pytest.mark.parametrize("model", SOME, ids=lambda model: model.__name__)
def test_temperature_zero_is_the_joint_mode(model):
    found = {name: v[0] for name, v in values_of(model, 0, 1).items()}
    values, probabilities = brute_posterior(model)
    by_key = {key(v): p for v, p in zip(values, probabilities, strict=True)}
    assert by_key[key(found)] == pytest.approx(probabilities.max(), rel=1e-9)


def test_handlers_around_condition_the_posterior():
    conditioned = handlers.condition(infer_discrete(models.nested, temperature=0), data={"a": 1})
    traced = handlers.trace(conditioned).get_trace()
    assert int(traced["a"].value.eval()) == 1
    inner = handlers.condition(models.nested, data={"a": 1})
    values, probabilities = brute_posterior(inner)
    best = values[int(np.argmax(probabilities))]["z"]
    np.testing.assert_array_equal(traced["z"].value.eval(), best)


def test_a_scope_around_keeps_the_posterior():
    def model():
        z = pm.Bernoulli("z", [0.01, 0.99])
        pm.Normal("y", 10.0 * z, 1.0, observed=[9.0, 0.5])

    for inner in (
        infer_discrete(model, temperature=0),
        infer_discrete(handlers.scope(model, prefix="a"), 0),
    ):
        outer = handlers.scope(handlers.scope(inner, prefix="b"), prefix="c")
        traced = handlers.trace(outer).get_trace()
        [name] = traced.latent
        np.testing.assert_array_equal(traced[name].value.eval(), [1, 0])


def test_continuous_sites_are_drawn_once_and_conditioned_on():
    def model():
        x = pm.Normal("x", 0.0, 10.0)
        z = pm.Bernoulli("z", 0.5)
        pm.Normal("y", z * x, 0.01, observed=0.0)
        pm.Deterministic("same", x)

    traced = handlers.trace(infer_discrete(model)).get_trace()
    draws = draw_function({n: traced[n].value for n in ("x", "z", "same")})(500, 0)
    np.testing.assert_array_equal(draws["x"], draws["same"])
    assert not draws["z"][np.abs(draws["x"]) > 0.1].any()


def test_misuse_is_told():
    with pytest.raises(ValueError, match="temperature is 1, to draw, or 0"):
        infer_discrete(models.labels, temperature=0.5)
    with pytest.raises(TypeError, match="cannot be a context manager"), infer_discrete():
        pass


# --- around Predictive ------------------------------------------------------------------------

Y = np.array([0.4, -0.2, 1.1])
SHIFTS = np.array([0.5, 2.0])  # two "posterior draws" of a continuous site


def labelled(y=None):
    shift = pm.Normal("shift")
    z = pm.Bernoulli("z", 0.3, shape=3)
    pm.Normal("y", shift * z, 1.0, observed=y)


def exact_labels():
    """The probability of each label being 1, for each of the shifts."""
    one = 0.3 * norm.pdf(Y, SHIFTS[:, None], 1.0)
    return one / (one + 0.7 * norm.pdf(Y, 0.0, 1.0))


@pytest.mark.parametrize(
    "predictive",
    [
        lambda draws: Predictive(labelled, draws, infer_discrete=True),
        lambda draws: Predictive(infer_discrete(labelled), draws),
    ],
    ids=["option", "wrapper"],
)
def test_predictive_completes_posterior_samples_by_discrete_sites_given_the_data(predictive):
    n = 20_000
    found = predictive({"shift": np.repeat(SHIFTS, n)})(Y, random_seed=0).posterior_predictive
    z = found["z"].values.reshape(2, n, 3)
    exact = exact_labels()
    assert np.abs(exact - 0.3).max() > 0.2  # far from their prior
    np.testing.assert_allclose(z.mean(axis=1), exact, atol=4 * 0.5 / np.sqrt(n))
    # What is drawn anew follows from the labels.
    y = found["y"].values.reshape(2, n, 3)
    np.testing.assert_allclose(y.mean(axis=1), exact * SHIFTS[:, None], atol=5 * 1.5 / np.sqrt(n))
    assert np.corrcoef(z[1, :, 0], y[1, :, 0])[0, 1] > 0.5


def test_predictive_without_data_draws_discrete_sites_from_the_model():
    n = 20_000
    found = Predictive(labelled, {"shift": np.repeat(SHIFTS, n)}, infer_discrete=True)(
        random_seed=0
    )
    labels = found.posterior_predictive["z"].values
    assert labels.mean() == pytest.approx(0.3, abs=4 * 0.5 / np.sqrt(labels.size))


def test_predictive_conditions_discrete_sites_on_what_condition_gives():
    conditioned = handlers.condition(labelled, data={"y": Y, "shift": 2.0})
    drawn = Predictive(conditioned, num_samples=20_000, infer_discrete=True)(random_seed=0).prior
    np.testing.assert_allclose(drawn["z"].mean(("chain", "draw")), exact_labels()[1], atol=0.015)


def test_data_behind_a_continuous_site_without_a_value_are_refused():
    def model():
        z = pm.Bernoulli("z", 0.3)
        x = pm.Normal("x", 2.0 * z)
        pm.Normal("y", x, 1.0, observed=1.0)

    with pytest.raises(SiteError, match="'x' has no value.*'y' depends on 'x', and 'x' on 'z'"):
        handlers.trace(infer_discrete(model)).get_trace()
    given = handlers.condition(model, data={"x": 0.5})
    z = draw_function({"z": handlers.trace(infer_discrete(given)).get_trace()["z"].value})(
        20_000, 0
    )["z"]
    one, none = 0.3 * norm.pdf(0.5, 2.0), 0.7 * norm.pdf(0.5, 0.0)
    assert z.mean() == pytest.approx(one / (one + none), abs=0.01)
