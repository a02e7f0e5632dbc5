"""``deterministic`` and ``factor``."""

from __future__ import annotations

from pymc_svi import deterministic, factor
from pymc_svi.handlers import trace


def evaluated(expression):
    return expression.eval(mode="FAST_COMPILE")


def test_deterministic_and_factor_take_numbers():
    def program():
        deterministic("d", [1.0, 2.0])
        factor("f", 3.0)

    run = trace(program).get_trace()
    assert evaluated(run["d"].value).tolist() == [1.0, 2.0]
    assert evaluated(run.log_prob_sum()) == 3.0
