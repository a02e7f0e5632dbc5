"""``GuideModel``: guides in the form of pymc_extras' ``AutoGuideModel``.

The stand-ins below have that form: a model with a deterministic of the unconstrained value of each
latent site, inputs with their starting values, and the log-density of the draw. As pymc_extras
does, they leave the density to PyMC's logprob inference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pymc.logprob.basic import conditional_logp
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from scipy import stats

from pymc_svi import SVI, Trace_ELBO, plate
from pymc_svi.errors import SiteError
from pymc_svi.guides import AutoMultivariateNormal, AutoNormal, GuideModel
from pymc_svi.handlers import substitute, trace
from pymc_svi.results.sampling import draw_function
from tests.checks import as_built, assert_covariance, assert_mean, gradient_draws
from tests.guides.checks import GaussianTarget, elbo_draws, fit, joint_draws

TARGET = GaussianTarget.simulated()
CHOL = np.linalg.cholesky(TARGET.cov)


@dataclass(frozen=True)
class GuideOfSites:
    """Each site has a draw of its own."""

    model: pm.Model
    params_init_values: dict[Variable, np.ndarray]

    def stochastic_logq(self, path_derivative_gradient: bool = True):
        return self._logq(self.model.deterministics, path_derivative_gradient)

    def _logq(self, variables, path_derivative_gradient: bool):
        terms = conditional_logp({var: var for var in variables}, warn_rvs=False).values()
        total = pt.add(*(term.sum() for term in terms), 0.0)
        if path_derivative_gradient:
            held = {var: disconnected_grad(var) for var in self.params_init_values}
            total = graph_replace(total, held, strict=False)
        return total


class GuideOfOneVector(GuideOfSites):
    """The sites are parts of one vector, whose density is known."""

    def stochastic_logq(self, path_derivative_gradient: bool = True):
        return self._logq([self.model["latent"]], path_derivative_gradient)


def mean_field(shapes: dict[str, tuple[int, ...]]) -> GuideOfSites:
    starts = {}
    with pm.Model() as model:
        for name, shape in shapes.items():
            loc, scale = (pt.tensor(f"{name}_{p}", shape=shape) for p in ("loc", "scale"))
            starts |= {loc: np.zeros(shape), scale: np.full(shape, -1.0)}
            noise = pm.Normal(f"{name}_z", shape=shape)
            pm.Deterministic(name, loc + pt.exp(scale) * noise)
    return GuideOfSites(model, starts)


def full_rank(names_and_sizes: dict[str, int]) -> GuideOfOneVector:
    """The vector has the sites in the order given, which need not be the model's."""
    with pm.Model() as model:
        loc = pt.tensor("loc", shape=(None,))
        chol = pt.tensor("chol", shape=(None, None))
        noise = pm.Normal("z", shape=(loc.shape[0],))
        latent = loc + chol @ noise
        latent.name = "latent"
        model.add_named_variable(latent)
        end = 0
        for name, size in names_and_sizes.items():
            part = latent[end : end + size] if size > 1 else latent[end]
            pm.Deterministic(name, part)
            end += size
    return GuideOfOneVector(model, {loc: np.zeros(end), chol: 0.5 * np.eye(end)})


FULL_RANK = GuideModel(TARGET, full_rank({"a": 1, "b": 2}))
# The same, as a vector (b, a).
TURNED = GuideModel(TARGET, full_rank({"b": 2, "a": 1}))
ORDER = [1, 2, 0]
TURNED_PARAMS = {
    "loc": TARGET.mean[ORDER],
    "chol": np.linalg.cholesky(TARGET.cov[np.ix_(ORDER, ORDER)]),
}
EXACT = pytest.mark.parametrize(
    ("guide", "params"),
    [(FULL_RANK, {"loc": TARGET.mean, "chol": CHOL}), (TURNED, TURNED_PARAMS)],
    ids=["model's order", "other order"],
)


