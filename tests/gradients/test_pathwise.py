"""Draws that are elementary functions of noise, of whatever shape, and the registry of rules."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pymc.dims as pmd
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.distributions.shape_utils import change_dist_size
from pymc.pytensorf import find_rng_nodes, reseed_rngs, rewrite_pregrad
from pytensor.tensor.random.op import RandomVariable
from scipy import stats
from scipy.special import expit, logit

from pymc_svi.gradients import (
    NoPathwiseDraw,
    detached,
    has_rsample,
    noise,
    random_variables,
    register_rsample,
    rsample,
    vectorize_draws,
    with_gradient_of,
)
from pymc_svi.gradients.named_dims import without_named_dims
from tests.gradients.draws import (
    Case,
    check_distribution,
    check_expected_gradient,
    check_quantile_gradient,
)


class Transformed:
    """The distribution of an increasing function of a scipy variable, on the unit interval."""

    def __init__(self, base, function, inverse, slope):
        self.base, self.function, self.inverse, self.slope = base, function, inverse, slope

    def support(self):
        return 0.0, 1.0

    def cdf(self, x):
        return self.base.cdf(self.inverse(x))

    def sf(self, x):
        return self.base.sf(self.inverse(x))

    def pdf(self, x):
        y = self.inverse(x)
        return self.base.pdf(y) / self.slope(y)

    def ppf(self, q):
        return self.function(self.base.ppf(q))

    def median(self):
        return self.ppf(0.5)


def logit_normal(mu, sigma):
    return Transformed(stats.norm(mu, sigma), expit, logit, lambda y: expit(y) * expit(-y))


def kumaraswamy(a, b):
    return Transformed(
        stats.beta(1, b), lambda y: y ** (1 / a), lambda x: x**a, lambda y: y ** (1 / a - 1) / a
    )


def truncated_normal(mu, sigma, lower=-np.inf, upper=np.inf):
    return stats.truncnorm((lower - mu) / sigma, (upper - mu) / sigma, mu, sigma)


CASES = [
    Case(
        "Normal",
        pm.Normal.dist,
        {"mu": 0.5, "sigma": 2.0},
        lambda mu, sigma: stats.norm(mu, sigma),
    ),
    Case(
        "LogNormal",
        pm.LogNormal.dist,
        {"mu": 0.5, "sigma": 0.5},
        lambda mu, sigma: stats.lognorm(s=sigma, scale=np.exp(mu)),
    ),
    Case(
        "HalfNormal",
        pm.HalfNormal.dist,
        {"sigma": 2.0},
        lambda sigma: stats.halfnorm(scale=sigma),
    ),
    Case(
        "Uniform",
        pm.Uniform.dist,
        {"lower": -1.0, "upper": 2.0},
        lambda lower, upper: stats.uniform(lower, upper - lower),
    ),
    Case(
        "Laplace",
        pm.Laplace.dist,
        {"mu": 0.5, "b": 2.0},
        lambda mu, b: stats.laplace(mu, b),
    ),
    Case(
        "AsymmetricLaplace",
        pm.AsymmetricLaplace.dist,
        {"kappa": 1.5, "mu": 0.3, "b": 0.7},
        lambda kappa, mu, b: stats.laplace_asymmetric(kappa, mu, 1 / b),
    ),
    Case(
        "Logistic",
        pm.Logistic.dist,
        {"mu": 0.5, "s": 2.0},
        lambda mu, s: stats.logistic(mu, s),
    ),
    Case(
        "LogitNormal",
        pm.LogitNormal.dist,
        {"mu": 0.5, "sigma": 2.0},
        logit_normal,
    ),
    Case(
        "Gumbel",
        pm.Gumbel.dist,
        {"mu": 0.5, "beta": 2.0},
        lambda mu, beta: stats.gumbel_r(mu, beta),
    ),
    Case(
        "Exponential",
        pm.Exponential.dist,
        {"lam": 2.0},
        lambda lam: stats.expon(scale=1 / lam),
    ),
    Case(
        "Cauchy",
        pm.Cauchy.dist,
        {"alpha": 0.5, "beta": 2.0},
        lambda alpha, beta: stats.cauchy(alpha, beta),
        f="arctan",
    ),
    Case(
        "HalfCauchy",
        pm.HalfCauchy.dist,
        {"beta": 2.0},
        lambda beta: stats.halfcauchy(scale=beta),
        f="arctan",
    ),
    Case(
        "Pareto",
        pm.Pareto.dist,
        {"alpha": 2.5, "m": 1.5},
        lambda alpha, m: stats.pareto(alpha, scale=m),
        f="log",
    ),
    Case(
        "Weibull",
        pm.Weibull.dist,
        {"alpha": 1.5, "beta": 2.0},
        lambda alpha, beta: stats.weibull_min(alpha, scale=beta),
    ),
    Case(
        "Kumaraswamy",
        pm.Kumaraswamy.dist,
        {"a": 0.7, "b": 2.0},
        kumaraswamy,
    ),
    Case(
        "Triangular",
        pm.Triangular.dist,
        {"lower": -1.0, "c": 0.5, "upper": 2.0},
        lambda lower, c, upper: stats.triang((c - lower) / (upper - lower), lower, upper - lower),
    ),
    Case(
        "Moyal",
        pm.Moyal.dist,
        {"mu": 0.5, "sigma": 2.0},
        lambda mu, sigma: stats.moyal(mu, sigma),
        monotone=False,
    ),
    Case(
        "Rice",
        pm.Rice.dist,
        {"b": 1.5, "sigma": 2.0},
        lambda b, sigma: stats.rice(b, scale=sigma),
        monotone=False,
    ),
    Case(
        "SkewNormal",
        pm.SkewNormal.dist,
        {"alpha": -3.0, "mu": 0.5, "sigma": 2.0},
        lambda alpha, mu, sigma: stats.skewnorm(alpha, mu, sigma),
        monotone=False,
    ),
    Case(
        "ExGaussian",
        pm.ExGaussian.dist,
        {"mu": 0.5, "sigma": 1.0, "nu": 2.0},
        lambda mu, sigma, nu: stats.exponnorm(nu / sigma, mu, sigma),
        monotone=False,
    ),
    Case(
        "TruncatedNormal",
        pm.TruncatedNormal.dist,
        {"mu": 0.5, "sigma": 2.0, "lower": -1.0, "upper": 3.0},
        truncated_normal,
    ),
    Case(
        "TruncatedNormal of a tail",
        pm.TruncatedNormal.dist,
        {"mu": 0.5, "sigma": 2.0, "lower": 9.0, "upper": 9.5},
        truncated_normal,
    ),
    Case(
        "TruncatedNormal from below",
        pm.TruncatedNormal.dist,
        {"mu": 0.5, "sigma": 2.0, "lower": -1.0},
        truncated_normal,
    ),
    Case(
        "TruncatedNormal of a tail from above",
        pm.TruncatedNormal.dist,
        {"mu": 0.5, "sigma": 2.0, "upper": -3.0},
        truncated_normal,
    ),
    Case(
        "Truncated Exponential",
        lambda lam, upper: pm.Truncated.dist(pm.Exponential.dist(lam), upper=upper),
        {"lam": 0.7, "upper": 2.0},
        lambda lam, upper: stats.truncexpon(upper * lam, scale=1 / lam),
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


@pytest.mark.parametrize(
    ("lower", "upper"),
    [(30.0, np.inf), (-np.inf, -30.0), (100.0, 101.0), (-np.inf, np.inf), (5.0, 5.0 + 1e-9)],
)
def test_truncated_normal_reaches_far_tails(lower, upper):
    mu, low, high = pt.vector("mu"), pt.scalar("low"), pt.scalar("high")
    x = rsample(pm.TruncatedNormal.dist(mu, 1.0, lower=low, upper=high))
    reseed_rngs(find_rng_nodes([x]), 1)
    outputs = [x, *pytensor.grad(x.sum(), [mu, low, high])]
    draws, *gradients = pytensor.function([mu, low, high], outputs, mode="FAST_COMPILE")(
        np.zeros(5_000), lower, upper
    )
    # scipy's own distribution function has no precision for an interval this short.
    expected = stats.truncnorm(lower, upper) if upper - lower > 1e-6 else stats.uniform(lower, 1e-9)
    assert stats.kstest(draws, expected.cdf).pvalue > 1e-4
    assert (draws >= lower).all() and (draws <= upper).all()
    # Moving everything by one moves the draws by one.
    total = gradients[0].sum() + gradients[1] + gradients[2]
    assert total == pytest.approx(5_000)


def test_a_mode_on_the_edge_of_a_triangle_has_a_gradient():
    c = pt.scalar("c")
    x = rsample(pm.Triangular.dist(lower=0.0, upper=1.0, c=c, shape=100))
    assert np.isfinite(pytensor.grad(x.sum(), c).eval({c: 0.0}, mode="FAST_COMPILE"))


# --- shapes ---------------------------------------------------------------------------------


t = pt.dscalar("t")
SHAPES = {
    "scalar": lambda: pm.Normal.dist(t, 1.0),
    "shape": lambda: pm.Normal.dist(t, 1.0, shape=(4,)),
    "parameters broadcast": lambda: pm.Normal.dist(t * pt.ones((3, 1)), np.ones(4)),
    "size beyond parameters": lambda: pm.Gamma.dist(t * pt.ones((3, 1)), np.ones(4), size=(2, 3, 4)),
    "StudentT": lambda: pm.StudentT.dist(4, t, sigma=pt.ones((3, 1)), size=(2, 3, 4)),
    "Rice": lambda: pm.Rice.dist(b=t * pt.ones((3, 1)), sigma=np.ones(4)),
    "HalfStudentT": lambda: pm.HalfStudentT.dist(4, t, size=(2,)),
    "MvNormal": lambda: pm.MvNormal.dist(np.zeros(3), t * pt.eye(3), size=(5, 2)),
    "MvNormal, many matrices": lambda: pm.MvNormal.dist(np.zeros(3), chol=t * pt.ones((4, 1, 1)) * pt.eye(3)),
    "MvStudentT": lambda: pm.MvStudentT.dist(4, mu=np.zeros(3), chol=t * pt.eye(3), size=(4,)),
    "Dirichlet": lambda: pm.Dirichlet.dist(t * pt.ones((2, 3)), size=(4, 2)),
    "MatrixNormal": lambda: pm.MatrixNormal.dist(np.zeros((2, 3)), rowcov=np.eye(2), colchol=t * pt.eye(3)),
    "KroneckerNormal": lambda: pm.KroneckerNormal.dist(np.zeros(6), covs=[t * pt.eye(2), pt.eye(3)]),
    "ZeroSumNormal": lambda: pm.ZeroSumNormal.dist(t, n_zerosum_axes=2, shape=(2, 3, 4)),
    "StickBreakingWeights": lambda: pm.StickBreakingWeights.dist(t, K=4, size=(3,)),
    "CAR": lambda: pm.CAR.dist(np.zeros(3), np.ones((3, 3)) - np.eye(3), 0.5, t, size=(2,)),
    "LKJCorr": lambda: pm.LKJCorr.dist(n=3, eta=t, size=(2,)),
    "GaussianRandomWalk": lambda: pm.GaussianRandomWalk.dist(
        t, t, init_dist=pm.Normal.dist(t, 1.0, size=(2,)), steps=5
    ),
    "Wishart": lambda: pm.Wishart.dist(nu=5, V=t * pt.eye(3)),
    "DiracDelta": lambda: pm.DiracDelta.dist(t, shape=(2,)),
    "VonMises": lambda: pm.VonMises.dist(t, t, shape=(3,)),
}  # fmt: skip


def test_a_scalar_draw_can_be_an_index_of_many_draws():
    rows = pt.as_tensor(np.arange(12.0).reshape(4, 3))
    number = pm.Categorical.dist(p=np.array([0.0, 0.0, 1.0, 0.0]))
    [many] = vectorize_draws([rows[number]], 5)
    np.testing.assert_array_equal(many.eval(mode="FAST_COMPILE"), [[6.0, 7.0, 8.0]] * 5)


@pytest.mark.parametrize("dist", SHAPES.values(), ids=SHAPES)
def test_type_is_that_of_the_random_variable(dist):
    rv = dist()
    x = rsample(rv)
    assert rv.type.is_super(x.type)
    assert x.type.ndim == rv.type.ndim
    [gradient] = pytensor.grad(rewrite_pregrad((x**2).sum()), [t])
    [many] = vectorize_draws([x], 3)
    values = pytensor.function([t], [x, gradient, rv, many], mode="FAST_COMPILE")(0.9)
    assert values[0].shape == values[2].shape
    assert values[3].shape == (3, *values[0].shape)
    assert all(np.isfinite(value).all() for value in values)


@pytest.mark.parametrize("dist", [pm.Normal, pm.Gumbel, pm.HalfCauchy, pm.Wald, pm.Gamma, pm.Beta])
def test_shape_that_is_known_only_at_run_time(dist):
    """The sizes of noise come from the inputs of the graph, even through other draws."""
    n, scale = pt.iscalar("n"), pt.vector("scale")
    given = rsample(pm.HalfNormal.dist(scale))
    params = [given] if dist is pm.HalfCauchy else [given + 1, 1.0]
    x = rsample(dist.dist(*params))
    assert x.eval({scale: np.ones(5)}, mode="FAST_COMPILE").shape == (5,)
    [many] = vectorize_draws([x], 3)
    values = many.eval({scale: np.ones(5)}, mode="FAST_COMPILE")
    assert values.shape == (3, 5) and len(np.unique(values)) == 15
    y = rsample(dist.dist(*params[1:], 1.0, size=(n, 5)))
    assert y.eval({n: 2}, mode="FAST_COMPILE").shape == (2, 5)


def test_float32_stays_float32():
    with pytensor.config.change_flags(floatX="float32"):
        mu = pt.scalar("mu")
        for rv in (pm.Normal.dist(mu, 1.0), pm.Gamma.dist(mu, 1.0), pm.Beta.dist(mu, 1.0)):
            x = rsample(rv)
            assert x.dtype == "float32"
            gradient = pytensor.grad(x, mu)
            assert np.isfinite(gradient.eval({mu: 0.5}, mode="FAST_COMPILE"))


def test_noise_draws_from_the_generator_of_the_random_variable():
    rv = pm.Normal.dist(0.0, pt.scalar("sigma"))
    assert find_rng_nodes([rsample(rv)]) == find_rng_nodes([rv])


@pytest.mark.parametrize(
    "rv",
    [
        pm.StudentT.dist(3.0, size=100_000),
        pm.Beta.dist(pt.ones(100_000), 1.0),
        pm.ExGaussian.dist(0.0, 1.0, nu=1.0, size=100_000),
    ],
)
def test_no_two_noises_see_the_same_numbers(rv):
    x = rsample(rv)
    draws = random_variables([x])
    rngs = [draw.owner.inputs[0] for draw in draws]
    assert len(draws) > 1 and len(set(rngs)) == len(rngs)


# --- multivariate and symbolic --------------------------------------------------------------


def assert_same_moments(rv, n=5_000):
    """Compare the first two moments of rsample(rv) with those of PyMC's own draws."""
    many = [*vectorize_draws([rsample(rv)], n), change_dist_size(rv, (n,), expand=True)]
    for seed, x in enumerate(many):
        reseed_rngs(find_rng_nodes([x]), seed)
    ours, theirs = (x.eval(mode="FAST_COMPILE").reshape(n, -1) for x in many)
    for f in (lambda x: x, lambda x: x**2, lambda x: x[:, :1] * x):
        a, b = f(ours), f(theirs)
        error = np.sqrt((a.var(axis=0) + b.var(axis=0)) / n)
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < 4 * error + 1e-9).all()


