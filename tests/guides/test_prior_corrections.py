"""``AutoHierarchicalNormal`` and ``AutoRegressive``: the posterior as a correction of the prior."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy.stats import norm

from pymc_svi import SVI, Trace_ELBO, handlers, plate, subsample
from pymc_svi.errors import SiteError
from pymc_svi.evaluation import evaluate
from pymc_svi.gradients import NoPathwiseDraw
from pymc_svi.gradients.draws import pathwise
from pymc_svi.guides import AutoHierarchicalNormal, AutoRegressive, init_to_value
from pymc_svi.handlers import substitute, trace
from pymc_svi.results.sampling import draw_function
from tests.checks import as_built, assert_mean
from tests.guides.checks import elbo_draws, fit
from tests.guides.test_latent_kinds import (
    COORDS,
    KINDS,
    bounds_that_depend_on_other_sites,
    imputed,
    imputed_vectors,
    multivariate,
    ordered_vector,
    pymc_logp,
    quiet,
    user_transforms,
    with_dims,
)
from tests.models import gaussian_log_density

# --- a hierarchy with an exact posterior --------------------------------------------------------

Y = np.array([2.0, 0.5, -0.3, 1.4])
SPREAD, NOISE = 0.7, 0.5


def groups(batch=None):
    """Normal groups around a Normal mean, one measurement each."""
    mu = pm.Normal("mu", 0.0, 2.0)
    with plate("group", len(Y), subsample_size=batch):
        theta = pm.Normal("theta", mu, SPREAD)
        pm.Normal("y", theta, NOISE, observed=subsample(Y))


def groups_exact() -> tuple[dict, float]:
    """The posterior as params of ``AutoHierarchicalNormal``, and the log evidence."""
    precision = 1 / 4.0 + len(Y) / (SPREAD**2 + NOISE**2)
    weight = NOISE**2 / (SPREAD**2 + NOISE**2)
    params = {
        "mu_auto_loc": Y.sum() / (SPREAD**2 + NOISE**2) / precision,
        "mu_auto_scale": precision**-0.5,
        "theta_auto_loc": (1 - weight) * Y,
        "theta_auto_weight": np.full(len(Y), weight),
        "theta_auto_scale": np.full(len(Y), SPREAD * weight**0.5),
    }
    cov = 4.0 + (SPREAD**2 + NOISE**2) * np.eye(len(Y))
    return params, gaussian_log_density(Y, np.zeros(len(Y)), cov)


def test_hierarchical_guide_contains_the_posterior_of_a_normal_hierarchy():
    params, evidence = groups_exact()
    elbos = elbo_draws(groups, AutoHierarchicalNormal(groups), params, n=50)
    np.testing.assert_allclose(elbos, evidence, rtol=0, atol=1e-6)


def test_bound_of_minibatches_is_the_log_evidence_on_average():
    params, evidence = groups_exact()
    guide = AutoHierarchicalNormal(groups)
    assert_mean(elbo_draws(groups, guide, params, 2, n=4_000), evidence)


@pytest.mark.slow
def test_hierarchical_fit_reaches_the_log_evidence():
    guide = AutoHierarchicalNormal(groups)
    result = fit(groups, guide)
    params, evidence = groups_exact()
    assert abs(elbo_draws(groups, guide, result.params).mean() - evidence) < 0.02
    for name, value in params.items():
        np.testing.assert_allclose(result.params[name], value, atol=0.1)


def test_only_sites_below_others_have_weights_and_they_can_be_chosen():
    def params(**settings):
        found = trace(AutoHierarchicalNormal(groups, **settings)).get_trace().params
        return {name for name in found if "weight" in name}

    assert params() == params(hierarchical_sites=["theta"]) == {"theta_auto_weight"}
    assert params(hierarchical_sites=[]) == set()


def test_a_site_that_takes_only_its_shape_from_another_has_no_weight():
    """The centre of a vector with mean zero and a random covariance is zero, whatever the latter."""

    def model():
        scale = pm.HalfNormal("scale", shape=2)
        pm.MvNormal("x", np.zeros(2), chol=pt.diag(scale))

    assert "x_auto_weight" not in trace(AutoHierarchicalNormal(model)).get_trace()
    with pytest.raises(SiteError, match="hierarchical_sites has 'x'.*centre depends"):
        trace(AutoHierarchicalNormal(model, hierarchical_sites=["x"])).get_trace()


def test_hierarchical_guide_starts_where_it_is_told():
    start = handlers.trace(
        AutoHierarchicalNormal(
            groups,
            init_weight=0.5,
            init_loc_fn=init_to_value(values={"mu": 3.0, "theta": np.arange(4.0)}),
        )
    ).get_trace()
    np.testing.assert_allclose(start["theta_auto_loc"].value.eval(), np.arange(4.0) - 1.5)
    np.testing.assert_allclose(start["mu_auto_loc"].value.eval(), 3.0)


# --- draws of the prior, moved and stretched ----------------------------------------------------


def chain():
    x = pm.Normal("x0", 1.0, 2.0)
    x = pm.LogNormal("x1", x, 0.5)
    pm.Normal("x2", x, 0.3, shape=2)


CHAIN = {
    "x0_auto_loc": 0.4,
    "x0_auto_scale": 0.3,
    "x1_auto_loc": -0.2,
    "x1_auto_scale": 1.5,
    "x2_auto_loc": np.array([0.0, 1.0]),
    "x2_auto_scale": np.array([0.5, 2.0]),
}


def test_density_of_moved_and_stretched_draws_is_the_exact_one():
    with substitute(data=CHAIN):
        sites = trace(pathwise(AutoRegressive(chain))).get_trace().latent
    outputs = {name: site.value for name, site in sites.items()}
    outputs |= {f"q{name}": site.log_prob for name, site in sites.items()}
    got = draw_function(outputs)(400, 0)
    x0, x1, x2 = got["x0"], got["x1"], got["x2"]
    np.testing.assert_allclose(got["qx0"], norm(0.4 + 0.3, 0.6).logpdf(x0), atol=1e-6)
    log_x1 = norm(-0.2 + 1.5 * x0, 0.75).logpdf(np.log(x1)) - np.log(x1)
    np.testing.assert_allclose(got["qx1"], log_x1, rtol=1e-6, atol=1e-6)
    law = norm([0.0, 1.0] + np.array([0.5, 2.0]) * x1[:, None], [0.15, 0.6])
    np.testing.assert_allclose(got["qx2"], law.logpdf(x2), atol=1e-6)
    assert_mean(x0, 0.7)
    assert_mean((x2 - law.mean()) ** 2, np.array([0.15, 0.6]) ** 2)


def conjugate():
    mu = pm.Normal("mu", 1.0, 2.0)
    pm.Normal("y", mu, 1.5, observed=3.0)


def test_regressive_guide_contains_the_posterior_of_a_normal_mean():
    ratio = (1 + 4.0 / 2.25) ** -0.5  # of the standard deviations
    mean = (1 / 4 + 3 / 2.25) / (1 / 4 + 1 / 2.25)
    params = {"mu_auto_loc": mean - ratio, "mu_auto_scale": ratio}
    elbos = elbo_draws(conjugate, AutoRegressive(conjugate), params, n=50)
    np.testing.assert_allclose(elbos, norm(1.0, 2.5).logpdf(3.0), rtol=0, atol=1e-6)


def test_a_prior_without_a_draw_to_differentiate_is_named():
    def model():
        pm.Flat("x")

    with pytest.raises(NoPathwiseDraw, match="Site 'x': no differentiable draw is known for Flat"):
        SVI(model, AutoRegressive(model)).init()


# --- every kind of latent site ------------------------------------------------------------------


def losses_and_points(model, guide, n=7):
    """Draws of the loss at the start of the params, with the unconstrained vectors, and a store."""
    found = {}

    def recorded():
        found.update(guide.run((), {}))

    loss, store = SVI(model, recorded, coords=COORDS).build_loss()
    draws = draw_function({"loss": loss.value, **found})(n, 1)
    points = np.concatenate([draws[name].reshape(n, -1) for name in found], axis=1)
    return draws["loss"], points, store


@quiet
@pytest.mark.parametrize("kind", KINDS)
def test_hierarchical_density_is_that_of_its_normals(kind):
    guide = AutoHierarchicalNormal(kind, init_weight=0.0)
    losses, points, store = losses_and_points(kind, guide)
    locs = [
        site.unconstrained.get_value().ravel()
        for name, site in store.sites.items()
        if name.endswith("_loc")
    ]
    log_q = norm(np.concatenate(locs), 0.1).logpdf(points).sum(axis=1)
    np.testing.assert_allclose(pymc_logp(kind, points) + losses, log_q, rtol=1e-6, atol=1e-6)


# Priors whose transform is not that of their distribution, or without draws; see the last mistakes.
WITHOUT = (ordered_vector, user_transforms, imputed_vectors)
REGRESSIVE = [kind for kind in KINDS if kind not in WITHOUT]


@quiet
@pytest.mark.parametrize("family", [AutoHierarchicalNormal, AutoRegressive])
@pytest.mark.parametrize("kind", [bounds_that_depend_on_other_sites, with_dims, multivariate])
def test_guides_start_at_the_initial_point(kind, family):
    model = as_built(kind, coords=COORDS)
    guide = family(model, init_scale=1e-9)
    _, points, _ = losses_and_points(model, guide, n=1)
    start = model.initial_point()
    values = [start[model.rvs_to_values[rv].name].ravel() for rv in model.free_RVs]
    np.testing.assert_allclose(points[0], np.concatenate(values), atol=1e-6)


@quiet
@pytest.mark.parametrize("kind", [kind for kind in REGRESSIVE if kind is not imputed])
def test_unmoved_draws_are_those_of_the_prior(kind):
    """Without data the posterior is the prior, and then every draw of the loss is zero."""
    loss, store = SVI(kind, AutoRegressive(kind), coords=COORDS).build_loss()
    for name, site in store.sites.items():
        value = 0.0 if name.endswith("_loc") else 1.0
        full = np.full(site.unconstrained.get_value().shape, value)
        site.unconstrained.set_value(np.asarray(site.constraint.unconstrain(full)))
    np.testing.assert_allclose(draw_function({"loss": loss.value})(7, 1)["loss"], 0.0, atol=1e-6)


# --- once they are fitted -----------------------------------------------------------------------


@pytest.mark.parametrize("family", [AutoHierarchicalNormal, AutoRegressive])
def test_dims_are_those_of_the_model(family):
    with pm.Model(coords=COORDS) as model:
        mu = pm.Normal("mu")
        pm.Normal("theta", mu, 1.0, dims="city")
    result = SVI(model, family(model)).run(2, progressbar=False)
    assert result.sample_posterior(10, random_seed=0).posterior["theta"].dims[-1] == "city"


@pytest.mark.parametrize("family", [AutoHierarchicalNormal, AutoRegressive])
def test_sticking_the_landing_has_the_same_loss(family):
    def loss(**settings):
        built = Trace_ELBO(**settings).loss(groups, family(groups))
        return draw_function({"loss": built.value})(10, 0)["loss"]

    np.testing.assert_allclose(loss(sticking_the_landing=True), loss())


def test_quantiles_follow_the_hierarchy():
    params, _ = groups_exact()
    guide = AutoHierarchicalNormal(groups)
    low, high = guide.quantiles(params, [0.1, 0.9])["theta"]
    weight, sd = params["theta_auto_weight"], params["theta_auto_scale"]
    mean = params["theta_auto_loc"] + weight * params["mu_auto_loc"]
    sd = np.hypot(sd, weight * params["mu_auto_scale"])
    np.testing.assert_allclose(low, norm(mean, sd).ppf(0.1), atol=0.03)
    np.testing.assert_allclose(high, norm(mean, sd).ppf(0.9), atol=0.03)
    np.testing.assert_allclose(guide.median(params)["theta"], mean, atol=0.02)


# --- mistakes -----------------------------------------------------------------------------------


def test_sites_that_follow_nothing_are_refused_by_name():
    guide = AutoHierarchicalNormal(groups, hierarchical_sites=["mu"])
    with pytest.raises(ValueError, match="hierarchical_sites has 'mu'.*names among 'theta'"):
        trace(guide).get_trace()
    with pytest.raises(TypeError, match=r"several names. Found: 'theta'. Write \['theta'\]"):
        AutoHierarchicalNormal(groups, hierarchical_sites="theta")


@pytest.mark.parametrize("family", [AutoHierarchicalNormal, AutoRegressive])
def test_init_scale_must_be_positive(family):
    with pytest.raises(ValueError, match=f"{family.__name__}: init_scale must be positive"):
        family(groups, init_scale=0.0)


def test_a_transform_that_the_prior_does_not_respect_is_refused():
    with pytest.raises(ValueError, match="site 'x' has a transform of the model's own.*Ordered"):
        trace(AutoRegressive(ordered_vector)).get_trace()


@quiet
def test_missing_elements_of_a_vector_have_no_draw_of_the_prior():
    with pytest.raises(ValueError, match="'y_unobserved' has the missing elements of a vector"):
        trace(AutoRegressive(imputed_vectors)).get_trace()


# --- the fitted law --------------------------------------------------------------------------------


def exact_moments() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of ``(mu, *theta)`` given the data."""
    prior = np.zeros((5, 5))
    prior[0, 0] = 1 / 4.0
    prior[1:, 1:] += np.eye(4) / SPREAD**2
    prior[0, 1:] = prior[1:, 0] = -1 / SPREAD**2
    prior[0, 0] += 4 / SPREAD**2
    likelihood = np.diag([0.0, *[1 / NOISE**2] * 4])
    cov = np.linalg.inv(prior + likelihood)
    return cov @ np.array([0.0, *(Y / NOISE**2)]), cov


