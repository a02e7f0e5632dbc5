"""Normal autoguides on every kind of latent site.

The reference is PyMC's own ``model.logp()`` in unconstrained space, which goes another way: it
transforms the value variables of a finished model, where a guide transforms each draw as the
program runs. At every single draw the loss must be log q(u) - logp(u), with q the Normal of u.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pymc as pm
import pymc.dims as pmd
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.distributions import transforms
from pymc.distributions.transforms import Interval, ordered
from pytensor.graph.replace import vectorize_graph
from scipy.stats import norm

from pymc_svi import SVI
from pymc_svi.gradients.draws import pathwise
from pymc_svi.gradients.particles import random_variables
from pymc_svi.guides import AutoGaussian, AutoMultivariateNormal, AutoNormal, AutoStructured
from pymc_svi.handlers import trace
from pymc_svi.results.sampling import draw_function
from tests.checks import as_built, assert_mean
from tests.guides.checks import elbo_draws

COORDS = {"city": range(3), "year": range(2)}


def real():
    pm.Normal("x", 1.0, 2.0)


def positive():
    pm.HalfNormal("x", 2.0)
    pm.Gamma("g", 2.0, 1.0, shape=2)
    pm.LogNormal("l", 0.0, 0.5)


def intervals():
    pm.Uniform("x", -1.0, 2.0)
    pm.Beta("b", 2.0, 1.0, shape=2)
    pm.TruncatedNormal("t", 0.0, 1.0, lower=0.5)
    pm.VonMises("v", 0.0, 1.0)


def bounds_that_depend_on_other_sites():
    u = pm.HalfNormal("u", 1.0)
    x = pm.Uniform("x", 0.0, u)
    pm.TruncatedNormal("t", x, 1.0, lower=-u, upper=x)


def simplex():
    pm.Dirichlet("x", np.array([1.0, 2.0, 3.0]))
    pm.Dirichlet("batch", np.ones(3), shape=(2, 3))


def ordered_vector():
    pm.Normal("x", [0.0, 1.0, 2.0], 1.0, transform=ordered, initval=[-1.0, 0.0, 1.0])


def cholesky():
    pm.LKJCholeskyCov("x", n=3, eta=2.0, sd_dist=pm.Exponential.dist(1.0), compute_corr=False)


def correlation():
    pm.LKJCorr("x", n=3, eta=2.0)


def zero_sum():
    sd = pm.HalfNormal("sd")
    pm.ZeroSumNormal("x", sigma=sd, shape=(2, 3))


def with_dims():
    scale = pm.Exponential("scale", 1.0, dims="city")
    pm.Normal("x", 0.0, scale[:, None], dims=("city", "year"))


def imputed():
    m = pm.Normal("m")
    data = np.ma.masked_invalid([1.0, np.nan, 0.5, np.nan])
    pm.Gamma("y", 2.0, pt.exp(m), observed=data)


def imputed_vectors():
    m = pm.Normal("m", shape=2)
    rows = np.ma.masked_invalid([[1.0, np.nan], [0.5, 0.3]])
    pm.MvNormal("y", m, np.eye(2) + 0.5, observed=rows)
    walk = np.ma.masked_invalid([0.2, np.nan, np.nan, 0.7])
    pm.GaussianRandomWalk("walk", m[0], pt.exp(m[1]), init_dist=pm.Normal.dist(), observed=walk)


def multivariate():
    x = pm.MvNormal("x", np.zeros(2), cov=[[1.0, 0.5], [0.5, 2.0]])
    pm.GaussianRandomWalk("walk", mu=x[0], sigma=0.5, init_dist=pm.Normal.dist(), steps=3)


def user_transforms():
    pm.Normal("x", 0.0, 1.0, transform=Interval(-1.0, 1.0), initval=0.0)
    pm.HalfNormal("raw", 50.0, default_transform=None, initval=30.0)
    pm.Mixture("m", [0.3, 0.7], [pm.Normal.dist(0, 1), pm.Normal.dist(3, 1)])
    pm.CustomDist("c", 0.5, dist=lambda p, size: 1.0 + 2.0 * pm.Normal.dist(p, 1.0, size=size))


def xtensors():
    scale = pmd.HalfNormal("scale", dims="city")
    pmd.Normal("x", 0.0, scale, dims=("city", "year"))


KINDS = [
    real,
    positive,
    intervals,
    bounds_that_depend_on_other_sites,
    simplex,
    ordered_vector,
    cholesky,
    correlation,
    zero_sum,
    with_dims,
    imputed,
    imputed_vectors,
    multivariate,
    user_transforms,
    xtensors,
]
GUIDES = [AutoNormal, AutoMultivariateNormal, AutoStructured, AutoGaussian]
quiet = pytest.mark.filterwarnings("ignore::pymc.exceptions.ImputationWarning")


def drawn(model, guide, n=7):
    """Draws of the loss and of the unconstrained vector, with the parameters of its Normal."""
    loss, store = SVI(model, guide, coords=COORDS).build_loss()
    [noise] = random_variables([loss.value])
    size = noise.type.shape[0]
    rng = np.random.default_rng(0)
    loc, factor = rng.normal(0.0, 0.3, size), np.diag(rng.uniform(0.2, 0.5, size))
    if isinstance(guide, AutoMultivariateNormal):
        factor += np.tril(rng.normal(0.0, 0.2, (size, size)), -1)
        values = {"auto_loc": loc, "auto_scale_tril": factor}
    elif isinstance(guide, AutoGaussian):
        matrix, values = np.eye(size), {"auto_loc": loc, "auto_scale": np.diag(factor)}
        if "auto_weights" in store.sites:  # elements are coupled
            start = store.sites["auto_weights"].unconstrained.get_value()
            values["auto_weights"] = rng.normal(0.0, 0.2, start.shape)
            matrix[guide._entries] = values["auto_weights"]
        factor = factor @ np.linalg.inv(matrix)
    elif isinstance(guide, AutoStructured):
        values, factor = structured_params(store.sites, loc, rng)
    else:
        values, at = {}, 0
        for name, site in store.sites.items():
            if name.endswith("_loc"):
                shape = site.unconstrained.get_value().shape
                part = slice(at, at + int(np.prod(shape)))
                values[name] = loc[part].reshape(shape)
                scale_name = f"{name.removesuffix('_loc')}_scale"
                values[scale_name] = np.diag(factor)[part].reshape(shape)
                at = part.stop
    # Around the starting point, so that raw positive sites stay positive.
    for name, site in store.sites.items():
        if name.endswith("_loc"):
            start = site.unconstrained.get_value()
            values[name] = values[name] + start
        site.unconstrained.set_value(site.constraint.unconstrain(values[name]))
    locs = [np.ravel(values[name]) for name in store.sites if name.endswith("_loc")]
    draws = draw_function({"loss": loss.value, "noise": noise})(n, 1)
    unconstrained = np.concatenate(locs) + draws["noise"] @ factor.T
    log_q = norm.logpdf(draws["noise"]).sum(axis=1) - np.log(np.diag(factor)).sum()
    return draws["loss"], unconstrained, log_q


def structured_params(sites, loc, rng):
    """Params of a full-rank Normal in conditional form, and the factor of its covariance."""
    values, rows, factor = {}, {}, np.zeros((len(loc), len(loc)))
    for name, site in sites.items():
        start = site.unconstrained.get_value()
        stem, _, what = name.partition("_auto_")
        if what == "loc":
            begin = sum(row.stop - row.start for row in rows.values())
            rows[stem] = slice(begin, begin + start.size)
            values[name] = loc[rows[stem]].reshape(start.shape)
        elif what == "scale_tril":
            n = rows[stem].stop - rows[stem].start
            tril = np.tril(rng.normal(0.0, 0.2, (n, n)), -1) + np.diag(rng.uniform(0.2, 0.5, n))
            values[name] = factor[rows[stem], rows[stem]] = tril
        else:
            values[name] = weight = rng.normal(0.0, 0.3, start.shape)
            factor[rows[stem]] += weight @ factor[rows[what.removeprefix("weight_")]]
    return values, factor


@lru_cache
def reference(kind):
    """A kind as a built model, with PyMC's log-density in unconstrained space."""
    model = as_built(kind, coords=COORDS)
    return model, model.compile_logp(mode="FAST_COMPILE", jacobian=True)


