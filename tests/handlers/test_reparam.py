"""``reparam`` and the reparameterisations."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy import stats
from scipy.integrate import quad

from pymc_svi import LocScaleReparam, TransformReparam, plate
from pymc_svi.errors import SiteError
from pymc_svi.handlers import condition, reparam, scale, scope, seed, trace
from pymc_svi.reparam import (
    AutoReparam,
    CircularReparam,
    ProjectedNormal,
    ProjectedNormalReparam,
    register_transform,
)


def draws_of(program, name="x", n=4000):
    value = trace(program).get_trace()[name].value
    return pm.draw(value, n, random_seed=1, mode="FAST_COMPILE")


def same_law(a, b) -> float:
    return stats.ks_2samp(a, b).pvalue


FAMILIES = {
    "Normal": lambda: pm.Normal("x", 1.5, 0.7),
    "StudentT": lambda: pm.StudentT("x", nu=5, mu=1.5, sigma=0.7),
    "Laplace": lambda: pm.Laplace("x", 1.5, 0.7),
    "Logistic": lambda: pm.Logistic("x", 1.5, 0.7),
    "Cauchy": lambda: pm.Cauchy("x", 1.5, 0.7),
    "Gumbel": lambda: pm.Gumbel("x", 1.5, 0.7),
    "Moyal": lambda: pm.Moyal("x", 1.5, 0.7),
}
BASES = {
    "LogNormal": lambda: pm.LogNormal("x", 0.3, 0.7),
    "Uniform": lambda: pm.Uniform("x", -1.0, 3.0),
    "HalfNormal": lambda: pm.HalfNormal("x", 2.0),
    "HalfCauchy": lambda: pm.HalfCauchy("x", 2.0),
    "HalfStudentT": lambda: pm.HalfStudentT("x", nu=4, sigma=2.0),
    "Exponential": lambda: pm.Exponential("x", 2.0),
    "Gamma": lambda: pm.Gamma("x", 3.0, 2.0),
    "InverseGamma": lambda: pm.InverseGamma("x", 3.0, 2.0),
    "Weibull": lambda: pm.Weibull("x", 1.5, 2.0),
    "Normal": FAMILIES["Normal"],
    "StudentT": FAMILIES["StudentT"],
    "Laplace": FAMILIES["Laplace"],
    "Logistic": FAMILIES["Logistic"],
    "Cauchy": FAMILIES["Cauchy"],
    "Gumbel": FAMILIES["Gumbel"],
}


@pytest.mark.parametrize("centered", [0.0, 0.6, None])
@pytest.mark.parametrize("family", FAMILIES)
def test_partly_centred_sites_have_the_law_of_the_original(family, centered):
    program = FAMILIES[family]
    changed = reparam(program, config={"x": LocScaleReparam(centered)})
    assert same_law(draws_of(program), draws_of(changed)) > 1e-3


@pytest.mark.parametrize("family", BASES)
def test_transformed_sites_have_the_law_of_the_original(family):
    program = BASES[family]
    changed = reparam(program, config={"x": TransformReparam()})
    assert same_law(draws_of(program), draws_of(changed)) > 1e-3


def test_a_transformed_mv_normal_has_the_moments_of_the_original():
    cov = np.array([[2.0, 0.8], [0.8, 1.0]])

    def program():
        pm.MvNormal("x", [1.0, -1.0], cov, shape=(3, 2))

    draws = draws_of(reparam(program, config={"x": TransformReparam()}))
    assert draws.shape == (4000, 3, 2)
    np.testing.assert_allclose(np.cov(draws[:, 1].T), cov, atol=0.15)
    np.testing.assert_allclose(draws.mean(axis=(0, 1)), [1.0, -1.0], atol=0.06)


def hierarchical():
    mu = pm.Normal("mu", 0.0, 5.0)
    tau = pm.HalfNormal("tau", 5.0)
    theta = pm.Normal("theta", mu, tau, shape=4)
    pm.Normal("y", theta, 1.0, observed=[1.0, 2.0, 3.0, 4.0])


def built() -> pm.Model:
    with pm.Model() as model:
        hierarchical()
    return model


@pytest.mark.parametrize("model", [hierarchical, built()], ids=["function", "built"])
@pytest.mark.parametrize("centered", [0.0, 0.4])
def test_the_joint_density_changes_by_the_volume_of_the_map(model, centered):
    at = {"mu": 0.5, "tau": 1.7, "theta": np.array([0.1, 0.9, -0.4, 2.0])}
    changed = reparam(model, config={"theta": LocScaleReparam(centered)})
    shrink = at["tau"] ** (1 - centered)
    decentered = (at["theta"] - at["mu"]) / shrink + centered * at["mu"]
    data = {"mu": 0.5, "tau": 1.7, "theta_decentered": decentered}
    run = trace(condition(changed, data=data)).get_trace()
    np.testing.assert_allclose(run["theta"].value.eval(mode="FAST_COMPILE"), at["theta"])
    original = trace(condition(model, data=at)).get_trace().log_prob_sum()
    difference = run.log_prob_sum() - original
    assert difference.eval(mode="FAST_COMPILE") == pytest.approx(4 * np.log(shrink))


def test_reparam_inside_a_model_context_makes_a_non_centred_model():
    with pm.Model() as model, reparam(config={"theta": LocScaleReparam(0.0)}):
        hierarchical()
    assert {rv.name for rv in model.free_RVs} == {"mu", "tau", "theta_decentered"}
    assert [var.name for var in model.deterministics] == ["theta"]
    assert np.isfinite(model.compile_logp(mode="FAST_COMPILE")(model.initial_point()))


def test_all_forms_are_equal():
    config = {"theta": LocScaleReparam(0.0)}

    @reparam(config=config)
    def decorated():
        hierarchical()

    def with_context():
        with reparam(config=config):
            hierarchical()

    names = [list(trace(p).get_trace()) for p in (decorated, with_context, reparam(hierarchical, config))]  # fmt: skip
    assert names[0] == names[1] == names[2] == ["mu", "tau", "theta_decentered", "theta", "y"]


def test_a_fully_centred_site_is_left_alone():
    run = trace(reparam(hierarchical, config={"theta": LocScaleReparam(1.0)})).get_trace()
    assert list(run) == list(trace(hierarchical).get_trace())


def test_the_learned_centredness_is_a_param_between_zero_and_one():
    run = trace(reparam(hierarchical, config={"theta": LocScaleReparam()})).get_trace()
    assert run["theta_centered"].type == "param"
    assert float(run["theta_centered"].value.eval(mode="FAST_COMPILE")) == 0.5


def test_new_sites_are_in_the_plates_scales_and_scopes_of_the_original():
    def program():
        with scope(prefix="a"), plate("N", 6, subsample_size=2), scale(scale=5.0):
            pm.Normal("x", 1.0, 2.0)

    run = trace(reparam(program, config={"a::x": LocScaleReparam(0.0)})).get_trace()
    new = run["a::x_decentered"]
    assert (new.shape, new.scale) == ((2,), 15.0)
    assert [frame.name for frame in new.plates] == ["a::N"]
    assert run["a::x"].shape == (2,)


@pytest.mark.parametrize("strategy", [LocScaleReparam(0.0), LocScaleReparam(0.3)])
def test_inside_a_plate_the_site_is_repeated_as_those_in_its_place_are(strategy):
    """As in NumPyro's annotation models, where the handler is around one statement."""

    def program():
        loc = pm.Normal("loc", 0.0, 1.0, shape=(3, 1))
        with plate("N", 4, dim=-3), plate("M", 2), reparam(config={"x": strategy}):
            return pm.Normal("x", loc, 2.0)

    def around():
        with plate("N", 4, dim=-3), plate("M", 2):
            return pm.Normal("x", pm.Normal("loc", 0.0, 1.0, shape=(3, 1)), 2.0)

    run = trace(program).get_trace()
    assert run["x"].type == "deterministic"
    assert run["x"].value.type.shape == run["x_decentered"].shape == (4, 3, 2)
    outer = trace(reparam(around, config={"x": strategy})).get_trace()
    assert outer["x"].value.type.shape == (4, 3, 2)


