"""Single precision stays single precision, unless somebody asks for double."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.traversal import ancestors

from pymc_svi import SVI, RenyiELBO, Trace_ELBO, constraints, optim, param, sample
from pymc_svi.engine.arguments import Arguments
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.gradients.narrow import narrowed
from pymc_svi.guides import AutoDAIS, AutoNormal
from tests.checks import as_built


@pytest.fixture(autouse=True)
def float32():
    with pytensor.config.change_flags(floatX="float32"):
        yield


X = np.random.default_rng(0).normal(size=(30, 2))
COUNTS = np.random.default_rng(1).poisson(2.0, size=30)
WEIGHTS = np.linspace(0.5, 2.0, 30)


def counts(X, y):
    w = pm.Normal("w", 0, 1, shape=2)
    pm.Poisson("y", pt.exp(X @ w), observed=y)


def proportions(X, y):
    w = pm.Normal("w", 0, 1, shape=2)
    pm.Binomial("y", 20, logit_p=X @ w / X.shape[0], observed=y)


def dispersed(X, y):
    # Constants of NumPy: an array, and numbers.
    mu = WEIGHTS * pm.math.exp(X @ pm.Normal("w", np.zeros(2), np.sqrt(2.0), shape=2))
    pm.NegativeBinomial("y", mu=mu, alpha=np.float64(2.0), observed=y)
    pm.Potential("even", -pt.logsumexp(mu / 100_000) - mu.mean())


def double_precision(outputs):
    """Return the ops whose results are in double precision."""
    return [
        variable.owner.op
        for variable in ancestors(outputs)
        if getattr(variable.type, "dtype", None) == "float64" and variable.owner
    ]


@pytest.mark.parametrize("objective", [Trace_ELBO(), Trace_ELBO(3), RenyiELBO(0.5, 3)], ids=str)
@pytest.mark.parametrize("model", [counts, proportions, dispersed])
def test_nothing_in_a_step_is_in_double_precision(model, objective):
    training = SVI(model, AutoNormal(model), optim.Adam(0.01), objective).training_for(
        Arguments((X, COUNTS), {})
    )
    updates = training.optimizer_updates.values()
    assert not double_precision([training.value, training.surrogate, *updates])
    # Nor do data come in it.
    data = [v for v in ancestors(updates) if getattr(v.type, "ndim", 0) and not v.owner]
    assert not [v for v in data if v.type.dtype == "float64"]


def assert_narrow(model, guide, *args):
    training = SVI(model, guide, optim.Adam(0.01)).training_for(Arguments(args, {}))
    assert not double_precision([training.value, *training.gradients])


def test_a_gradient_inside_the_loss_is_not_in_double_precision():
    assert_narrow(dispersed, AutoDAIS(dispersed, K=2), X, COUNTS)


def test_a_site_with_constants_of_numpy_is_not_in_double_precision():
    def law(mu, size):
        return mu + pm.Normal.dist(0.0, 1.0, size=size)

    def model(y):
        z = pm.CustomDist("z", WEIGHTS, dist=law, class_name="Law")
        assert z.type.dtype == "float64"
        pm.Poisson("y", pt.exp(z), observed=y)

    def guide(y):
        pm.Normal("z", param("loc", np.zeros(30)), 1.0)

    assert_narrow(model, guide, COUNTS)
    assert_narrow(as_built(model, COUNTS), lambda: guide(None))
    assert_narrow(
        model, lambda y: pm.CustomDist("z", param("loc", WEIGHTS) * WEIGHTS, dist=law), COUNTS
    )


@pytest.mark.parametrize("law", [pm.Gamma.dist, pm.Beta.dist, pm.VonMises.dist])
def test_implicit_gradients_are_not_in_double_precision(law):
    def model():
        sample("x", law(np.ones(3), 2 * np.ones(3)))

    def guide():
        a = param("a", 2.0, constraint=constraints.positive)
        sample("x", law(a * np.ones(3), a * np.ones(3)))

    assert_narrow(model, guide)


@pytest.mark.parametrize("model", [counts, proportions, dispersed])
def test_the_loss_is_that_of_double_precision(model):
    losses = []
    for precision in ("float32", "float64"):
        with pytensor.config.change_flags(floatX=precision):
            guide = AutoNormal(model, init_scale=1e-4)
            svi = SVI(model, guide, compile_kwargs={"mode": evaluation_mode()})
            losses.append(svi.evaluate(svi.init(X, COUNTS, random_seed=0), X, COUNTS))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def evaluated(expression):
    [new] = narrowed([expression])
    function = pytensor.function([], [expression, new], mode=evaluation_mode())
    before, after = function()
    np.testing.assert_allclose(after, before, rtol=1e-5)
    return new.type.dtype


x = pytensor.shared(np.array([1.5, -2.0], dtype="float32"), name="x")
n = pytensor.shared(np.array([3, 4], dtype="int64"), name="n")


@pytest.mark.parametrize(
    "expression",
    [
        n * x,
        x / x.shape[0],
        pt.gammaln(n),
        pt.switch(n > 3, n, x),
        (n * x).sum(),
        (n * x).mean(),
        n.mean(),
        (n * x).max(),
        pt.logsumexp(n * x),
        pt.dot(n * x, x),
        pt.concatenate([n * x, x]),
        (x * np.log(2.0))[::-1],
        x + np.array([1.0, 2.0]),
        pt.set_subtensor((n * x)[0], 1.0),
    ],
    ids=str,
)
def test_integers_and_constants_do_not_widen(expression):
    assert expression.type.dtype == "float64"
    assert evaluated(expression) == "float32"


@pytest.mark.parametrize(
    "expression",
    [
        x.astype("float64") * 2,
        n * x.astype("float64"),
        pt.log(x * np.float64(1e-300)),  # would be zero
        pytensor.shared(np.array([1.0, 2.0]), name="wide") * x,
    ],
    ids=str,
)
def test_what_is_meant_to_be_wide_stays_wide(expression):
    assert evaluated(expression) == "float64"


def test_a_loop_keeps_the_types_that_it_was_made_for():
    steps = pytensor.scan(
        lambda a, total: total + a,
        sequences=[n * x],
        outputs_info=[pt.constant(np.float64(0.0))],
        return_updates=False,
    )
    assert evaluated(steps) == "float64"


def test_in_double_precision_nothing_changes():
    with pytensor.config.change_flags(floatX="float64"):
        expression = n * x
        assert narrowed([expression]) == [expression]
