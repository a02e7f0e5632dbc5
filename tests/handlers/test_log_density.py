"""The density of a traced program is the density that PyMC compiles."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.pytensorf import rewrite_pregrad
from scipy import stats

from pymc_svi import SVI, param
from pymc_svi.engine import Arguments
from pymc_svi.evaluation import evaluate
from pymc_svi.guides.target import Target
from pymc_svi.handlers import condition, trace
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.stack import no_handlers
from tests.checks import as_built
from tests.handlers.catalogue import DISTRIBUTIONS, MODELS, Entry

CATALOGUE = MODELS | {f"just {name}": Entry(program) for name, program in DISTRIBUTIONS.items()}


def random_point(model: pm.Model, seed: int = 5) -> tuple[dict, dict]:
    """Draw the latent variables: their values, and PyMC's unconstrained values for them."""
    rvs = model.free_RVs
    free = []
    for rv in rvs:
        transform = model.rvs_to_transforms[rv]
        free.append(rv if transform is None else transform.forward(rv, *rv.owner.inputs))
    try:
        draws = pm.draw(
            [as_plain_tensor(v) for v in (*rvs, *free)], random_seed=seed, mode="FAST_COMPILE"
        )
        values, start = draws[: len(rvs)], draws[len(rvs) :]
    except NotImplementedError:  # Flat and others cannot be drawn
        start = [np.nan]
    if not all(np.isfinite(v).all() for v in start):  # or are drawn without their transform
        point = model.initial_point(random_seed=seed)
        start = [point[value.name] for value in model.value_vars]
        constrain = pm.compile(
            model.value_vars,
            [as_plain_tensor(v) for v in model.replace_rvs_by_values(rvs)],
            mode="FAST_COMPILE",
            on_unused_input="ignore",
        )
        values = constrain(**point)
    names = [rv.name for rv in rvs]
    value_names = [value.name for value in model.value_vars]
    return dict(zip(names, values, strict=True)), dict(zip(value_names, start, strict=True))


