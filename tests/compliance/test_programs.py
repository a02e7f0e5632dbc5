"""What programs of Pyro and NumPyro rely on, beyond the laws in ``tests/handlers``."""

from __future__ import annotations

import pickle

import numpy as np
import pymc as pm
import pytest
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RandomVariable
from scipy import stats

from pymc_svi import LocScaleReparam, factor, get_dependencies, param, plate, plate_stack, sample
from pymc_svi.errors import SiteError
from pymc_svi.guides import AutoNormal
from pymc_svi.handlers import (
    Handler,
    block,
    condition,
    do,
    lift,
    mask,
    reparam,
    replay,
    scale,
    scope,
    seed,
    substitute,
    trace,
    uncondition,
)
from tests.checks import as_built


def value(run, name) -> float:
    return run[name].value.eval(mode="FAST_COMPILE")


def total(run) -> float:
    return float(run.log_prob_sum().eval(mode="FAST_COMPILE"))


def chain():
    x = pm.Normal("x", 0.0, 1.0)
    y = pm.Normal("y", x, 1.0)
    pm.Deterministic("z", x + y)


BOTH = pytest.mark.parametrize("model", [chain, as_built(chain)], ids=["function", "built"])


# --- values that handlers give -------------------------------------------------------------------


@BOTH
def test_a_function_builds_a_value_from_one_given_further_out(model):
    seen = {}

    def plus_ten(site):
        if site.name == "y":
            return seen["x"] + 10
        return None

    class Watch(Handler):
        def postprocess_message(self, site):
            seen[site.name] = site.value

    with Watch():
        run = trace(
            substitute(substitute(model, substitute_fn=plus_ten), data={"x": 1.0})
        ).get_trace()
    assert (value(run, "x"), value(run, "y"), value(run, "z")) == (1.0, 11.0, 12.0)
    assert set(run.latent) == {"x", "y"}


@BOTH
def test_the_outermost_of_two_substitutions_wins(model):
    run = trace(
        substitute(substitute(model, data={"x": 1.0, "y": 2.0}), data={"x": 3.0})
    ).get_trace()
    assert (value(run, "x"), value(run, "y")) == (3.0, 2.0)


@BOTH
def test_a_trace_is_data_to_condition_on(model):
    source = trace(substitute(model, data={"x": 0.4, "y": -1.0})).get_trace()
    run = trace(condition(model, data=source)).get_trace()
    assert set(run.observed) == {"x", "y"}
    assert total(run) == pytest.approx(stats.norm.logpdf([0.4, -1.4]).sum())


@BOTH
def test_a_program_whose_sites_are_all_given_has_no_randomness(model):
    run = trace(condition(model, data={"x": 0.4, "y": -1.0})).get_trace()
    nodes = [v.owner for v in ancestors([run["z"].value]) if v.owner is not None]
    assert not [node for node in nodes if isinstance(node.op, RandomVariable)]


def test_conditioning_again_after_unconditioning_restores_the_data_of_many_sites():
    def two():
        pm.Normal("a", observed=1.0)
        pm.Normal("b", observed=[2.0, 3.0])
        pm.Normal("c")

    for model in (two, as_built(two)):
        bare = trace(uncondition(model)).get_trace()
        assert list(bare.latent) == ["a", "b", "c"]
        kept = {name: bare[name].infer["obs"] for name in "ab"}
        assert all(bare[name].infer["was_observed"] for name in "ab")
        again = trace(condition(uncondition(model), data=kept)).get_trace()
        assert list(again.observed) == ["a", "b"] and value(again, "b").tolist() == [2.0, 3.0]


def test_a_lifted_param_is_conditioned_like_any_other_site():
    def model():
        pm.Normal("x", 0.0, param("s", 1.0), observed=0.3)

    prior = {"s": pm.HalfNormal.dist(1.0)}
    for program in (model, as_built(model)):
        run = trace(condition(lift(program, prior=prior), data={"s": 2.0})).get_trace()
        expected = stats.halfnorm.logpdf(2.0) + stats.norm.logpdf(0.3, 0.0, 2.0)
        assert total(run) == pytest.approx(expected)


