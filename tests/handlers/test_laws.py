"""The algebra of handlers, on random programs under random handlers."""

from __future__ import annotations

import asyncio
import functools
import pickle
import threading

import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pymc_svi import param
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.handlers import (
    Handler,
    block,
    condition,
    do,
    infer_config,
    mask,
    replay,
    scale,
    scope,
    seed,
    substitute,
    trace,
    uncondition,
)
from pymc_svi.handlers.stack import active_handlers
from tests.handlers.programs import SAMPLED, handlers_for, programs, values_for

FRONT_ENDS = pytest.mark.parametrize("front_end", ["function", "built"])
few = settings(max_examples=15)


def in_front_end(program, front_end):
    return program.built() if front_end == "built" else program


def everything(program) -> dict:
    """A value for each latent site, so that traces can be compared as numbers."""
    latent = program.names("normal", "gamma", "vector")
    return {name: program.value(name, 1.0) for name in latent}


def summary(run) -> dict:
    """What there is to say about a trace, as plain values."""
    names = list(run)
    expressions = [run[name].log_prob.sum() for name in names]
    values = [run[n].value for n in names]
    numbers = pytensor.function([], expressions + values, mode="FAST_COMPILE")()
    return {
        name: (
            run[name].type,
            run[name].observed,
            round(float(numbers[i]), 9),
            np.round(numbers[len(names) + i], 9).tolist(),
        )
        for i, name in enumerate(names)
    }


def traced(program) -> dict:
    return summary(trace(program).get_trace())


@FRONT_ENDS
@few
@given(data=st.data())
def test_trace_commutes_with_the_handlers_that_change_sites(front_end, data):
    program = data.draw(programs())
    fixed = substitute(in_front_end(program, front_end), data=everything(program))
    given_values = data.draw(values_for(program))
    source = {
        name: site
        for name, site in trace(substitute(program, data=given_values)).get_trace().items()
        if name in given_values
    }
    for handler in (
        functools.partial(condition, data=given_values),
        functools.partial(substitute, data=given_values),
        functools.partial(replay, trace=source),
        functools.partial(do, data=given_values),
        functools.partial(scale, scale=2.0),
        functools.partial(mask, mask=False),
        functools.partial(infer_config, config_fn=lambda site: {"seen": 1}),
        functools.partial(scope, prefix="s"),
        functools.partial(seed, rng_seed=0),
    ):
        inside = traced(handler(fixed))
        with handler():
            outside = summary(trace(fixed).get_trace())
        assert inside == outside


@FRONT_ENDS
@few
@given(data=st.data())
def test_condition_substitute_replay_block_and_trace_are_idempotent(front_end, data):
    program = data.draw(programs())
    wrap = data.draw(handlers_for(program))
    fixed = wrap(substitute(in_front_end(program, front_end), data=everything(program)))
    values = data.draw(values_for(program))
    everywhere = trace(substitute(program, data=everything(program))).get_trace()
    params = program.names("param")  # where `lift` made a param a sample, replay refuses the param
    source = {name: site for name, site in everywhere.items() if name not in params}
    computed = [site.name for site in trace(fixed).get_trace().sites("deterministic")]
    sampled = {name: value for name, value in values.items() if name not in computed}
    for handler in (
        functools.partial(condition, data=sampled),
        functools.partial(substitute, data=values),
        functools.partial(replay, trace=source),
        functools.partial(block, hide=list(values)),
        trace,
    ):
        assert traced(handler(handler(fixed))) == traced(handler(fixed))


@FRONT_ENDS
@few
@given(data=st.data())
def test_function_programs_and_built_models_give_the_same_under_any_handlers(front_end, data):
    program = data.draw(programs())
    wrap = data.draw(handlers_for(program))
    as_function = wrap(substitute(program, data=everything(program)))
    as_model = wrap(substitute(program.built(), data=everything(program)))
    assert traced(as_function) == traced(as_model)


@FRONT_ENDS
@few
@given(data=st.data())
def test_the_outermost_condition_wins(front_end, data):
    program = data.draw(programs())
    inner, outer = data.draw(values_for(program)), data.draw(values_for(program))
    fixed = substitute(in_front_end(program, front_end), data=everything(program))
    nested = condition(condition(fixed, data=inner), data=outer)
    assert traced(nested) == traced(condition(fixed, data=inner | outer))


@FRONT_ENDS
@few
@given(data=st.data())
def test_a_blocked_site_is_invisible_outside_and_untouched_inside(front_end, data):
    program = data.draw(programs())
    fixed = substitute(in_front_end(program, front_end), data=everything(program))
    hidden = data.draw(values_for(program))
    with trace() as outside, block(hide=list(hidden)), trace() as inside, pm.Model():
        fixed()
    everything_inside = summary(inside)
    assert everything_inside == traced(fixed)
    kept = {name: what for name, what in everything_inside.items() if name not in hidden}
    assert summary(outside) == kept
    # Handlers outside do not reach it.
    assert traced(condition(block(fixed, hide=list(hidden)), data=hidden)) == kept