def evaluated(expression) -> float:
    return float(expression.eval(mode="FAST_COMPILE"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CATALOGUE)
def test_log_prob_sum_at_a_point_is_pymcs_log_density_there(name):
    entry = CATALOGUE[name]
    model = entry.built()
    values, unconstrained = random_point(model)
    log_density = model.compile_logp(jacobian=False, mode="FAST_COMPILE")
    expected = float(log_density(unconstrained))
    assert np.isfinite(expected)
    with pm.Model(coords=entry.coords):
        run = trace(condition(entry.program, data=values)).get_trace()
    np.testing.assert_allclose(evaluated(run.log_prob_sum()), expected, rtol=1e-7)
    walked = trace(condition(model, data=values)).get_trace()
    np.testing.assert_allclose(evaluated(walked.log_prob_sum()), expected, rtol=1e-7)
    assert set(run) == set(walked)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_the_density_in_unconstrained_space_is_pymcs_with_its_jacobians(name):
    entry = MODELS[name]
    model = entry.built()
    values, unconstrained = random_point(model)
    expected = float(model.compile_logp(mode="FAST_COMPILE")(unconstrained))
    assert np.isfinite(expected)
    points = {
        rv.name: pt.constant(unconstrained[model.rvs_to_values[rv].name])
        for rv in model.free_RVs
        if rv.type.dtype.startswith("float")
    }
    rest = {name: value for name, value in values.items() if name not in points}
    for program in (model, entry.program):
        with no_handlers(), pm.Model(coords=entry.coords):
            found = Target(points, rest).run(program, (), {})
        np.testing.assert_allclose(evaluated(found), expected, rtol=1e-7)


def compiled(model: pm.Model, point: dict) -> float:
    return float(model.compile_logp(jacobian=False, mode="FAST_COMPILE")(point))


def chain():
    a = pm.Normal("a")
    b = pm.Normal("b", a, 2.0)
    pm.Deterministic("total", a + b)
    pm.Normal("y", a + b, 1.0, observed=0.7)


POINT = {"a": 0.4, "b": -0.3}


def at_point(model, point) -> float:
    return evaluated(trace(condition(model, data=point)).get_trace().log_prob_sum())


def test_models_that_pm_observe_and_pm_do_made_keep_their_density():
    with pm.Model() as model:
        chain()
    seen = pm.observe(model, {"b": -0.3})
    np.testing.assert_allclose(at_point(seen, {"a": 0.4}), compiled(seen, {"a": 0.4}))
    np.testing.assert_allclose(at_point(seen, {"a": 0.4}), at_point(model, POINT))
    done = pm.do(model, {"a": 0.4})
    np.testing.assert_allclose(at_point(done, {"b": -0.3}), compiled(done, {"b": -0.3}))


def test_the_order_in_which_a_model_lists_its_variables_does_not_matter():
    with pm.Model() as model:
        chain()
    expected = compiled(model, POINT)
    backwards = dict(reversed(model.named_vars.items()))
    model.named_vars.clear()
    model.named_vars.update(backwards)
    run = trace(condition(model, data=POINT)).get_trace()
    np.testing.assert_allclose(evaluated(run.log_prob_sum()), expected)
    assert list(run).index("a") < list(run).index("b")


def test_a_missing_value_takes_part_in_what_follows():
    def program():
        x = pm.Normal("x", 0.0, 1.0, observed=np.ma.masked_invalid([0.3, np.nan]))
        pm.Deterministic("twice", 2 * x)

    with pm.Model() as model, pytest.warns(pm.exceptions.ImputationWarning):
        program()
    run = trace(condition(model, data={"x_unobserved": [5.0]})).get_trace()
    assert run["twice"].value.eval(mode="FAST_COMPILE").tolist() == [0.6, 10.0]


@pytest.mark.parametrize("base", [pm.Normal.dist, pm.Logistic.dist])
@pytest.mark.parametrize(("bounds", "y"), [((0, None), [0.5, 1.0]), ((None, 2.0), [0.5, 1.0])])
def test_one_sided_truncation_has_the_gradient_of_pymc(base, bounds, y):
    lower, upper = bounds
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.Truncated("t", base(mu, 1.0), lower=lower, upper=upper, observed=y)
    expected = model.compile_dlogp(mode="FAST_COMPILE")({"mu": np.array(0.1)})
    point = pt.dscalar("point")
    run = trace(condition(model, data={"mu": point})).get_trace()
    gradient = pytensor.grad(rewrite_pregrad(run.log_prob_sum()), point)
    found = gradient.eval({point: 0.1}, mode="FAST_COMPILE")
    np.testing.assert_allclose(found, expected[0], rtol=1e-7)


COVARIANCE = np.array([[1.0, 0.3], [0.3, 2.0]])
ROWS = np.array([[0.5, -1.0], [1.5, 0.2], [-0.3, 0.1]])


@pytest.mark.parametrize(
    ("observe", "law"),
    [
        (
            lambda y, c: pm.MvNormal("y", y.mean(axis=0), cov=c, observed=y),
            stats.multivariate_normal(ROWS.mean(axis=0), COVARIANCE),
        ),
        (
            lambda y, c: pm.MvNormal("y", np.zeros(2), chol=pt.linalg.cholesky(c), observed=y),
            stats.multivariate_normal(np.zeros(2), COVARIANCE),
        ),
        (
            lambda y, c: pm.MvStudentT("y", nu=4, mu=np.zeros(2), scale=c, observed=y),
            stats.multivariate_t(np.zeros(2), COVARIANCE, df=4),
        ),
    ],
    ids=["MvNormal", "by its Cholesky factor", "MvStudentT"],
)
def test_vectors_that_are_arguments_of_a_program_have_their_density(observe, law):
    def program(y, c):
        observe(y, c)

    svi = SVI(program, lambda y, c: param("unused", 0.0), validate="off")
    arguments = Arguments((ROWS, COVARIANCE), {})
    variables = arguments.variables()
    loss, _ = svi.build_loss(*variables)
    assert evaluate(loss.value) == pytest.approx(-law.logpdf(ROWS).sum(), rel=1e-12)


def test_an_interpolated_law_of_several_data():
    def program():
        points = np.linspace(-1.0, 1.0, 5)
        pm.Interpolated("y", points, 1.0 - np.abs(points), observed=np.array([0.0, 0.25, -0.5]))

    expected = np.log([1.0, 0.75, 0.5]).sum()
    for one in (program, as_built(program)):
        assert evaluate(trace(one).get_trace().log_prob_sum()) == pytest.approx(expected)
