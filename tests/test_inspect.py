"""Densities at a point, dependencies and pictures of programs."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy import stats

from pymc_svi import param, plate
from pymc_svi.errors import SiteError
from pymc_svi.handlers import condition
from pymc_svi.inspect import compute_log_probs, get_dependencies, log_density, render_model


def scale_model(guess):
    weight = pm.Normal("weight", guess, 1.0)
    return pm.Normal("measurement", weight, 0.75)


def test_log_density_is_the_log_joint():
    program = condition(scale_model, data={"measurement": 9.5})
    density, run = log_density(program, (8.5,), {}, {"weight": 8.23})
    assert float(density) == pytest.approx(-3.020334, abs=1e-6)
    assert list(run) == ["weight", "measurement"]


def test_values_are_called_params_too_as_in_numpyro():
    program = condition(scale_model, data={"measurement": 9.5})
    density, _ = log_density(program, (8.5,), {}, params={"weight": 8.23})
    assert float(density) == pytest.approx(-3.020334, abs=1e-6)
    apart, _ = log_density(
        scale_model, (8.5,), values={"measurement": 9.5}, params={"weight": 8.23}
    )
    assert float(apart) == float(density)
    found, _ = compute_log_probs(program, (8.5,), params={"weight": 8.23})
    assert sum(map(float, found.values())) == pytest.approx(float(density))
    with pytest.raises(ValueError, match="values and params both have 'weight'"):
        log_density(program, (8.5,), values={"weight": 1.0}, params={"weight": 8.23})


def test_log_density_of_symbolic_values_is_an_expression():
    weight = pt.scalar("weight")
    density, _ = log_density(scale_model, (8.5,), values={"weight": weight, "measurement": 9.5})
    gradient = pt.grad(density, weight).eval({weight: 9.14}, mode="FAST_COMPILE")
    assert gradient == pytest.approx(0.0, abs=1e-9)  # the posterior mode


def test_log_density_without_a_value_says_which():
    with pytest.raises(SiteError, match="no value: 'weight'"):
        log_density(scale_model, (8.5,), values={"measurement": 9.5})


def test_log_probs_are_given_site_by_site():
    def program():
        x = pm.Normal("x", shape=2)
        pm.Potential("f", x.sum())

    at = {"x": np.array([0.5, 1.0])}
    whole, _ = compute_log_probs(program, values=at)
    parts, _ = compute_log_probs(program, values=at, sum_log_prob=False)
    np.testing.assert_allclose(parts["x"], stats.norm.logpdf(at["x"]))
    assert (whole["x"], whole["f"]) == (pytest.approx(parts["x"].sum()), 1.5)


def test_dependencies_of_a_chain_with_data():
    def model():
        a = pm.Normal("a", 0, 1)
        b = pm.Normal("b", a, 1)
        c = pm.Normal("c", b, 1)
        pm.Normal("d", c, 1, observed=0.0)

    found = get_dependencies(model)
    assert found["prior_dependencies"] == {
        "a": {"a": set()},
        "b": {"a": set(), "b": set()},
        "c": {"b": set(), "c": set()},
        "d": {"c": set(), "d": set()},
    }
    assert found["posterior_dependencies"] == {
        "a": {"a": set(), "b": set()},
        "b": {"b": set(), "c": set()},
        "c": {"c": set(), "d": set()},
    }


def test_a_common_child_couples_its_parents():
    def model():
        a, b = pm.Normal("a"), pm.Normal("b")
        pm.Normal("c", a + b, 1.0, observed=0.0)

    found = get_dependencies(model)["posterior_dependencies"]
    assert found == {"a": {"a": set(), "b": set(), "c": set()}, "b": {"b": set(), "c": set()}}


def test_a_plate_that_ends_before_the_child_couples_its_elements():
    def model():
        with plate("p", 5):
            x = pm.Normal("x")
            pm.Normal("inside", x, 1.0, observed=np.zeros(5))
        pm.Normal("outside", x.sum(), 1.0, observed=0.0)

    found = get_dependencies(model)["posterior_dependencies"]
    assert found == {"x": {"x": {"p"}, "inside": set(), "outside": set()}}


def test_factors_and_discrete_sites_are_dependencies_too():
    def model():
        k = pm.Categorical("k", [0.3, 0.7])
        pm.Potential("f", -1.0 * k)

    with pm.Model() as built:
        model()
    for program in (model, built):
        assert get_dependencies(program)["prior_dependencies"]["f"] == {"k": set(), "f": set()}


def test_model_and_guide_are_drawn_side_by_side_with_plates_and_params():

    def model():
        mu = pm.Normal("mu")
        with plate("N", 6, subsample_size=2):
            z = pm.Normal("z", mu, 1.0)
            pm.Normal("y", z, 1.0, observed=np.zeros(2))

    def guide():
        pm.Normal("mu", param("loc", 0.0), 1.0)
        with plate("N", 6, subsample_size=2):
            pm.Normal("z")

    source = render_model(model, guide).source
    for part in ("cluster_model", "cluster_guide", "N: 2 of 6", '"model/mu" -> "model/z"',
                 '"guide/loc" -> "guide/mu"', "lightgrey"):  # fmt: skip
        assert part in source
    assert "guide/loc" not in render_model(model, guide, render_params=False).source
