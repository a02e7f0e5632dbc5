"""``event_dim`` and ``to_event``: vectors that are one element of a plate."""

from __future__ import annotations

from functools import partial

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy import stats
from scipy.special import logsumexp

from pymc_svi import (
    SVI,
    DataLoader,
    EnergyDistance,
    LocScaleReparam,
    Predictive,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    Trainer,
    compute_marginals,
    log_density,
    log_likelihood,
    markov,
    optim,
    param,
    plate,
    sample,
    scan,
    subsample,
)
from pymc_svi.errors import SiteError
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.guides import (
    AutoDelta,
    AutoDiscreteParallel,
    AutoNormal,
    AutoRegressive,
    AutoSemiDAIS,
)
from pymc_svi.handlers import (
    block,
    check_plates,
    condition,
    infer_config,
    lift,
    mask,
    reparam,
    replay,
    scale,
    scope,
    substitute,
    to_event,
    trace,
)

Y = np.array([[0.3, -1.2], [0.8, 2.0], [-0.4, 1.1], [0.5, 0.1], [-2.0, 0.7], [1.4, -0.6]])
Z = np.array([[0.1, -0.5], [0.9, 1.3], [-0.2, 0.4], [1.0, 0.0], [-0.7, 0.3], [0.6, -1.1]])
STATES = np.array([[-1.0, 0.0], [0.5, 1.0], [1.0, -1.0]])
WEIGHTS = np.array([0.2, 0.5, 0.3])


def evaluated(expression):
    return expression.eval(mode="FAST_COMPILE")


COORDS = {"city": range(6), "xy": ["x", "y"]}


@pytest.fixture(autouse=True)
def around():
    """A model with coords, which programs get their dims from."""
    with pm.Model(coords=COORDS):
        yield


def built(program) -> pm.Model:
    with pm.Model(coords=COORDS, model=None) as model:
        program()
    return model


def by_keyword(size=None, prior_sd=1.5):
    """A vector of two for each of six rows: the site says so."""

    def program():
        mu = pm.Normal("mu", 0.0, 2.0)
        with plate("N", 6, subsample_size=size):
            z = sample("z", pm.Normal.dist(mu * np.ones(2), prior_sd), event_dim=1)
            sample("y", pm.Normal.dist(z, 1.0), subsample(Y, 1), event_dim=1)

    return program


def by_context(size=None, prior_sd=1.5):
    """The same in the statements of PyMC."""

    def program():
        mu = pm.Normal("mu", 0.0, 2.0)
        with plate("N", 6, subsample_size=size), to_event(1):
            z = pm.Normal("z", mu * np.ones(2), prior_sd)
            pm.Normal("y", z, 1.0, observed=subsample(Y, 1))

    return program


def by_dims(size=None, prior_sd=1.5):
    """The same with dims, of which the plate has the name of one."""

    def program():
        mu = pm.Normal("mu", 0.0, 2.0)
        with plate("city", subsample_size=size):
            z = pm.Normal("z", mu, prior_sd, dims=("city", "xy"))
            pm.Normal("y", z, 1.0, observed=subsample(Y, 1), dims=("city", "xy"))

    return program


def rows_are(rows):
    """Values for the indices of the plate, however it is called."""
    return {"N": rows, "city": rows}


WAYS = pytest.mark.parametrize("model", [by_keyword, by_context, by_dims])
FRONT_ENDS = pytest.mark.parametrize("front_end", [lambda program: program, built])


# --- shapes and densities -------------------------------------------------------------------------


@WAYS
@FRONT_ENDS
def test_the_plate_is_left_of_the_vector_whose_log_probabilities_are_added_up(model, front_end):
    for size, n in ((None, 6), (3, 3)):
        run = trace(front_end(model(size))).get_trace()
        for name in ("z", "y"):
            assert run[name].shape == (n, 2)
            assert run[name].log_prob.type.shape == (n,)
            assert run[name].scale == 6 / n
            assert [frame.dim for frame in run[name].plates] == [-1]
            assert run[name].event_dim == run[name].event_ndim == 1
        check_plates(run)  # warns of no dimension without a plate


@WAYS
def test_format_shapes_shows_one_log_probability_for_each_element(model):
    rows = trace(model()).get_trace().format_shapes().splitlines()
    assert [row.split()[-1] for row in rows if row.startswith(("z", "y"))] == ["(6,)", "(6,)"]