COV = np.array([[2.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 0.5]])
SAME = {
    "MvNormal, cov": lambda: pm.MvNormal.dist([1.0, 2.0, 3.0], cov=COV),
    "MvNormal, chol": lambda: pm.MvNormal.dist([1.0, 2.0, 3.0], chol=np.linalg.cholesky(COV)),
    "MvNormal, upper": lambda: pm.MvNormal.dist(
        [1.0, 2.0, 3.0], chol=np.linalg.cholesky(COV).T, lower=False
    ),
    "MvNormal, tau": lambda: pm.MvNormal.dist([1.0, 2.0, 3.0], tau=COV),
    "MvStudentT": lambda: pm.MvStudentT.dist(9.0, mu=[1.0, 2.0, 3.0], scale=COV),
    "MatrixNormal": lambda: pm.MatrixNormal.dist(
        np.ones((2, 3)), rowcov=np.array([[1.0, 0.5], [0.5, 2.0]]), colcov=COV
    ),
    "KroneckerNormal": lambda: pm.KroneckerNormal.dist(
        np.ones(6), covs=[COV[:2, :2], COV], sigma=0.5
    ),
    "ZeroSumNormal": lambda: pm.ZeroSumNormal.dist(2.0, shape=4),
    "Dirichlet": lambda: pm.Dirichlet.dist([0.3, 1.0, 4.0]),
    "StickBreakingWeights": lambda: pm.StickBreakingWeights.dist(2.0, K=3),
    "LKJCorr": lambda: pm.LKJCorr.dist(n=4, eta=1.5),
    "LKJCholeskyCov": lambda: pm.LKJCholeskyCov.dist(
        n=3, eta=1.5, sd_dist=pm.Exponential.dist(1.0), compute_corr=False
    ),
    "GaussianRandomWalk": lambda: pm.GaussianRandomWalk.dist(
        0.3, 0.5, init_dist=pm.Normal.dist(1.0, 2.0), steps=4
    ),
    "AR": lambda: pm.AR.dist(
        [1.0, 0.5, -0.3], 0.5, constant=True, init_dist=pm.Normal.dist(1.0, 0.3), steps=4
    ),
    "GARCH11": lambda: pm.GARCH11.dist(1.0, 0.2, 0.3, initial_vol=1.0, steps=4),
    "EulerMaruyama": lambda: pm.EulerMaruyama.dist(
        0.1, lambda x, k: (-k * x, 0.5), (2.0,), init_dist=pm.Normal.dist(1.0, 0.3), steps=4
    ),
    "Censored": lambda: pm.Censored.dist(pm.Normal.dist(0.3, 1.0), lower=-1.0, upper=1.0),
    "Truncated Gamma": lambda: pm.Truncated.dist(pm.Gamma.dist(2.0, 1.0), lower=1.0, upper=2.0),
    "CustomDist": lambda: pm.CustomDist.dist(
        1.0,
        dist=lambda mu, size: pm.Normal.dist(mu, 1.0, size=size) * pm.Exponential.dist(2.0, size=size),
    ),
    "Interpolated": lambda: pm.Interpolated.dist(np.linspace(0, 1, 5), np.arange(5.0)),
}  # fmt: skip


