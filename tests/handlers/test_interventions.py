"""``do``, ``lift``, ``scope``, ``equalize``, ``seed``, ``uncondition``."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy import stats

from pymc_svi import param, plate
from pymc_svi.errors import SiteError
from pymc_svi.handlers import (
    block,
    condition,
    do,
    equalize,
    lift,
    replay,
    scope,
    seed,
    substitute,
    trace,
    uncondition,
)


def chain():
    w = pm.Normal("w", 0.0, 1.0)
    x = pm.Normal("x", w, 1.0)
    y = pm.Normal("y", w + x, 1.0)
    pm.Deterministic("total", w + x + y)
    return w, x, y


def built() -> pm.Model:
    with pm.Model() as model:
        chain()
    return model


FRONT_ENDS = pytest.mark.parametrize("model", [chain, built()], ids=["function", "built"])
FACTS = {"w": 0.5, "x": 1.0, "y": 2.0}


def value(run, name):
    return float(run[name].value.eval(mode="FAST_COMPILE"))


def log_prob(run, name):
    return float(run[name].log_prob.eval(mode="FAST_COMPILE"))


# --- do ------------------------------------------------------------------------------------------


@FRONT_ENDS
def test_an_intervention_leaves_its_own_site_and_changes_what_follows(model):
    run = trace(condition(do(model, data={"x": 10.0}), data={"w": 0.5, "y": 2.0})).get_trace()
    assert run["x"].is_latent
    assert log_prob(run, "y") == pytest.approx(stats.norm(0.5 + 10, 1).logpdf(2.0))
    assert value(run, "total") == pytest.approx(0.5 + 10 + 2)


@FRONT_ENDS
@pytest.mark.parametrize("order", ["condition of do", "do of condition"])
def test_counterfactuals_are_condition_and_do_in_either_order(model, order):
    if order == "condition of do":
        program = condition(do(model, data={"x": -1.0}), data=FACTS)
    else:
        program = do(condition(model, data=FACTS), data={"x": -1.0})
    run = trace(program).get_trace()
    assert run["x"].observed
    assert log_prob(run, "x") == pytest.approx(stats.norm(0.5, 1).logpdf(1.0))
    assert log_prob(run, "y") == pytest.approx(stats.norm(0.5 - 1, 1).logpdf(2.0))
    assert value(run, "total") == pytest.approx(0.5 - 1 + 2)


def test_an_intervention_on_a_deterministic_site_changes_what_follows():
    def program():
        a = pm.Deterministic("a", pm.Normal("x") * 0 + 1.0)
        return pm.Deterministic("b", a + 1)

    run = trace(do(program, data={"a": 5.0})).get_trace()
    assert (value(run, "a"), value(run, "b")) == (1.0, 6.0)


def test_intervening_twice_warns():
    twice = do(do(chain, data={"x": 1.0}), data={"x": 2.0})
    with pytest.warns(UserWarning, match="'x' is intervened on twice"):
        trace(twice).get_trace()


def test_do_inside_a_model_context_makes_an_ordinary_model():
    with pm.Model() as model, do(data={"x": 10.0}):
        chain()
    assert {rv.name for rv in model.free_RVs} == {"w", "x", "y"}
    logp = model.compile_logp(jacobian=False, mode="FAST_COMPILE")(FACTS)
    parts = stats.norm.logpdf([0.5, 0.5, 2.0 - 10.5])
    assert logp == pytest.approx(parts.sum())


# --- lift ----------------------------------------------------------------------------------------


def with_params():
    loc = param("loc", 0.0)
    weights = param("weights", np.ones(3))
    pm.Normal("y", loc + weights.sum(), 1.0, observed=1.0)


def built_with_params() -> pm.Model:
    with pm.Model() as model:
        with_params()
    return model


PARAM_FRONT_ENDS = pytest.mark.parametrize(
    "model", [with_params, built_with_params()], ids=["function", "built"]
)


@PARAM_FRONT_ENDS
def test_lifted_params_are_sampled_from_their_prior_and_others_stay(model):
    run = trace(lift(model, prior={"weights": pm.Normal.dist(0.0, 2.0)})).get_trace()
    assert run["loc"].type == "param"
    assert run["weights"].type == "sample"
    assert run["weights"].log_prob.type.shape == (3,)
    at = {"weights": np.array([1.0, 2.0, 3.0])}
    run = trace(condition(lift(model, prior=pm.Normal.dist(0.0, 2.0)), data=at)).get_trace()
    expected = stats.norm(0, 2).logpdf(at["weights"])
    np.testing.assert_allclose(run["weights"].log_prob.eval(mode="FAST_COMPILE"), expected)


def test_a_lifted_param_read_twice_is_sampled_once():
    def program():
        a, b = param("a", 0.0), param("a")
        return pm.Deterministic("difference", a - b)

    run = trace(lift(program, prior={"a": pm.Normal.dist()})).get_trace()
    assert value(run, "difference") == 0.0
    assert list(run) == ["a", "difference"]


def test_a_misspelt_prior_warns():
    with pytest.warns(UserWarning, match="no param 'wieghts'. Did you mean 'weights'"):
        trace(lift(with_params, prior={"wieghts": pm.Normal.dist()})).get_trace()


def test_a_prior_that_is_no_distribution_is_refused():
    with pytest.raises(TypeError, match="not a distribution"):
        lift(with_params, prior={"a": 1.0})


@pytest.mark.parametrize("shape, found", [(2, r"\(2,\)"), ((3, 3), r"\(3, 3\)")])
@PARAM_FRONT_ENDS
def test_a_prior_of_another_shape_is_refused(model, shape, found):
    prior = {"weights": pm.Normal.dist(shape=shape)}
    with pytest.raises(SiteError, match=rf"prior of param 'weights'.*{found}.*\(3,\)"):
        trace(lift(model, prior=prior)).get_trace()


def test_lifting_inside_a_model_context_makes_an_ordinary_model():
    with pm.Model() as model, lift(prior=pm.Normal.dist()):
        with_params()
    assert [rv.name for rv in model.free_RVs] == ["loc", "weights"]
    assert np.isfinite(model.compile_logp(mode="FAST_COMPILE")(model.initial_point()))


# --- scope ---------------------------------------------------------------------------------------


@FRONT_ENDS
def test_scope_prefixes_names_and_scopes_nest(model):
    run = trace(scope(scope(model, prefix="in"), prefix="out")).get_trace()
    assert list(run) == ["out::in::w", "out::in::x", "out::in::y", "out::in::total"]


@FRONT_ENDS
def test_handlers_inside_a_scope_see_plain_names_and_those_outside_the_prefixed(model):
    inside = scope(condition(model, data={"x": 1.0}), prefix="a")
    outside = condition(scope(model, prefix="a"), data={"a::x": 1.0})
    for program in (inside, outside):
        assert trace(program).get_trace()["a::x"].observed


def test_scope_spares_hidden_types():
    run = trace(scope(chain, prefix="a", hide_types=["deterministic"])).get_trace()
    assert list(run) == ["a::w", "a::x", "a::y", "total"]


def test_a_scope_inside_a_named_model_comes_after_the_models_name():
    with pm.Model(name="m") as model, scope(prefix="a"):
        chain()
    assert "m::a::x" in model.named_vars


def test_a_program_used_twice_under_scopes_registers_both():
    with pm.Model() as model:
        for prefix in ("first", "second"):
            with scope(prefix=prefix):
                chain()
    assert len(model.free_RVs) == 6


# --- equalize ------------------------------------------------------------------------------------


@FRONT_ENDS
def test_equalized_sites_share_the_first_value(model):
    run = trace(condition(equalize(model, ["w", "x"]), data={"w": 3.0, "y": 0.0})).get_trace()
    assert run["x"].type == "deterministic"
    assert value(run, "x") == 3.0
    assert value(run, "total") == 6.0


def test_equalized_sites_keep_their_laws_on_request():
    tied = equalize(chain, r"w|x", keep_dist=True)
    run = trace(substitute(tied, data={"w": 3.0})).get_trace()
    assert run["x"].observed
    assert log_prob(run, "x") == pytest.approx(stats.norm(3.0, 1).logpdf(3.0))


# --- uncondition ---------------------------------------------------------------------------------


@FRONT_ENDS
def test_uncondition_forgets_data_and_condition_restores_it(model):
    observed = condition(model, data={"y": 2.0})
    run = trace(uncondition(observed)).get_trace()
    assert run["y"].is_latent
    assert run["y"].infer["was_observed"] and float(run["y"].infer["obs"].data) == 2.0
    assert trace(condition(uncondition(observed), data={"y": 3.0})).get_trace()["y"].observed


# --- seed ----------------------------------------------------------------------------------------


def test_a_seeded_program_returns_numbers_and_the_same_ones_again():
    first, again = seed(chain, rng_seed=3)(), seed(chain, rng_seed=3)()
    assert all(isinstance(number, np.ndarray) for number in first)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, seed(chain, rng_seed=4)())


@FRONT_ENDS
def test_a_seeded_trace_has_numbers_for_values(model):
    run = trace(seed(model, rng_seed=3)).get_trace()
    total = sum(value(run, name) for name in "wxy")
    assert value(run, "total") == pytest.approx(total)


def test_the_innermost_seed_draws():
    nested = seed(seed(chain, rng_seed=1), rng_seed=2)
    np.testing.assert_array_equal(nested(), seed(chain, rng_seed=1)())


def test_seed_leaves_conditioned_and_replayed_values_alone():
    guide_trace = trace(condition(chain, data={"w": 7.0})).get_trace()
    run = trace(seed(replay(condition(chain, data={"x": 1.0}), trace=guide_trace), 0)).get_trace()
    assert (value(run, "w"), value(run, "x")) == (7.0, 1.0)


def test_a_seeded_program_branches_loops_and_uses_pymc_on_what_it_drew():
    def program():
        n = pm.Poisson("n", 3.0)
        total = sum(pm.Normal(f"x_{i}", i, 0.01) for i in range(n)) + n
        pm.Deterministic("total", total)
        if total > 100:
            pm.Potential("large", -total)
        return n, total

    with trace() as run:
        n, total = seed(program, rng_seed=1)()
    assert len(run) == n + 2
    assert total == pytest.approx(n * (n - 1) / 2 + n, abs=0.2)


def test_seeded_draws_have_their_law():
    draws = [float(seed(lambda: pm.Gamma("g", 4.0, 2.0), rng_seed=i)()) for i in range(200)]
    assert abs(np.mean(draws) - 2.0) < 3.5 * 1.0 / np.sqrt(200)


def test_a_seed_that_is_none_is_refused():
    with pytest.raises(TypeError, match="rng_seed is not a seed"):
        seed(chain)


def test_block_hides_draws_from_the_trace_but_not_from_a_seed_inside():
    run = trace(block(seed(chain, rng_seed=0), hide=["w"])).get_trace()
    assert list(run) == ["x", "y", "total"]


def test_seeded_minibatches_follow_the_seed_and_are_those_in_the_trace():
    def program():
        with plate("n", 50, subsample_size=3) as rows:
            pm.Normal("x", rows, 1e-3)

    with pm.Model() as model:
        program()
    for kind in (program, model):
        runs = [trace(seed(kind, rng_seed=s)).get_trace() for s in (1, 1, 2)]
        rows = [np.asarray(run["n"].value) for run in runs]
        np.testing.assert_array_equal(rows[0], rows[1])
        assert not np.array_equal(rows[0], rows[2])
        for run, drawn in zip(runs, rows, strict=True):
            found = np.asarray(run["x"].value.eval(mode="FAST_COMPILE"))
            np.testing.assert_allclose(found, drawn, atol=0.01)
        inner, outer = seed(kind, rng_seed=1), seed(rng_seed=9)
        with outer:
            nested = trace(inner).get_trace()
        np.testing.assert_array_equal(nested["n"].value, rows[0])


def test_do_and_condition_refuse_a_param():
    def program():
        pm.Normal("x", param("w", 1.0), 1.0)

    with pytest.raises(SiteError, match="do: site 'w' is a param.*substitute"):
        trace(do(program, data={"w": 3.0})).get_trace()
    with pytest.raises(SiteError, match="condition: site 'w' is a param.*substitute.*lift"):
        trace(condition(program, data={"w": 3.0})).get_trace()
