"""Models of many kinds, as functions that can be run as programs or inside ``pm.Model``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymc as pm
import pymc.dims as pmd
import pytensor.tensor as pt
from pymc.distributions import transforms

MODELS: dict[str, Entry] = {}
RNG = np.random.default_rng(7)
X = RNG.normal(size=(6, 2))
Y = RNG.normal(size=6)
COUNTS = np.array([0, 3, 1, 0, 2, 5])
DAYS = np.linspace(0, 1, 6)
ADJACENCY = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])


@dataclass(frozen=True)
class Entry:
    """A model and how to make it."""

    program: Callable[[], Any]
    coords: dict[str, Any] = field(default_factory=dict)

    def built(self) -> pm.Model:
        with pm.Model(coords=self.coords) as model:
            self.program()
        return model


def entry(function=None, *, coords=None):
    def register(function):
        MODELS[function.__name__] = Entry(function, coords or {})
        return function

    return register if function is None else register(function)


# --- every distribution, on its own -----------------------------------------------------------

DISTRIBUTIONS: dict[str, Callable[[], Any]] = {
    "AsymmetricLaplace": lambda: pm.AsymmetricLaplace("x", kappa=1.3, mu=0.2, b=0.8, shape=3),
    "Beta": lambda: pm.Beta("x", 2.0, 3.0, shape=3),
    "Beta mean": lambda: pm.Beta("x", mu=0.4, sigma=0.1),
    "Cauchy": lambda: pm.Cauchy("x", 0.3, 1.2, shape=3),
    "ChiSquared": lambda: pm.ChiSquared("x", nu=3.0, shape=3),
    "ExGaussian": lambda: pm.ExGaussian("x", mu=0.2, sigma=0.9, nu=1.1, shape=3),
    "Exponential": lambda: pm.Exponential("x", 1.4, shape=3),
    "Flat": lambda: pm.Flat("x", shape=3, initval=np.ones(3)),
    "Gamma": lambda: pm.Gamma("x", 2.0, 1.5, shape=3),
    "Gumbel": lambda: pm.Gumbel("x", 0.4, 1.5, shape=3),
    "HalfCauchy": lambda: pm.HalfCauchy("x", 1.5, shape=3),
    "HalfFlat": lambda: pm.HalfFlat("x", shape=3, initval=np.full(3, 2.0)),
    "HalfNormal": lambda: pm.HalfNormal("x", 1.5, shape=3),
    "HalfStudentT": lambda: pm.HalfStudentT("x", nu=4, sigma=1.5, shape=3),
    "InverseGamma": lambda: pm.InverseGamma("x", 3.0, 2.0, shape=3),
    "Kumaraswamy": lambda: pm.Kumaraswamy("x", 2.0, 3.0, shape=3),
    "Laplace": lambda: pm.Laplace("x", 0.2, 1.4, shape=3),
    "Logistic": lambda: pm.Logistic("x", 0.2, 1.4, shape=3),
    "LogitNormal": lambda: pm.LogitNormal("x", 0.2, 1.4, shape=3),
    "LogNormal": lambda: pm.LogNormal("x", 0.2, 0.6, shape=3),
    "Moyal": lambda: pm.Moyal("x", 0.2, 1.4, shape=3),
    "Normal": lambda: pm.Normal("x", [0.0, 1.0, 2.0], 1.4),
    "Normal tau": lambda: pm.Normal("x", 0.4, tau=2.0),
    "Pareto": lambda: pm.Pareto("x", alpha=3.0, m=1.5, shape=3),
    "Rice": lambda: pm.Rice("x", nu=1.0, sigma=1.2, shape=3),
    "SkewNormal": lambda: pm.SkewNormal("x", mu=0.1, sigma=1.2, alpha=2.0, shape=3),
    "SkewStudentT": lambda: pm.SkewStudentT("x", a=3.0, b=4.0, mu=0.1, sigma=1.2, shape=3),
    "StudentT": lambda: pm.StudentT("x", nu=4, mu=0.2, sigma=1.4, shape=3),
    "Triangular": lambda: pm.Triangular("x", lower=-1, c=0.3, upper=2.0, shape=3),
    "TruncatedNormal": lambda: pm.TruncatedNormal("x", 0.2, 1.0, lower=-0.5, upper=2.0, shape=3),
    "Uniform": lambda: pm.Uniform("x", -1.0, [1.0, 2.0, 3.0]),
    "VonMises": lambda: pm.VonMises("x", 0.2, 1.4, shape=3),
    "Wald": lambda: pm.Wald("x", mu=1.2, lam=2.0, shape=3),
    "Weibull": lambda: pm.Weibull("x", 1.5, 2.0, shape=3),
    "Interpolated": lambda: pm.Interpolated(
        "x", x_points=np.linspace(0, 1, 6), pdf_points=np.array([0.1, 1, 2, 2, 1, 0.1])
    ),
    "Bernoulli": lambda: pm.Bernoulli("x", 0.3, shape=3),
    "Bernoulli logit": lambda: pm.Bernoulli("x", logit_p=0.4, shape=3),
    "BetaBinomial": lambda: pm.BetaBinomial("x", alpha=2, beta=3, n=7, shape=3),
    "Binomial": lambda: pm.Binomial("x", n=8, p=0.3, shape=3),
    "Categorical": lambda: pm.Categorical("x", p=[0.2, 0.5, 0.3], shape=3),
    "DiracDelta": lambda: pm.DiracDelta("x", 2.0),
    "DiscreteUniform": lambda: pm.DiscreteUniform("x", 1, 6, shape=3),
    "DiscreteWeibull": lambda: pm.DiscreteWeibull("x", q=0.6, beta=1.2, shape=3),
    "Geometric": lambda: pm.Geometric("x", 0.3, shape=3),
    "HyperGeometric": lambda: pm.HyperGeometric("x", N=20, k=7, n=5, shape=3),
    "NegativeBinomial": lambda: pm.NegativeBinomial("x", mu=3.0, alpha=2.0, shape=3),
    "OrderedLogistic": lambda: pm.OrderedLogistic("x", eta=0.3, cutpoints=[-1.0, 1.0], shape=3),
    "OrderedProbit": lambda: pm.OrderedProbit("x", eta=0.3, cutpoints=[-1.0, 1.0], shape=3),
    "Poisson": lambda: pm.Poisson("x", 3.2, shape=3),
    "ZeroInflatedBinomial": lambda: pm.ZeroInflatedBinomial("x", psi=0.7, n=6, p=0.4, shape=3),
    "ZeroInflatedNegativeBinomial": lambda: pm.ZeroInflatedNegativeBinomial(
        "x", psi=0.7, mu=3, alpha=2, shape=3
    ),
    "ZeroInflatedPoisson": lambda: pm.ZeroInflatedPoisson("x", psi=0.7, mu=3.0, shape=3),
    "HurdleGamma": lambda: pm.HurdleGamma("x", psi=0.7, alpha=2.0, beta=1.0, shape=3),
    "HurdleLogNormal": lambda: pm.HurdleLogNormal("x", psi=0.7, mu=0.2, sigma=1.0, shape=3),
    "HurdleNegativeBinomial": lambda: pm.HurdleNegativeBinomial(
        "x", psi=0.7, mu=3, alpha=2, shape=3
    ),
    "HurdlePoisson": lambda: pm.HurdlePoisson("x", psi=0.7, mu=3.0, shape=3),
    "Dirichlet": lambda: pm.Dirichlet("x", a=[1.0, 2.0, 3.0]),
    "DirichletMultinomial": lambda: pm.DirichletMultinomial("x", n=6, a=[1.0, 2.0, 3.0]),
    "KroneckerNormal": lambda: pm.KroneckerNormal(
        "x", mu=np.zeros(4), covs=[np.eye(2) + 0.3, 2 * np.eye(2)]
    ),
    "LKJCholeskyCov": lambda: pm.LKJCholeskyCov(
        "x", n=2, eta=2.0, sd_dist=pm.Exponential.dist(1.0), compute_corr=False
    ),
    "LKJCorr": lambda: pm.LKJCorr("x", n=3, eta=2.0),
    "MatrixNormal": lambda: pm.MatrixNormal(
        "x", mu=np.zeros((2, 3)), rowcov=np.eye(2) + 0.2, colcov=np.eye(3)
    ),
    "Multinomial": lambda: pm.Multinomial("x", n=6, p=[0.2, 0.5, 0.3]),
    "MvNormal": lambda: pm.MvNormal("x", mu=[0.0, 1.0], cov=[[1.0, 0.3], [0.3, 2.0]]),
    "MvNormal chol": lambda: pm.MvNormal("x", mu=np.zeros((3, 2)), chol=[[1.0, 0], [0.3, 2.0]]),
    "MvStudentT": lambda: pm.MvStudentT("x", nu=4, mu=[0.0, 1.0], scale=[[1.0, 0.3], [0.3, 2.0]]),
    "OrderedMultinomial": lambda: pm.OrderedMultinomial(
        "x", eta=0.3, cutpoints=[-1.0, 1.0], n=6, compute_p=False
    ),
    "StickBreakingWeights": lambda: pm.StickBreakingWeights("x", alpha=2.0, K=3),
    "Wishart": lambda: pm.Wishart("x", nu=4, V=np.eye(2), initval=np.eye(2) + 0.2),
    "ZeroSumNormal": lambda: pm.ZeroSumNormal("x", sigma=1.5, shape=4),
    "ZeroSumNormal two axes": lambda: pm.ZeroSumNormal("x", n_zerosum_axes=2, shape=(3, 4)),
    "CAR": lambda: pm.CAR("x", mu=np.zeros(4), W=ADJACENCY, alpha=0.5, tau=1.2),
    "ICAR": lambda: pm.ICAR("x", W=ADJACENCY, initval=np.array([0.2, -0.3, 0.4, -0.3])),
    "GaussianRandomWalk": lambda: pm.GaussianRandomWalk(
        "x", mu=0.1, sigma=0.5, init_dist=pm.Normal.dist(0, 2), steps=4
    ),
    "RandomWalk": lambda: pm.RandomWalk(
        "x", innovation_dist=pm.StudentT.dist(4), init_dist=pm.Normal.dist(), steps=4
    ),
    "MvGaussianRandomWalk": lambda: pm.MvGaussianRandomWalk(
        "x",
        mu=np.zeros(2),
        cov=np.eye(2),
        init_dist=pm.MvNormal.dist(np.zeros(2), np.eye(2)),
        steps=3,
    ),
    "MvStudentTRandomWalk": lambda: pm.MvStudentTRandomWalk(
        "x",
        nu=4,
        mu=np.zeros(2),
        scale=np.eye(2),
        init_dist=pm.MvNormal.dist(np.zeros(2), np.eye(2)),
        steps=3,
    ),
    "AR": lambda: pm.AR("x", rho=[0.1, 0.5], sigma=0.7, constant=True, shape=5,
                        init_dist=pm.Normal.dist(0, 2)),
    "GARCH11": lambda: pm.GARCH11(
        "x", omega=0.5, alpha_1=0.3, beta_1=0.4, initial_vol=1.0, shape=5
    ),
    "EulerMaruyama": lambda: pm.EulerMaruyama(
        "x", dt=0.1, sde_fn=lambda x, s: (-x, s), sde_pars=(0.5,), shape=5,
        init_dist=pm.Normal.dist(0, 2),
    ),
    "Censored": lambda: pm.Censored("x", pm.Normal.dist(0.3, 1.0), -0.5, 1.0, shape=4),
    "Truncated": lambda: pm.Truncated("x", pm.Gamma.dist(2.0, 1.0), 0.2, 3.0, shape=4),
    "Truncated discrete": lambda: pm.Truncated("x", pm.Poisson.dist(3.0), lower=1, shape=4),
    "Mixture": lambda: pm.Mixture(
        "x", w=[0.4, 0.6], comp_dists=[pm.Normal.dist(0, 1), pm.StudentT.dist(nu=4, mu=2, sigma=1)], shape=4
    ),
    "NormalMixture": lambda: pm.NormalMixture("x", [0.4, 0.6], [-1.0, 2.0], [1.0, 0.5], shape=4),
    "Mixture discrete": lambda: pm.Mixture(
        "x", w=[0.4, 0.6], comp_dists=pm.Poisson.dist([1.0, 6.0]), shape=4
    ),
    "CustomDist logp": lambda: pm.CustomDist(
        "x", 0.5, logp=lambda value, mu: -((value - mu) ** 2), shape=3,
        random=lambda mu, rng=None, size=None: rng.normal(mu, size=size),
    ),
    "CustomDist dist": lambda: pm.CustomDist(
        "x", 0.5, 1.2, dist=lambda m, s, size: pt.exp(m + s * pm.Normal.dist(size=size)), shape=3
    ),
    "SymbolicRandom clip": lambda: pm.CustomDist(
        "x", 0.0, dist=lambda m, size: pt.clip(pm.Normal.dist(m, size=size), -1, 1), shape=3
    ),
}  # fmt: skip


# --- models --------------------------------------------------------------------------------------


@entry(coords={"school": list("abcdef")})
def hierarchical():
    mu = pm.Normal("mu", 0, 5)
    tau = pm.HalfCauchy("tau", 2)
    theta = pm.Normal("theta", mu, tau, dims="school")
    pm.Normal("y", theta, 1.0, observed=Y, dims="school")


@entry
def deep_hierarchy():
    a = pm.Normal("a")
    b = pm.LogNormal("b", a, 0.5, shape=2)
    c = pm.Gamma("c", b, 1.0)
    d = pm.Deterministic("d", c.sum() + a)
    pm.Poisson("y", pt.exp(0.1 * d), observed=COUNTS)


@entry(coords={"row": range(6), "feature": ["u", "v"]})
def regression():
    x = pm.Data("x", X, dims=("row", "feature"))
    y = pm.Data("y_data", Y, dims="row")
    w = pm.Normal("w", 0, 2, dims="feature")
    sigma = pm.Exponential("sigma", 1.0)
    mean = pm.Deterministic("mean", x @ w, dims="row")
    pm.Normal("y", mean, sigma, observed=y, dims="row")


@entry
def robust_regression():
    w = pm.Laplace("w", 0, 2, shape=2)
    nu = pm.Gamma("nu", 2, 0.1)
    pm.StudentT("y", nu=nu, mu=X @ w, sigma=1.0, observed=Y)


@entry
def ordered_mixture():
    w = pm.Dirichlet("w", np.ones(3))
    ordered = pm.distributions.transforms.ordered
    mu = pm.Normal("mu", 0, 3, shape=3, transform=ordered, initval=[-1.0, 0.0, 1.0])
    pm.NormalMixture("y", w, mu, 1.0, observed=Y)


@entry
def mixture_of_mixed_kinds():
    w = pm.Beta("w", 1, 1)
    components = [pm.Normal.dist(0, 1), pm.Laplace.dist(0, 3)]
    pm.Mixture("y", w=pt.stack([w, 1 - w]), comp_dists=components, observed=Y)


@entry
def zero_inflated_regression():
    psi = pm.Beta("psi", 2, 2)
    w = pm.Normal("w", shape=2)
    pm.ZeroInflatedPoisson("y", psi, pt.exp(X @ w), observed=COUNTS)


@entry
def hurdle():
    mu = pm.Exponential("mu", 1.0)
    pm.HurdlePoisson("y", 0.6, mu, observed=COUNTS)


@entry
def discrete_latent():
    z = pm.Bernoulli("z", 0.3, shape=6)
    pm.Normal("y", 2.0 * z, 1.0, observed=Y)


@entry
def censored():
    mu = pm.Normal("mu")
    pm.Censored("y", pm.Normal.dist(mu, 1.0), -0.5, 0.5, observed=np.clip(Y, -0.5, 0.5))


@entry
def truncated():
    mu = pm.Normal("mu")
    x = pm.Truncated("x", pm.Normal.dist(mu, 1.0), lower=0.0)
    pm.Normal("y", x, 1.0, observed=Y)


@entry
def lkj_covariance():
    chol, corr, sd = pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0))
    pm.MvNormal("y", [0.0, 0.0], chol=chol, observed=X)


@entry
def correlated_effects():
    corr = pm.LKJCorr("corr", n=3, eta=2.0)
    b = pm.MvNormal("b", np.zeros(3), corr)
    pm.Normal("y", b[0] + X @ b[1:], 1.0, observed=Y)


@entry
def dirichlet_multinomial():
    p = pm.Dirichlet("p", [1.0, 2.0, 3.0])
    pm.Multinomial("y", 9, p, observed=[[2, 3, 4], [1, 1, 7]])


@entry
def random_walk():
    sigma = pm.HalfNormal("sigma")
    level = pm.GaussianRandomWalk("level", sigma=sigma, init_dist=pm.Normal.dist(0, 2), steps=5)
    pm.Normal("y", level, 0.5, observed=Y)


@entry
def autoregression():
    rho = pm.Normal("rho", shape=2)
    pm.AR("y", rho, 1.0, init_dist=pm.Normal.dist(0, 2), observed=Y)


@entry
def volatility():
    omega = pm.HalfNormal("omega")
    pm.GARCH11("y", omega, 0.3, 0.4, initial_vol=1.0, observed=Y)


@entry
def diffusion():
    theta = pm.HalfNormal("theta")
    x = pm.EulerMaruyama(
        "x",
        dt=0.1,
        sde_fn=lambda x, theta: (-theta * x, 0.4),
        sde_pars=(theta,),
        init_dist=pm.Normal.dist(0, 1),
        shape=6,
    )
    pm.Normal("y", x, 0.5, observed=Y)


@entry
def latent_gp():
    length = pm.Gamma("length", 3, 3)
    gp = pm.gp.Latent(cov_func=pm.gp.cov.ExpQuad(1, ls=length))
    f = gp.prior("f", X=DAYS[:, None])
    pm.Bernoulli("y", logit_p=f, observed=COUNTS > 0)


@entry
def marginal_gp():
    length = pm.Gamma("length", 3, 3)
    gp = pm.gp.Marginal(cov_func=pm.gp.cov.Matern52(1, ls=length))
    gp.marginal_likelihood("y", X=DAYS[:, None], y=Y, sigma=0.5)


@entry
def hilbert_gp():
    length = pm.Gamma("length", 3, 3)
    gp = pm.gp.HSGP(m=[4], c=2.0, cov_func=pm.gp.cov.ExpQuad(1, ls=length))
    f = gp.prior("f", X=DAYS[:, None])
    pm.Normal("y", f, 0.5, observed=Y)


@entry(coords={"group": list("abcd")})
def zero_sum_effects():
    effect = pm.ZeroSumNormal("effect", sigma=1.5, dims="group")
    pm.Normal("y", effect[[0, 1, 2, 3, 0, 1]], 1.0, observed=Y)


@entry
def spatial():
    phi = pm.ICAR("phi", ADJACENCY, sigma=1.5, initval=np.array([0.2, -0.3, 0.4, -0.3]))
    car = pm.CAR("car", np.zeros(4), ADJACENCY, alpha=0.5, tau=1.0)
    pm.Normal("y", phi + car, 1.0, observed=Y[:4])


@entry
def missing_data():
    mu = pm.Normal("mu")
    data = np.ma.masked_invalid([0.3, np.nan, 1.2, np.nan])
    y = pm.Normal("y", mu, 1.0, observed=data)
    pm.Normal("z", y.sum(), 1.0, observed=0.4)


@entry
def missing_rows():
    mu = pm.Normal("mu", shape=2)
    data = np.ma.masked_invalid([[0.3, 1.0], [np.nan, np.nan], [1.2, 0.1]])
    pm.MvNormal("y", mu, np.eye(2) + 0.3, observed=data)


@entry
def missing_parts_of_vectors():
    mu = pm.Normal("mu", shape=2)
    data = np.ma.masked_invalid([[0.3, 1.0], [np.nan, 0.5], [1.2, 0.1]])
    y = pm.MvNormal("y", mu, np.eye(2) + 0.3, observed=data)
    pm.Normal("z", y.sum(), 1.0, observed=0.4)


@entry
def missing_covariate():
    data = np.ma.masked_invalid([0.3, np.nan, 1.2])
    x = pm.Normal("x", 0.0, 1.0, observed=data)
    pm.Normal("y", 2 * x, 1.0, observed=[1.0, 2.0, 3.0])


@entry
def potentials():
    x = pm.Normal("x", shape=2)
    pm.Potential("near", -pt.abs(x[0] - x[1]))
    pm.Potential("whole", -0.5 * x**2)


@entry
def total_size():
    mu = pm.Normal("mu")
    pm.Normal("y", mu, 1.0, observed=Y[:3], total_size=60)


@entry
def minibatch():
    mu = pm.Normal("mu")
    batch = pm.Minibatch(np.full(20, 0.7), batch_size=4)
    pm.Normal("y", mu, 1.0, observed=batch, total_size=20)


@entry
def own_transforms():
    transforms = pm.distributions.transforms
    pm.Uniform("plain", 0, 1, default_transform=None)
    pm.Normal("ordered", shape=3, transform=transforms.ordered, initval=[-1.0, 0.0, 1.0])
    pm.HalfNormal("interval", transform=transforms.Interval(-3.0, 3.0), initval=0.5)
    pm.Normal("y", observed=Y)


@entry
def submodels():
    with pm.Model(name="first"):
        a = pm.Normal("x")
        with pm.Model(name="inner"):
            b = pm.Exponential("x", 1.0)
    with pm.Model(name="second"):
        pm.Normal("x", a, b, observed=0.3)


@entry(coords={"city": range(3), "year": range(2)})
def named_dims():
    mu = pmd.Normal("mu", dims="city")
    sigma = pmd.HalfNormal("sigma")
    trend = pmd.Normal("trend", mu, 1.0, dims=("year", "city"))
    mean = pmd.Deterministic("mean", trend + mu)
    pmd.Normal(
        "y",
        mean,
        sigma,
        dims=("year", "city"),
        observed=pmd.as_xtensor(X[:3].T, dims=("year", "city")),
    )


@entry(coords={"city": range(3)})
def named_and_plain_dims():
    plain = pm.Normal("plain", shape=3)
    mu = pmd.Normal("mu", pmd.as_xtensor(plain, dims=("city",)), 1.0)
    pm.Normal("y", mu.values, 1.0, observed=Y[:3])


@entry
def custom_density():
    mu = pm.Normal("mu")
    pm.CustomDist("y", mu, logp=lambda value, mu: -pt.abs(value - mu), observed=Y)


@entry
def custom_generator():
    mu = pm.Normal("mu")

    def dist(mu, size):
        return pt.exp(pm.Normal.dist(mu, 0.5, size=size))

    pm.CustomDist("x", mu, dist=dist, shape=2, transform=transforms.log)


@entry
def survival():
    rate = pm.Gamma("rate", 2, 1)
    pm.Censored("t", pm.Weibull.dist(1.5, rate), None, 2.0, observed=[0.5, 1.0, 2.0])


@entry
def changepoint():
    when = pm.DiscreteUniform("when", 0, 5)
    early = pm.Exponential("early", 1.0)
    late = pm.Exponential("late", 1.0)
    pm.Poisson("y", pt.switch(pt.arange(6) < when, early, late), observed=COUNTS)


@entry
def ordinal():
    ordered = pm.distributions.transforms.ordered
    cuts = pm.Normal("cuts", 0, 2, shape=2, transform=ordered, initval=[-1.0, 1.0])
    eta = pm.Normal("eta")
    pm.OrderedLogistic("y", eta, cuts, observed=[0, 1, 2, 1])


@entry
def bounded_by_latent():
    u = pm.HalfNormal("u")
    x = pm.Uniform("x", 0, u)
    pm.Normal("y", x, 0.5, observed=0.3)


@entry
def stochastic_data():
    n = pm.Data("n", np.array([5, 6, 7]))
    p = pm.Beta("p", 1, 1)
    pm.Binomial("y", n, p, observed=[1, 2, 3])


@entry
def simulated_walk_in_scan():
    drift = pm.Normal("drift")
    pm.RandomWalk(
        "y",
        innovation_dist=pm.Normal.dist(drift, 0.5),
        init_dist=pm.Normal.dist(0, 1),
        observed=Y,
    )