def pymc_logp(kind, points: np.ndarray) -> np.ndarray:
    """PyMC's log-density, with Jacobian, at unconstrained vectors in the order of the sites."""
    model, logp = reference(kind)
    values = [model.rvs_to_values[rv] for rv in model.free_RVs]
    start = model.initial_point()
    result = []
    for point in points:
        given, at = {}, 0
        for value in values:
            shape = np.shape(start[value.name])
            part = slice(at, at + int(np.prod(shape)))
            given[value.name], at = point[part].reshape(shape), part.stop
        assert at == len(point)
        result.append(logp(given))
    return np.array(result)


@quiet
@pytest.mark.parametrize("built", [False, True], ids=["function", "built"])
@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_at_each_draw_is_log_q_minus_pymcs_logp(kind, guide, built):
    model = reference(kind)[0] if built else kind
    loss, points, log_q = drawn(model, guide(model))
    np.testing.assert_allclose(-loss, pymc_logp(kind, points) - log_q, rtol=1e-6, atol=1e-6)


@quiet
@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_in_the_support(kind, guide):
    with pm.Model(coords=COORDS):
        traced = trace(pathwise(guide(kind, init_scale=1.0))).get_trace()
    names = [n for n, site in traced.latent.items() if not site.infer.get("is_auxiliary")]
    values = draw_function({name: traced[name].value for name in names})(500, 3)
    for name, value in values.items():
        assert np.isfinite(value).all(), name
    x = values.get("x")
    if kind is positive:
        assert all((value > 0).all() for value in values.values())
    elif kind is intervals:
        assert ((x > -1) & (x < 2)).all()
        assert ((values["b"] > 0) & (values["b"] < 1)).all()
        assert (values["t"] > 0.5).all()
        assert (np.abs(values["v"]) < np.pi).all()
    elif kind is bounds_that_depend_on_other_sites:
        u, t = values["u"], values["t"]
        assert ((x > 0) & (x < u) & (t > -u) & (t < x)).all()
    elif kind is simplex:
        np.testing.assert_allclose(x.sum(axis=-1), 1)
        np.testing.assert_allclose(values["batch"].sum(axis=-1), 1)
        assert (x > 0).all()
    elif kind is ordered_vector:
        assert (np.diff(x, axis=-1) > 0).all()
    elif kind is cholesky:
        assert (x[:, [0, 2, 5]] > 0).all()
    elif kind is correlation:
        # PyMC's LKJCorr is the Cholesky factor of the correlation matrix.
        np.testing.assert_allclose((x**2).sum(axis=-1), 1)
        assert (np.diagonal(x, axis1=-2, axis2=-1) > 0).all()
        assert (x[:, [0, 0, 1], [1, 2, 2]] == 0).all()
    elif kind is zero_sum:
        np.testing.assert_allclose(x.sum(axis=-1), 0, atol=1e-12)
    elif kind is imputed:
        assert (values["y_unobserved"] > 0).all()
    elif kind is user_transforms:
        assert (np.abs(x) < 1).all()
    for name, value in values.items():
        assert max(len(np.unique(column)) for column in value.reshape(500, -1).T) == 500, name