@WAYS
@FRONT_ENDS
def test_densities_of_minibatches_are_those_of_numpyro(model, front_end):
    rows = np.array([1, 4, 5])
    at = {"mu": 0.7, "z": np.array([[0.1, -0.5], [0.9, 1.3], [-0.2, 0.4]])}
    density, _ = log_density(substitute(front_end(model(3)), data=rows_are(rows)), values=at)
    # Of numpyro.infer.util.log_density with .to_event(1), in double precision. PyTensor takes
    # log(2.0) in single precision.
    assert float(density) == pytest.approx(-49.041219585752515, rel=1e-8)
    exact = stats.norm(0.7, 1.5).logpdf(at["z"]).sum() + stats.norm(at["z"]).logpdf(Y[rows]).sum()
    exact = stats.norm(0, 2).logpdf(0.7) + 2 * exact
    assert float(density) == pytest.approx(exact, rel=1e-8)


def test_a_scalar_outside_of_the_vectors_is_aligned_with_the_plate():
    def program():
        with plate("N", 6):
            sd = pm.HalfNormal("sd")
            with to_event(1):
                pm.Normal("z", np.zeros((6, 2)), sd[:, None])

    run = trace(program).get_trace()
    assert (run["sd"].log_prob.type.shape, run["z"].log_prob.type.shape) == ((6,), (6,))


def test_two_plates_and_a_matrix_of_vectors_of_a_distribution():
    def program():
        with plate("a", 4), plate("b", 3, subsample_size=2):
            sample("x", pm.MvNormal.dist(np.zeros(2), np.eye(2), shape=(5, 2)), event_dim=1)
            with to_event(1):
                sample("w", pm.Normal.dist(np.zeros((7, 5))), event_dim=1)

    run = trace(program).get_trace()
    assert (run["x"].shape, run["x"].log_prob.type.shape) == ((2, 4, 5, 2), (2, 4))
    assert (run["w"].shape, run["w"].log_prob.type.shape) == ((2, 4, 7, 5), (2, 4))
    assert (run["x"].event_ndim, run["w"].event_ndim) == (2, 2)


def test_to_event_works_around_the_plate_too_and_as_a_wrapper():
    def program():
        with plate("N", 6):
            pm.Normal("z", np.zeros((6, 2)))

    with trace() as run, to_event(1), pm.Model():
        program()
    assert run["z"].log_prob.type.shape == (6,)
    assert trace(to_event(program, 1)).get_trace()["z"].log_prob.type.shape == (6,)


def test_without_a_plate_event_dim_only_adds_up():
    def program():
        sample("x", pm.Normal.dist(np.zeros((3, 2))), event_dim=1)

    for kind in (program, built(program)):
        site = trace(condition(kind, data={"x": Y[:3]})).get_trace()["x"]
        np.testing.assert_allclose(
            evaluated(site.log_prob), stats.norm.logpdf(Y[:3]).sum(axis=1), rtol=1e-10
        )


def test_masks_and_scales_are_those_of_elements():
    seen, weights = np.arange(6) % 2 == 0, np.arange(1.0, 7.0)

    def program():
        with plate("N", 6), mask(mask=seen), scale(scale=weights), to_event(1):
            pm.Normal("y", 0.0, 1.0, observed=Y)

    expected = seen * weights * stats.norm.logpdf(Y).sum(axis=1)
    found = evaluated(trace(program).get_trace()["y"].log_prob)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_obs_mask_is_of_elements():
    seen = np.arange(6) % 2 == 0

    def program():
        with plate("N", 6):
            sample("y", pm.Normal.dist(np.zeros(2)), Y, obs_mask=seen, event_dim=1)

    run = trace(program).get_trace()
    assert run["y_unobserved"].shape == (6, 2)
    found = evaluated(run["y_observed"].log_prob)
    np.testing.assert_allclose(found, seen * stats.norm.logpdf(Y).sum(axis=1), rtol=1e-10)
    joined = evaluated(run["y"].value)
    np.testing.assert_array_equal(joined[seen], Y[seen])
    assert (joined[~seen] != Y[~seen]).all()


def test_missing_values_of_vectors_are_latent():
    data = np.ma.masked_where(np.eye(6, 2, dtype=bool), Y)

    def program():
        with plate("N", 6), to_event(1):
            pm.Normal("y", 0.0, 1.0, observed=data)

    run = trace(condition(program, data={"y_unobserved": [0.5, 1.0]})).get_trace()
    full = np.where(np.eye(6, 2, dtype=bool), [0.5, 1.0], Y)
    assert evaluated(run.log_prob_sum()) == pytest.approx(stats.norm.logpdf(full).sum())