@FRONT_ENDS
@few
@given(data=st.data())
def test_condition_and_replay_fix_the_values_they_are_given(front_end, data):
    program = data.draw(programs())
    values = data.draw(values_for(program))
    run = trace(condition(in_front_end(program, front_end), data=values)).get_trace()
    for name, value in values.items():
        assert run[name].observed
        np.testing.assert_array_equal(run[name].value.eval(mode="FAST_COMPILE"), value)
    again = trace(replay(program, trace=run)).get_trace()
    for name in program.names("normal", "gamma", "vector"):
        assert again[name].value is run[name].value
        assert again[name].is_latent


@few
@given(data=st.data())
def test_uncondition_undoes_condition(data):
    program = data.draw(programs())
    values = data.draw(values_for(program, kinds=("normal", "vector")))
    run = trace(uncondition(condition(program, data=values))).get_trace()
    assert not run.observed
    assert set(run.latent) == set(program.names(*SAMPLED))


@few
@given(data=st.data())
def test_a_raising_program_leaves_the_stack_as_it_was(data):
    program = data.draw(programs())
    wrap = data.draw(handlers_for(program))

    def failing():
        program()
        raise ZeroDivisionError

    with trace() as around:
        before = active_handlers()
        with pytest.raises(ZeroDivisionError):
            trace(wrap(failing)).get_trace()
        assert active_handlers() == before
        with pm.Model():
            pm.Normal("after")
    assert list(around)[-1] == "after"


# --- forms and isolation -------------------------------------------------------------------------


def chain():
    x = pm.Normal("x", 0.0, 1.0)
    pm.Normal("y", x, 1.0)


def chain_model() -> pm.Model:
    with pm.Model() as model:
        chain()
    return model


@pytest.mark.parametrize("program", [chain, chain_model()], ids=["function", "built"])
def test_wrapper_context_manager_and_decorator_are_the_same(program):
    data = {"x": 1.0, "y": 2.0}
    wrapper = traced(condition(program, data=data))
    with condition(data=data):
        context = traced(program)
    decorator = traced(condition(data=data)(program))
    assert wrapper == context == decorator


def test_a_handler_decorates_a_method():
    class Model:
        loc = 3.0

        @condition(data={"x": 1.0})
        def program(self):
            return pm.Normal("x", self.loc, 1.0)

    run = trace(Model().program).get_trace()
    assert run["x"].observed


def test_decorated_programs_keep_their_name_and_documentation():
    @condition(data={})
    def documented():
        """What it does."""

    assert (documented.__name__, documented.__doc__) == ("documented", "What it does.")


def test_a_wrapped_program_takes_arguments_and_returns_what_it_returns():
    def program(a, *, b):
        pm.Normal("x", a, 1.0)
        return a + b

    with pm.Model():
        assert condition(program, data={"x": 1.0})(1, b=2) == 3


def test_wrapped_programs_can_be_pickled():
    program = pickle.loads(pickle.dumps(block(condition(chain, data={"x": 1.0}), hide=["y"])))
    assert list(trace(program).get_trace()) == ["x"]


def test_one_wrapped_program_runs_inside_itself():
    calls = []

    def recursive(depth):
        calls.append(depth)
        pm.Normal(f"x_{depth}")
        if depth:
            wrapped(depth - 1)

    wrapped = condition(recursive, data={"x_0": 1.0})
    assert trace(wrapped).get_trace(2)["x_0"].observed
    assert calls == [2, 1, 0]


def test_threads_do_not_see_each_others_handlers():
    runs, both = {}, threading.Barrier(2)

    def work(value):
        with trace() as run, condition(data={"x": value}), pm.Model():
            both.wait()
            chain()
            both.wait()
        runs[value] = float(run["x"].value.eval(mode="FAST_COMPILE")), list(run)

    threads = [threading.Thread(target=work, args=(value,)) for value in (1.0, 2.0)]
    with trace() as mine:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert runs == {1.0: (1.0, ["x", "y"]), 2.0: (2.0, ["x", "y"])}
    assert not mine


@few
@given(data=st.data())
def test_random_stacks_in_two_threads_do_as_they_do_alone(data):
    pairs = []
    for _ in range(2):
        program = data.draw(programs())
        wrap = data.draw(handlers_for(program))
        pairs.append(wrap(substitute(program, data=everything(program))))
    # Both are inside their program at the same time.
    meet, found = threading.Barrier(2, timeout=30), [[], []]

    def run(i):
        def waiting():
            meet.wait()
            pairs[i]()
            meet.wait()

        tr = trace(waiting).get_trace()
        found[i] = [(site.name, site.type, site.observed) for site in tr.values()]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = [trace(pair).get_trace().values() for pair in pairs]
    assert found == [[(s.name, s.type, s.observed) for s in sites] for sites in alone]


