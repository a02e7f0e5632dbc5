"""Checks that hold by construction are left out, all others are kept."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.traversal import ancestors
from pytensor.tensor.math import All

from pymc_svi.gradients.certain import without_certain_checks

N = 5
logits, eta, rate = pt.dmatrix("logits"), pt.dvector("eta"), pt.dvector("rate")
GIVEN = {
    logits: np.random.default_rng(0).normal(size=(N, 3)),
    eta: np.random.default_rng(1).normal(size=N),
    rate: np.full(N, 0.5),
}


def n_checks(expression):
    checks = [v.owner for v in ancestors([expression]) if v.owner and isinstance(v.owner.op, All)]
    return len([node for node in checks if not node.inputs[0].type.ndim == 0]) - 1  # one of all


@pytest.mark.parametrize(
    ("law", "value", "before", "after"),
    [
        (pm.Categorical.dist(logit_p=logits), np.arange(N) % 3, 3, 0),
        (pm.Multinomial.dist(n=2, p=pt.special.softmax(logits, axis=-1)), None, 4, 1),
        (pm.Binomial.dist(3, logit_p=eta), np.arange(N) % 4, 3, 1),
        (pm.Bernoulli.dist(logit_p=eta), np.arange(N) % 2, 2, 0),
        (pm.Poisson.dist(pt.exp(eta)), np.arange(N), 1, 0),
        (pm.Poisson.dist(rate), np.arange(N), 1, 1),
        (pm.Poisson.dist(eta), np.arange(N), 1, 1),
        (pm.Bernoulli.dist(pt.exp(eta)), np.arange(N) % 2, 2, 1),  # at least 0, but not at most 1
        (pm.Categorical.dist(pt.special.softmax(logits, axis=0)), np.arange(N) % 3, 3, 1),
    ],
)
def test_checks_left(law, value, before, after):
    value = np.tile([2, 0, 0], (N, 1)) if value is None else value
    density = pm.logp(law, value)
    [new] = without_certain_checks([density])
    assert (n_checks(density), n_checks(new)) == (before, after)
    if after == 0:
        inputs = [logits, eta, rate]
        function = pytensor.function(
            inputs, [new, density], mode="FAST_COMPILE", on_unused_input="ignore"
        )
        found, expected = function(*GIVEN.values())
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_check_that_fails_still_does():
    density = pm.logp(pm.Poisson.dist(rate), np.arange(N))
    [new] = without_certain_checks([density])
    with pytest.raises(pm.logprob.utils.ParameterValueError):
        new.eval({rate: np.full(N, -1.0)})