@EXACT
@pytest.mark.parametrize("landing", [False, True])
def test_at_the_exact_posterior_every_draw_of_the_elbo_is_the_log_evidence(guide, params, landing):
    with substitute(data=params):
        loss = Trace_ELBO(sticking_the_landing=landing).loss(TARGET, guide)
    losses = draw_function({"loss": loss.value})(50, 0)["loss"]
    np.testing.assert_allclose(-losses, TARGET.log_evidence, rtol=0, atol=1e-6)


@EXACT
def test_draws_of_the_sites_have_the_posterior_law(guide, params):
    draws = guide.sample_posterior(params, 4_000, random_seed=1)
    draws = np.column_stack([draws["a"], draws["b"]])
    assert_mean(draws, TARGET.mean)
    assert_covariance(draws, TARGET.cov)


def constrained():
    pm.HalfNormal("s", 2.0)
    pm.Dirichlet("w", np.array([1.0, 2.0, 3.0]))
    pm.Uniform("u", -1.0, 3.0)


SHAPES = {"s": (), "w": (2,), "u": ()}


@pytest.mark.parametrize("model", [constrained, as_built(constrained)], ids=["function", "built"])
def test_the_elbo_on_constrained_sites_is_that_of_the_same_automatic_guide(model):
    """With the same locations and scales; scales are logarithms here, so theirs are at -1."""
    guide = GuideModel(model, mean_field(SHAPES))
    automatic = AutoNormal(model)
    params = {f"{n}_loc": np.full(s, 0.3) for n, s in SHAPES.items()}
    params |= {f"{n}_scale": np.full(s, -1.0) for n, s in SHAPES.items()}
    theirs = {f"{n}_auto_loc": np.full(s, 0.3) for n, s in SHAPES.items()}
    theirs |= {f"{n}_auto_scale": np.full(s, np.exp(-1.0)) for n, s in SHAPES.items()}
    mine = elbo_draws(model, guide, params, n=4_000)
    others = elbo_draws(model, automatic, theirs, n=4_000)
    error = np.hypot(mine.std(), others.std()) / np.sqrt(4_000)
    assert abs(mine.mean() - others.mean()) < 3.5 * error
    squares = [(draws - draws.mean()) ** 2 for draws in (mine, others)]
    error = np.hypot(*(square.std() for square in squares)) / np.sqrt(4_000)
    assert abs(squares[0].mean() - squares[1].mean()) < 3.5 * error


def test_gradients_are_unbiased_with_and_without_the_path_derivative():
    """At a posterior N(0, 1) and a guide N(1, e^-1): dKL/dloc = 1, dKL/dlog scale = e^-2 - 1."""

    def model():
        pm.Normal("x")

    stand_in = mean_field({"x": ()})
    [loc] = [var for var in stand_in.params_init_values if var.name == "x_loc"]
    stand_in.params_init_values[loc] = np.array(1.0)
    guide = GuideModel(model, stand_in)
    for landing in (False, True):
        loss = Trace_ELBO(sticking_the_landing=landing)
        draws = gradient_draws(model, guide, n=4_000, loss=loss)
        assert_mean(draws["x_loc"], 1.0)
        assert_mean(draws["x_scale"], np.exp(-2.0) - 1.0)


def test_svi_takes_it_as_it_is_and_learns_the_params_by_name():
    model = as_built(TARGET)
    svi = SVI(model, full_rank({"a": 1, "b": 2}))
    assert isinstance(svi.guide, GuideModel)
    assert {n: v.shape for n, v in svi.get_params(svi.init()).items()} == {
        "loc": (3,),
        "chol": (3, 3),
    }