@pytest.mark.parametrize("dist", SAME.values(), ids=SAME)
def test_moments_are_those_of_pymc(dist):
    assert_same_moments(dist())


def test_car_has_the_covariance_of_its_density():
    """PyMC's own draws have the square of that covariance."""
    neighbours = np.eye(4, k=1) + np.eye(4, k=-1)
    [many] = vectorize_draws([rsample(pm.CAR.dist(np.arange(4.0), neighbours, 0.7, 2.0))], 20_000)
    reseed_rngs(find_rng_nodes([many]), 7)
    draws = many.eval(mode="FAST_COMPILE") - np.arange(4.0)
    exact = np.linalg.inv(2.0 * (np.diag(neighbours.sum(axis=0)) - 0.7 * neighbours))
    products = draws[:, :, None] * draws[:, None, :]
    error = products.std(axis=0) / np.sqrt(20_000)
    assert (np.abs(products.mean(axis=0) - exact) < 4 * error).all()


def test_pm_mv_normal_uses_the_factor_it_was_given():
    chol = pt.matrix("chol")
    x = rsample(pm.MvNormal.dist(np.zeros(3), chol=chol))
    assert not any("Cholesky" in str(node.op) for node in pytensor.graph.traversal.toposort([x]))


def test_loops_of_draws_become_loops_over_noise():
    sigma = pt.scalar("sigma")
    x = rsample(pm.AR.dist([0.5], sigma, init_dist=pm.Normal.dist(0, 1), steps=3))
    [_, innovations] = sorted(random_variables([x]), key=lambda rv: rv.type.ndim)
    assert innovations.eval().shape == (3,)
    # d x / d sigma of a path that starts at zero is the path at sigma = 1.
    start = next(rv for rv in random_variables([x]) if rv is not innovations)
    at_zero = {start: pt.zeros_like(start), innovations: pt.ones_like(innovations)}
    [path] = pytensor.graph.replace.graph_replace([x], at_zero, strict=False)
    gradient = pytensor.grad(path[-1], sigma)
    assert gradient.eval({sigma: 2.0}, mode="FAST_COMPILE") == pytest.approx(1.75)


