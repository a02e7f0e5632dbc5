"""Gradients through the logarithm of a probability that is certain to be zero."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.pytensorf import rewrite_pregrad
from pytensor.graph.traversal import ancestors

from pymc_svi import SVI, TraceEnum_ELBO, constraints, handlers, markov, param, scan
from pymc_svi.engine.training import training_mode
from pymc_svi.engine.zeros import with_gradients_at_zero
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.guides import AutoNormal

# Two animals, and from when on they had been seen before.
SEEN = np.array([[0, 1, 1, 0, 1, 0, 0], [1, 0, 1, 1, 0, 0, 0]])
ENTERED = np.array([[0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1]], dtype=bool)
ALIVE = np.array([1.0, 0.0, 1.0])


def evaluated(x, outputs, at, mode=None):
    return pytensor.function([x], outputs, mode=mode or evaluation_mode())(at)


def test_a_branch_that_is_not_taken_adds_nothing():
    x = pt.vector("x", shape=(3,))
    p = x * ALIVE
    value = pt.switch(np.array([True, False, False]), pt.log(p), pt.log1p(-p)).sum()
    gradient = pytensor.grad(with_gradients_at_zero(rewrite_pregrad(value)), x)
    expected = [1 / 0.2, 0.0, -1 / 0.6]
    assert np.allclose(evaluated(x, gradient, [0.2, 0.3, 0.4]), expected, rtol=1e-12)
    fast = evaluated(x, gradient, [0.2, 0.3, 0.4], training_mode())
    assert np.allclose(fast, expected, rtol=1e-12)


def test_a_branch_that_is_taken_is_as_steep_as_it_was():
    x = pt.vector("x", shape=(2,))
    gradient = pytensor.grad(with_gradients_at_zero(pt.log(x).sum()), x)
    assert np.array_equal(evaluated(x, gradient, [0.0, 0.5]), [np.inf, 2.0])
    gradient = pytensor.grad(with_gradients_at_zero(pt.log1p(x).sum()), x)
    assert np.array_equal(evaluated(x, gradient, [-1.0, 1.0]), [np.inf, 0.5])


def test_a_logarithm_is_computed_once_for_value_and_gradient():
    x = pt.vector("x", shape=(3,))
    value = (pt.log(x) ** 2).sum()
    gradient = pytensor.grad(with_gradients_at_zero(value), x)
    mode = training_mode(evaluation_mode())
    function = pytensor.function([x], [value, gradient], mode=mode)
    nodes = [v.owner for v in ancestors(function.maker.fgraph.outputs) if v.owner is not None]
    assert sum(str(node.op).lower() == "log" for node in nodes) == 1


def priors():
    return pm.Beta("stays", 2, 2), pm.Beta("found", 2, 2)


def move(alive, entered, seen, stays, found, t=""):
    """The dead stay dead and are not seen."""
    alive = pm.Bernoulli(f"alive{t}", pt.switch(entered, stays * alive, 1.0))
    with handlers.mask(mask=entered):
        pm.Bernoulli(f"seen{t}", found * alive, observed=seen)
    return alive


def by_steps(seen):
    rates = priors()
    alive = np.ones(2, dtype=int)
    for t in markov(range(SEEN.shape[1])):
        alive = move(alive, ENTERED[:, t], seen[:, t], *rates, t)


def by_scan(seen):
    rates = priors()
    scan(
        lambda alive, inputs: (move(alive, *inputs, *rates), None),
        np.ones(2, dtype=int),
        (ENTERED.T, seen.T),
    )


def exact(stays, found):
    """The log-density, by the forward algorithm."""
    value = sum(np.log(6 * p * (1 - p)) for p in (stays, found))
    for seen, entered in zip(SEEN, ENTERED, strict=True):
        dead, alive = 0.0, 1.0
        for y in seen[entered]:
            dead, alive = dead + alive * (1 - stays), alive * stays
            dead, alive = dead * (1 - y), alive * (found if y else 1 - found)
        value += np.log(dead + alive)
    return value


@pytest.mark.parametrize("model", [by_steps, by_scan])
def test_absorbing_states_that_are_summed_out_have_the_exact_gradient(model):
    def guide(seen):
        for name in ("stays", "found"):
            pm.DiracDelta(name, param(f"{name}_at", 0.6, constraint=constraints.unit_interval))

    svi = SVI(model, guide, loss=TraceEnum_ELBO(), compile_kwargs={"mode": evaluation_mode()})
    gradients = svi.sample_gradients(1, SEEN, random_seed=0)
    step = 1e-6
    for name, up in (("stays", [step, 0.0]), ("found", [0.0, step])):
        up = np.array(up)
        slope = (exact(*(0.6 + up)) - exact(*(0.6 - up))) / (2 * step)
        assert np.allclose(gradients[f"{name}_at"], -slope * 0.6 * 0.4, rtol=1e-7)


def test_an_automatic_guide_starts_where_one_draw_of_what_is_summed_out_is_impossible():
    for model in (by_steps, by_scan):
        svi = SVI(model, AutoNormal(model), loss=TraceEnum_ELBO())
        assert svi.get_params(svi.init(SEEN))["stays_auto_loc"] == 0.0
