"""``AutoStructured``: conditionals and dependencies of one's choice."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy import stats

from pymc_svi import SVI, Trace_ELBO, constraints, param, plate
from pymc_svi.guides import AutoGuideList, AutoNormal, AutoStructured
from pymc_svi.handlers import block, substitute, trace
from pymc_svi.results.sampling import draw_function
from tests.checks import assert_covariance
from tests.guides.checks import (
    GaussianTarget,
    elbo_draws,
    fit,
    joint_draws,
    log_density_function,
)

TARGET = GaussianTarget.simulated()
A, B = [0], [1, 2]


def conditional_params(first: list[int], then: list[int], names: tuple[str, str]) -> dict:
    """Params of the exact law of one site, and of the other given it."""
    cov = TARGET.cov
    weight = cov[np.ix_(then, first)] @ np.linalg.inv(cov[np.ix_(first, first)])
    rest = cov[np.ix_(then, then)] - weight @ cov[np.ix_(first, then)]
    upstream, site = names
    return {
        "a_auto_loc": TARGET.mean[0],
        "b_auto_loc": TARGET.mean[1:],
        f"{upstream}_auto_scale_tril": np.linalg.cholesky(cov[np.ix_(first, first)]),
        f"{site}_auto_scale_tril": np.linalg.cholesky(rest),
        f"{site}_auto_weight_{upstream}": weight,
    }


FORWARD = AutoStructured(TARGET), conditional_params(A, B, ("a", "b"))
BACKWARD = (
    AutoStructured(TARGET, dependencies={"a": {"b": "linear"}}),
    conditional_params(B, A, ("b", "a")),
)
EXACT = pytest.mark.parametrize(
    ("guide", "params"), [FORWARD, BACKWARD], ids=["model's order", "other order"]
)


@EXACT
def test_at_the_exact_posterior_every_draw_of_the_elbo_is_the_log_evidence(guide, params):
    np.testing.assert_allclose(
        elbo_draws(TARGET, guide, params, n=50), TARGET.log_evidence, rtol=0, atol=1e-6
    )


@EXACT
def test_posterior_draws_and_marginals_are_those_of_the_exact_law(guide, params):
    draws, log_densities = joint_draws(guide, params, 4_000)
    expected = log_density_function(guide.get_posterior(params))(draws)
    np.testing.assert_allclose(log_densities, expected, atol=1e-6)
    exact = stats.multivariate_normal(TARGET.mean, TARGET.cov).logpdf(draws)
    np.testing.assert_allclose(log_densities, exact, atol=1e-6)
    assert_covariance(draws, TARGET.cov)
    low = guide.quantiles(params, 0.1)
    sd = np.sqrt(np.diag(TARGET.cov))
    expected = stats.norm(TARGET.mean, sd).ppf(0.1)
    np.testing.assert_allclose(np.r_[low["a"], low["b"]], expected, rtol=1e-6)


@EXACT
def test_noise_is_mapped_to_the_exact_law(guide, params):
    noise = np.array([0.3, -1.0, 0.7])
    vector, log_det = guide.noise_map(params)(pt.as_tensor(noise))
    density = stats.norm.logpdf(noise).sum() - log_det.eval()
    exact = stats.multivariate_normal(TARGET.mean, TARGET.cov).logpdf(vector.eval())
    assert density == pytest.approx(exact)


@pytest.mark.slow
def test_a_fit_reaches_the_log_evidence_and_the_posterior():
    guide = AutoStructured(TARGET)
    result = fit(TARGET, guide)
    assert abs(elbo_draws(TARGET, guide, result.params).mean() - TARGET.log_evidence) < 0.02
    draws = TARGET.vector(result.sample_posterior(4_000, random_seed=1).posterior)
    np.testing.assert_allclose(draws.mean(axis=0), TARGET.mean, atol=0.06)
    np.testing.assert_allclose(np.cov(draws.T), TARGET.cov, atol=0.12)


def test_without_dependencies_there_are_no_weights():
    guide = AutoStructured(TARGET, conditionals="normal", dependencies={})
    found = {name for name, site in trace(guide).get_trace().items() if site.type == "param"}
    assert found == {"a_auto_loc", "a_auto_scale", "b_auto_loc", "b_auto_scale"}


# --- functions of the user's --------------------------------------------------------------------


def student(shape):
    scale = param("a_sd", 0.4, constraint=constraints.positive)
    return pm.StudentT.dist(4.0, sigma=scale, shape=shape)


def curved():
    """A heavy-tailed site, one that bends with it, and a point."""
    pm.Normal("a")
    pm.Normal("b", shape=2)
    pm.HalfNormal("c")


def bend(deviation):
    return param("curvature", 0.3) * pt.stack([deviation**2, deviation])


CURVED = AutoStructured(
    curved,
    conditionals={"a": student, "b": "normal", "c": "delta"},
    dependencies={"b": {"a": bend}},
)
CURVED_PARAMS = {
    "a_auto_loc": 0.5,
    "a_sd": 0.4,
    "b_auto_loc": np.array([1.0, -1.0]),
    "b_auto_scale": np.array([0.2, 0.3]),
    "c_auto_loc": 0.7,
    "curvature": -0.8,
}


def curved_log_density(joint: np.ndarray) -> np.ndarray:
    a, b = joint[:, 0] - 0.5, joint[:, 1:3]
    shift = -0.8 * np.stack([a**2, a], axis=1)
    law = stats.norm(np.array([1.0, -1.0]) + shift, [0.2, 0.3])
    return stats.t(4, scale=0.4).logpdf(a) + law.logpdf(b).sum(axis=1)


def test_density_with_functions_as_conditional_and_dependency_is_the_exact_one():
    draws, log_densities = joint_draws(CURVED, CURVED_PARAMS, 500)
    np.testing.assert_allclose(log_densities, curved_log_density(draws), atol=1e-8)
    assert (draws[:, 3] == 0.7).all()
    assert stats.kstest(draws[:, 0] - 0.5, stats.t(4, scale=0.4).cdf).pvalue > 1e-3
    residual = draws[:, 2] + 1.0 + 0.8 * (draws[:, 0] - 0.5)
    assert stats.kstest(residual, stats.norm(0, 0.3).cdf).pvalue > 1e-3


def test_density_at_another_value_is_the_exact_one():
    with substitute(data=CURVED_PARAMS):
        site = trace(CURVED).get_trace()["_auto_latent"]
    value = np.array([0.1, 0.9, -1.4, 0.7])
    density = site.log_density_at(pt.as_tensor(value)).eval()
    assert density == pytest.approx(curved_log_density(value[None])[0])


def test_point_sites_and_functions_are_answered_by_draws():
    quantiles = CURVED.quantiles(CURVED_PARAMS, [0.1, 0.9])
    np.testing.assert_allclose(quantiles["c"], np.exp(0.7))
    expected = 0.5 + stats.t(4, scale=0.4).ppf([0.1, 0.9])
    np.testing.assert_allclose(quantiles["a"], expected, atol=0.03)
    with pytest.raises(NotImplementedError, match="other conditionals of 'a', 'c'"):
        CURVED.get_posterior(CURVED_PARAMS)


def test_sticking_the_landing_has_the_same_loss():
    def loss(**settings):
        with substitute(data=CURVED_PARAMS):
            built = Trace_ELBO(**settings).loss(curved, CURVED)
        return draw_function({"loss": built.value})(20, 0)["loss"]

    np.testing.assert_allclose(loss(sticking_the_landing=True), loss())


def test_a_part_of_a_list():
    guide = AutoGuideList(TARGET)
    guide.append(AutoStructured(block(TARGET, expose=["b"])))
    guide.append(AutoNormal(block(TARGET, expose=["a"])))
    assert list(trace(guide).get_trace().latent) == ["_auto_latent", "b", "a"]


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conditionals": {"aa": "normal"}}, "conditionals: 'aa' is not a latent site.*mean 'a'"),
        ({"dependencies": {"z": {}}}, "dependencies: 'z' is not a latent site"),
        ({"dependencies": {"a": {"z": "linear"}}}, "dependencies of 'a': 'z' is not a latent site"),
        (
            {"dependencies": {"a": {"b": "linear"}, "b": {"a": "linear"}}},
            "dependencies form a circle. Found: '[ab]' -> '[ab]' -> '[ab]'",
        ),
        (
            {"conditionals": lambda shape: pm.Normal.dist(shape=5)},
            r"conditional of site 'a' returned.*Found: shape \(5,\). Expected:.* shape \(\)",
        ),
        ({"conditionals": lambda shape: 3}, "conditional of site 'a' returned.*Found: 3"),
    ],
)
def test_a_structure_that_does_not_fit_the_model_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        trace(AutoStructured(TARGET, **settings)).get_trace()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conditionals": "full"}, "no such conditional. Found: 'full'"),
        ({"conditionals": {"a": 3}}, "no such conditional for site 'a'. Found: 3"),
        ({"dependencies": "dense"}, "no such dependency. Found: 'dense'"),
        ({"dependencies": {"a": "linear"}}, "no such dependency. Found: 'linear'"),
        ({"dependencies": {"a": {"b": "square"}}}, "no such dependency. Found: 'square'"),
        ({"dependencies": None}, "no such dependency. Found: None"),
        ({"init_scale": 0.0}, "AutoStructured: init_scale must be positive"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        AutoStructured(TARGET, **settings)


def test_subsampled_local_sites_are_refused_by_name():
    def model():
        with plate("rows", 10, subsample_size=2):
            pm.Normal("z")

    with pytest.raises(ValueError, match="site 'z' is local to the subsampled plate 'rows'"):
        SVI(model, AutoStructured(model)).init()
