"""``AutoGaussian``: a Normal as sparse in precision as the posterior."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy import stats

from pymc_svi import SVI, Trace_ELBO, plate
from pymc_svi.guides import AutoGaussian
from pymc_svi.handlers import block, substitute, trace
from pymc_svi.results.sampling import draw_function
from tests.checks import as_built, assert_covariance
from tests.guides.checks import GaussianTarget, elbo_draws, fit, joint_draws, log_density_function

TARGET = GaussianTarget.simulated()
Y = np.array([0.3, -1.0, 2.0, 0.7])


def members():
    """A mean, two coefficients of each of four members, and a measurement of each."""
    mu = pm.Normal("mu")
    with plate("member", 4):
        a = pm.Normal("a", mu, 1.0)
        b = pm.Normal("b", 0.0, 0.5)
        pm.Normal("y", a + b, 0.6, observed=Y)


def chain():
    x = pm.Normal("x0")
    for i in range(1, 4):
        x = pm.Normal(f"x{i}", 0.8 * x, 0.5)
    pm.Normal("y", x, 1.0, observed=1.0)


def exact_members():
    """Mean, covariance and log evidence of ``members``."""
    # (mu, a, b) = prior @ standard Normals
    prior = np.zeros((9, 9))
    prior[:5, 0] = 1.0
    prior[1:5, 1:5] = np.eye(4)
    prior[5:, 5:] = 0.5 * np.eye(4)
    cov = prior @ prior.T
    design = np.hstack([np.zeros((4, 1)), np.eye(4), np.eye(4)])
    marginal = design @ cov @ design.T + 0.36 * np.eye(4)
    gain = cov @ design.T @ np.linalg.inv(marginal)
    evidence = stats.multivariate_normal(np.zeros(4), marginal).logpdf(Y)
    return gain @ Y, cov - gain @ design @ cov, evidence


def exact_params(model, mean, cov) -> dict:
    """Params of an exact posterior, from the Cholesky factor of its covariance."""
    factor = np.linalg.cholesky(cov)
    scale = np.diagonal(factor)
    matrix = np.linalg.inv(factor / scale[:, None])
    guide = AutoGaussian(model)
    trace(guide).get_trace()
    rows, columns = guide._entries
    rest = np.tril(matrix, -1)
    rest[rows, columns] = 0.0
    np.testing.assert_allclose(rest, 0.0, atol=1e-12)  # the guide contains the posterior
    return {"auto_loc": mean, "auto_scale": scale, "auto_weights": matrix[rows, columns]}


def n_weights(model) -> int:
    traced = trace(AutoGaussian(model)).get_trace()
    return traced["auto_weights"].shape[0] if "auto_weights" in traced else 0


@pytest.mark.parametrize("model", [members, as_built(members)], ids=["function", "built"])
@pytest.mark.parametrize("landing", [False, True])
def test_at_the_exact_posterior_every_draw_of_the_elbo_is_the_log_evidence(model, landing):
    mean, cov, evidence = exact_members()
    guide = AutoGaussian(model)
    with substitute(data=exact_params(model, mean, cov)):
        loss = Trace_ELBO(sticking_the_landing=landing).loss(model, guide)
    losses = draw_function({"loss": loss.value})(50, 0)["loss"]
    np.testing.assert_allclose(-losses, evidence, rtol=0, atol=1e-6)


def test_a_factor_of_all_sites_makes_it_a_full_rank_normal():
    params = exact_params(TARGET, TARGET.mean, TARGET.cov)
    assert params["auto_weights"].shape == (3,)
    elbos = elbo_draws(TARGET, AutoGaussian(TARGET), params, n=50)
    np.testing.assert_allclose(elbos, TARGET.log_evidence, rtol=0, atol=1e-6)


def test_there_are_weights_only_where_the_posterior_needs_them():
    assert n_weights(chain) == 3  # each with the one before it
    assert n_weights(members) == 4 + 4  # each a with mu, each b with its a

    def apart():
        pm.Normal("x")
        with plate("member", 5):
            pm.HalfNormal("s")

    assert n_weights(apart) == 0


def test_what_a_later_site_joins_is_filled_in():
    def model():
        x, y, z = (pm.Normal(name) for name in "xyz")
        pm.Potential("xz", -((x - z) ** 2))
        pm.Potential("yz", -((y - z) ** 2))

    assert n_weights(model) == 3  # x and y, which z is summed out between


@pytest.mark.parametrize("n", [1, 3])
def test_elements_apart_are_fitted_each_by_itself(n):
    y = np.array([0.4, -1.0, 2.0])[:n]

    def model():
        with plate("member", n):
            mu = pm.Normal("mu", 0.0, 1.0)
            pm.Normal("y", mu, 0.5, observed=y)

    guide = AutoGaussian(model)
    params = SVI(model, guide).run(10, random_seed=0, progressbar=False).params
    assert set(params) == {"auto_loc", "auto_scale"}
    exact = {"auto_loc": y / 1.25, "auto_scale": np.full(n, 0.2**0.5)}
    evidence = stats.norm(0.0, 1.25**0.5).logpdf(y).sum()
    np.testing.assert_allclose(elbo_draws(model, guide, exact, n=20), evidence, atol=1e-9)
    np.testing.assert_allclose(guide.moments(exact)[1], exact["auto_scale"])


@pytest.mark.slow
def test_a_fit_reaches_the_log_evidence():
    mean, cov, evidence = exact_members()
    guide = AutoGaussian(members)
    result = fit(members, guide)
    assert abs(elbo_draws(members, guide, result.params).mean() - evidence) < 0.02
    np.testing.assert_allclose(result.params["auto_loc"], mean, atol=0.05)
    sd = guide.moments(result.params)[1]
    np.testing.assert_allclose(sd, np.sqrt(np.diag(cov)), rtol=0.1)


def test_data_that_are_in_sight_couple_the_sites_of_a_part():
    def model():
        a, b, _ = (pm.Normal(name) for name in "abc")
        pm.Normal("y", a + b, 1.0, observed=0.0)

    assert n_weights(block(model, hide=["c"])) == 1
    assert n_weights(block(model, expose=["a", "b"])) == 0


def test_a_site_outside_the_plate_couples_its_members():
    def model():
        with plate("member", 4):
            a = pm.Normal("a")
        pm.Normal("y", a.sum(), 1.0, observed=0.0)

    assert n_weights(model) == 6


def test_posterior_draws_and_marginals_are_those_of_the_exact_law():
    mean, cov, _ = exact_members()
    params = exact_params(members, mean, cov)
    guide = AutoGaussian(members)
    low = guide.quantiles(params, 0.1)
    expected = stats.norm(mean, np.sqrt(np.diag(cov))).ppf(0.1)
    np.testing.assert_allclose(np.r_[low["mu"], low["a"], low["b"]], expected, rtol=1e-6)
    draws, log_densities = joint_draws(guide, params, 4_000)
    exact = stats.multivariate_normal(mean, cov).logpdf(draws)
    np.testing.assert_allclose(log_densities, exact, atol=1e-6)
    posterior = log_density_function(AutoGaussian(members).get_posterior(params))
    np.testing.assert_allclose(posterior(draws), exact, atol=1e-6)
    assert_covariance(draws, cov, standard_errors=4.5)  # of 81 entries
    noise = np.linspace(-1, 1, 9)
    vector, log_det = AutoGaussian(members).noise_map(params)(pt.as_tensor(noise))
    density = stats.norm.logpdf(noise).sum() - log_det.eval()
    assert density == pytest.approx(stats.multivariate_normal(mean, cov).logpdf(vector.eval()))


def test_init_scale_must_be_positive():
    with pytest.raises(ValueError, match="AutoGaussian: init_scale must be positive"):
        AutoGaussian(TARGET, init_scale=0.0)


def test_subsampled_local_sites_are_refused_by_name():
    def model():
        with plate("rows", 10, subsample_size=2):
            pm.Normal("z")

    with pytest.raises(ValueError, match="site 'z' is local to the subsampled plate 'rows'"):
        SVI(model, AutoGaussian(model)).init()
