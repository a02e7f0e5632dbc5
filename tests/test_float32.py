"""``floatX=float32``: everything runs, and results are in it."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi import (
    SVI,
    DataLoader,
    Predictive,
    TraceEnum_ELBO,
    Trainer,
    callbacks,
    config_enumerate,
    constraints,
    handlers,
    optim,
    param,
    scan,
)
from pymc_svi.engine.arguments import Arguments
from pymc_svi.errors import StateError
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.guides import (
    AutoBNAFNormal,
    AutoDAIS,
    AutoHierarchicalNormal,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoNormalizingFlow,
    AutoRegressive,
    AutoStructured,
)
from pymc_svi.guides.flows import SplineCoupling
from pymc_svi.relaxed import RelaxedBernoulli

Y = np.random.default_rng(0).normal(2.0, 1.0, size=40)
# The prior Normal(0, 10) and known noise.
PRECISION = 0.01 + len(Y)
MEAN, SD = Y.sum() / PRECISION, PRECISION**-0.5


@pytest.fixture(autouse=True)
def float32():
    with pytensor.config.change_flags(floatX="float32"):
        yield


def model(y):
    mu = pm.Normal("mu", 0, 10)
    sd = pm.HalfNormal("sd", 1)
    pm.Dirichlet("p", np.ones(3))
    pm.Deterministic("ratio", mu / sd)
    pm.Normal("y", mu, 1.0, observed=y)


@pytest.mark.parametrize("guide", [AutoNormal, AutoMultivariateNormal, AutoIAFNormal])
def test_guides_take_steps(guide):
    svi = SVI(model, guide(model), optim.Adam(0.01), compile_kwargs={"mode": "FAST_COMPILE"})
    result = svi.run(5, Y, random_seed=0, progressbar=False)
    assert np.isfinite(result.losses).all()
    assert {value.dtype for value in result.params.values()} == {np.dtype("float32")}
    draws = result.sample_posterior(10, random_seed=0).posterior
    assert {array.dtype for array in draws.data_vars.values()} == {np.dtype("float32")}


GUIDES = {
    "AutoDAIS": lambda model: AutoDAIS(model, K=2),
    "AutoIAFNormal": AutoIAFNormal,
    "AutoBNAFNormal": AutoBNAFNormal,
    "a spline flow": lambda model: AutoNormalizingFlow(model, [SplineCoupling()]),
    "AutoStructured": AutoStructured,
    "AutoRegressive": AutoRegressive,
    "AutoHierarchicalNormal": AutoHierarchicalNormal,
    "AutoLowRankMultivariateNormal": AutoLowRankMultivariateNormal,
}


@pytest.mark.parametrize("guide", GUIDES.values(), ids=list(GUIDES))
def test_losses_and_gradients_are_those_of_double_precision(guide):
    found = []
    for precision in ("float32", "float64"):
        with pytensor.config.change_flags(floatX=precision):
            svi = SVI(model, guide(model), compile_kwargs={"mode": evaluation_mode()})
            training = svi.training_for(Arguments((Y,), {}))
            training.load(svi.init(Y, random_seed=0))
            outputs = [training.value, *training.gradients]
            found.append(pytensor.function([], outputs, mode=training.mode)())
    for narrow, wide in zip(*found, strict=True):
        np.testing.assert_allclose(narrow, wide, rtol=1e-4, atol=1e-4 * np.abs(wide).max())


def test_a_fit_and_its_predictions():
    steps = optim.exponential_decay(0.05, 6_000, 0.01)
    svi = SVI(model, AutoNormal(model), optim.Adam(steps))
    result = Trainer(svi, DataLoader({"y": Y}, batch_size=10)).fit(n=6_000, random_seed=0)
    posterior = result.sample_posterior(4_000, random_seed=0)
    draws = posterior.posterior["mu"].values
    assert draws.mean() == pytest.approx(MEAN, abs=0.15 * SD)
    assert draws.std() == pytest.approx(SD, rel=0.1)
    predicted = Predictive(model, posterior)(Y, random_seed=0).posterior_predictive["y"]
    assert predicted.dtype == np.float32
    assert predicted.mean() == pytest.approx(MEAN, abs=0.1)
    assert np.isfinite(result.diagnose(1_000, Y, random_seed=0).khat)


def laplace(model, *args):
    """Return the mode and the standard deviations, found by Newton's method."""
    guide = AutoLaplaceApproximation(model)
    found = guide.normal_params(guide.find_mode(*args), *args)
    assert {value.dtype for value in found.values()} == {np.dtype(pytensor.config.floatX)}
    return found["auto_loc"], np.sqrt((found["auto_scale_tril"] ** 2).sum(axis=-1))


