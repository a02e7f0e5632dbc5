"""A loop compiled as one function does what PyTensor's own loop does."""

import threading
import time
from weakref import WeakValueDictionary

import numpy as np
import pymc as pm
import pytensor
import pytensor.scalar as ps
import pytensor.tensor as pt
import pytest
from numba.core import environment
from pytensor.compile.mode import get_mode
from pytensor.link.numba import cache

from pymc_svi import SVI, constraints, optim, param
from pymc_svi.engine import training_mode
from pymc_svi.engine.linker import FlatLoopLinker
from pymc_svi.engine.loop_source import is_flat_loop

pytestmark = pytest.mark.filterwarnings("ignore:Scan return signature will change")

N = 2_000  # long enough for PyTensor to overwrite arrays in place


def results(make, mode, calls=((3,), (0,), (2,))):
    """Return what a function returns, and where its shared variables are, after each call."""
    n_steps = pt.lscalar("n_steps")
    shared, build = make()
    outputs, updates = build(n_steps)
    function = pytensor.function([n_steps], outputs, updates=updates, mode=mode)
    found = []
    for (steps,) in calls:
        found += [np.array(value) for value in function(steps)]
        found += [np.array(variable.get_value()) for variable in shared]
    return found


def assert_same(make, **settings):
    expected = results(make, get_mode("NUMBA"), **settings)
    found = results(make, training_mode(), **settings)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=1e-13, atol=1e-13)


def training_like():
    """Return a state, a count, a swap of two variables and what is computed once."""
    x = pytensor.shared(np.linspace(0.1, 1, N), name="x")
    count = pytensor.shared(np.int64(0), name="count")
    a, b = pytensor.shared(1.0, name="a"), pytensor.shared(np.array(2.0), name="b")
    data = pytensor.shared(np.linspace(1, 2, N), name="data")

    def step():
        new = x * 0.9 + pt.exp(-x) * pt.log(data)
        loss = pt.sum(new**2) + a / (1 + b) + count
        return loss, {x: new, count: count + 1, a: b, b: a + pt.tanh(b)}

    def build(n_steps):
        losses, updates = pytensor.scan(step, n_steps=n_steps)
        return [losses, losses.sum() + x.sum()], updates

    return (x, count, a, b), build


def test_states_records_and_invariants():
    assert_same(training_like)


def test_it_is_one_function():
    n_steps = pt.lscalar("n_steps")
    _, build = training_like()
    outputs, updates = build(n_steps)
    function = pytensor.function([n_steps], outputs, updates=updates, mode=training_mode())
    assert isinstance(function.maker.linker, FlatLoopLinker)
    assert any(is_flat_loop(node) for node in function.maker.fgraph.apply_nodes)


def test_random_draws_are_the_same():
    def make():
        rng = pytensor.shared(np.random.default_rng(3), name="rng")

        def build(n_steps):
            def step():
                new_rng, draw = pt.random.normal(size=(4,), rng=rng, return_next_rng=True)
                return draw, {rng: new_rng}

            draws, updates = pytensor.scan(step, n_steps=n_steps)
            return [draws], updates

        return (), build

    # The records here have a shape; those of a training loop are numbers.
    assert_same(make)


def test_the_start_of_a_loop_is_left_alone():
    start = pytensor.shared(np.ones(N), name="start")
    n_steps = pt.lscalar("n_steps")
    _, updates = pytensor.scan(lambda: {start: start * 2.0 + 1.0}, n_steps=n_steps)
    function = pytensor.function([n_steps], updates[start], mode=training_mode())
    assert function(3)[0] == 15.0
    assert function(3)[0] == 15.0
    assert start.get_value()[0] == 1.0


