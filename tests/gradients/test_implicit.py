"""Draws with the gradient of their quantile function: Gamma and its relatives, Wald, von Mises."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.pytensorf import find_rng_nodes, reseed_rngs, rewrite_pregrad
from scipy import integrate, special, stats

from pymc_svi.gradients import rsample
from pymc_svi.gradients.gamma import dlog_gamma_draw
from pymc_svi.gradients.implicit import log_gamma_draw
from pymc_svi.gradients.von_mises import dvon_mises_draw
from tests.gradients.draws import (
    Case,
    check_distribution,
    check_expected_gradient,
    check_quantile_gradient,
)

QUANTILES = np.array([1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 1 - 1e-4])


class HalfT:
    """The absolute value of a Student t variable around zero."""

    def __init__(self, nu, sigma):
        self.t = stats.t(nu, 0, sigma)

    def support(self):
        return 0.0, np.inf

    def cdf(self, x):
        return 2 * self.t.cdf(x) - 1

    def pdf(self, x):
        return 2 * self.t.pdf(x)

    def ppf(self, q):
        return self.t.isf((1 - np.asarray(q)) / 2)


CASES = [
    *(
        Case(
            f"Gamma, alpha = {alpha:g}",
            pm.Gamma.dist,
            {"alpha": alpha, "beta": 2.0},
            lambda alpha, beta: stats.gamma(alpha, scale=1 / beta),
            mode=None,
        )
        for alpha in (0.01, 0.3, 1.0, 30.0, 1e4)
    ),
    Case(
        "ChiSquared",
        pm.ChiSquared.dist,
        {"nu": 3.0},
        lambda nu: stats.chi2(nu),
        mode=None,
    ),
    Case(
        "InverseGamma",
        pm.InverseGamma.dist,
        {"alpha": 3.0, "beta": 2.0},
        lambda alpha, beta: stats.invgamma(alpha, scale=beta),
        f="log",
        mode=None,
    ),
    Case(
        "Beta",
        pm.Beta.dist,
        {"alpha": 0.6, "beta": 2.0},
        lambda alpha, beta: stats.beta(alpha, beta),
        monotone=False,
        mode=None,
    ),
    Case(
        "StudentT",
        pm.StudentT.dist,
        {"nu": 3.0, "mu": 0.5, "sigma": 2.0},
        lambda nu, mu, sigma: stats.t(nu, mu, sigma),
        monotone=False,
        f="arctan",
        mode=None,
    ),
    Case(
        "HalfStudentT",
        pm.HalfStudentT.dist,
        {"nu": 3.0, "sigma": 2.0},
        HalfT,
        monotone=False,
        f="arctan",
        mode=None,
    ),
    Case(
        "SkewStudentT",
        lambda a, b, mu, sigma: pm.SkewStudentT.dist(a, b, mu=mu, sigma=sigma),
        {"a": 2.0, "b": 3.0, "mu": 0.5, "sigma": 2.0},
        lambda a, b, mu, sigma: stats.jf_skew_t(a, b, mu, sigma),
        monotone=False,
        f="arctan",
        mode=None,
    ),
    Case(
        "Wald",
        pm.Wald.dist,
        {"mu": 1.5, "lam": 0.8},
        lambda mu, lam: stats.invgauss(mu / lam, scale=lam),
    ),
    Case(
        "Wald, narrow, shifted",
        lambda mu, lam, alpha: pm.Wald.dist(mu=mu, lam=lam, alpha=alpha),
        {"mu": 1.5, "lam": 80.0, "alpha": 0.5},
        lambda mu, lam, alpha: stats.invgauss(mu / lam, loc=alpha, scale=lam),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_draws_have_the_distribution(case):
    check_distribution(case)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_mean_gradient_is_that_of_the_expectation(case):
    check_expected_gradient(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.monotone], ids=repr)
def test_each_draw_moves_with_its_quantile(case):
    check_quantile_gradient(case)


# --- accuracy -------------------------------------------------------------------------------


def exact_dlog_gamma(alpha, z):
    """Sum the power series of the distribution function, differentiated term by term."""
    n = np.arange(int(z + 20 * np.sqrt(z + 1) + 60))
    log_terms = n * np.log(z) - (special.gammaln(alpha + n + 1) - special.gammaln(alpha))
    return np.sum(np.exp(log_terms) * (special.digamma(alpha + n + 1) - np.log(z)))


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 20.0, 100.0, 1e4])
def test_gamma_derivative_is_exact(alpha):
    z = np.where(
        QUANTILES < 0.5,
        special.gammaincinv(alpha, QUANTILES),
        special.gammainccinv(alpha, 1 - QUANTILES),
    )
    z = z[z > 1e-290]
    exact = [exact_dlog_gamma(alpha, value) for value in z]
    a, log_z = pt.scalar("a"), pt.vector("log_z")
    found = dlog_gamma_draw(a, log_z).eval({a: alpha, log_z: np.log(z)}, mode="FAST_COMPILE")
    # The reference itself loses digits of log-gamma for large alpha.
    np.testing.assert_allclose(found, exact, rtol=3e-8 if alpha < 1e3 else 1e-6)


def test_gamma_derivative_where_draws_underflow():
    """For tiny shapes log z is log(u) / alpha, to more digits than there are."""
    a, log_z = pt.scalar("a"), pt.vector("log_z")
    found = dlog_gamma_draw(a, log_z).eval({a: 1e-3, log_z: [-1e3, -1e4]}, mode="FAST_COMPILE")
    exact = (special.digamma(1.001) - np.array([-1e3, -1e4])) / 1e-3
    np.testing.assert_allclose(found, exact, rtol=1e-12)


@pytest.mark.parametrize("kappa", [0.01, 1.0, 5.0, 19.9, 20.1, 100.0, 1e4])
def test_von_mises_derivative_is_exact(kappa):
    x = stats.vonmises(kappa).ppf(QUANTILES)
    mean = special.i1e(kappa) / special.i0e(kappa)

    def exact(at):
        def integrand(y):
            return np.exp(kappa * (np.cos(y) - np.cos(at))) * (np.cos(y) - mean)

        edges = np.linspace(0.0, at, 9)
        pieces = zip(edges[:-1], edges[1:], strict=True)
        return -sum(integrate.quad(integrand, *piece, epsrel=1e-12)[0] for piece in pieces)

    k, at = pt.scalar("k"), pt.vector("at")
    found = dvon_mises_draw(k, at).eval({k: kappa, at: x}, mode="FAST_COMPILE")
    np.testing.assert_allclose(found, [exact(value) for value in x], rtol=1e-8, atol=1e-12)


def test_von_mises_draws():
    """Angles stay between -pi and pi, and have the right distribution and gradient."""
    mu, kappa = pt.vector("mu"), pt.vector("kappa")
    x = rsample(pm.VonMises.dist(mu, kappa))
    reseed_rngs(find_rng_nodes([x]), 3)
    outputs = [x, *pytensor.grad(pt.sin(x).sum(), [mu, kappa])]
    function = pytensor.function([mu, kappa], outputs)
    n = 50_000
    draws, by_mu, by_kappa = function(np.full(n, 2.5), np.full(n, 1.5))
    assert (np.abs(draws) <= np.pi).all()
    turned = np.mod(draws - 2.5 + np.pi, 2 * np.pi) - np.pi
    assert stats.kstest(turned, stats.vonmises(1.5).cdf).pvalue > 1e-4
    mean = special.i1(1.5) / special.i0(1.5)
    slope = 1 - mean / 1.5 - mean**2
    for gradient, exact in ((by_mu, mean * np.cos(2.5)), (by_kappa, slope * np.sin(2.5))):
        assert abs(gradient.mean() - exact) < 3.5 * gradient.std() / np.sqrt(n)


# --- edges ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dist",
    [
        lambda a: pm.Gamma.dist(a, 1.0),
        lambda a: pm.InverseGamma.dist(a, 1.0),
        lambda a: pm.Beta.dist(a, a),
        lambda a: pm.Dirichlet.dist(pt.stack([a, a, a], axis=-1)),
    ],
    ids=["Gamma", "InverseGamma", "Beta", "Dirichlet"],
)
@pytest.mark.parametrize("alpha", [1e-3, 1e-2])
def test_tiny_parameters_stay_inside_the_support(dist, alpha):
    a = pt.vector("a")
    rv = dist(a)
    x = rsample(rv)
    cost = pm.logp(rv, x).sum()
    outputs = [x, cost, pytensor.grad(rewrite_pregrad(x.sum()), a)]
    reseed_rngs(find_rng_nodes(outputs), 4)
    draws, cost, gradient = pytensor.function([a], outputs, mode="FAST_COMPILE")(
        np.full(300, alpha)
    )
    assert (draws > 0).all() and np.isfinite(draws).all()
    assert np.isfinite(cost) and np.isfinite(gradient).all()


def test_log_of_a_tiny_gamma_has_the_right_gradient():
    """E[log z] is the digamma function even where z underflows."""
    a = pt.vector("a")
    log_z = log_gamma_draw(pm.Gamma.dist(a, 1.0), a)
    reseed_rngs(find_rng_nodes([log_z]), 5)
    outputs = [log_z, pytensor.grad(log_z.sum(), a)]
    values, gradient = pytensor.function([a], outputs)(np.full(20_000, 1e-3))
    for found, exact in ((values, special.digamma(1e-3)), (gradient, special.polygamma(1, 1e-3))):
        assert abs(found.mean() - exact) < 3.5 * found.std() / np.sqrt(20_000)


def test_dirichlet_gradient():
    """E[x_i] = a_i / sum(a), so its derivative is known."""
    a = pt.matrix("a")
    x = rsample(pm.Dirichlet.dist(a))
    reseed_rngs(find_rng_nodes([x]), 6)
    n, values = 20_000, np.array([0.3, 1.0, 4.0])
    outputs = [x, pytensor.grad(x[:, 0].sum(), a)]
    draws, gradient = pytensor.function([a], outputs)(np.tile(values, (n, 1)))
    np.testing.assert_allclose(draws.sum(axis=1), 1)
    exact = (np.array([1, 0, 0]) - values[0] / values.sum()) / values.sum()
    assert (np.abs(gradient.mean(axis=0) - exact) < 3.5 * gradient.std(axis=0) / np.sqrt(n)).all()
    error = draws.std(axis=0) / np.sqrt(n)
    assert (np.abs(draws.mean(axis=0) - values / values.sum()) < 3.5 * error).all()


def test_gamma_with_a_constant_shape_needs_one_noise():
    assert len(find_rng_nodes([rsample(pm.Gamma.dist(2.0, pt.scalar("beta")))])) == 1