def test_async_tasks_do_not_see_each_others_handlers():
    async def work(value):
        with trace() as run, condition(data={"x": value}):
            await asyncio.sleep(0)
            with pm.Model():
                chain()
            await asyncio.sleep(0)
        return float(run["x"].value.eval(mode="FAST_COMPILE")), list(run)

    async def both():
        return await asyncio.gather(work(1.0), work(2.0))

    assert asyncio.run(both()) == [(1.0, ["x", "y"]), (2.0, ["x", "y"])]


def test_without_handlers_pymc_is_as_it_was():
    with pm.Model() as model:
        chain()
        pm.Normal("z", observed=[1.0, 2.0])
    assert [rv.name for rv in model.free_RVs] == ["x", "y"]
    assert [rv.name for rv in model.observed_RVs] == ["z"]


@pytest.mark.parametrize("program", [chain, chain_model()], ids=["function", "built"])
def test_a_users_handler_changes_sites_in_a_few_lines(program):
    class Shift(Handler):
        """Move every value by one."""

        def __init__(self, program=None):
            super().__init__(program)
            self.seen = []

        def process_message(self, site):
            if site.type == "sample" and site.value is None:
                site.value = site.dist + 1.0

        def postprocess_message(self, site):
            self.seen.append((site.name, site.observed))

    with Shift() as shift, condition(data={"y": 3.0}):
        run = trace(program).get_trace()
    assert shift.seen == [("x", False), ("y", True)]
    assert run["x"].value is not run["x"].dist
    assert run["y"].value.eval(mode="FAST_COMPILE") == 3.0


def test_conditioning_inside_a_model_context_makes_an_ordinary_model():
    with pm.Model() as model, condition(data={"y": 2.0}):
        chain()
    assert [rv.name for rv in model.observed_RVs] == ["y"]
    idata = pm.sample_prior_predictive(draws=3, model=model, random_seed=1, compile_kwargs={"mode": "FAST_COMPILE"})  # fmt: skip
    assert float(idata["observed_data"]["y"]) == 2.0
    logp = model.compile_logp(jacobian=False, mode="FAST_COMPILE")({"x": 1.0})
    assert logp == pytest.approx(2 * -0.9189385332 - 0.5 - 0.5)


# --- mistakes ------------------------------------------------------------------------------------


def test_a_value_of_the_wrong_shape_is_refused():
    with pytest.raises(SiteError, match=r"'x' was given a value of the wrong shape.*\(3,\)"):
        traced(condition(chain, data={"x": np.zeros(3)}))


def test_a_value_of_the_wrong_shape_names_the_dims():
    with pm.Model(coords={"city": range(4)}) as model:
        pm.Normal("x", dims="city")
    with pytest.raises(SiteError, match=r"\(3,\).*\(city=4,\)"):
        traced(condition(model, data={"x": np.zeros(3)}))


def test_a_value_with_named_dims_is_put_in_the_order_of_the_site():
    with pm.Model(coords={"row": range(2), "column": range(3)}) as model:
        pm.Normal("x", dims=("row", "column"))
    table = xr.DataArray(np.arange(6.0).reshape(3, 2), dims=("column", "row"))
    for handler in (condition, substitute, do):
        run = trace(handler(model, data={"x": table})).get_trace()
        found = run["x"].outcome.eval(mode="FAST_COMPILE")
        np.testing.assert_array_equal(found, table.to_numpy().T)
    column = xr.DataArray(np.arange(3.0), dims="column")
    found = trace(condition(model, data={"x": column})).get_trace()["x"].value
    np.testing.assert_array_equal(found.eval(mode="FAST_COMPILE"), [[0, 1, 2], [0, 1, 2]])
    for bad in (table.rename(row="city"), table.isel(column=0)):
        with pytest.raises(SiteError, match="'x' was given a value with other dims.*to_numpy"):
            trace(condition(model, data={"x": bad})).get_trace()


def test_a_discrete_site_refuses_a_fraction_and_takes_a_whole_float():
    def program():
        pm.Poisson("n", 3.0)

    with pytest.raises(SiteError, match="'n' is discrete.*integers"):
        traced(condition(program, data={"n": 1.5}))
    assert traced(condition(program, data={"n": 2.0}))["n"][3] == 2


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(SiteError, match="'x' was given a value that is not numeric"):
        traced(condition(chain, data={"x": {}}))


def test_duplicate_names_are_refused():
    with trace() as run:
        with pm.Model():
            chain()
        with pytest.raises(SiteError, match="Two sites are called 'x'"), pm.Model():
            chain()
    assert list(run) == ["x", "y"]