def many_rows(X, y):
    """Its log-density is a large number, whose rounding hides the last steps to the mode."""
    w = pm.Normal("w", 0, 1, shape=20)
    pm.Bernoulli("y", logit_p=X @ w, observed=y)


def raw_units(x, y):
    """The curvatures differ by a factor of 10^8, which says nothing about the posterior."""
    line = pm.Normal("a", 0, 100) + pm.Normal("b", 0, 1) * x
    pm.Normal("y", line, pm.HalfNormal("sd", 5), observed=y)


def test_laplace_finds_what_it_finds_in_double_precision():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10_000, 20))
    y = rng.binomial(1, 1 / (1 + np.exp(-0.3 * X @ rng.normal(size=20))))
    x = np.linspace(0, 1e4, 50)
    for model, *data in (many_rows, X, y), (raw_units, x, 3 + 2e-3 * x + rng.normal(size=50)):
        loc, sd = laplace(model, *data)
        with pytensor.config.change_flags(floatX="float64"):
            exact_loc, exact_sd = laplace(model, *data)
        np.testing.assert_allclose((loc - exact_loc) / exact_sd, 0, atol=1e-3)
        np.testing.assert_allclose(sd, exact_sd, rtol=1e-4)


def far_units(sales, year):
    """A line through years: its rounding hides the last nats, in values and in gradients."""
    beta = pm.Flat("beta", shape=2)
    pm.Normal("sales", beta[0] + beta[1] * year, 2e5, observed=sales)


def many_terms():
    """Its log-density is small and a sum of large terms."""
    pm.Gamma("rate", 3.0, 0.01, initval=1e-3)


def test_the_mode_is_found_where_rounding_hides_the_last_steps():
    year = np.arange(1990.0, 2010.0)
    sales = 3e6 * (year - 1990) + 2e5 * np.sin(year)
    X = np.column_stack([np.ones_like(year), year])
    sd = 2e5 * np.sqrt(np.diagonal(np.linalg.inv(X.T @ X)))
    exact = np.linalg.lstsq(X, sales, rcond=None)[0]
    mode = AutoLaplaceApproximation(far_units).find_mode(sales, year)["auto_loc"]
    np.testing.assert_allclose((mode - exact) / sd, 0, atol=1e-2)
    mode = AutoLaplaceApproximation(many_terms).find_mode()["auto_loc"]
    np.testing.assert_allclose(mode, np.log(300.0), atol=1e-4)


def test_relaxed_draws_stay_inside_their_support():
    x = RelaxedBernoulli.dist(0.1, p=0.5, shape=1_000)
    draws = pm.draw(x, random_seed=0)
    assert draws.max() < 1
    assert np.isfinite(pm.logp(x, draws).eval()).all()


def test_an_exact_guide_is_found_exact():
    """The log-weights differ by the rounding of log-densities near -14,000."""
    y = np.random.default_rng(0).normal(2.0, 1.0, size=10_000)
    precision = 0.01 + len(y)

    def known(y):
        pm.Normal("y", pm.Normal("mu", 0, 10), 1.0, observed=y)

    def guide(y):
        pm.Normal("mu", param("loc", 0.0), param("sd", 1.0, constraint=constraints.positive))

    start = {"loc": y.sum() / precision, "sd": precision**-0.5}
    svi = SVI(known, guide, optim.SGD(1e-12), compile_kwargs={"mode": evaluation_mode()})
    result = svi.run(1, y, init_params=start, random_seed=0, progressbar=False)
    found = result.diagnose(200, y, random_seed=0)
    assert found.khat == -np.inf
    assert found.ess == pytest.approx(200, abs=1e-3)
    assert found.elbo == pytest.approx(found.log_evidence, abs=1e-3)


