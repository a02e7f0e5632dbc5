"""Log-densities written in logits are PyMC's, also where probabilities round to 0 and 1."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.tensor.special import Softmax
from scipy.special import gammaln, log_softmax
from scipy.stats import norm

from pymc_svi import handlers
from pymc_svi.handlers.log_prob import rv_log_prob
from pymc_svi.handlers.logit_densities import log_prob_in_logits

LOGITS = np.array([-800.0, -3.0, 0.0, 0.5, 40.0, 800.0])
RNG = np.random.default_rng(0)


def assert_equals_pymc(rv, value, logits, at, mode=None):
    ours, theirs = rv_log_prob(rv, value), pm.logp(rv, value)
    outputs = [ours, theirs, *(pytensor.grad(lp.sum(), logits) for lp in (ours, theirs))]
    values = pytensor.function([logits], outputs, mode=mode)(at)
    assert np.isfinite(values[0]).all() and np.shape(values[0]) == np.shape(values[1])
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(values[2], values[3], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("outcome", [0, 1])
def test_a_bernoulli(outcome):
    logits = pt.vector("logits")
    value = pt.full(LOGITS.shape, outcome)
    assert_equals_pymc(pm.Bernoulli.dist(logit_p=logits), value, logits, LOGITS)


@pytest.mark.parametrize("count", [0, 3, 7])
def test_a_binomial(count):
    logits = pt.vector("logits")
    value = pt.as_tensor(np.full(LOGITS.shape, count))
    # PyMC's own has logit 800 as the largest number: its gradient is that only up to 37.
    n = pt.constant(7, dtype="int64")
    assert_equals_pymc(pm.Binomial.dist(n, logit_p=logits), value[1:5], logits, LOGITS[1:5])
    [found] = pytensor.function(
        [logits], [rv_log_prob(pm.Binomial.dist(7, logit_p=logits), value)]
    )(LOGITS)
    ways = gammaln(8) - gammaln(count + 1) - gammaln(8 - count)
    hits, misses = count * np.logaddexp(0, -LOGITS), (7 - count) * np.logaddexp(0, LOGITS)
    np.testing.assert_allclose(found, ways - hits - misses, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n", [None, 3])
def test_probits(n):
    probit = pt.vector("probit")
    at = np.array([-1e4, -35.0, -8.5, -1.5, -1.0, 0.0, 1.0, 9.0, 40.0])
    p = pm.math.invprobit(probit)
    rv = pm.Bernoulli.dist(p) if n is None else pm.Binomial.dist(n, p)
    for outcome in range(2 if n is None else n + 1):
        log_prob = rv_log_prob(rv, pt.as_tensor(np.full(len(at), outcome)))
        found, slope = pytensor.function(
            [probit], [log_prob, pytensor.grad(log_prob.sum(), probit)]
        )(at)
        hits, misses = outcome, (n or 1) - outcome
        ways = gammaln(hits + misses + 1) - gammaln(hits + 1) - gammaln(misses + 1)
        expected = ways + hits * norm.logcdf(at) + misses * norm.logcdf(-at)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
        hazard = (
            np.exp(norm.logpdf(at) - norm.logcdf(at)),
            np.exp(norm.logpdf(at) - norm.logcdf(-at)),
        )
        np.testing.assert_allclose(
            slope, hits * hazard[0] - misses * hazard[1], rtol=1e-7, atol=1e-300
        )


@pytest.mark.parametrize("n", [None, 4])
@pytest.mark.parametrize("to_p", [pm.math.sigmoid, pm.math.invprobit], ids=["logit", "probit"])
def test_what_is_impossible_or_certain_by_infinite_logits(to_p, n):
    """As where a model excludes an outcome: ``pt.switch(alive, logit, -np.inf)``."""
    x = pt.vector("x")
    inner = pt.switch(np.arange(6) < 4, [-np.inf, -np.inf, np.inf, np.inf, 0, 0], x)
    p = to_p(inner)
    rv = pm.Bernoulli.dist(p) if n is None else pm.Binomial.dist(n, p)
    most = n or 1
    value = np.array([0, most, 0, most, 0, most])
    log_prob = rv_log_prob(rv, pt.as_tensor(value))
    slope = pytensor.grad(log_prob[[0, 3, 4, 5]].sum(), x)
    found, slope = pytensor.function([x], [log_prob, slope])(np.zeros(6))
    half = most * np.log(0.5)
    np.testing.assert_allclose(found, [0.0, -np.inf, -np.inf, 0.0, half, half], atol=1e-12)
    at_zero = most * (0.5 if to_p is pm.math.sigmoid else np.sqrt(2 / np.pi))
    np.testing.assert_allclose(slope, [0, 0, 0, 0, -at_zero, at_zero], rtol=1e-6, atol=1e-12)


def test_what_only_resembles_a_probit_is_left_to_pymc():
    x = pt.dvector("x")
    root = pt.sqrt(2.0)
    whole, half = pt.erfc(x / root), pt.as_tensor(0.5)
    others = (
        0.5 * pt.erfc(x),
        0.5 * pt.erfc(x / 1.5),
        0.5 * pt.erfc(x / x),
        0.5 * pt.erf(x / root),
    )
    for p in (0.4 * whole, x * whole, 0.5 * pt.exp(x), half * x, *others):
        assert log_prob_in_logits(pm.Bernoulli.dist(p), pt.lvector()) is None


@pytest.mark.parametrize(
    ("shape", "labels"),
    [
        ((5, 3), RNG.integers(3, size=5)),
        ((3,), RNG.integers(3, size=5)),
        ((3,), 2),
        ((5, 3), 1),
        ((2, 5, 3), RNG.integers(3, size=5)),
        ((1, 3), RNG.integers(3, size=(2, 5))),
    ],
    ids=["rows", "one law", "a number", "one label", "laws beyond", "labels beyond"],
)
def test_a_categorical_broadcasts_as_pymc_has_it(shape, labels):
    logits = pt.tensor("logits", shape=shape)
    rv = pm.Categorical.dist(logit_p=logits)
    at = RNG.normal(size=shape) * 3
    assert_equals_pymc(rv, pt.as_tensor(labels), logits, at, mode="FAST_COMPILE")


def test_a_category_that_is_all_but_excluded_keeps_a_finite_density():
    logits = pt.matrix("logits")
    at = np.array([[0.0, 900.0, -900.0], [0.0, 1.0, -np.inf]])
    log_prob = rv_log_prob(pm.Categorical.dist(logit_p=logits), pt.as_tensor([0, 1]))
    function = pytensor.function([logits], [log_prob, pytensor.grad(log_prob.sum(), logits)])
    found, slope = function(at)
    np.testing.assert_allclose(found, [-900.0, -np.log1p(np.exp(-1))], rtol=1e-12)
    p = np.exp(log_softmax(at, axis=-1))
    np.testing.assert_allclose(slope, np.eye(3)[[0, 1]] - p, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shape", [(4, 3), (3,)])
def test_a_multinomial(shape):
    logits = pt.tensor("logits", shape=shape)
    value = np.array([[2, 0, 1], [0, 0, 3], [1, 1, 1], [3, 0, 0]])
    rv = pm.Multinomial.dist(n=pt.constant(3, dtype="int64"), p=pm.math.softmax(logits, axis=-1))
    at = RNG.normal(size=shape) * 3
    assert_equals_pymc(rv, pt.as_tensor(value), logits, at, mode="FAST_COMPILE")
    far = np.broadcast_to([900.0, 0.0, -900.0], shape)
    found = pytensor.function([logits], rv_log_prob(rv, pt.as_tensor(value)))(far)
    log_p = log_softmax(far, axis=-1)
    expected = gammaln(4) - gammaln(value + 1).sum(-1) + (value * log_p).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_values_outside_of_the_support_are_impossible():
    def program():
        pm.Bernoulli("b", logit_p=np.zeros(3), observed=np.array([0, 1, 2]))
        pm.Binomial("n", 2, logit_p=np.zeros(4), observed=np.array([-1, 0, 2, 3]))
        pm.Categorical("c", logit_p=np.zeros((4, 2)), observed=np.array([-1, 0, 1, 2]))
        zeros = pt.zeros((4, 2))
        counts = np.array([[-1, 2], [1, 1], [0, 1], [2, 0]])
        pm.Multinomial(
            "m", n=np.ones(4, int) + 1, p=pm.math.softmax(zeros, axis=-1), observed=counts
        )

    sites = handlers.trace(program).get_trace()
    half = np.log(0.5)
    expected = {
        "b": [half, half, -np.inf],
        "n": [-np.inf, 2 * half, 2 * half, -np.inf],
        "c": [-np.inf, half, half, -np.inf],
        "m": [-np.inf, half, -np.inf, 2 * half],
    }
    for name, log_prob in expected.items():
        np.testing.assert_allclose(sites[name].log_prob.eval(), log_prob, err_msg=name)


def test_a_negative_number_of_trials_is_refused_as_by_pymc():
    rv = pm.Binomial.dist(pt.iscalar("n"), logit_p=0.3)
    log_prob = pytensor.function(
        [rv.owner.op.dist_params(rv.owner)[0]], rv_log_prob(rv, pt.as_tensor(0))
    )
    assert log_prob(2) == pytest.approx(-2 * np.log1p(np.exp(0.3)))
    with pytest.raises(pm.logprob.utils.ParameterValueError, match="n >= 0"):
        log_prob(-1)


def test_probabilities_that_are_recorded_are_seen_through():
    with pm.Model():
        eta = pm.Normal("eta", shape=3)
        p = pm.Deterministic("p", pm.math.sigmoid(eta))
        q = pm.Deterministic("q", pm.math.softmax(eta))
        assert log_prob_in_logits(pm.Bernoulli("y", p), pt.lvector()) is not None
        assert log_prob_in_logits(pm.Categorical("z", q), pt.lscalar()) is not None


def test_probabilities_that_are_changed_count_as_they_are():
    def program():
        p = pm.Deterministic("p", pm.math.sigmoid(pm.Normal("eta")))
        pm.Bernoulli("y", p, observed=1)

    with pm.Model() as model:
        program()
    for one in (program, model):
        changed = handlers.do(one, {"p": 0.25})
        log_prob = handlers.trace(changed).get_trace()["y"].log_prob
        assert float(log_prob.eval()) == pytest.approx(np.log(0.25))


def test_a_softmax_over_another_axis_is_left_to_pymc():
    p = pm.math.softmax(pt.dmatrix("logits"), axis=0)
    assert isinstance(p.owner.op, Softmax)
    assert log_prob_in_logits(pm.Categorical.dist(p), pt.lvector()) is None
