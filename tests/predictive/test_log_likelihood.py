"""``log_likelihood`` is PyMC's, for programs of both kinds, and what ArviZ compares models by."""

import warnings

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import norm, poisson

from pymc_svi import (
    SVI,
    Predictive,
    Trace_ELBO,
    TraceEnum_ELBO,
    handlers,
    log_likelihood,
    optim,
    scan,
)
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.guides import AutoNormal
from tests.checks import as_built

COUNTS = np.array([2, 0, 3])
PAIRS = np.array([[0.5, -0.2], [1.0, 0.3], [0.1, 0.9]])


def program():
    a = pm.Normal("a", 0.0, 1.0)
    s = pm.HalfNormal("s", 1.0)
    pm.Poisson("counts", pm.math.exp(a), observed=COUNTS, dims="city")
    pm.MvNormal("pairs", a, np.eye(2) * s**2, observed=PAIRS, dims=("city", "axis"))


COORDS = {"city": ["x", "y", "z"], "axis": ["u", "v"]}


@pytest.fixture(scope="module")
def built():
    with pm.Model(coords=COORDS) as model:
        program()
    return model


@pytest.fixture(scope="module")
def posterior(built):
    svi = SVI(built, AutoNormal(built), optim.Adam(0.05))
    return svi.run(200, random_seed=0, progressbar=False).sample_posterior(50, random_seed=1)


@pytest.mark.parametrize("as_function", [True, False])
def test_it_is_pymcs_with_dims_and_coords(built, posterior, as_function):
    if as_function:
        found = log_likelihood(program, posterior, coords=COORDS)
    else:
        found = log_likelihood(built, posterior)
    with built:
        expected = pm.compute_log_likelihood(posterior.copy(), progressbar=False)
    for name in ("counts", "pairs"):
        mine, theirs = found.log_likelihood[name], expected.log_likelihood[name]
        assert mine.dims == ("chain", "draw", "city") and list(mine.city) == COORDS["city"]
        np.testing.assert_allclose(mine.values, theirs.values.reshape(mine.shape), rtol=1e-6)
    assert "posterior" in found and "observed_data" in found


def test_arviz_compares_fits_by_it(built, posterior):
    tree = log_likelihood(built, posterior)
    assert np.isfinite(az.loo(tree, var_name="counts").elpd)


def test_scales_and_total_sizes_are_left_out_and_masked_elements_are_zero():
    def model(total_size=None):
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Normal("y", mu, 1.0, observed=np.zeros(3), total_size=total_size)

    draws = {"mu": np.array([0.5, 1.0])}
    plain = log_likelihood(model, draws).log_likelihood["y"]
    for weighted in (handlers.scale(model, scale=7.0), lambda: model(total_size=300)):
        np.testing.assert_allclose(log_likelihood(weighted, draws).log_likelihood["y"], plain)
    mask = np.array([True, False, True])
    masked = log_likelihood(handlers.mask(model, mask=mask), draws).log_likelihood["y"]
    np.testing.assert_allclose(masked, plain * mask)


def test_what_is_not_draws_is_told(built, posterior):
    with pytest.raises(TypeError, match="Found: Model. .* The model comes first, then the samples"):
        log_likelihood(posterior, built)
    result = SVI(built, AutoNormal(built)).run(1, random_seed=0, progressbar=False)
    with pytest.raises(TypeError, match="Found: SVIRunResult. .*result.sample_posterior"):
        Predictive(built, result)


def test_predictions_that_a_model_got_after_the_fit_need_no_samples():
    """As ``gp.conditional`` adds them."""
    y = np.array([0.5, 1.0])
    with pm.Model() as built:
        mu = pm.Normal("mu")
        pm.Normal("y", mu, 1.0, observed=y)
    svi = SVI(built, AutoNormal(built), compile_kwargs={"mode": "FAST_COMPILE"})
    result = svi.run(1, random_seed=0, progressbar=False)
    posterior = result.sample_posterior(4, random_seed=1)
    expected = log_likelihood(built, posterior).log_likelihood
    with built:
        pm.Normal("new", mu, 1.0)
    xr.testing.assert_identical(log_likelihood(built, posterior).log_likelihood["y"], expected["y"])
    with pytest.raises(PairingError, match=r"'new'.*handlers.block\(model, hide=\['new'\]\)"):
        result.diagnose()
    fitted = SVI(
        handlers.block(built, hide=["new"]), svi.guide, compile_kwargs={"mode": "FAST_COMPILE"}
    )
    again = fitted.run(1, init_state=result, progressbar=False)
    assert again.state.step == 2