@pytest.mark.parametrize(
    "prior",
    [
        lambda: pm.Normal("x", 1.0, 2.0),
        lambda: pm.HalfNormal("x", 2.0),
        lambda: pm.Beta("x", 2.0, 2.0),
        lambda: pm.Uniform("x", -1.0, 3.0),
        lambda: pm.TruncatedNormal("x", 0.0, 1.0, upper=1.0),
        lambda: pm.Normal("x", 0.0, 1.0, transform=Interval(-1.0, 1.0), initval=0.3),
    ],
    ids=["real", "positive", "unit", "interval", "below", "user"],
)
@pytest.mark.parametrize("guide", GUIDES)
def test_density_of_the_guide_integrates_to_one(prior, guide):
    """By the trapezoidal rule over x, with log q(x) from the trace."""
    traced = trace(pathwise(guide(prior, init_scale=0.7))).get_trace()
    x, log_q = traced["x"].value, traced.log_prob_sum()
    [noise] = random_variables([x, log_q])
    grid = np.linspace(-7, 7, 20_001)[:, None]
    xs, log_qs = vectorize_graph([x, log_q], replace={noise: pt.constant(grid)})
    xs, log_qs = pytensor.function([], [xs, log_qs], mode="FAST_COMPILE")()
    assert abs(np.trapezoid(np.exp(log_qs), xs)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("guide", GUIDES)
def test_entropy_is_that_of_the_normal_plus_the_mean_log_jacobian(guide):
    """E_q[-log q(x)] for x = exp(u) and x = 4 sigmoid(u) - 1, with u Normal(m, s)."""

    def model():
        pm.HalfNormal("a", 2.0)
        pm.Uniform("b", -1.0, 3.0)

    with pm.Model():
        traced = trace(pathwise(guide(model, init_scale=0.7))).get_trace()
    draws = draw_function(
        {"log_q": traced.log_prob_sum(), "a": traced["a"].value, "b": traced["b"].value}
    )(20_000, 0)
    u = np.linspace(-7, 7, 20_001) * 0.7
    weights = norm.pdf(u, scale=0.7) * (u[1] - u[0])
    loc_a = np.median(np.log(draws["a"]))  # the starting point; its error is of order 0.005
    loc_a = np.log(2.0 * np.sqrt(2 / np.pi)) if abs(loc_a - 0.46) < 0.05 else loc_a
    share = 1 / (1 + np.exp(-u))  # the interval starts in its middle, at u = 0
    mean_log_jacobian = loc_a + np.sum(weights * np.log(4 * share * (1 - share)))
    entropy = 2 * norm.entropy(scale=0.7) + mean_log_jacobian
    assert_mean(-draws["log_q"], entropy)


# --- distributions that are written as steps --------------------------------------------------------


def log_normal(mu, size):
    return pt.exp(pm.Normal.dist(mu, 0.7, size=size))


@pytest.mark.parametrize("as_model", [lambda program: program, as_built], ids=["function", "built"])
@pytest.mark.parametrize(
    ("site", "scale"),
    [
        (lambda: pm.LogitNormal("x", 0.4, 1.3), 1.3),
        (lambda: pm.CustomDist("x", 0.4, dist=log_normal), 0.7),
        (lambda: pm.CustomDist("x", 0.4, dist=log_normal, transform=transforms.log), 0.7),
    ],
    ids=["LogitNormal", "log-normal", "with a transform"],
)
def test_steps_that_end_in_exp_or_sigmoid_say_where_the_values_are(site, scale, as_model):
    model = as_model(site)
    guide = AutoNormal(model)
    # Before the last step both are the same Normal.
    params = {"x_auto_loc": 0.4, "x_auto_scale": scale}
    np.testing.assert_allclose(elbo_draws(model, guide, params, n=100), 0.0, atol=1e-9)


@pytest.mark.parametrize("as_model", [lambda program: program, as_built], ids=["function", "built"])
def test_truncated_distributions_keep_their_own_bounds(as_model):
    def program():
        pm.Truncated("below", pm.Gamma.dist(2.0, 1.0), upper=3.0)
        pm.Truncated("above", pm.Beta.dist(2.0, 2.0), lower=0.25)
        pm.Truncated("both", pm.LogNormal.dist(0.0, 1.0), lower=0.5, upper=2.0)
        pm.Truncated("neither", pm.Normal.dist(0.0, 1.0), upper=2.0)

    traced = trace(AutoNormal(as_model(program), init_scale=3.0)).get_trace()
    draws = draw_function({name: traced[name].value for name in ("below", "above", "both")})(500, 0)
    for name, (least, most) in {"below": (0, 3), "above": (0.25, 1), "both": (0.5, 2)}.items():
        assert least <= draws[name].min() < least + 0.1 * (most - least)
        assert most >= draws[name].max() > most - 0.1 * (most - least)
    model = as_model(program)
    losses = elbo_draws(model, AutoNormal(model, init_scale=3.0), {}, n=500)
    assert np.isfinite(losses).all()


def test_a_transform_that_is_refused_stays_away():
    def model():
        pm.CustomDist("x", 0.4, dist=log_normal, transform=None)

    assert trace(model).get_trace()["x"].transform is None
