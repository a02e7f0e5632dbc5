"""What is made of short rows is the same column by column, with the same gradients."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.logprob.utils import ParameterValueError
from pytensor.graph.traversal import ancestors
from pytensor.tensor.basic import Join
from pytensor.tensor.math import Sum
from pytensor.tensor.special import LogSumExp, Softmax
from pytensor.tensor.subtensor import AdvancedSubtensor, Subtensor

from pymc_svi.gradients.columns import by_columns

RNG = np.random.default_rng(0)
N = 100


def has_log_sum_exp(expression):
    return any(
        v.owner is not None and isinstance(v.owner.op, LogSumExp) for v in ancestors([expression])
    )


def values_and_gradients(expression, inputs, given):
    weights = np.linspace(0.5, 1.5, N)
    gradients = pytensor.grad((expression * weights).sum(), inputs)
    function = pytensor.function(inputs, [expression, *gradients], mode="FAST_COMPILE")
    return function(*given)


def assert_the_same(expression, inputs, given):
    [new] = by_columns([expression])
    assert has_log_sum_exp(expression)
    assert not has_log_sum_exp(new)
    assert new.type.dtype == expression.type.dtype
    expected = values_and_gradients(expression, inputs, given)
    for found, value in zip(values_and_gradients(new, inputs, given), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-12)


def normal_logp(y, mu, sigma):
    return -0.5 * ((y[:, None] - mu) / sigma) ** 2 - pt.log(sigma)


@pytest.mark.parametrize("n_columns", [2, 3, 8])
def test_components_that_differ_by_their_parameters(n_columns):
    y, mu, log_sigma = pt.dvector("y"), pt.dvector("mu"), pt.dvector("log_sigma")
    shape = (n_columns,)
    mu_, log_sigma_ = pt.specify_shape(mu, shape), pt.specify_shape(log_sigma, shape)
    density = pt.logsumexp(normal_logp(y, mu_, pt.exp(log_sigma_)), axis=-1)
    given = [RNG.normal(size=N) * 3, RNG.normal(size=n_columns), RNG.normal(size=n_columns)]
    assert_the_same(density, [y, mu, log_sigma], given)


def test_components_side_by_side_with_an_impossible_one():
    """As of a zero-inflated count: zero itself is all that the first component can be."""
    y, eta, weight = pt.dvector("y"), pt.dvector("eta"), pt.dscalar("weight")
    weights = pt.stack([weight, 1 - weight])
    zero = pt.switch(pt.eq(y, 0), 0.0, -np.inf)
    joined = pt.join(-1, zero[:, None], (y * eta - pt.exp(eta))[:, None])
    density = pt.logsumexp(pt.log(weights) + joined, axis=-1)
    given = [RNG.poisson(1.0, N).astype(float), RNG.normal(size=N), np.array(0.3)]
    assert (given[0] == 0).any() and (given[0] > 0).any()
    [new] = by_columns([density])
    assert not has_log_sum_exp(new)
    inputs = [y, eta, weight]
    function = pytensor.function(
        inputs, [new, *pytensor.grad(new.sum(), [eta, weight])], mode="FAST_COMPILE"
    )
    found, eta_slope, weight_slope = function(*given)
    y_, eta_, w = given
    poisson = (1 - w) * np.exp(y_ * eta_ - np.exp(eta_))
    total = poisson + w * (y_ == 0)
    np.testing.assert_allclose(found, np.log(total), rtol=1e-12)
    np.testing.assert_allclose(eta_slope, poisson / total * (y_ - np.exp(eta_)), rtol=1e-11)
    np.testing.assert_allclose(
        weight_slope, ((y_ == 0) / total - poisson / (1 - w) / total).sum(), rtol=1e-11
    )


def test_equal_components_share_the_gradient():
    y, mu = pt.dvector("y"), pt.dvector("mu")
    density = pt.logsumexp(normal_logp(y, pt.specify_shape(mu, (2,)), 1.0), axis=1)
    [new] = by_columns([density])
    slope = pytensor.function([y, mu], pytensor.grad(new.sum(), mu), mode="FAST_COMPILE")
    np.testing.assert_allclose(slope(np.ones(N), np.zeros(2)), [N / 2, N / 2])


def test_infinities_as_in_pytensor():
    rows = np.array([[-np.inf, -np.inf, -np.inf], [-np.inf, 1.0, -np.inf], [-np.inf, 1.0, np.inf]])
    rows = np.concatenate([rows, rows[:, ::-1], np.zeros((N, 3))])
    first, second, third = columns = [pt.dvector() for _ in range(3)]
    density = pt.logsumexp(pt.stack([first, second, third], axis=-1), axis=-1)
    [new] = by_columns([density])
    assert not has_log_sum_exp(new)
    function = pytensor.function(columns, [new, density], mode="FAST_COMPILE")
    found, expected = function(*rows.T)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert list(expected[:3]) == [-np.inf, 1.0, np.inf]


def test_far_apart_components_lose_no_digits():
    columns = [pt.dvector(), pt.dvector()]
    [new] = by_columns([pt.logsumexp(pt.stack(columns, axis=-1), axis=-1)])
    function = pytensor.function(columns, new, mode="FAST_COMPILE")
    assert list(function(np.full(N, -1e12), np.full(N, -0.1))) == [-0.1] * N


def test_a_part_that_is_repeated_along_the_rows():
    y, mu = pt.dvector("y"), pt.dvector("mu")
    repeated = pt.alloc(pt.specify_shape(mu, (3,)), y.shape[0], 3)
    density = pt.logsumexp(repeated * y[:, None], axis=-1)
    assert_the_same(density, [y, mu], [RNG.normal(size=N), RNG.normal(size=3)])


@pytest.mark.parametrize("weights", ["softmax", "log_softmax"])
def test_weights_that_differ_by_row(weights):
    X, B, y = pt.dmatrix("X"), pt.matrix("B", shape=(5, 3)), pt.dvector("y")
    log_w = {
        "softmax": lambda z: pt.log(pt.special.softmax(z, axis=-1)),
        "log_softmax": lambda z: pt.special.log_softmax(z, axis=-1),
    }[weights](X @ B)
    density = pt.logsumexp(log_w + y[:, None] * np.arange(3.0), axis=-1)
    given = [RNG.normal(size=(N, 5)), RNG.normal(size=(5, 3)), RNG.normal(size=N)]
    assert_the_same(density, [X, B, y], given)
    [new] = by_columns([density])
    given[1] = np.full((5, 3), [500.0, 0.0, -500.0])  # the weights round to 0 and 1
    assert np.isfinite(pytensor.function([X, B, y], new, mode="FAST_COMPILE")(*given)).all()


def test_probabilities_by_row():
    X, B, y = pt.dmatrix("X"), pt.matrix("B", shape=(5, 3)), pt.dvector("y")
    mean = (pt.special.softmax(X @ B, axis=-1) * np.arange(3.0)).sum(axis=-1) * y
    [new] = by_columns([mean])
    assert not has(Softmax | Sum, new)
    given = [RNG.normal(size=(N, 5)), RNG.normal(size=(5, 3)), RNG.normal(size=N)]
    for found, expected in zip(
        values_and_gradients(new, [X, B, y], given),
        values_and_gradients(mean, [X, B, y], given),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def test_few_products():
    X, B, y = pt.dmatrix("X"), pt.matrix("B", shape=(5, 3)), pt.dvector("y")
    density = pt.logsumexp(X @ B + y[:, None], axis=-1)
    given = [RNG.normal(size=(N, 5)), RNG.normal(size=(5, 3)), RNG.normal(size=N)]
    assert_the_same(density, [X, B, y], given)


def has(op, expression):
    return any(v.owner is not None and isinstance(v.owner.op, op) for v in ancestors([expression]))


def test_labels_and_checks_of_an_ordered_outcome():
    eta, cutpoints, y = pt.dvector("eta"), pt.vector("cutpoints", shape=(3,)), pt.ivector("y")
    [density] = [pm.logp(pm.OrderedLogistic.dist(eta=eta, cutpoints=cutpoints), y)]
    [new] = by_columns([density])
    assert has(AdvancedSubtensor, density) and not has(AdvancedSubtensor, new)
    inputs = [eta, cutpoints]
    outputs = [
        [lp, *pytensor.grad((lp * np.linspace(0.5, 1.5, N)).sum(), inputs)] for lp in (new, density)
    ]
    function = pytensor.function([*inputs, y], outputs[0] + outputs[1], mode="FAST_COMPILE")
    labels = np.resize([0, 1, 2, 3], N).astype("int32")
    values = function(RNG.normal(size=N), [-1.0, 0.2, 1.0], labels)
    assert np.isfinite(values[0]).all()
    for found, expected in zip(values[:3], values[3:], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
    labels[:2] = -1, 4
    assert list(function(RNG.normal(size=N), [-1.0, 0.2, 1.0], labels)[0][:2]) == [-np.inf] * 2
    with pytest.raises(ParameterValueError, match="0 <= p <=1"):  # of cutpoints out of order
        function(RNG.normal(size=N), [-1.0, 1.0, 0.2], labels)


def test_labels_of_a_part_of_an_array():
    """Rows of ``y[:, 1:4]``, turned round: columns at other places than in the array."""
    y, label = pt.dvector("y"), pt.lvector("label")
    rows = (y[:, None] * np.array([7.0, 1.0, 2.0, 3.0, 9.0]))[:, 1:4][:, ::-1]
    element = pt.take_along_axis(rows, pt.clip(label, 0, 2)[:, None], axis=-1)[:, 0]
    [new] = by_columns([element])
    assert not has(AdvancedSubtensor, new)
    given = RNG.normal(size=N), RNG.integers(3, size=N)
    function = pytensor.function([y, label], new, mode="FAST_COMPILE")
    np.testing.assert_allclose(function(*given), given[0] * (3 - given[1]), rtol=1e-15)


def test_labels_that_may_lie_outside_are_looked_up():
    y, label = pt.dvector("y"), pt.lvector("label")
    rows = y[:, None] * np.array([1.0, 2.0, 3.0])
    for place in (label, pt.clip(label, 0, 3), pt.clip(label, -1, 2), pt.clip(label, 1, 5)):
        element = pt.take_along_axis(rows, place[:, None], axis=-1)
        assert by_columns([element]) == [element]
    some = rows[pt.arange(5), pt.clip(label[:5], 0, 2)]  # not of each row
    others = rows[pt.arange(1, N), pt.clip(label[1:], 0, 2)]
    for expression in (some, others):
        assert by_columns([expression]) == [expression]


def test_sums_of_rows():
    y, mu = pt.dvector("y"), pt.vector("mu", shape=(3,))
    total = (pt.exp(-((y[:, None] - mu) ** 2))).sum(axis=-1)
    [new] = by_columns([total])
    assert new is not total and not has(Sum, new)
    given = [RNG.normal(size=N), RNG.normal(size=3)]
    for found, expected in zip(
        values_and_gradients(new, [y, mu], given),
        values_and_gradients(total, [y, mu], given),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    counts = pt.eq(y[:, None], np.arange(3.0)).sum(axis=-1)  # of booleans: not their own type
    assert by_columns([counts]) == [counts]


def test_parts_of_a_stack():
    x, y, z = pt.dvector("x"), pt.dvector("y"), pt.dmatrix("z")
    stack = pt.stack([1 - x, x], axis=-1)
    for place, expected in ((0, 1 - x), (1, x)):
        [new] = by_columns([stack[:, place]])
        assert not has(Join | Subtensor, new)
        assert pytensor.graph.basic.equal_computations([new], [expected])
    unknown = pt.join(1, z, y[:, None])[:, 1]  # of how many columns ``z`` has
    for kept in (stack[:, -1], stack[0], stack[2:, 1], stack[:, :1], unknown, z[:, 0]):
        assert by_columns([kept]) == [kept]


def test_a_hurdle_that_is_all_but_certain_keeps_a_finite_density():
    eta, y = pt.dvector("eta"), pt.dvector("y")
    rv = pm.HurdleGamma.dist(psi=pm.math.sigmoid(eta), alpha=2.0, beta=1.0)
    [new] = by_columns([pm.logp(rv, y)])
    function = pytensor.function([eta, y], [new, pytensor.grad(new.sum(), eta)])
    found, slope = function([50.0, 800.0, -800.0, -50.0], [0.0, 0.0, 3.0, 3.0])
    gamma = np.log(3) - 3
    np.testing.assert_allclose(found, [-50, -800, gamma - 800, gamma - 50], rtol=1e-12)
    np.testing.assert_allclose(slope, [-1, -1, 1, 1], rtol=1e-12)


def test_other_rows_stay_together():
    X, B, y = pt.dmatrix("X"), pt.matrix("B", shape=(5, 5)), pt.dvector("y")
    product = pt.logsumexp(X @ B + y[:, None], axis=-1)  # its columns take longer than all
    many = pt.logsumexp(y[:, None] + np.arange(9.0), axis=-1)
    unknown = pt.logsumexp(y[:, None] + pt.dvector("z"), axis=-1)
    few = pt.logsumexp(pt.vector(shape=(5,))[:, None] + np.arange(3.0), axis=-1)
    first = pt.logsumexp(y[None, :] + np.arange(3.0)[:, None], axis=0)  # columns already
    for expression in (product, many, unknown, few, first):
        assert by_columns([expression]) == [expression]


@pytest.mark.parametrize("floatX", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["mixture", "zero_inflated"])
def test_pymcs_mixtures_have_their_density(kind, floatX):
    with pytensor.config.change_flags(floatX=floatX), pm.Model() as model:
        w = pm.Dirichlet("w", np.ones(2))
        if kind == "mixture":
            mu = pm.Normal("mu", 0.0, 1.0, shape=2)
            pm.NormalMixture("y", w=w, mu=mu, sigma=0.5, observed=RNG.normal(size=N))
        else:
            pm.ZeroInflatedPoisson("y", w[0], 2.0, observed=RNG.poisson(2.0, N))
        [density] = model.logp(vars=model["y"], sum=False)
        [new] = by_columns([density])
        assert has_log_sum_exp(density) and not has_log_sum_exp(new)
        function = model.compile_fn([new, density], inputs=model.value_vars, mode="FAST_COMPILE")
        found, expected = function(model.initial_point())
    np.testing.assert_allclose(found, expected, rtol=1e-12 if floatX == "float64" else 1e-5)