def test_censored_draws_stand_still_at_the_bounds():
    mu = pt.vector("mu")
    x = rsample(pm.Censored.dist(pm.Normal.dist(mu, 1.0), lower=-1.0, upper=1.0))
    values, gradient = pytensor.function(
        [mu], [x, pytensor.grad(x.sum(), mu)], mode="FAST_COMPILE"
    )(np.zeros(1_000))
    np.testing.assert_array_equal(gradient, np.abs(values) < 1)


def test_named_dims_are_kept():
    mu = pt.scalar("mu")
    with pm.Model(coords={"a": range(3), "b": range(2)}):
        rv = pmd.Normal("x", mu, pmd.as_xtensor(np.array([1.0, 2.0]), dims=("b",)), dims=("a", "b"))
    x = rsample(rv)
    assert x.type == rv.type
    [total] = without_named_dims([x.values.sum()])
    assert pytensor.grad(total, mu).eval({mu: 0.0}, mode="FAST_COMPILE") == 6


# --- the registry ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dist",
    [
        lambda: pm.Poisson.dist(2.0),
        lambda: pm.Bernoulli.dist(0.5),
        lambda: pm.Categorical.dist([0.5, 0.5]),
        lambda: pm.Multinomial.dist(3, [0.5, 0.5]),
        lambda: pm.DiracDelta.dist(1),
        lambda: pm.Flat.dist(),
        lambda: pm.NormalMixture.dist([0.5, 0.5], [0.0, 1.0]),
        lambda: pm.HurdleGamma.dist(0.5, 1.0, 1.0),
        lambda: pm.Truncated.dist(pm.SkewNormal.dist(1.0), lower=0.0),
        lambda: pm.Simulator.dist(lambda rng, mu, size: rng.normal(mu, size=size), 1.0),
        lambda: pm.CustomDist.dist(dist=lambda size: 1.5 * pm.Poisson.dist(2.0, size=size)),
    ],
)  # fmt: skip
def test_what_has_no_differentiable_draw_says_so(dist):
    rv = dist()
    rv.name = "site"
    assert not has_rsample(rv)
    with pytest.raises(NoPathwiseDraw, match=r"Site 'site'.*register_rsample"):
        rsample(rv)