# --- handlers -------------------------------------------------------------------------------------


@FRONT_ENDS
def test_replay_scope_and_lift_keep_what_makes_an_element(front_end):
    def guide():
        with plate("N", 6, subsample_size=3):
            loc = param("loc", np.zeros((6, 2)), event_dim=1)
            sample("z", pm.Normal.dist(loc, 1.0), event_dim=1)
        pm.Normal("mu", 0.0, 1.0)

    q = trace(front_end(guide)).get_trace()
    p = trace(replay(front_end(by_keyword(3)), trace=q)).get_trace()
    assert p["z"].value is q["z"].value
    assert q["z"].log_prob.type.shape == p["z"].log_prob.type.shape == (3,)
    scoped = trace(scope(front_end(by_keyword(3)), prefix="a")).get_trace()
    assert scoped["a::z"].log_prob.type.shape == (3,)
    lifted = trace(lift(guide, prior={"loc": pm.Normal.dist()})).get_trace()
    assert (lifted["loc"].shape, lifted["z"].log_prob.type.shape) == ((6, 2), (3,))
    configured = trace(infer_config(front_end(guide), lambda site: {"a": 1})).get_trace()
    assert configured["z"].event_dim == 1


def test_a_model_with_another_plate_than_its_guide_does_not_take_over_event_dim():
    def model():
        with plate("N", 6, dim=-2):
            pm.Normal("z", np.zeros((6, 2)))

    def guide():
        with plate("N", 6):
            sample("z", pm.Normal.dist(np.ones((6, 2))), event_dim=1)

    q = trace(guide).get_trace()
    assert trace(replay(model, trace=q)).get_trace()["z"].log_prob.type.shape == (6, 2)
    for objective in (Trace_ELBO(), TraceMeanField_ELBO()):
        value = evaluated(objective.loss(guide, model).value)
        assert np.isfinite(value)
    assert value == pytest.approx(6.0)  # 12 times 1 / 2


@WAYS
def test_reparam_puts_the_noise_where_the_site_was(model):
    config = {"z": LocScaleReparam(0.0)}
    at = {**rows_are([1, 4, 5]), "mu": 0.7, "z_decentered": Z[:3]}
    run = trace(substitute(reparam(model(3), config=config), data=at)).get_trace()
    assert run["z_decentered"].log_prob.type.shape == (3,)
    value = evaluated(run["z"].value)
    np.testing.assert_allclose(value, 0.7 + 1.5 * Z[:3], rtol=1e-6)
    exact = stats.norm.logpdf(Z[:3]).sum() + stats.norm(value).logpdf(Y[[1, 4, 5]]).sum()
    exact = stats.norm(0, 2).logpdf(0.7) + 2 * exact
    assert evaluated(run.log_prob_sum()) == pytest.approx(exact, rel=1e-7)

    def inside():
        with plate("N", 6), to_event(1), reparam(config=config):
            pm.Normal("z", np.zeros(2), 1.0)

    inner = trace(inside).get_trace()
    assert (inner["z_decentered"].shape, inner["z_decentered"].log_prob.type.shape) == (
        (6, 2),
        (6,),
    )


# --- objectives -----------------------------------------------------------------------------------


def conjugate(size=None):
    def model():
        with plate("N", 6, subsample_size=size), to_event(1):
            z = pm.Normal("z", np.zeros(2), 1.5)
            pm.Normal("y", z, 1.0, observed=subsample(Y, 1))

    return model


POSTERIOR = {"z_auto_loc": Y * 2.25 / 3.25, "z_auto_scale": np.full((6, 2), np.sqrt(2.25 / 3.25))}
# The log evidence of each of the six vectors.
EVIDENCES = stats.norm(0, np.sqrt(3.25)).logpdf(Y).sum(axis=1)


@FRONT_ENDS
@pytest.mark.parametrize("size", [None, 2])
def test_the_elbo_of_auto_normal_at_the_posterior_is_the_evidence(front_end, size):
    rows = [5, 2] if size else range(6)
    model = front_end(conjugate(size))
    given = {**POSTERIOR, "N": rows} if size else POSTERIOR
    guide = substitute(AutoNormal(model), data=given)
    assert trace(AutoNormal(model)).get_trace()["z_auto_loc"].shape == (6, 2)
    loss = Trace_ELBO().loss(substitute(model, data={"N": rows} if size else {}), guide)
    expected = EVIDENCES[list(rows)].sum() * 6 / len(rows)
    assert -evaluated(loss.value) == pytest.approx(expected, rel=1e-6)