def test_mistakes_are_told():
    def model(y=None):
        mu = pm.Normal("mu", 0.0, 1.0)
        tau = pm.HalfNormal("tau", 1.0)
        pm.Normal("y", mu, tau, observed=y)

    full = {"mu": np.zeros(2), "tau": np.ones(2)}
    with pytest.raises(SiteError, match="no posterior samples of 'tau'.*Give every latent site"):
        log_likelihood(model, {"mu": np.zeros(2)}, np.ones(3))
    with pytest.raises(SiteError, match="None of the posterior samples.*Did you mean .mu."):
        log_likelihood(model, {"mux": np.zeros(2)}, np.ones(3))
    with pytest.raises(SiteError, match="no observed site"):
        log_likelihood(lambda: pm.Normal("mu", 0.0, 1.0), {"mu": np.zeros(2)})
    with pytest.raises(SiteError, match="wrong shape"):
        log_likelihood(model, {**full, "mu": np.zeros((2, 5))}, np.ones(3))


# --- samples with dims ------------------------------------------------------------------------


def square():
    w = pm.Normal("w", 0.0, 1.0, dims=("row", "column"))
    pm.Deterministic("total", w @ np.array([1.0, 10.0]), dims="row")
    pm.Normal("y", w, 1.0, observed=np.arange(4.0).reshape(2, 2), dims=("row", "column"))


SQUARE = {"row": ["a", "b"], "column": ["u", "v"]}


@pytest.mark.parametrize(
    "change",
    [
        lambda draws: draws,
        lambda draws: draws.transpose("column", "draw", "row", "chain"),
        lambda draws: draws.isel(row=[1, 0], column=[1, 0]),
        lambda draws: xr.DataTree.from_dict({"posterior": draws.transpose()}),
        lambda draws: {"w": draws["w"].transpose("row", "draw", "column", "chain")},
        lambda draws: draws.isel(chain=0, drop=True).transpose(),
        lambda draws: draws.stack(sample=("chain", "draw")),  # as arviz.extract does
    ],
    ids=["as in the model", "dims", "labels", "tree", "arrays", "one chain", "stacked"],
)
def test_samples_go_by_the_names_of_dims_and_labels(change):
    values = np.random.default_rng(0).normal(size=(1, 5, 2, 2))
    draws = xr.Dataset({"w": (("chain", "draw", "row", "column"), values)}, SQUARE)
    found = Predictive(square, change(draws), return_sites=["total"], coords=SQUARE)(random_seed=0)
    total = found.posterior_predictive["total"].values
    np.testing.assert_allclose(total, values @ [1.0, 10.0])
    scores = log_likelihood(square, change(draws), coords=SQUARE).log_likelihood["y"].values
    np.testing.assert_allclose(scores, norm.logpdf(np.arange(4.0).reshape(2, 2), values))


def test_samples_of_which_the_draws_cannot_be_told_are_refused():
    w = xr.DataArray(np.zeros((1, 5, 2, 2)), dims=("chain", "draw", "row", "column"))
    with pytest.raises(TypeError, match="some have dims and some do not. Found: 'z' without"):
        Predictive(square, {"w": w, "z": np.zeros(5)})
    with pytest.raises(ValueError, match="there is no dim of draws. Found: the dims 'row', 'colu"):
        Predictive(square, xr.Dataset({"w": w[0, 0]}))


def test_samples_with_other_names_of_dims_go_by_position():
    values = np.random.default_rng(0).normal(size=(1, 5, 2, 2))
    draws = xr.Dataset({"w": (("chain", "draw", "w_dim_0", "w_dim_1"), values)})
    found = Predictive(square, draws, return_sites=["total"], coords=SQUARE)(random_seed=0)
    total = found.posterior_predictive["total"].values
    np.testing.assert_allclose(total, values @ [1.0, 10.0])


# --- labels that are summed out ---------------------------------------------------------------