def test_other_loops_inside_and_beside():
    def make():
        total = pytensor.shared(0.0, name="total")

        def build(n_steps):
            def step():
                history = pytensor.scan(
                    lambda t, last: last * 0.5 + t,
                    sequences=pt.arange(1.0, 5.0),
                    outputs_info=[total],
                    return_updates=False,
                )
                return history[-1], {total: history[-1]}

            values, updates = pytensor.scan(step, n_steps=n_steps)
            summed = pytensor.scan(
                lambda t, s: s + t,
                sequences=values,
                outputs_info=[pt.zeros(())],
                return_updates=False,
            )
            return [values, summed], updates

        return (total,), build

    assert_same(make, calls=((3,), (1,)))


def test_constants_tell_functions_apart():
    for constant in (2.0, 3.0):
        x = pytensor.shared(1.0, name="x")
        n_steps = pt.lscalar("n_steps")
        _, updates = pytensor.scan(lambda x=x, c=constant: {x: x * c}, n_steps=n_steps)
        pytensor.function([n_steps], [], updates=updates, mode=training_mode())(2)
        assert x.get_value() == constant**2


def test_other_threads_run_meanwhile():
    x = pytensor.shared(0.5, name="x")
    n_steps = pt.lscalar("n_steps")
    _, updates = pytensor.scan(lambda: {x: pt.cos(x)}, n_steps=n_steps)
    function = pytensor.function([n_steps], [], updates=updates, mode=training_mode())
    function(1)
    ticks, done = [0], threading.Event()

    def tick():
        while not done.is_set():
            ticks[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        before = ticks[0]
        function(20_000_000)
        during = ticks[0] - before
    finally:
        done.set()
        thread.join()
    # With the lock held, the thread could only run before and after.
    assert during > 5
    np.testing.assert_allclose(x.get_value(), np.cos(x.get_value()))


def test_operations_of_any_number_of_inputs():
    """Sums of two and of three numbers have the same name in the cache."""

    def make():
        x = pytensor.shared(1.0, name="x")

        def build(n_steps):
            def step():
                two = ps.add(*map(pt.scalar_from_tensor, (x, x)))
                three = ps.add(*map(pt.scalar_from_tensor, (x, x, x)))
                return pt.tensor_from_scalar(two), {x: pt.tensor_from_scalar(three) / 3 + 1}

            values, updates = pytensor.scan(step, n_steps=n_steps)
            return [values], updates

        return (x,), build

    assert_same(make)


def test_what_two_loops_share_is_read_from_disk(tmp_path, monkeypatch):
    """As by another process: nothing of the first loop is left in memory."""
    monkeypatch.setattr(cache, "NUMBA_CACHE_PATH", tmp_path)

    def make(power):
        def make():
            x = pytensor.shared(np.float32(0.5), name="x")

            def build(n_steps):
                def step():
                    # PyTensor casts a float32 sum, by a function that belongs to no module.
                    new = pt.tensor_from_scalar(ps.add(*[pt.scalar_from_tensor(x)] * 2))
                    return new**power, {x: new}

                values, updates = pytensor.scan(step, n_steps=n_steps)
                return [values], updates

            return (x,), build

        return make

    assert_same(make(2))
    kept = {path.name for path in tmp_path.glob("*_kept_*")}
    monkeypatch.setattr(environment.Environment, "_memo", WeakValueDictionary())
    assert_same(make(3))
    assert any("cast_scalar_outputs" in name for name in kept)


def test_fused_scalars_that_share_variables_do_not_take_each_others_names():
    def model():
        rate = pm.Gamma("rate", 2.0, 1.0)
        pm.Poisson("y", rate, observed=np.arange(5))

    def guide():
        shape = param("shape", 2.0, constraint=constraints.positive)
        pm.Gamma("rate", shape, param("scale", 1.0, constraint=constraints.positive))

    written, called = (
        SVI(model, guide, optim.SGD(1e-3), **how).run(3, random_seed=0, progressbar=False)
        for how in ({}, {"compile_kwargs": {"mode": "FAST_COMPILE"}})
    )
    np.testing.assert_allclose(written.losses, called.losses, rtol=1e-9)
    for name, value in called.params.items():
        np.testing.assert_allclose(written.params[name], value, rtol=1e-9)