@FRONT_ENDS
def test_gradients_of_minibatches_vanish_where_auto_normal_is_the_posterior(front_end):
    model = front_end(conjugate(2))
    quick = {"mode": evaluation_mode()}
    loss = Trace_ELBO(sticking_the_landing=True)
    svi = SVI(model, AutoNormal(model), loss=loss, compile_kwargs=quick)
    gradients = svi.sample_gradients(20, params=POSTERIOR, random_seed=0)
    assert {name: draws.shape for name, draws in gradients.items()} == {
        "z_auto_loc": (20, 6, 2),
        "z_auto_scale": (20, 6, 2),
    }
    assert max(abs(draws).max() for draws in gradients.values()) < 1e-6
    elsewhere = svi.sample_gradients(20, params={"z_auto_loc": Y}, random_seed=0)
    assert ((elsewhere["z_auto_loc"] != 0).any(axis=-1).sum(axis=1) == 2).all()  # two rows each


def global_and_local(model):
    return AutoSemiDAIS(model, global_guide=AutoNormal(block(model, expose=["mu"])))


@pytest.mark.parametrize(
    "family",
    [AutoNormal, AutoRegressive, AutoDelta, pytest.param(global_and_local, marks=pytest.mark.slow)],
)
def test_guides_are_those_of_a_plate_further_to_the_left(family):
    """Where all sites have the vector's axis, as a second way to write the same."""

    def vectors(y):
        mu = pm.Normal("mu")
        with plate("N", 6, subsample_size=3), to_event(1):
            z = pm.Gamma("z", 2.0 * np.ones(2), pt.exp(mu))
            w = pm.Dirichlet("w", np.ones((2, 3)))
            pm.Normal("y", z + w[..., 0], 1.0, observed=subsample(y, 1))

    def columns(y):
        mu = pm.Normal("mu")
        with plate("N", 6, subsample_size=3, dim=-2):
            z = pm.Gamma("z", 2.0 * np.ones((1, 2)), pt.exp(mu))
            w = pm.Dirichlet("w", np.ones((1, 2, 3)))
            pm.Normal("y", z + w[..., 0], 1.0, observed=subsample(y))

    losses, shapes = [], []
    for model in (vectors, columns):
        quick = {"mode": evaluation_mode()}
        svi = SVI(model, family(model), compile_kwargs=quick, validate="off")
        state = svi.init(Y, random_seed=1)
        losses.append(svi.evaluate(state, Y))
        shapes.append({name: value.shape for name, value in state.params.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-12) and np.isfinite(losses[0])
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("rows", [[0, 3], range(6)])
def test_divergences_in_closed_form_are_weighed_by_element(rows):
    rows, seen = list(rows), np.arange(6) % 3 == 0
    loc, size = np.arange(12.0).reshape(6, 2) / 10, len(rows)

    def pair(mean, sd):
        def program():
            with plate("N", 6, subsample_size=size) as i, mask(mask=seen[rows]), to_event(1):
                pm.Normal("z", pt.as_tensor(mean)[i], sd)

        return substitute(program, data={"N": rows})

    loss = TraceMeanField_ELBO().loss(pair(np.zeros((6, 2)), 1.5), pair(loc, 0.5)).value
    kl = np.log(1.5 / 0.5) + ((0.5 / 1.5) ** 2 + (loc / 1.5) ** 2 - 1) / 2
    assert evaluated(loss) == pytest.approx(6 / size * (seen * kl.sum(axis=1))[rows].sum())


def flips(observed_by=None):
    """Two flips a row, each of which has its own part in the row's data."""
    logits = np.linspace(-1.0, 1.0, 12).reshape(6, 2)

    def model():
        with plate("N", 6), to_event(1):
            z = pm.Bernoulli("z", logit_p=np.zeros(2))
            pm.Normal("y", 1.5 * z, 1.0, observed=Y)

    def guide():
        with plate("N", 6):
            loc = param("logits", logits, event_dim=1)
            infer = {"enumerate": "parallel"} if observed_by is None else {"baseline": observed_by}
            sample("z", pm.Bernoulli.dist(logit_p=loc), event_dim=1, infer=infer)

    return model, guide


@pytest.mark.parametrize("objective", [Trace_ELBO, TraceGraph_ELBO])
def test_score_function_gradients_of_vectors_are_unbiased(objective):
    baseline = {"use_decaying_avg_baseline": True} if objective is TraceGraph_ELBO else {}
    draws = SVI(*flips(baseline), loss=objective()).sample_gradients(4_000, random_seed=1)["logits"]
    exact = SVI(*flips(), loss=TraceEnum_ELBO()).sample_gradients(1, random_seed=1)["logits"][0]
    errors = draws.std(axis=0) / np.sqrt(len(draws))
    assert abs((draws.mean(axis=0) - exact) / errors).max() < 4.0


# --- sums over discrete sites ---------------------------------------------------------------------


def no_guide():
    pass


@pytest.mark.parametrize("size", [None, 3])
def test_a_mixture_of_diagonal_vectors_is_summed_out_row_by_row(size):
    rows = np.array([1, 4, 5]) if size else np.arange(6)
    sds, seen = np.array([[0.5, 1.0], [1.0, 0.7], [0.9, 0.4]]), np.arange(6) != 4

    def model():
        with plate("N", 6, subsample_size=size):
            k = pm.Categorical("k", WEIGHTS)
            with mask(mask=seen[rows]), to_event(1):
                pm.Normal("y", pt.constant(STATES)[k], pt.constant(sds)[k], observed=Y[rows])

    model = substitute(model, data={"N": rows}) if size else model
    logp = stats.norm(STATES, sds).logpdf(Y[rows][:, None]).sum(axis=-1) * seen[rows][:, None]
    exact = logsumexp(np.log(WEIGHTS) + logp, axis=1).sum() * 6 / len(rows)
    loss = TraceEnum_ELBO().loss(model, no_guide)
    assert -evaluated(loss.value) == pytest.approx(exact, rel=1e-9)


def test_discrete_elements_of_a_vector_are_summed_out_one_by_one():
    seen = np.arange(6) != 4

    def model():
        with plate("N", 6), mask(mask=seen), to_event(1):
            z = pm.Bernoulli("z", np.full((6, 20), 0.3))
            pm.Normal("y", z, 1.0, observed=np.tile(Y, 10))

    both = np.stack([stats.norm(k).logpdf(np.tile(Y, 10)) for k in (0, 1)], axis=-1)
    joint = np.log([0.7, 0.3]) + both
    exact = (logsumexp(joint, axis=-1).sum(axis=1) * seen).sum()
    loss = TraceEnum_ELBO().loss(model, no_guide)
    assert -evaluated(loss.value) == pytest.approx(exact, rel=1e-9)
    found = compute_marginals(model, no_guide)["z"].values[..., 1]
    np.testing.assert_allclose(
        found[seen], np.exp(joint - logsumexp(joint, axis=-1)[..., None])[seen][..., 1], rtol=1e-9
    )
    np.testing.assert_allclose(found[~seen], 0.5)  # masked


@pytest.mark.parametrize("loop", ["scan", "markov"])
def test_a_hidden_markov_model_emits_vectors(loop):
    stay = pt.constant([[0.8, 0.2], [0.3, 0.7]])
    data, locs = Y.reshape(3, 2, 2), pt.constant(STATES[:2])

    def step(z, y, t=""):
        z = pm.Categorical(f"z{t}", stay[z])
        sample(f"y{t}", pm.Normal.dist(locs[z], 0.8), y, event_dim=1)
        return z, None

    def scanned():
        def in_plate(z, y):
            with plate("N", 2):
                return step(z, y)

        scan(in_plate, np.zeros(2, int), data)

    def unrolled():
        z = np.zeros(2, int)
        with plate("N", 2):
            for t in markov(range(3)):
                z, _ = step(z, data[t], t)

    loss = TraceEnum_ELBO().loss(scanned if loop == "scan" else unrolled, no_guide)
    # Of numpyro.contrib.funsor's log_density with dist.Normal(...).to_event(1).
    assert -evaluated(loss.value) == pytest.approx(-19.958739981519035, rel=1e-9)


def test_the_discrete_guide_learns_the_elements_of_all_rows():
    def model():
        with plate("N", 6, subsample_size=3), to_event(1):
            z = pm.Bernoulli("z", np.full(2, 0.5))
            pm.Normal("y", z, 1.0, observed=subsample(Y, 1))
            pm.Categorical("k", np.full((2, 3), 1 / 3))

    run = trace(AutoDiscreteParallel(model)).get_trace()
    assert run["z_auto_probs"].shape == (6, 2)
    assert run["k_auto_probs"].shape == (6, 2, 3)
    assert (run["z"].shape, run["k"].shape) == ((3, 2), (3, 2))


# --- results, data loaders ------------------------------------------------------------------------


def test_draws_and_pointwise_log_likelihoods_have_the_shapes_of_elements():
    draws = {"z": np.zeros((4, 6, 2)), "mu": np.zeros(4)}
    predicted = Predictive(by_context(), posterior_samples=draws)(random_seed=0)
    assert predicted["posterior_predictive"]["y"].shape[-2:] == (6, 2)
    prior = Predictive(by_context(), num_samples=5)(random_seed=0)
    assert prior["prior"]["z"].shape[-3:] == (5, 6, 2)
    found = log_likelihood(by_context(), draws)["log_likelihood"]["y"]
    assert found.shape[-1] == 6 and found.ndim == 3
    np.testing.assert_allclose(
        found.values.reshape(-1, 6)[0], stats.norm.logpdf(Y).sum(axis=1), rtol=1e-10
    )
    named = log_likelihood(by_dims(), draws)["log_likelihood"]["y"]
    assert named.dims[-1] == "city" and named.shape == found.shape


def test_distances_of_predictions_are_those_of_vectors():
    def model():
        m = pm.Normal("m")
        with plate("N", 6), to_event(1):
            pm.Normal("y", m * np.ones(2), 1e-9, observed=Y)

    def guide():
        pm.Normal("m", param("loc", 0.25), 1e-9)

    loss = EnergyDistance(prior_scale=0.0, num_particles=2).loss(model, guide).value
    exact = np.sqrt(((Y - 0.25) ** 2).sum(axis=1)).sum()
    assert evaluated(loss) == pytest.approx(exact, rel=1e-6)


def test_batches_of_a_loader_are_vectors_of_rows():
    def model(y):
        with to_event(1):
            m = pm.Normal("m", np.zeros(2), 1.5)
            with plate("rows", 3):
                pm.Normal("y", m, 1.0, observed=y)

    precision = 1 / 2.25 + 6
    svi = SVI(model, AutoNormal(model), optim.Adam(optim.cosine_decay(0.05, 3_000)))
    result = Trainer(svi, DataLoader({"y": Y}, batch_size=3, shuffle=True)).fit(
        n=3_000, random_seed=0, progressbar=False
    )
    np.testing.assert_allclose(result.params["m_auto_loc"], Y.sum(axis=0) / precision, atol=0.03)
    np.testing.assert_allclose(result.params["m_auto_scale"], precision**-0.5, rtol=0.05)


# --- mistakes -------------------------------------------------------------------------------------


def test_what_has_too_few_dimensions_is_refused():
    def program(event_dim):
        with plate("N", 6):
            sample("x", pm.Normal.dist(), event_dim=event_dim)

    with pytest.raises(SiteError, match="'x' has fewer dimensions than event_dim.*event_dim=1"):
        trace(program).get_trace(1)
    for bad in (-1, 0.5, True, None):
        with pytest.raises(ValueError, match=r"sample\('x'\): event_dim counts dimensions"):
            trace(program).get_trace(bad)
    with pytest.raises(ValueError, match="to_event: event_dim counts dimensions"):
        to_event(program)
    with pytest.raises(TypeError, match="of a built model have been made"):
        to_event(pm.Model(), 1)


def test_elements_of_another_number_than_the_plate_are_refused():
    def program():
        with plate("N", 6):
            sample("x", pm.Normal.dist(np.zeros((5, 2))), event_dim=1)

    with pytest.raises(SiteError, match=r"\(5,\) of elements of shape \(2,\), 5 along dim=-1"):
        trace(program).get_trace()


def test_dims_in_another_order_than_subsampled_plates_are_refused():
    def program(size):
        with plate("city", subsample_size=size), plate("xy"):
            pm.Normal("x", dims=("city", "xy"))

    assert trace(built(partial(program, None))).get_trace()["x"].shape == (6, 2)
    with pytest.raises(SiteError, match="dims in another order.*'city' at dim=-1.*'xy' at dim=-2"):
        trace(program).get_trace(3)


def test_a_dimension_without_a_plate_is_told_of_event_dim():
    def program():
        with plate("N", 2):
            pm.Normal("x", np.zeros((2, 2)))

    with pytest.warns(UserWarning, match=r"2 repetitions along dim=-2.*to_event\(n\).*event_dim=n"):
        check_plates(trace(program).get_trace())