def test_starting_values_of_numpy_are_taken():
    def started(y):
        mu = pm.Normal("mu", initval=np.array(0.3))
        pm.Dirichlet("p", np.ones(3), initval=np.array([0.2, 0.3, 0.5]))
        pm.Normal("y", mu, 1.0, observed=y)

    with handlers.trace(), pm.Model() as built:
        started(Y)
    for program, *args in (started, Y), (built,):
        start = handlers.trace(AutoNormal(program)).get_trace(*args)["mu_auto_loc"].value
        assert start.eval() == np.float32(0.3)


def test_a_state_of_double_precision_is_refused_and_one_of_single_precision_taken():
    def svi():
        return SVI(model, AutoNormal(model), compile_kwargs={"mode": evaluation_mode()})

    with pytensor.config.change_flags(floatX="float64"):
        wide = svi().init(Y, random_seed=0)
    with pytest.raises(StateError, match=r"Found: float64. Expected: float32.*floatX"):
        svi().run(1, Y, init_state=wide, progressbar=False)
    narrow = svi().init(Y, random_seed=0)
    with pytensor.config.change_flags(floatX="float64"):
        assert np.isfinite(svi().evaluate(narrow, Y))


def test_a_fit_of_double_precision_data_resumes_bit_for_bit(tmp_path):
    def trainer(folder):
        svi = SVI(model, AutoNormal(model), optim.Adam(0.01))
        kept = [callbacks.Checkpoint(folder, every=5)]
        return Trainer(svi, DataLoader({"y": Y}, batch_size=8), callbacks=kept)

    whole = trainer(tmp_path / "whole").fit(n=20, random_seed=0)
    trainer(tmp_path / "parts").fit(n=10, random_seed=0)
    parts = trainer(tmp_path / "parts").fit(n=20, resume=True)
    assert whole.state == parts.state
    assert {value.dtype for value in parts.params.values()} == {np.dtype("float32")}


def test_schedules_are_exact_after_many_steps():
    steps = 1_000_000
    schedule = optim.exponential_decay(1.0, 1, 1 - 1e-6)
    assert schedule(steps) == pytest.approx(np.exp(-1), rel=1e-5)
    assert schedule(2**24 + 1) < schedule(2**24)


def test_a_chain_of_states_behind_counts_is_summed_out():
    counts = np.random.default_rng(0).poisson(3.0, size=20)

    def chain(y):
        def step(z, now):
            z = pm.Categorical("z", pt.as_tensor([[0.9, 0.1], [0.2, 0.8]])[z])
            pm.Poisson("y", pt.as_tensor([1.0, 5.0])[z], observed=now)
            return z, z

        scan(step, 0, y)

    evidence = []
    for precision in ("float32", "float64"):
        with pytensor.config.change_flags(floatX=precision):
            svi = SVI(
                config_enumerate(chain),
                lambda y: None,
                loss=TraceEnum_ELBO(),
                compile_kwargs={"mode": evaluation_mode()},
            )
            evidence.append(svi.evaluate(svi.init(counts), counts))
    assert evidence[0] == pytest.approx(evidence[1], rel=1e-5)


def test_draws_near_zero_stay_above_it():
    def small(y=None):
        pm.Dirichlet("p", np.full(4, 0.02))

    def guide(y=None):
        # A constant of NumPy: the draw is computed in double precision.
        alpha = param("alpha", 0.02, constraint=constraints.positive)
        pm.Dirichlet("p", alpha * np.ones(4))

    svi = SVI(small, guide, optim.SGD(1e-9), compile_kwargs={"mode": evaluation_mode()})
    result = svi.run(200, random_seed=0, progressbar=False)
    np.testing.assert_allclose(result.losses, 0, atol=1e-3)