def test_reparameterised_twice_and_conditioned_on_the_innermost():
    def model():
        mu = pm.Normal("mu")
        pm.Normal("x", mu, 2.0, shape=3)

    def twice(program):
        once = reparam(program, config={"x": LocScaleReparam(0.0)})
        return reparam(once, config={"x_decentered": LocScaleReparam(0.0)})

    at = {"mu": 1.0, "x_decentered_decentered": np.array([0.1, 0.2, 0.3])}
    for program in (model, as_built(model)):
        run = trace(condition(twice(program), data=at)).get_trace()
        np.testing.assert_allclose(value(run, "x"), [1.2, 1.4, 1.6])
        assert total(run) == pytest.approx(stats.norm.logpdf([1.0, 0.1, 0.2, 0.3]).sum())


def test_a_counterfactual_keeps_the_noise_of_the_facts():
    def model():
        u = pm.Normal("u")
        x = pm.Normal("x", u, 1.0)
        pm.Deterministic("y", 2 * x + u)

    facts = {"u": 0.5, "x": 1.0}
    for program in (model, as_built(model)):
        for query in (
            do(condition(program, data=facts), data={"x": 3.0}),
            condition(do(program, data={"x": 3.0}), data=facts),
        ):
            run = trace(query).get_trace()
            assert value(run, "y") == 6.5  # what follows sees the intervention
            assert value(run, "x") == 1.0 and run["x"].observed  # the site itself the fact


def test_intervening_on_a_dim_of_a_built_model_keeps_the_dims():
    with pm.Model(coords={"city": list("abc")}) as model:
        x = pm.Normal("x", dims="city")
        pm.Deterministic("y", 2 * x, dims="city")
    run = trace(do(model, data={"x": np.array([1.0, 2.0, 3.0])})).get_trace()
    assert run["y"].dims == ("city",) and value(run, "y").tolist() == [2.0, 4.0, 6.0]
    with pytest.raises(SiteError, match=r"'x'.*\(2,\).*\(city=3,\)"):
        trace(do(model, data={"x": np.zeros(2)})).get_trace()


# --- names ---------------------------------------------------------------------------------------


def test_a_step_repeated_under_scopes_in_a_loop_is_a_chain():
    def walk():
        x = 0.0
        for t in range(3):
            with scope(prefix=f"t{t}"):
                x = pm.Normal("x", x, 1.0)
        with scope(prefix="a"), scope(prefix="b"):
            pm.Normal("y", x, 1.0, observed=1.0)

    for program in (walk, as_built(walk)):
        run = trace(program).get_trace()
        assert list(run) == ["t0::x", "t1::x", "t2::x", "a::b::y"]
        assert run.edges == [("t0::x", "t1::x"), ("t1::x", "t2::x"), ("t2::x", "a::b::y")]
        assert list(trace(scope(program, prefix="s")).get_trace())[0] == "s::t0::x"


# --- plates --------------------------------------------------------------------------------------


def test_plates_in_a_stack_with_another_to_the_left_and_vectors_inside():
    def model():
        with plate_stack("p", [2, 3]):
            x = pm.Normal("x")
            pm.MvNormal("v", np.zeros(4), np.eye(4))
            with plate("q", 5, dim=-3):
                pm.Normal("y", x, 1.0)

    for program in (model, as_built(model)):
        run = trace(program).get_trace()
        assert {name: run[name].shape for name in "xvy"} == {
            "x": (2, 3),
            "v": (2, 3, 4),
            "y": (5, 2, 3),
        }
        assert run["v"].log_prob.type.shape == (2, 3)


def test_sums_over_plates_beside_and_inside_each_other():
    def beside():
        with plate("a", 3):
            pm.Normal("x", observed=np.zeros(3))
        with plate("b", 4, dim=-2):
            pm.Normal("y", observed=np.zeros((4, 1)))

    def inside():
        with plate("a", 3), plate("b", 4):
            pm.Normal("x", observed=np.zeros((4, 3)))

    one = stats.norm.logpdf(0.0)
    assert total(trace(beside).get_trace()) == pytest.approx(7 * one)
    assert total(trace(inside).get_trace()) == pytest.approx(12 * one)