# PyMC has the constant of the Normal density in single precision: hence the tolerances.
Y = np.array([-1.2, 0.4, 2.5, 3.0])
ROWS = {"row": list("abcd"), "axis": ["u", "v", "w"]}
MIXED = {
    "w": np.array([[0.3, 0.7], [0.5, 0.5]]),
    "mu": np.array([[-1.0, 2.0], [0.0, 3.0]]),
    "z": np.array([[0, 0, 1, 1], [0, 0, 0, 1]]),
}


def labelled(likelihood=None):
    w = pm.Dirichlet("w", np.ones(2))
    mu = pm.Normal("mu", 0.0, 5.0, shape=2)
    z = pm.Categorical("z", w, dims="row")
    if likelihood is not None:
        likelihood(mu, z)
    else:
        pm.Normal("y", mu[z], 1.5, observed=Y, dims="row")


def mixture_log_prob(log_components):
    """Of every draw and row, from shape (draws, rows, components)."""
    return logsumexp(np.log(MIXED["w"])[:, None] + log_components, axis=-1)


@pytest.mark.parametrize("labels", ["named", "without samples"])
@pytest.mark.parametrize("front_end", ["function", "built"])
def test_each_observation_has_the_density_of_the_mixture(front_end, labels):
    model = labelled if front_end == "function" else as_built(labelled, coords=ROWS)
    given = MIXED if labels == "named" else {n: v for n, v in MIXED.items() if n != "z"}
    coords = ROWS if front_end == "function" else None
    sum_out = ["z"] if labels == "named" else []
    found = log_likelihood(model, given, sum_out=sum_out, coords=coords).log_likelihood["y"]
    assert found.dims == ("chain", "draw", "row") and list(found["row"]) == ROWS["row"]
    expected = mixture_log_prob(norm.logpdf(Y[:, None], MIXED["mu"][:, None], 1.5))
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-7)
    with_labels = log_likelihood(model, MIXED, coords=coords).log_likelihood["y"]
    means = np.take_along_axis(MIXED["mu"], MIXED["z"], axis=1)
    np.testing.assert_allclose(with_labels.values[0], norm.logpdf(Y, means, 1.5), rtol=1e-7)


@pytest.mark.parametrize("dims", [("row", "axis"), ("axis", "row")])
def test_elements_that_share_a_label_have_one_density(dims):
    matrix = np.random.default_rng(0).normal(size=(4, 3))

    def likelihood(mu, z):
        means = mu[z][:, None] + np.zeros(3)
        by_row = dims[0] == "row"
        observed = matrix if by_row else matrix.T
        pm.Normal("y", means if by_row else means.T, 1.5, observed=observed, dims=dims)

    tree = log_likelihood(labelled, MIXED, likelihood=likelihood, sum_out="z", coords=ROWS)
    found = tree.log_likelihood["y"]
    assert found.dims == ("chain", "draw", "row") and list(found["row"]) == ROWS["row"]
    log_components = norm.logpdf(matrix[:, :, None], MIXED["mu"][:, None, None], 1.5).sum(2)
    np.testing.assert_allclose(found.values[0], mixture_log_prob(log_components), rtol=1e-7)


def test_several_labels_of_an_observation_are_summed_out_together():
    def model():
        mu = pm.Normal("mu", 0.0, 5.0, shape=2)
        z = pm.Bernoulli("z", 0.3, shape=4)
        k = pm.Categorical("k", pt.constant([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])[z], shape=4)
        pm.Normal("y", mu[z] + k, 1.0, observed=Y)
        pm.Poisson("counts", pm.math.exp(mu[0]), observed=COUNTS)

    mu = MIXED["mu"]
    found = log_likelihood(model, {"mu": mu}).log_likelihood
    terms = [
        np.log([0.7, 0.3][z] * [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]][z][k])
        + norm.logpdf(Y, mu[:, z, None] + k, 1.0)
        for z in range(2)
        for k in range(3)
    ]
    np.testing.assert_allclose(found["y"].values[0], logsumexp(terms, axis=0), rtol=1e-7)
    rates = np.exp(mu[:, :1])
    np.testing.assert_allclose(found["counts"].values[0], poisson.logpmf(COUNTS, rates), rtol=1e-7)


