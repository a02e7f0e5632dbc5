"""Clipping, and chains of rules."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from pytensor_ml import optim as pml

from pymc_svi import optim
from tests.optim.quadratic import CURVATURE, START, TARGET, gradients, parameters, reference, run


def test_clip_by_value_clips_elements():
    rule = optim.chain(optim.clip_by_value(2.0), optim.SGD(0.1))
    expected = reference(lambda name, t, p, g, s: p - 0.1 * np.clip(g, -2, 2))
    np.testing.assert_allclose(run(rule), expected, rtol=1e-12)


def test_clip_by_global_norm_keeps_the_direction():
    p = np.concatenate([np.ravel(v) for v in START.values()])
    g = np.concatenate([np.ravel(CURVATURE[n] * (START[n] - TARGET[n])) for n in START])
    expected = p - 0.1 * g / np.linalg.norm(g) * 0.7
    found = run(optim.chain(optim.clip_by_global_norm(0.7), optim.SGD(0.1)), steps=1)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    loose = optim.chain(optim.clip_by_global_norm(1e6), optim.SGD(0.01))
    np.testing.assert_allclose(run(loose), run(optim.SGD(0.01)), rtol=1e-12)


def test_chains_take_pytensor_ml_and_pymc_rules():
    clip = optim.clip_by_value(2.0)
    expected = run(optim.chain(clip, optim.Adam(0.1)))
    np.testing.assert_allclose(run(optim.chain(clip, pml.adam(0.1))), expected, rtol=1e-12)
    nested = optim.chain(optim.chain(clip), pml.chain(pml.adam(1.0), pml.scale(0.1)))
    np.testing.assert_allclose(run(nested), expected, rtol=1e-12)
    pymc = run(optim.chain(clip, pm.sgd(learning_rate=0.1)))
    np.testing.assert_allclose(pymc, run(optim.chain(clip, optim.SGD(0.1))), rtol=1e-12)


def test_a_chain_keeps_gradient_transforms_of_users_ahead_of_the_rule():
    def halve(incoming, params):
        updates = pml.to_updates(incoming, params).copy()
        for p in params:
            updates[p] = p + 0.5 * (updates[p] - p)
        return updates

    chained = optim.chain(optim.clip_by_value(2.0), halve, optim.SGD(0.1))
    expected = reference(lambda name, t, p, g, s: p - 0.05 * np.clip(g, -2, 2))
    np.testing.assert_allclose(run(chained), expected, rtol=1e-12)


def test_chains_print_as_written_and_name_their_state():
    rule = optim.chain(optim.clip_by_value(1.0), optim.chain(optim.Adam(0.1)))
    assert repr(rule) == f"chain(clip_by_value(1.0, -1.0), {optim.Adam(0.1)!r})"
    assert eval(repr(rule), vars(optim)) == rule
    twice = optim.chain(pml.trace(0.9), pml.trace(0.9), optim.SGD(0.1))
    params = parameters()
    names = [variable.name for variable in twice(gradients(params), params)]
    assert len(set(names)) == len(names)


def test_two_rules_in_a_chain_are_refused():
    params = parameters()
    with pytest.raises(ValueError, match="Keep one rule in a chain"):
        optim.chain(optim.Adam(), optim.SGD())(gradients(params), params)
