"""``AutoDelta`` and ``AutoLaplaceApproximation``: modes, and the curvature at them."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from pymc_svi import SVI, Predictive, optim
from pymc_svi.guides import AutoDelta, AutoLaplaceApproximation, init_to_uniform, init_to_value
from pymc_svi.handlers import trace
from tests.checks import loss_draws
from tests.guides.checks import GaussianTarget, elbo_draws, log_density_function
from tests.models import MEASUREMENTS, normal_mean, normal_mean_posterior

TARGET = GaussianTarget.simulated()


def scale_model(y=None):
    """An exponential scale: modes are known with and without the log-Jacobian."""
    rate = pm.Gamma("rate", 3.0, 2.0)
    pm.Exponential("y", rate, shape=3, observed=y)


DATA = np.array([0.4, 1.1, 0.2])
# The posterior is Gamma(3 + n, 2 + sum(y)).
SHAPE, RATE = 3.0 + len(DATA), 2.0 + DATA.sum()


def wedge():
    """The bound of ``x`` is ``u``; the density increases towards both."""
    u = pm.Exponential("u", 1.0)
    pm.Uniform("x", 0.0, u, initval=0.3)
    pm.Potential("pull", 4 * pm.math.log(u) - 0.5 * u)


def loss_at(model, guide, params, *args):
    return -elbo_draws(model, guide, params, *args, n=1)[0]


# --- AutoDelta --------------------------------------------------------------------------------


def test_delta_loss_is_minus_the_joint_density_in_the_supports_without_jacobian():
    loss = loss_at(scale_model, AutoDelta(scale_model), {"rate_auto_loc": 1.3}, DATA)
    with pm.Model() as model:
        scale_model(DATA)
    expected = model.compile_logp(jacobian=False)({"rate_log__": np.log(1.3)})
    np.testing.assert_allclose(loss, -expected, rtol=1e-7)


@pytest.mark.slow
def test_delta_fit_finds_the_mode_in_the_support():
    svi = SVI(scale_model, AutoDelta(scale_model), optim.Adam(0.05))
    result = svi.run(1_500, DATA, random_seed=0, progressbar=False)
    np.testing.assert_allclose(result.params["rate_auto_loc"], (SHAPE - 1) / RATE, rtol=1e-4)
    draws = result.sample_posterior(5, random_seed=0).posterior["rate"]
    np.testing.assert_allclose(draws, (SHAPE - 1) / RATE, rtol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: pm.Dirichlet("x", np.ones(3)),
        lambda: pm.HalfNormal("x", shape=(2, 2)),
        lambda: pm.Uniform("x", -1.0, [1.0, 2.0]),
        lambda: pm.Normal("x", shape=3, transform=pm.distributions.transforms.ordered,
                          initval=[0.0, 1.0, 2.0]),
        lambda: pm.ZeroSumNormal("x", shape=4),
        lambda: pm.LKJCholeskyCov("x", n=2, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0),
                                  compute_corr=False),
        lambda: pm.VonMises("x", 0.0, 1.0),
    ],
)  # fmt: skip
def test_delta_params_are_constrained_values_of_the_shape_of_the_site(make):
    def model():
        make()

    start = SVI(model, AutoDelta(model)).init()
    svi = SVI(model, AutoDelta(model))
    state = svi.init(random_seed=1)
    value = svi.get_params(state)["x_auto_loc"]
    assert start.step == 0
    site = trace(model).get_trace()["x"]
    assert value.shape == site.dist.type.shape
    assert np.isfinite(loss_at(model, AutoDelta(model), {"x_auto_loc": value}))


def test_delta_follows_supports_that_depend_on_other_sites():
    svi = SVI(wedge, AutoDelta(wedge), optim.Adam(0.1))
    state = svi.init(init_params={"x_auto_loc": 4.0, "u_auto_loc": 5.0})
    params = svi.get_params(state)
    np.testing.assert_allclose([params["u_auto_loc"], params["x_auto_loc"]], [5.0, 4.0])
    with pytest.raises(ValueError, match="'x_auto_loc' is outside its constraint"):
        svi.init(init_params={"x_auto_loc": 6.0, "u_auto_loc": 5.0})


def test_delta_starts_at_random_inside_supports_that_depend_on_other_sites():
    svi = SVI(wedge, AutoDelta(wedge, init_loc_fn=init_to_uniform))
    seen = set()
    for seed in range(5):
        params = svi.get_params(svi.init(random_seed=seed))
        assert 0 < params["x_auto_loc"] < params["u_auto_loc"]
        seen.add(float(params["u_auto_loc"]))
    assert len(seen) == 5


@pytest.mark.slow
def test_delta_fit_moves_a_bound_and_what_is_bounded_together():
    """Density of (u, x): u^3 exp(-1.5 u), flat in x, so the mode has u = 2."""
    result = SVI(wedge, AutoDelta(wedge), optim.Adam(0.05)).run(1_500, progressbar=False)
    np.testing.assert_allclose(result.params["u_auto_loc"], 2.0, rtol=1e-3)
    posterior = result.sample_posterior(2).posterior
    assert 0 < posterior["x"].values[0, 0] < posterior["u"].values[0, 0]
    np.testing.assert_allclose(posterior["x"].values[0, 0], result.params["x_auto_loc"])


def test_delta_param_has_the_dims_of_the_site():
    with pm.Model(coords={"city": ["a", "b"]}) as model:
        pm.HalfNormal("x", dims="city")
    assert trace(AutoDelta(model)).get_trace()["x_auto_loc"].dims == ("city",)


def test_delta_median_and_quantiles_are_the_points():
    params = {"rate_auto_loc": np.array(1.7)}
    guide = AutoDelta(scale_model)
    assert guide.median(params, DATA)["rate"] == 1.7
    np.testing.assert_array_equal(guide.quantiles(params, [0.1, 0.9], DATA)["rate"], [1.7, 1.7])
    assert float(guide.to_model(params, DATA)["rate"].eval()) == 1.7


# --- AutoLaplaceApproximation -----------------------------------------------------------------


def test_laplace_of_a_normal_posterior_is_the_posterior():
    guide = AutoLaplaceApproximation(TARGET)
    normal = guide.normal_params({"auto_loc": TARGET.mean})
    factor = normal["auto_scale_tril"]
    np.testing.assert_allclose(factor @ factor.T, TARGET.cov, atol=1e-9)
    np.testing.assert_array_equal(factor, np.tril(factor))
    assert (np.diagonal(factor) > 0).all()


def test_laplace_hessian_is_the_analytic_one_in_unconstrained_space():
    """log rate has density a v - b exp(v): mode log(a / b), curvature a."""
    guide = AutoLaplaceApproximation(scale_model)
    mode = np.log([SHAPE / RATE])
    normal = guide.normal_params({"auto_loc": mode}, DATA)
    np.testing.assert_allclose(normal["auto_scale_tril"], [[SHAPE**-0.5]], rtol=1e-7)
    posterior = guide.get_posterior({"auto_loc": mode}, DATA)
    density = log_density_function(posterior)(mode[None])
    np.testing.assert_allclose(density, 0.5 * np.log(SHAPE / (2 * np.pi)), rtol=1e-6)


def test_laplace_loss_is_minus_the_density_in_unconstrained_space():
    loss = loss_at(scale_model, AutoLaplaceApproximation(scale_model), {"auto_loc": [0.2]}, DATA)
    with pm.Model() as model:
        scale_model(DATA)
    np.testing.assert_allclose(loss, -model.compile_logp()({"rate_log__": 0.2}), rtol=1e-7)


@pytest.mark.slow
def test_laplace_results_draw_from_the_normal_and_not_from_the_point():
    mean, sd = normal_mean_posterior()
    svi = SVI(normal_mean, AutoLaplaceApproximation(normal_mean), optim.Adam(0.05))
    result = svi.run(1_500, MEASUREMENTS, random_seed=0, progressbar=False)
    draws = result.sample_posterior(4_000, random_seed=0).posterior["mu"].values
    assert abs(draws.mean() - mean) < 4 * sd / np.sqrt(4_000)
    assert abs(draws.std() / sd - 1) < 0.05
    # Predictions for other data still use the curvature at the data of the fit.
    predicted = result.sample_posterior_predictive(None, draws=4_000, random_seed=0)
    assert abs(predicted.posterior["mu"].std() / sd - 1) < 0.05
    guided = Predictive(
        normal_mean, guide=svi.guide, params=result.params, num_samples=4_000
    )(MEASUREMENTS, random_seed=0)  # fmt: skip
    assert abs(guided.posterior["mu"].std() / sd - 1) < 0.05


def test_laplace_names_the_sites_along_which_the_posterior_is_flat():
    def ridge():
        a = pm.Flat("a", initval=0.0)
        b = pm.Flat("b", initval=0.0)
        pm.Normal("c")
        pm.Normal("y", a + b, 1.0, observed=0.0)

    with pytest.raises(ValueError, match="not positive definite.* along 'a', 'b'") as error:
        AutoLaplaceApproximation(ridge).normal_params({"auto_loc": np.zeros(3)})
    assert "eigenvalues from" in str(error.value)


def test_laplace_warns_when_the_fit_is_not_at_the_mode():
    guide = AutoLaplaceApproximation(normal_mean)
    with pytest.warns(UserWarning, match="has not reached the mode"):
        guide.normal_params({"auto_loc": np.array([9.0])}, MEASUREMENTS)


def test_a_start_outside_the_support_is_refused_by_name():
    guide = AutoDelta(scale_model, init_loc_fn=init_to_value(values={"rate": -1.0}))
    with pytest.raises(ValueError, match="'rate' starts outside its support"):
        loss_draws(scale_model, guide, DATA, n=1)