def test_scales_are_left_out_of_sums_and_masked_rows_are_zero():
    plain = log_likelihood(labelled, MIXED, sum_out=["z"], coords=ROWS).log_likelihood["y"]
    scaled = log_likelihood(
        handlers.scale(labelled, scale=7.0), MIXED, sum_out=["z"], coords=ROWS
    ).log_likelihood["y"]
    np.testing.assert_allclose(scaled, plain)

    def tempered(mu, z):
        with handlers.scale(scale=7.0):
            pm.Normal("y", mu[z], 1.5, observed=Y, dims="row")

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of the loss, which scales matter to
        alone = log_likelihood(labelled, MIXED, likelihood=tempered, sum_out="z", coords=ROWS)
    np.testing.assert_allclose(alone.log_likelihood["y"], plain)

    def of_a_minibatch(mu, z):
        pm.Normal("y", mu[z], 1.5, observed=Y, dims="row", total_size=400)

    weighted = log_likelihood(
        labelled, MIXED, likelihood=of_a_minibatch, sum_out=["z"], coords=ROWS
    ).log_likelihood["y"]
    np.testing.assert_allclose(weighted, plain)
    mask = np.array([True, False, True, True])

    def likelihood(mu, z):
        with handlers.mask(mask=mask):
            pm.Normal("y", mu[z], 1.5, observed=Y, dims="row")

    masked = log_likelihood(labelled, MIXED, likelihood=likelihood, sum_out=["z"], coords=ROWS)
    np.testing.assert_allclose(masked.log_likelihood["y"], plain * mask, atol=1e-12)


def test_arviz_tells_a_mixture_from_one_component():
    y = np.concatenate([np.linspace(-3, -1, 20), np.linspace(1, 3, 20)])

    def two(y):
        mu = pm.Normal("mu", [-1.0, 1.0], 3.0)
        z = pm.Bernoulli("z", 0.5, shape=len(y))
        pm.Normal("y", mu[z], 0.7, observed=y)

    def one(y):
        pm.Normal("y", pm.Normal("mu", 0.0, 3.0), pm.HalfNormal("sd", 3.0), observed=y)

    trees = {}
    for model, loss in ((two, TraceEnum_ELBO()), (one, Trace_ELBO())):
        svi = SVI(model, AutoNormal(model), optim.Adam(0.03), loss)
        posterior = svi.run(1_000, y, random_seed=0, progressbar=False).sample_posterior(
            500, random_seed=1
        )
        labels = ["z"] if model is two else []
        trees[model.__name__] = log_likelihood(model, posterior, y, sum_out=labels)
    loos = {name: az.loo(tree) for name, tree in trees.items()}
    assert loos["two"].elpd > loos["one"].elpd + 5
    assert max(loo.pareto_k.max() for loo in loos.values()) < 0.7


def shared_label():
    pm.Normal("p", 0.0, 1.0)
    z = pm.Bernoulli("z", 0.5)
    pm.Normal("y", 2.0 * z, 1.0, observed=Y)


def two_views():
    pm.Normal("p", 0.0, 1.0)
    z = pm.Bernoulli("z", 0.5, shape=4)
    pm.Normal("y", 2.0 * z, 1.0, observed=Y)
    pm.Normal("x", -1.0 * z, 1.0, observed=Y)


def chain():
    pm.Normal("p", 0.0, 1.0)

    def step(state, y):
        z = pm.Bernoulli("z", 0.2 + 0.6 * state)
        pm.Normal("y", 2.0 * z, 1.0, observed=y)
        return z, None

    scan(step, 0, pt.constant(Y))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (shared_label, r"sum over 'z' is shared by all elements of 'y'.*Pass samples of 'z'"),
        (two_views, r"sum over 'z' is shared by several observed sites of 'y', 'x'"),
        (chain, r"sum over 'z' is shared by all steps of a chain of 'y'"),
    ],
)
def test_sums_that_are_shared_by_observations_are_told(model, message):
    with pytest.raises(SiteError, match=message):
        log_likelihood(model, {"p": np.zeros(1)})


def test_what_cannot_be_summed_out_is_told():
    with pytest.raises(SiteError, match="sum_out names 'zz'.*some of 'z'.*Did you mean 'z'"):
        log_likelihood(labelled, MIXED, sum_out=["zz"], coords=ROWS)
    with pytest.raises(SiteError, match="sum_out names 'a', which is no discrete.*has no such"):
        log_likelihood(program, {"a": np.zeros(1), "s": np.ones(1)}, sum_out=["a"], coords=COORDS)