def test_a_param_and_a_sample_site_of_one_name_are_refused():
    def program():
        pm.Normal("x", param("x", 0.0))

    with pytest.raises(SiteError, match="Two sites are called 'x': a param and a sample"):
        trace(program).get_trace()


@pytest.mark.parametrize("handler", [condition, substitute])
def test_a_misspelt_name_warns(handler):
    def program():
        pm.Normal("weights")

    with pytest.warns(UserWarning, match="no site 'wieghts'. Did you mean 'weights'"):
        traced(handler(program, data={"wieghts": 1.0}))


def test_a_handler_entered_twice_is_refused():
    handler = condition(data={})
    with handler, pytest.raises(ValueError, match="condition handler is already active"):
        with handler:
            pass


@pytest.mark.parametrize("wrong", [3, "model", {"x": 1.0}, [chain]])
def test_what_is_no_program_is_refused(wrong):
    with pytest.raises(TypeError, match="first argument must be a program"):
        trace(wrong)


def test_a_built_model_given_arguments_is_refused():
    with pytest.raises(TypeError, match="takes no arguments.*pm.set_data"):
        trace(chain_model()).get_trace(1.0)


@pytest.mark.parametrize("arguments", [{}, {"data": {}, "condition_fn": len}])
def test_condition_takes_data_or_a_function(arguments):
    with pytest.raises(ValueError, match="exactly one of data and condition_fn"):
        condition(chain, **arguments)


def test_replay_of_a_site_that_was_not_sampled_is_refused():
    def other():
        pm.Deterministic("x", pm.math.constant(1.0))

    with pytest.raises(PairingError, match="'x' is a sample here, but a deterministic"):
        traced(replay(chain, trace=trace(other).get_trace()))


def test_replay_without_a_trace_is_refused():
    with pytest.raises(TypeError, match="replay needs a trace, or values of params"):
        replay(chain)


@pytest.mark.parametrize(
    "rules, message",
    [
        (dict(hide=["x"], expose=["y"]), "not both"),
        (dict(hide="x"), "list of names"),
        (dict(hide_types=["smaple"]), "list of site types"),
    ],
)
def test_block_refuses_rules_that_make_no_sense(rules, message):
    with pytest.raises((ValueError, TypeError), match=message):
        block(chain, **rules)


@pytest.mark.parametrize(
    "rules, visible",
    [
        (dict(), []),
        (dict(hide=["x"]), ["y"]),
        (dict(expose=["x"]), ["x"]),
        (dict(hide_fn=lambda site: site.name == "y"), ["x"]),
        (dict(expose_fn=lambda site: site.name == "y"), ["y"]),
        (dict(hide_types=["observed"]), ["x"]),
        (dict(expose_types=["observed"]), ["y"]),
        (dict(expose_types=["sample"]), ["x", "y"]),
    ],
)
def test_block_hides_by_name_by_type_and_by_function(rules, visible):
    program = block(condition(chain, data={"y": 1.0}), **rules)
    assert list(trace(program).get_trace()) == visible


def test_replay_sets_params_and_latent_sites():
    def program():
        pm.Normal("x", param("loc", 0.0), 1.0)

    with pm.Model() as model:
        program()
    source = trace(substitute(program, data={"x": 2.0})).get_trace()
    for front_end in (program, model):
        run = trace(replay(front_end, trace=source, params={"loc": 1.5})).get_trace()
        assert run["loc"].value.eval(mode="FAST_COMPILE") == 1.5
        assert run["x"].value.eval(mode="FAST_COMPILE") == 2.0
        only_params = trace(replay(front_end, params={"loc": 1.5})).get_trace()
        assert only_params["x"].value is only_params["x"].dist


def test_a_discrete_site_takes_whole_floats_in_symbolic_data():
    def program(y):
        pm.Poisson("n", 3.0, observed=y)

    data = pytensor.shared(np.array([0.0, 2.0, 5.0]))
    site = trace(program).get_trace(data)["n"]
    assert site.value.type.dtype == "int64"
    exact = pm.logp(pm.Poisson.dist(3.0), np.array([0, 2, 5])).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(site.log_prob.eval(mode="FAST_COMPILE"), exact)
    data.set_value(np.array([0.0, 2.5, 5.0]))  # later values cannot be refused, only impossible
    exact[1] = -np.inf
    np.testing.assert_allclose(site.log_prob.eval(mode="FAST_COMPILE"), exact)
    with pytest.raises(SiteError, match=r"'n' is discrete.*Found: 2\.5\. Give it integers"):
        trace(program).get_trace(data)

    def latent():
        pm.Poisson("n", 3.0, shape=3)

    with pytest.raises(SiteError, match=r"'n' is discrete.*Found: 2\.5"):
        trace(condition(latent, data={"n": data})).get_trace()
