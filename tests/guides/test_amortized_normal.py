"""``AutoAmortizedNormal``: the posterior of a row's latents as a function of the row."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pytensor_ml.layers import Linear

from pymc_svi import SVI, DataLoader, Trainer, handlers, optim, plate, subsample
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.evaluation import evaluate
from pymc_svi.guides import AutoAmortizedNormal, AutoGuideList, AutoMultivariateNormal
from tests.checks import as_built, assert_mean
from tests.guides.checks import elbo_draws
from tests.models import gaussian_log_density

# A row's response is seen through an instrument: z is what it really is.
SPREAD, NOISE = 1.5, 0.8
SLOPE = SPREAD**2 / (SPREAD**2 + NOISE**2)
PULL = 1 - SLOPE
SD = SPREAD * NOISE / np.hypot(SPREAD, NOISE)
RNG = np.random.default_rng(5)
X = RNG.normal(size=(24, 2))
Y = X @ [1.0, -0.5] + RNG.normal(0.0, np.hypot(SPREAD, NOISE), size=24)


def seen_through_noise(X, y=None):
    w = pm.Normal("w", 0.0, 1.0, shape=2)
    z = pm.Normal("z", (X * w).sum(axis=-1), SPREAD, shape=X.shape[0])
    pm.Normal("y", z, NOISE, observed=y)


COV_Y = X @ X.T + (SPREAD**2 + NOISE**2) * np.eye(24)
COV_W = np.linalg.inv(X.T @ X / (SPREAD**2 + NOISE**2) + np.eye(2))
MEAN_W = COV_W @ X.T @ Y / (SPREAD**2 + NOISE**2)


def guide_of(model, encoder=(), **settings) -> AutoGuideList:
    guide = AutoGuideList(model)
    guide.append(AutoMultivariateNormal(handlers.block(model, expose=["w"]), prefix="global"))
    return guide.append(AutoAmortizedNormal(handlers.block(model, hide=["w"]), encoder, **settings))


def exact_params() -> dict[str, np.ndarray]:
    """The joint posterior, for features (X, y)."""
    return {
        "global_loc": MEAN_W,
        "global_scale_tril": np.linalg.cholesky(COV_W),
        "auto_encoder.output_W": np.array([[0.0, 0.0], [0.0, 0.0], [SLOPE, 0.0]]),
        "z_auto_loc": np.array(0.0),
        "z_auto_scale": np.array(SD),
        "z_auto_weight": np.array(PULL),
    }


@pytest.fixture(scope="module")
def fitted():
    """Batches of eight rows; the encoder reads the response."""
    guide = guide_of(seen_through_noise, features=["y"], init_scale=0.5)
    steps = 4_000
    rule = optim.Adam(optim.exponential_decay(0.05, steps, 0.003))
    loader = DataLoader({"X": X, "y": Y}, batch_size=8)
    method = SVI(seen_through_noise, guide, rule)
    return guide, Trainer(method, loader).fit(n=steps, random_seed=0)


# --- exactness --------------------------------------------------------------------------------


def test_with_a_linear_encoder_every_draw_of_the_elbo_is_the_log_evidence():
    log_evidence = gaussian_log_density(Y, np.zeros(24), COV_Y)
    draws = elbo_draws(seen_through_noise, guide_of(seen_through_noise), exact_params(), X, Y, n=20)
    np.testing.assert_allclose(draws, log_evidence, atol=1e-9)


def test_a_fit_to_batches_reaches_the_log_evidence(fitted):
    guide, result = fitted
    draws = elbo_draws(seen_through_noise, guide, result.params, X, Y, n=4_000)
    log_evidence = gaussian_log_density(Y, np.zeros(24), COV_Y)
    assert log_evidence - draws.mean() < 0.02
    assert draws.mean() - log_evidence < 4 * draws.std() / np.sqrt(len(draws))


def test_a_fitted_encoder_gives_the_posterior_of_rows_it_has_not_seen(fitted):
    _, result = fitted
    new_X, new_y = np.array([[1.0, 1.5], [-2.0, 0.0], [0.0, 0.0]]), np.array([-2.0, 3.0, 0.5])
    posterior = result.sample_posterior(20_000, new_X, new_y, random_seed=1).posterior
    z = posterior["z"].values[0]
    mean = PULL * new_X @ MEAN_W + SLOPE * new_y
    cov = PULL**2 * new_X @ COV_W @ new_X.T + SD**2 * np.eye(3)
    sd = np.sqrt(np.diag(cov))
    # A guide within 0.02 nats may be 0.2 sds away along one direction.
    np.testing.assert_allclose((z.mean(axis=0) - mean) / sd, 0.0, atol=0.1)
    np.testing.assert_allclose(np.cov(z.T) / np.outer(sd, sd), cov / np.outer(sd, sd), atol=0.1)


# --- the law ----------------------------------------------------------------------------------


def codes(batch=None):
    """Rows of a plate, with a simplex and a vector of positive numbers for each."""
    mu = pm.Normal("mu")
    with plate("row", 24, subsample_size=batch):
        share = pm.Dirichlet("share", np.ones(3))
        size = pm.LogNormal("size", mu, 1.0)
        pm.Normal("y", size * share[..., 0], 1.0, observed=subsample(Y))


def encoded(batch=None):
    guide = AutoAmortizedNormal(handlers.block(codes, hide=["mu"]), [4], lambda batch: X)
    return AutoGuideList(codes).append(AutoMultivariateNormal(
        handlers.block(codes, expose=["mu"]), prefix="global")).append(guide)  # fmt: skip


def moved_params(guide, *args) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    params = {}
    for site in handlers.trace(guide).get_trace(*args).sites("param"):
        value = evaluate(site.value)
        params[site.name] = value + 0.3 * rng.uniform(0, 1, size=value.shape) * (value >= 0)
    return params


def test_a_minibatch_of_a_plate_has_the_loss_of_all_rows_on_average():
    guide = encoded()
    params = moved_params(guide, None)
    all_rows = elbo_draws(codes, guide, params, None, n=4_000)
    batches = elbo_draws(codes, guide, params, 6, n=16_000)
    error = np.hypot(all_rows.std() / 4_000**0.5, batches.std() / 16_000**0.5)
    assert abs(all_rows.mean() - batches.mean()) < 3.5 * error


def test_a_row_has_the_normal_that_the_encoder_returns_for_it():
    guide = encoded()
    params = moved_params(guide, None)
    draws = guide.at(params, None).draws(8_000, 1)
    hidden = np.tanh(X @ params["auto_encoder.hidden_1_W"] + params["auto_encoder.hidden_1_b"])
    out = hidden @ params["auto_encoder.output_W"]
    # Columns: two of the simplex, one of the size, and the same again for the scales.
    center = draws["mu"][:, None] + 0.5  # the logarithm of the mean of the prior
    u = np.log(draws["size"]) - params["size_auto_weight"] * center
    assert_mean(u, params["size_auto_loc"] + out[:, 2])
    scale = params["size_auto_scale"] * np.exp(out[:, 5])
    assert_mean((u - u.mean(axis=0)) ** 2, scale**2 * (1 - 1 / 8_000))
    assert draws["share"].shape == (8_000, 24, 3)
    np.testing.assert_allclose(draws["share"].sum(axis=-1), 1.0)
    # PyMC's simplex in unconstrained space: log-ratios to the geometric mean, without the last.
    v = np.log(draws["share"])
    v = (v - v.mean(axis=-1, keepdims=True))[..., :2]
    assert_mean(v, params["share_auto_loc"] + out[:, :2])


def test_it_starts_at_the_initial_point_with_the_given_scale():
    guide = AutoAmortizedNormal(handlers.block(codes, hide=["mu"]), [4], lambda batch: X)
    tr = handlers.trace(guide).get_trace(None)
    params = {name: evaluate(site.value) for name, site in tr.params.items()}
    np.testing.assert_allclose(params["share_auto_scale"], 0.1)
    np.testing.assert_allclose(params["share_auto_loc"], 0.0, atol=1e-12)
    np.testing.assert_array_equal(params["auto_encoder.output_W"], 0.0)
    assert params["auto_encoder.hidden_1_W"].std() > 0.05
    assert "share_auto_weight" not in params
    assert params["size_auto_weight"] == 1.0


def test_any_network_can_be_the_encoder():
    network = Linear("map", n_in=2, n_out=2)
    guide = guide_of(seen_through_noise, network, features=lambda X: X)
    names = set(handlers.trace(guide).get_trace(X, Y).params)
    assert {"auto_encoder.map_W", "auto_encoder.map_b", "z_auto_loc"} < names


def test_data_of_a_built_model_are_features():
    with pm.Model() as model:
        rows = pm.Data("rows", X)
        w = pm.Normal("w", 0.0, 1.0, shape=2)
        z = pm.Normal("z", (rows * w).sum(axis=-1), SPREAD)
        pm.Normal("y", z, NOISE, observed=pm.Data("y_data", Y))
    draws = elbo_draws(model, guide_of(model), exact_params(), n=20)
    log_evidence = gaussian_log_density(Y, np.zeros(24), COV_Y)
    np.testing.assert_allclose(draws, log_evidence, atol=1e-9)


# --- mistakes ---------------------------------------------------------------------------------


def traced(guide, *args):
    return handlers.trace(guide).get_trace(*args)


def test_a_site_without_rows_is_named():
    guide = AutoAmortizedNormal(seen_through_noise, [])
    with pytest.raises(SiteError, match=r"site 'w' does not belong to the rows.*24 rows.*hide"):
        traced(guide, X, Y)
    method = SVI(seen_through_noise, guide)
    with pytest.raises(SiteError, match=r"^AutoAmortizedNormal: site 'w' does not .*6 rows.*hide"):
        Trainer(method, DataLoader({"X": X, "y": Y}, batch_size=6)).fit(n=1)


def test_an_encoder_of_another_width_is_told():
    guide = guide_of(seen_through_noise, Linear("map", n_in=3, n_out=1))
    with pytest.raises(SiteError, match=r"Found: 1 columns. Expected: 2 columns for 'z'.*n_out=2"):
        traced(guide, X, Y)


def test_rows_without_what_the_encoder_read_in_the_fit_are_told():
    guide = guide_of(seen_through_noise)
    traced(guide, X, Y)
    with pytest.raises(SiteError, match=r"Found: 2 columns. Expected: 3, those of the first run"):
        traced(guide, X)


def test_a_feature_that_the_model_does_not_have_is_named():
    guide = guide_of(seen_through_noise, features=["x"])
    with pytest.raises(
        SiteError, match=r"arguments of the model. Found: no 'x'. Expected: 'X', 'y'"
    ):
        traced(guide, X, Y)


def test_a_model_without_data_is_told():
    def model():
        pm.Normal("z", shape=3)

    for program in (model, as_built(model)):
        with pytest.raises(SiteError, match="Found: none.*features=lambda: data"):
            traced(AutoAmortizedNormal(program, []))


def test_a_number_is_no_feature():
    guide = guide_of(seen_through_noise, features=lambda X: pt.sum(X))
    with pytest.raises(SiteError, match="arrays with a row for each row.*a number"):
        traced(guide, X, Y)


@pytest.mark.parametrize("encoder", [3, "tanh", [0], [2.5], None])
def test_what_is_no_encoder_is_refused(encoder):
    with pytest.raises(TypeError, match="a network, or the widths of hidden layers"):
        AutoAmortizedNormal(seen_through_noise, encoder)


def test_features_are_several_names():
    with pytest.raises(TypeError, match="a function of the data, or several names"):
        AutoAmortizedNormal(seen_through_noise, [], features="X")


def test_rows_of_a_built_model_do_not_come_in_batches():
    with pm.Model(coords={"row": range(24)}) as model:
        rows = pm.Data("rows", Y, dims="row")
        z = pm.Normal("z", 0.0, SPREAD, dims="row")
        pm.Normal("y", z, NOISE, observed=rows, dims="row")
    method = SVI(model, AutoAmortizedNormal(model, []))
    message = r"shape \(24,\), whatever the size of the batch.*model as a function of the data"
    with pytest.raises(PairingError, match=message):
        Trainer(method, DataLoader({"rows": Y}, batch_size=6)).fit(n=1)