def test_a_reparameterised_program_can_be_seeded():
    run = trace(seed(reparam(hierarchical, config=AutoReparam(0.0)), rng_seed=1)).get_trace()
    assert run["theta"].value.eval(mode="FAST_COMPILE").shape == (4,)


def test_an_angle_is_wrapped_and_keeps_its_density():
    def program():
        pm.VonMises("x", 0.5, 2.0)

    changed = reparam(program, config={"x": CircularReparam()})
    run = trace(condition(changed, data={"x_unwrapped": 0.3 + 4 * np.pi})).get_trace()
    assert run["x"].observed
    expected = stats.vonmises(2.0, 0.5).logpdf(0.3)
    assert run.log_prob_sum().eval(mode="FAST_COMPILE") == pytest.approx(expected)


def test_a_direction_has_unit_length_and_points_where_it_should():
    def program():
        ProjectedNormal("x", [3.0, 0.0, 4.0])

    plain = draws_of(program, n=2000)
    changed = draws_of(reparam(program, config={"x": ProjectedNormalReparam()}), n=2000)
    for draws in (plain, changed):
        np.testing.assert_allclose((draws**2).sum(axis=-1), 1.0)
    np.testing.assert_allclose(plain.mean(axis=0), changed.mean(axis=0), atol=0.03)