@pytest.mark.slow
def test_a_fit_reaches_the_posterior_and_has_dims():
    """Independent sites, so that independent Normals contain the posterior."""
    y = np.array([0.0, 1.0, 2.0])
    with pm.Model(coords={"city": ["A", "B", "C"]}) as model:
        x = pm.Normal("x", dims="city")
        pm.Normal("y", x, 1.0, observed=y)
    guide = GuideModel(model, mean_field({"x": (3,)}))
    result = fit(model, guide)
    evidence = stats.norm(0.0, np.sqrt(2.0)).logpdf(y).sum()
    assert abs(elbo_draws(model, guide, result.params).mean() - evidence) < 0.02
    np.testing.assert_allclose(result.params["x_loc"], y / 2, atol=0.03)
    np.testing.assert_allclose(np.exp(result.params["x_scale"]), np.sqrt(0.5), rtol=0.03)
    posterior = result.sample_posterior(100, random_seed=0).posterior
    assert posterior["x"].dims == ("chain", "draw", "city")
    assert list(posterior["city"].values) == ["A", "B", "C"]


def test_quantiles_and_median_are_those_of_the_draws():
    params = {"loc": TARGET.mean, "chol": CHOL}
    exact = AutoMultivariateNormal(TARGET)
    theirs = {"auto_loc": TARGET.mean, "auto_scale_tril": CHOL}
    for mine, other in (
        (FULL_RANK.quantiles(params, 0.2), exact.quantiles(theirs, 0.2)),
        (FULL_RANK.median(params), exact.median(theirs)),
    ):
        np.testing.assert_allclose(mine["a"], other["a"], atol=0.05)
        np.testing.assert_allclose(mine["b"], other["b"], atol=0.05)


def test_a_draw_of_several_noises_has_no_density_elsewhere():
    """The density of a sum follows from its noises; the value alone does not tell it."""

    def model():
        pm.Normal("x")

    loc = pt.scalar("loc")
    with pm.Model() as guide_model:
        noise, other = pm.Normal("noise"), pm.Normal("other")
        pm.Deterministic("x", loc + noise + other)

    @dataclass(frozen=True)
    class ByNoise(GuideOfSites):
        def stochastic_logq(self, path_derivative_gradient=True):
            return -((noise + other) ** 2) / 4 - 0.5 * np.log(4 * np.pi)

    guide = GuideModel(model, ByNoise(guide_model, {loc: np.array(0.0)}))
    draws, log_densities = joint_draws(guide, {"loc": 1.0}, 20)
    expected = -((draws[:, 0] - 1) ** 2) / 4 - 0.5 * np.log(4 * np.pi)
    np.testing.assert_allclose(log_densities, expected)
    with pytest.raises(NotImplementedError, match="for its own draws only"):
        SVI(model, guide, loss=Trace_ELBO(sticking_the_landing=True)).build_loss()


# --- mistakes -----------------------------------------------------------------------------------


def test_a_guide_of_another_model_is_refused_by_name():
    with pytest.raises(SiteError, match="no deterministic for latent sites of the model: 'b'.*'a'"):
        trace(GuideModel(TARGET, mean_field({"a": ()}))).get_trace()


@pytest.mark.parametrize(("shape", "found"), [((3,), r"\(3,\)"), ((), r"\(\)")])
def test_a_value_of_another_shape_is_refused_by_name(shape, found):
    guide = GuideModel(TARGET, mean_field({"a": (), "b": shape}))
    message = rf"value of site 'b' has another shape. Found: {found}. Expected: \(2,\)"
    with pytest.raises(SiteError, match=message):
        trace(guide).get_trace()


def test_what_is_no_guide_is_refused():
    with pytest.raises(TypeError, match="no guide made of a model.*Expected: an AutoGuideModel"):
        GuideModel(TARGET, pm.Model())


def test_params_without_names_are_refused():
    guide = mean_field({"a": ()})
    guide.params_init_values[pt.vector()] = np.zeros(2)
    with pytest.raises(ValueError, match="params have names. Found: 1 without"):
        GuideModel(TARGET, guide)


def test_subsampled_local_sites_are_refused_by_name():
    def model():
        with plate("rows", 10, subsample_size=2):
            pm.Normal("z")

    with pytest.raises(ValueError, match="site 'z' is local to the subsampled plate 'rows'"):
        SVI(model, mean_field({"z": (10,)})).init()
