"""Discrete sites are drawn from their joint posterior, which brute force lists."""

from collections import Counter

import numpy as np
import pymc as pm
import pytest

from pymc_svi import handlers, infer_discrete
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