@pytest.mark.parametrize("concentration", [[0.3, -1.2], [1.0, 2.0, -2.0], [5.0, 0.0, 1.0, 3.0]])
def test_the_density_of_a_direction_is_that_of_all_vectors_along_it(concentration):
    m = np.array(concentration)
    directions = np.array([m / np.linalg.norm(m), -m / np.linalg.norm(m), np.eye(len(m))[1]])

    def along(x):  # integrated over the lengths r, in whose sphere the area grows as r^(d-1)
        density = stats.multivariate_normal(m).pdf
        return quad(lambda r: r ** (len(m) - 1) * density(r * x), 0, 20, epsabs=0, limit=200)[0]

    def program():
        ProjectedNormal("x", m, shape=(3, len(m)), observed=directions)

    found = trace(program).get_trace()["x"].log_prob.eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(found, np.log([along(x) for x in directions]), rtol=1e-9)


def test_what_is_no_direction_is_impossible():
    def program():
        ProjectedNormal("x", [1.0, 0.0], observed=[1.0, 1.0])

    assert trace(program).get_trace()["x"].log_prob.eval(mode="FAST_COMPILE") == -np.inf


def test_a_direction_needs_two_dimensions():
    def program():
        ProjectedNormal("x", [1.0], observed=[1.0])

    with pytest.raises(SiteError, match="dimensions is not known, or less than 2.*\\(1,\\)"):
        trace(program).get_trace().log_prob_sum()


def test_auto_reparam_chooses_by_site_and_leaves_constants_alone():
    def program():
        tau = pm.HalfNormal("tau", 5.0)
        pm.Normal("theta", 0.0, tau)
        pm.LogNormal("size", 0.0, tau)
        pm.VonMises("angle", 0.0, tau)
        pm.Beta("share", tau, 1.0)
        pm.Normal("y", 0.0, tau, observed=1.0)

    run = trace(reparam(program, config=AutoReparam())).get_trace()
    new = {"theta_centered", "theta_decentered", "size_base", "angle_unwrapped"}
    assert set(run) - set(trace(program).get_trace()) == new


def test_a_user_can_register_a_transformation():
    class MyOp(type(pm.Beta.dist(1.0, 1.0).owner.op)):
        pass

    @register_transform(MyOp)
    def rule(shape, alpha, beta):
        return pm.Uniform.dist(0, 1, shape=shape), lambda u: u

    def program():
        from pymc_svi import sample

        sample("x", MyOp()(2.0, 3.0))

    run = trace(reparam(program, config={"x": TransformReparam()})).get_trace()
    assert list(run) == ["x_base", "x"]


@pytest.mark.parametrize("centered", [-0.1, 1.5, [0.5, 2.0]])
def test_a_centredness_outside_of_zero_and_one_is_refused(centered):
    with pytest.raises(ValueError, match="between 0 and 1"):
        LocScaleReparam(centered)


def test_a_family_without_location_and_scale_is_refused():
    with pytest.raises(SiteError, match="'x'.*location-scale.*TransformReparam"):
        trace(reparam(BASES["LogNormal"], config={"x": LocScaleReparam()})).get_trace()


@pytest.mark.parametrize("strategy", [LocScaleReparam(0.0), TransformReparam(), CircularReparam()])
def test_an_observed_site_is_refused(strategy):
    with pytest.raises(SiteError, match="'y' is observed"):
        trace(reparam(hierarchical, config={"y": strategy})).get_trace()


def test_a_config_that_is_none_is_refused():
    with pytest.raises(TypeError, match="config is a dict"):
        reparam(hierarchical)