def test_error_tells_discrete_from_continuous():
    with pytest.raises(TypeError, match="Poisson. Found: a discrete distribution"):
        rsample(pm.Poisson.dist(2.0))
    with pytest.raises(NotImplementedError, match="Flat. Found: a continuous distribution"):
        rsample(pm.Flat.dist())
    with pytest.raises(NoPathwiseDraw, match="Mixture.*inside it.*Categorical"):
        rsample(pm.NormalMixture.dist([0.5, 0.5], [0.0, 1.0]))
    with pytest.raises(NoPathwiseDraw, match="not a random variable"):
        rsample(pm.Normal.dist() + 1)


class HalfLaplaceRV(RandomVariable):
    """A distribution from outside the package."""

    name = "half_laplace"
    signature = "()->()"
    dtype = "floatX"

    @classmethod
    def rng_fn(cls, rng, scale, size):
        return abs(rng.laplace(0.0, scale, size))


class QuarterLaplaceRV(HalfLaplaceRV):
    name = "quarter_laplace"


def outside(op, scale=None):
    scale = pt.scalar("scale") if scale is None else scale
    _, rv = op(scale, rng=pt.random.shared_rng(seed=1), return_next_rng=True)
    return rv


def test_a_rule_can_be_registered_from_outside():
    assert not has_rsample(outside(HalfLaplaceRV()))

    @register_rsample(HalfLaplaceRV)
    def rule(op, rv, scale):
        return scale * noise(rv, pt.random.exponential)

    rv = outside(HalfLaplaceRV())
    x = rsample(rv)
    scale = rv.owner.inputs[2]
    value, gradient = pytensor.function([scale], [x, pytensor.grad(x, scale)])(2.0)
    assert value == 2 * gradient > 0
    # And inside other distributions, and for subclasses.
    assert has_rsample(outside(QuarterLaplaceRV()))
    assert has_rsample(pm.CustomDist.dist(dist=lambda size: outside(HalfLaplaceRV(), 1.0) + 0.0))


def test_register_rsample_wants_ops():
    with pytest.raises(TypeError, match="not a class of ops"):
        register_rsample(pm.Normal)


# --- values with the gradient of others -----------------------------------------------------


def test_stand_in_survives_the_rewrites_before_differentiation():
    x = pt.vector("x")
    y = rewrite_pregrad((x * detached(x) + with_gradient_of(pt.floor(x), 2 * x)).sum())
    gradient = pytensor.grad(y, x)
    np.testing.assert_allclose(gradient.eval({x: [1.5, 3.0]}), [3.5, 5.0])


def test_stand_in_costs_nothing_once_compiled():
    x = pt.vector("x")
    y = with_gradient_of(pt.floor(x), pt.gammaln(x))
    for mode in ("FAST_COMPILE", None):
        nodes = pytensor.function([x], y, mode=mode).maker.fgraph.apply_nodes
        assert not any("Stand_in" in str(n.op) or "GammaLn" in str(n.op) for n in nodes)
        assert len(nodes) <= 2
