"""What handlers cost: time that grows with the sites, and nothing in the compiled graph."""

from __future__ import annotations

import time

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pytensor.graph.basic import equal_computations
from pytensor.graph.rewriting.utils import rewrite_graph

from pymc_svi.handlers import block, condition, infer_config, mask, replay, scale, substitute, trace

Y = np.array([1.0, 2.0, 3.0])


def program():
    mu = pm.Normal("mu", 0.0, 2.0)
    x = pm.Normal("x", mu, 1.5, shape=3)
    pm.Normal("y", x, 1.0, observed=Y)


def test_a_program_under_six_handlers_has_the_graph_one_would_write_by_hand():
    mu, x = pt.scalar("mu"), pt.vector("x", shape=(3,))
    source = trace(substitute(program, data={"x": x})).get_trace()
    handled = condition(program, data={"mu": mu})
    handled = replay(handled, trace={"x": source["x"]})
    handled = infer_config(handled, config_fn=lambda site: {"cost": 0})
    handled = mask(scale(handled, scale=3.0), mask=True)
    handled = block(handled, hide=["nothing"])
    theirs = trace(handled).get_trace().log_prob_sum()
    ours = pt.add(
        *(
            (pm.logp(dist, value) * 3.0).sum()
            for dist, value in (
                (pm.Normal.dist(0.0, 2.0), mu),
                (pm.Normal.dist(mu, 1.5, shape=3), x),
                (pm.Normal.dist(x, 1.0, shape=3), pt.constant(Y)),
            )
        )
    )
    include = ("canonicalize", "stabilize", "ShapeOpt")
    theirs, ours = (rewrite_graph(graph, include=include) for graph in (theirs, ours))
    assert equal_computations([theirs], [ours])


def many_sites(n):
    def program():
        previous = pm.Normal("x_0")
        for i in range(1, n):
            previous = pm.Normal(f"x_{i}", previous, 1.0)

    return program


def seconds(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.parametrize("front_end", ["function", "built"])
def test_tracing_300_sites_is_quick_and_linear(front_end):
    def prepare(n):
        if front_end == "function":
            return many_sites(n)
        with pm.Model() as model:
            many_sites(n)()
        return model

    def pair(model):
        guide_trace = trace(model).get_trace()
        run = trace(replay(model, trace=guide_trace)).get_trace()
        run.log_prob_sum()

    small, large = prepare(75), prepare(300)  # the time includes the densities
    pair(small)
    quick, slow = (min(seconds(lambda m=m: pair(m)) for _ in range(2)) for m in (small, large))
    assert slow < 5.0
    assert slow < 8 * quick  # four times the sites; quadratic would be sixteen times the time
