"""How likely something is to last longer than it was seen to is finite however long that is."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.traversal import ancestors
from pytensor.scalar.math import Log1mexp
from scipy import stats

from pymc_svi.gradients.complements import without_double_complements
from pymc_svi.gradients.rewritten import rewritten

# PyMC makes a plain 2.0 single precision.
TWO = pt.constant(2.0, dtype="float64")
SCALES = np.array([1e-3, 0.05, 1.0, 3.0, 1e3])


def n_complements(expression):
    return sum(
        isinstance(getattr(v.owner and v.owner.op, "scalar_op", None), Log1mexp)
        for v in ancestors([expression])
    )


FAMILIES = {
    "weibull": (lambda b: pm.Weibull.dist(TWO, b), lambda b: stats.weibull_min(2.0, scale=b)),
    "exponential": (lambda b: pm.Exponential.dist(scale=b), lambda b: stats.expon(scale=b)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_censored_times(family):
    law, exact = FAMILIES[family]
    scale, bound = pt.dvector("scale"), pt.dvector("bound")
    rv = pm.Censored.dist(law(scale), None, bound)
    density = pm.logp(rv, bound)
    [new] = without_double_complements([density])
    assert n_complements(density) == 2 and n_complements(new) == 0
    function = pytensor.function([scale, bound], [new, pytensor.grad(new.sum(), scale)])
    found, slope = function(SCALES, np.full(5, 2.0))
    np.testing.assert_allclose(found, exact(SCALES).logsf(2.0), rtol=1e-12)
    power = 2 if family == "weibull" else 1
    np.testing.assert_allclose(slope, power * (2.0 / SCALES) ** power / SCALES, rtol=1e-12)
    # A bound below zero is passed for certain; an uncensored time has its density.
    assert list(function(SCALES, np.full(5, -1.0))[0]) == [0.0] * 5
    [seen] = without_double_complements([pm.logp(rv, pt.full(5, 1.5))])
    at = pytensor.function([scale, bound], seen, mode="FAST_COMPILE")(SCALES, np.full(5, 2.0))
    np.testing.assert_allclose(at, exact(SCALES).logpdf(1.5), rtol=1e-12)


def test_a_pareto_and_its_branches():
    alpha, bound = pt.dvector("alpha"), pt.dvector("bound")
    [new] = rewritten([pm.logp(pm.Censored.dist(pm.Pareto.dist(alpha, 1.0), None, bound), bound)])
    function = pytensor.function([alpha, bound], new)
    at = np.array([0.5, 3.0, 50.0])
    np.testing.assert_allclose(
        function(at, np.array([1.5, 4.0, 100.0])), -at * np.log([1.5, 4.0, 100.0]), rtol=1e-9
    )


def test_truncated_times():
    """Of those that were only seen because they lasted longer than the time of entry."""
    scale, entry = pt.dvector("scale"), 2.0
    rv = pm.Truncated.dist(pm.Weibull.dist(TWO, scale), lower=entry)
    [new] = without_double_complements([pm.logp(rv, pt.full(5, 2.5))])
    found = pytensor.function([scale], new)(SCALES)
    exact = stats.weibull_min(2.0, scale=SCALES)
    np.testing.assert_allclose(found, exact.logpdf(2.5) - exact.logsf(entry), rtol=1e-9)


def test_other_logarithms_stay():
    x, y = pt.dvector("x"), pt.dvector("y")
    kept = [
        pt.log1mexp(x),
        pt.log1mexp(pt.log(x)),
        pt.log1mexp(pt.log1p(x)),
        pt.log1mexp(pt.switch(x > y, x, y)),
        pt.log1p(-pt.exp(x)),
        pm.logp(pm.Censored.dist(pm.Gamma.dist(2.0, x), None, y), y),
    ]
    for expression in kept:
        assert without_double_complements([expression]) == [expression]