def test_crossed_plates_couple_a_child_with_both_parents():
    def model():
        with plate("i", 3, dim=-2):
            x = pm.Normal("x")
        with plate("j", 2, dim=-1):
            y = pm.Normal("y")
        with plate("i", 3, dim=-2), plate("j", 2, dim=-1):
            pm.Normal("z", x + y, 1.0, observed=np.zeros((3, 2)))

    found = get_dependencies(model)
    assert found["prior_dependencies"] == {
        "x": {"x": set()},
        "y": {"y": set()},
        "z": {"x": set(), "y": set(), "z": set()},
    }
    # Each factor has one x and one y: no two elements of a plate meet in a factor.
    assert found["posterior_dependencies"] == {
        "x": {"x": set(), "y": set(), "z": set()},
        "y": {"y": set(), "z": set()},
    }


# --- traces --------------------------------------------------------------------------------------


def test_an_error_in_a_density_names_the_site():
    def model():
        pm.Normal("fine", observed=0.0)
        pm.Normal("odd", observed=np.zeros(3))

    with pytest.raises(SiteError) as caught:
        trace(mask(model, mask=np.array([True, False]))).get_trace()["odd"].log_prob  # noqa: B018
    assert "'odd'" in str(caught.value)
    run = trace(model).get_trace()
    run["odd"].dist = pm.math.constant(1.0)  # no random variable
    with pytest.raises(Exception) as other:  # PyMC's own
        run.log_prob_sum()
    assert "log-probability of site 'odd'" in "".join(other.value.__notes__)


def test_an_error_in_an_inner_trace_leaves_the_outer_one_usable():
    def broken():
        pm.Normal("x")
        raise ZeroDivisionError

    with trace() as outer, pm.Model():
        pm.Normal("before")
        with pytest.raises(ZeroDivisionError):
            trace(broken).get_trace()
        pm.Normal("after")
    assert list(outer) == ["before", "x", "after"]


def test_a_replayed_program_is_the_same_again_and_again():
    source = trace(chain).get_trace()
    runs = [trace(replay(chain, trace=source)).get_trace() for _ in range(2)]
    assert all(run[name].value is source[name].value for run in runs for name in "xy")


def test_a_seeded_program_runs_on_given_values_without_a_fit():
    def model():
        x = pm.Normal("x", param("p", 1.0), 1.0)
        return pm.Deterministic("d", x + 1)

    given = seed(substitute(model, data={"x": 3.0, "p": 2.0}), rng_seed=0)
    assert given() == 4.0
    run = trace(given).get_trace()
    assert {name: float(run[name].result) for name in run} == {"p": 2.0, "x": 3.0, "d": 4.0}


def test_masks_and_scales_and_blocks_in_one_program():
    def model():
        with scale(scale=3.0), mask(mask=np.array([True, False])):
            pm.Normal("x", shape=2)
            factor("f", np.array([1.0, np.inf]))
        with block(hide=["hidden"]):
            pm.Normal("hidden")

    for program in (model, as_built(model)):
        run = trace(substitute(program, data={"x": np.zeros(2)})).get_trace()
        kept = run.log_prob_sum(lambda site: site.name in "xf")
        found = float(kept.eval(mode="FAST_COMPILE"))
        assert found == pytest.approx(3 * (stats.norm.logpdf(0.0) + 1))
    assert "hidden" not in trace(model).get_trace()


def test_guides_and_wrapped_programs_can_be_pickled():
    guide = AutoNormal(condition(chain, data={"y": 1.0}))
    again = pickle.loads(pickle.dumps(guide))
    assert list(trace(again).get_trace().latent) == list(trace(guide).get_trace().latent) == ["x"]


def test_statements_without_handlers_are_those_of_pymc():
    with pm.Model() as model:
        x = sample("x", pm.Normal.dist(), obs=1.0)
        factor("f", 0.5)
    assert model.observed_RVs == [x]
    assert float(model.compile_logp(mode="FAST_COMPILE")({})) == pytest.approx(
        stats.norm.logpdf(1.0) + 0.5
    )
