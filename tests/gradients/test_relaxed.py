"""Relaxed discrete distributions: their densities, laws and gradients."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.integrate import quad
from scipy.special import expit, logit, logsumexp
from scipy.stats import norm

from pymc_svi import param
from pymc_svi.gradients import rsample, vectorize_draws
from pymc_svi.relaxed import GumbelSoftmax, RelaxedBernoulli
from tests.checks import assert_mean, gradient_draws, loss_draws

P = np.array([0.2, 0.3, 0.5])


def density(rv, value):
    return pytensor.function([value], pt.exp(pm.logp(rv, value)), mode="FAST_COMPILE")


@pytest.mark.parametrize("temperature", [0.6, 1.5])
def test_the_density_of_a_relaxed_bernoulli_is_one_and_its_upper_half_p(temperature):
    f = density(RelaxedBernoulli.dist(temperature, p=0.3), pt.scalar())
    np.testing.assert_allclose(quad(f, 0, 1)[0], 1.0, rtol=1e-6)
    np.testing.assert_allclose(quad(f, 0.5, 1)[0], 0.3, rtol=1e-6)
    assert f(0.0) == f(1.0) == f(1.2) == 0


def test_the_density_of_a_gumbel_softmax_is_one_and_its_corners_those_of_p():
    # Gauss-Legendre nodes on the triangle, by x0 = u and x1 = (1 - u) v.
    nodes, weights = np.polynomial.legendre.leggauss(150)
    u, v = np.meshgrid((nodes + 1) / 2, (nodes + 1) / 2, indexing="ij")
    w = np.outer(weights, weights) / 4 * (1 - u)
    x = np.stack([u, (1 - u) * v, (1 - u) * (1 - v)], axis=-1).reshape(-1, 3)
    rv = GumbelSoftmax.dist(1.2, logit_p=np.log(P) + 3.0, shape=(len(x), 3))
    mass = density(rv, pt.matrix())(x) * w.ravel()
    np.testing.assert_allclose(mass.sum(), 1.0, rtol=1e-5)
    corners = [mass[x.argmax(axis=1) == i].sum() for i in range(3)]
    np.testing.assert_allclose(corners, P, atol=2e-3)  # the grid does not follow the borders


@pytest.mark.parametrize("make", [rsample, lambda rv: rv], ids=["pathwise", "plain"])
def test_draws_have_the_law_of_the_density(make):
    [x] = vectorize_draws([make(RelaxedBernoulli.dist(0.7, p=0.3))], 20_000)
    draws = x.eval(mode="FAST_COMPILE")
    f = density(RelaxedBernoulli.dist(0.7, p=0.3), pt.scalar())
    assert_mean(draws > 0.5, 0.3)
    assert_mean(draws, quad(lambda t: t * f(t), 0, 1)[0])
    [x] = vectorize_draws([make(GumbelSoftmax.dist(0.7, p=P))], 20_000)
    draws = x.eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(draws.sum(axis=1), 1.0)
    assert_mean(np.eye(3)[draws.argmax(axis=1)], P)


def test_cold_draws_are_inside_the_support():
    for rv in (RelaxedBernoulli.dist(0.01, p=P), GumbelSoftmax.dist(0.01, p=P)):
        draws = pm.draw(rv, 200, mode="FAST_COMPILE", random_seed=1)
        assert (draws > 0).all() and (draws <= 1).all()
        assert ((draws < 0.01) | (draws > 0.99)).mean() > 0.9


TEMPERATURE, Y, START = 0.6, 1.2, 0.4


def model():
    z = RelaxedBernoulli("z", TEMPERATURE, p=0.3)
    pm.Normal("y", 2 * z, 1.0, observed=Y)


def guide():
    RelaxedBernoulli("z", TEMPERATURE, logit_p=param("logit", START))


def exact_loss(logit_q):
    def log_density(x, logit_p):
        d = TEMPERATURE * logit(x) - logit_p
        return np.log(TEMPERATURE) - d - 2 * np.logaddexp(0, -d) - np.log(x * (1 - x))

    def integrand(u):  # in logits, where it is smooth
        x = expit(u)
        log_q = log_density(x, logit_q)
        log_p = log_density(x, logit(0.3)) + norm.logpdf(Y, 2 * x, 1.0)
        return np.exp(log_q) * (log_q - log_p) * x * (1 - x)

    return quad(integrand, -30, 30, limit=200)[0]


def test_the_pathwise_gradient_averages_to_quadrature():
    assert_mean(loss_draws(model, guide, n=20_000), exact_loss(START))
    expected = (exact_loss(START + 1e-4) - exact_loss(START - 1e-4)) / 2e-4
    assert_mean(gradient_draws(model, guide, n=20_000)["logit"], expected)


# --- draws that are rounded to the edge of their support -----------------------------------------


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    with pytensor.config.change_flags(floatX=request.param):
        yield request.param


def kl_of_logistics(difference):
    """At any temperature the divergence is that of the variables before it, Logistic(logit, 1)."""

    def log_density(x):
        return -x - 2 * np.logaddexp(0, -x)

    return quad(
        lambda x: np.exp(log_density(x)) * (log_density(x) - log_density(x + difference)), -60, 60
    )[0]


def losses_and_gradients(law, temperature, start, logit_p, shape):
    """Of a guide and a prior of one law, means over the elements of a site."""

    def prior():
        law("z", temperature, logit_p=logit_p, shape=shape)

    def variational():
        law("z", temperature, logit_p=param("logit", start), shape=shape)

    losses = loss_draws(prior, variational, n=100)
    gradients = gradient_draws(prior, variational, n=100)["logit"]
    return losses / shape[0], gradients / shape[0]


@pytest.mark.parametrize("temperature", [0.6, 0.02])
def test_a_loss_of_cold_bernoullis_is_unbiased(precision, temperature):
    """At 0.02, two of three draws would be rounded to 1, in double precision too."""
    losses, gradients = losses_and_gradients(RelaxedBernoulli, temperature, 1.2, -0.8, (500,))
    assert_mean(losses, kl_of_logistics(2.0))
    assert losses.std() / 10 < 0.01 * losses.mean()
    slope = (kl_of_logistics(2 + 1e-4) - kl_of_logistics(2 - 1e-4)) / 2e-4
    assert_mean(gradients, slope)


def test_a_loss_of_cold_categoricals_is_that_at_any_temperature(precision):
    start = np.array([1.0, 0.0, -0.5])
    cold, warm = (
        losses_and_gradients(GumbelSoftmax, temperature, start, np.log(P), (500, 3))
        for temperature in (0.02, 0.6)
    )
    np.testing.assert_allclose(cold[0], warm[0], rtol=1e-4)
    np.testing.assert_allclose(cold[1], warm[1], atol=1e-4)


def test_the_density_far_out_in_unconstrained_space_is_the_exact_one(precision):
    with pm.Model() as built:
        RelaxedBernoulli("z", 0.1, p=0.3)
        GumbelSoftmax("g", 0.1, p=P)
    point = {"z_logodds__": 60.0, "g_simplex__": np.array([80.0, -20.0])}
    point = {name: np.asarray(value, dtype=precision) for name, value in point.items()}
    found = built.compile_logp(sum=False, mode="FAST_COMPILE")(point)
    # In these coordinates they are a Logistic variable and differences of Gumbel variables.
    d = 0.1 * 60.0 - logit(0.3)
    np.testing.assert_allclose(found[0], np.log(0.1) - d - 2 * np.log1p(np.exp(-d)), rtol=1e-5)
    log_x = np.array([0.0, -100.0, -140.0])
    log_density = np.log(2) + 2 * np.log(0.1) + (np.log(P) - 1.1 * log_x).sum()
    log_density -= 3 * logsumexp(np.log(P) - 0.1 * log_x)
    jacobian = np.log(3) + log_x.sum()
    np.testing.assert_allclose(found[1], log_density + jacobian, rtol=1e-5)


def test_they_are_variables_of_a_model_with_shapes_and_dims():
    with pm.Model(coords={"row": range(4)}) as built:
        RelaxedBernoulli("a", 0.5, logit_p=np.zeros(4), dims="row")
        RelaxedBernoulli("b", 0.5, p=0.5, shape=2)
        GumbelSoftmax("c", 0.5, p=np.full((4, 3), 1 / 3))
    assert all(np.isfinite(v) for v in built.point_logps().values())
    assert {k: np.shape(v) for k, v in built.initial_point().items()} == {
        "a_logodds__": (4,),
        "b_logodds__": (2,),
        "c_simplex__": (4, 2),
    }


def test_probabilities_are_given_once():
    for distribution in (RelaxedBernoulli, GumbelSoftmax):
        with pytest.raises(TypeError, match="takes p or logit_p.*none"):
            distribution.dist(0.5)
        with pytest.raises(TypeError, match="takes p or logit_p.*both"):
            distribution.dist(0.5, p=P, logit_p=P)