def test_the_law_is_that_of_each_site_given_those_before_it():
    params, _ = groups_exact()
    model = AutoHierarchicalNormal(groups).to_model(params)
    assert [rv.name for rv in model.free_RVs] == ["mu_unconstrained", "theta_unconstrained"]
    log_density = model.compile_logp()
    mean, cov = exact_moments()
    for point in np.random.default_rng(0).normal(size=(5, 5)):
        found = log_density({"mu_unconstrained": point[0], "theta_unconstrained": point[1:]})
        assert found == pytest.approx(gaussian_log_density(point, mean, cov), abs=1e-9)


def test_the_law_as_a_prior_follows_the_values_of_its_own_sites():
    """Given ``mu``, the prior of ``theta`` is that given this value, not given another draw."""
    params, _ = groups_exact()
    updated = AutoHierarchicalNormal(groups).as_prior(groups, params)
    mean, cov = exact_moments()
    point = np.array([0.7, 0.1, -0.2, 0.3, 0.9])
    values = {"mu_unconstrained": point[0], "theta_unconstrained": point[1:]}
    for program in (updated, as_built(updated)):
        run = handlers.trace(handlers.condition(program, data=values)).get_trace()
        expected = gaussian_log_density(point, mean, cov) + norm.logpdf(Y, point[1:], NOISE).sum()
        assert evaluate(run.log_prob_sum()) == pytest.approx(expected, rel=1e-8)
