"""A Bernoulli variable given by its logits has PyMC's log-density, written more cheaply."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi import handlers
from pymc_svi.handlers.log_prob import rv_log_prob

LOGITS = np.array([-800.0, -3.0, 0.0, 0.5, 40.0, 800.0])


@pytest.mark.parametrize("outcome", [0, 1])
def test_log_density_and_gradient_equal_pymc(outcome):
    logits = pt.vector("logits")
    rv = pm.Bernoulli.dist(logit_p=logits)
    value = pt.full(LOGITS.shape, outcome)
    ours, theirs = rv_log_prob(rv, value), pm.logp(rv, value)
    outputs = [ours, theirs, *(pytensor.grad(lp.sum(), logits) for lp in (ours, theirs))]
    values = pm.compile([logits], outputs)(LOGITS)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(values[2], values[3], rtol=1e-12, atol=1e-12)


def test_outcomes_other_than_0_and_1_are_impossible():
    def program():
        pm.Bernoulli("y", logit_p=np.zeros(3), observed=np.array([0, 1, 2]))

    log_prob = handlers.trace(program).get_trace()["y"].log_prob.eval()
    np.testing.assert_allclose(log_prob, [np.log(0.5), np.log(0.5), -np.inf])
