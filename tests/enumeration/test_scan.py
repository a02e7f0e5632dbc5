"""``scan`` is the loop that it stands for, in every use of it."""

import itertools

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from pymc_svi import (
    SVI,
    Predictive,
    Trace_ELBO,
    TraceEnum_ELBO,
    compute_marginals,
    handlers,
    infer_discrete,
    optim,
    param,
    plate,
    sample,
    scan,
)
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.evaluation import evaluate, evaluation_mode
from pymc_svi.gradients.particles import random_variables
from pymc_svi.guides import AutoNormal
from pymc_svi.results.sampling import draw_function
from tests.checks import assert_mean

P = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8]])
MEANS = np.array([-1.0, 0.0, 2.0])
Y = np.array([0.3, -1.2, 1.9, 0.1])
ROWS = np.array([[0.3, -1.2, 1.9, 0.1], [2.2, 1.7, -0.4, -1.0]]).T  # (time, sequence)
# As variables, which a site can be an index of.
P_, MEANS_ = pt.constant(P), pt.constant(MEANS)


def looped(step, init, xs=None, length=None, dim=None):
    """What ``scan`` stands for, its sites numbered."""
    carry, collected = init, []
    n = len(xs) if length is None else length
    for t in range(n):
        with handlers.scope(prefix=f"t{t}"):
            carry, y = step(carry, None if xs is None else xs[t])
        collected.append(y)
    return carry, collected


def no_sites(*args):
    """A guide that leaves everything to the sums."""


def elbo(model, *args, guide=no_sites):
    return float(evaluate(TraceEnum_ELBO().loss(model, guide, *args).value))


# --- models, each written once for both kinds of loop -------------------------------------------


def first_order(loop):
    def step(z, y):
        z = pm.Categorical("z", P_[z])
        pm.Normal("y", MEANS_[z], 1.0, observed=y)
        return z, None

    loop(step, 0, Y)


def second_order(loop):
    def step(carry, y):
        last, before = carry
        z = pm.Bernoulli("z", 0.1 + 0.5 * last + 0.3 * before)
        pm.Normal("y", 2.0 * z, 1.0, observed=y)
        return (z, last), None

    loop(step, (0, 1), Y)


def two_chains(loop):
    def step(carry, y):
        a = pm.Categorical("a", P_[carry["a"]])
        b = pm.Bernoulli("b", 0.2 + 0.5 * carry["b"] + 0.1 * a)
        pm.Normal("y", MEANS_[a] * (1 + b), 1.0, observed=y)
        return {"a": a, "b": b}, None

    loop(step, {"a": 0, "b": 0}, Y)


def many_sequences(loop):
    def step(z, y):
        z = pm.Categorical("z", P_[z], shape=2)
        pm.Normal("y", MEANS_[z], 1.0, observed=y)
        return z, None

    loop(step, np.array([0, 2]), ROWS)


def in_a_plate(loop):
    def step(z, y):
        with plate("sequences", 2):
            z = pm.Bernoulli("z", 0.2 + 0.6 * z)
            pm.Normal("y", MEANS_[z], 1.0, observed=y)
        return z, None

    loop(step, np.array([0, 1]), ROWS)


def elements_that_meet(loop):
    def step(z, y):
        z = pm.Bernoulli("z", 0.2 + 0.3 * z + 0.2 * z[::-1], shape=2)
        pm.Normal("y", z[0] - 2.0 * z[1], 1.0, observed=y)
        return z, None

    loop(step, np.array([0, 1]), Y)


def ragged(loop):
    def step(z, x):
        y, there = x["y"], x["there"]
        with handlers.mask(mask=there):
            z = pm.Categorical("z", P_[z], shape=2)
            pm.Normal("y", MEANS_[z], 1.0, observed=y)
        return z, None

    there = np.array([[True, True], [True, True], [True, False], [False, False]])
    if loop is looped:
        xs = [{"y": y, "there": m} for y, m in zip(ROWS, there, strict=True)]
        loop(step, np.array([0, 0]), xs)
    else:
        loop(step, 0, {"y": ROWS, "there": there})


def no_chain(loop):
    def step(carry, y):
        z = pm.Categorical("z", P_[1])
        pm.Normal("y", MEANS_[z], 1.0, observed=y)
        return None, None

    loop(step, None, Y)


def a_start_that_is_summed_too(loop):
    z0 = pm.Categorical("z0", [0.2, 0.3, 0.5])

    def step(z, y):
        z = pm.Categorical("z", P_[z])
        pm.Normal("y", MEANS_[z], 1.0, observed=y)
        return z, None

    loop(step, z0, Y)


def autoregressive(loop):
    def step(carry, y):
        z, last = carry
        z = pm.Bernoulli("z", pm.math.sigmoid(last) * 0.5 + 0.3 * z)
        y = pm.Normal("y", 0.5 * last + 2.0 * z, 1.0, observed=y)
        return (z, y), None

    loop(step, (0, np.float64(0.0)), Y)


def accumulating(loop):
    def step(carry, y):
        z, total, n = carry
        total = 0.9 * total + y
        z = pm.Bernoulli("z", pm.math.sigmoid(total - n) * (0.3 + 0.5 * z))
        pm.Normal("y", 2.0 * z, 1.0, observed=y)
        return (z, total, n + 1), None

    loop(step, (1, 0.0, 0), Y)


def with_a_label_and_a_potential(loop):
    def step(z, y):
        z = pm.Categorical("z", P_[z])
        outlier = pm.Bernoulli("outlier", 0.1)
        pm.Potential("wish", -0.5 * pt.eq(z, 1))
        pm.StudentT("y", 3, mu=MEANS_[z], sigma=1.0 + 4.0 * outlier, observed=y)
        return z, None

    loop(step, 2, Y)


def handed_on_for_ever(loop):
    def step(carry, y):
        z, level = carry
        z = pm.Bernoulli("z", level + 0.5 * z)
        pm.Normal("y", 2.0 * z, 1.0, observed=y)
        return (z, level), None

    loop(step, (0, 0.2), Y)


def transitions_that_change(loop):
    """Of three states, by a weight that each step reads."""

    def step(z, now):
        y, weight = now
        z = pm.Categorical("z", weight * P_[z] + (1 - weight) / 3)
        pm.Normal("y", MEANS_[z], 1.0, observed=y)
        return z, None

    weights = np.array([0.0, 0.9, 0.4, 1.0])
    loop(step, 1, (Y, weights) if loop is scan else list(zip(Y, weights, strict=True)))


MODELS = [
    first_order,
    transitions_that_change,
    second_order,
    two_chains,
    many_sequences,
    in_a_plate,
    elements_that_meet,
    ragged,
    no_chain,
    a_start_that_is_summed_too,
    autoregressive,
    accumulating,
    with_a_label_and_a_potential,
    handed_on_for_ever,
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_the_sum_over_a_loop_is_that_over_its_steps(model):
    assert elbo(model, scan) == pytest.approx(elbo(model, looped), abs=1e-10)


@pytest.mark.parametrize(
    "model", [m for m in MODELS if m is not in_a_plate], ids=lambda model: model.__name__
)
def test_values_have_the_same_density(model):
    """Also where nothing is summed over."""
    drawn = handlers.trace(handlers.seed(model, rng_seed=3)).get_trace(scan)
    data = {name: site.value for name, site in drawn.latent.items()}
    by_step = {
        name if name == "z0" else f"t{t}::{name}": value[t] if name != "z0" else value
        for name, value in data.items()
        for t in range(4 if name != "z0" else 1)
    }
    whole = handlers.trace(handlers.condition(model, data=data)).get_trace(scan)
    steps = handlers.trace(handlers.condition(model, data=by_step)).get_trace(looped)
    assert not steps.latent
    np.testing.assert_allclose(
        evaluate(whole.log_prob_sum()), evaluate(steps.log_prob_sum()), atol=1e-10
    )


# --- against the forward algorithm -------------------------------------------------------------


def forward(ys, transitions, means):
    alpha = np.log(transitions[0]) + norm.logpdf(ys[0], means, 1.0)
    for y in ys[1:]:
        alpha = logsumexp(alpha[:, None] + np.log(transitions), axis=0) + norm.logpdf(y, means, 1.0)
    return logsumexp(alpha)


def test_a_thousand_steps_and_their_gradient():
    ys = np.random.default_rng(0).normal(size=1_000)

    def model():
        means = pt.as_tensor(param("means", MEANS))

        def step(z, y):
            z = pm.Categorical("z", P_[z])
            pm.Normal("y", means[z], 1.0, observed=y)
            return z, None

        scan(step, 0, ys)

    svi = SVI(model, no_sites, optim.SGD(1.0), TraceEnum_ELBO())
    loss, store = svi.build_loss()
    [gradient] = pytensor.grad(loss.value, list(store.variables.values()))
    value, found = (evaluate(v) for v in (loss.value, gradient))
    assert value == pytest.approx(-forward(ys, P, MEANS), rel=1e-11)
    step = 1e-5
    for k, e in enumerate(np.eye(3) * step):
        difference = forward(ys, P, MEANS + e) - forward(ys, P, MEANS - e)
        assert -found[k] == pytest.approx(difference / (2 * step), rel=1e-6)


# --- draws, modes and probabilities ---------------------------------------------------------------


def paths():
    """All paths of ``first_order`` with their posterior probabilities."""
    found = list(itertools.product(range(3), repeat=4))
    weights = [
        np.log(P[np.r_[0, z[:-1]], z]).sum() + norm.logpdf(Y, MEANS[list(z)]).sum() for z in found
    ]
    return np.array(found), np.exp(np.array(weights) - logsumexp(weights))


def test_the_likeliest_path():
    found, weights = paths()
    traced = handlers.trace(infer_discrete(first_order, temperature=0)).get_trace(scan)
    np.testing.assert_array_equal(evaluate(traced["z"].value), found[weights.argmax()])


def test_the_likeliest_paths_of_many_sequences():
    def one(loop, start, ys):
        def step(z, y):
            z = pm.Categorical("z", P_[z])
            pm.Normal("y", MEANS_[z], 1.0, observed=y)
            return z, None

        loop(step, start, ys)

    both = handlers.trace(infer_discrete(many_sequences, temperature=0)).get_trace(scan)
    for k, start in enumerate((0, 2)):
        apart = handlers.trace(infer_discrete(one, temperature=0)).get_trace(
            scan, start, ROWS[:, k]
        )
        np.testing.assert_array_equal(evaluate(both["z"].value)[:, k], evaluate(apart["z"].value))


def test_paths_are_drawn_from_their_posterior():
    found, weights = paths()
    traced = handlers.trace(infer_discrete(first_order)).get_trace(scan)
    draws = draw_function({"z": traced["z"].value})(20_000, 0)["z"]
    for path, weight in sorted(zip(found.tolist(), weights, strict=True), key=lambda p: -p[1])[:8]:
        assert_mean((draws == path).all(axis=1).astype(float), weight)


def test_a_summed_start_is_drawn_with_its_path():
    traced = handlers.trace(infer_discrete(a_start_that_is_summed_too)).get_trace(scan)
    values = {"z0": traced["z0"].value, "z": traced["z"].value}
    draws = draw_function(values)(20_000, 0)
    looped_ = handlers.trace(infer_discrete(a_start_that_is_summed_too)).get_trace(looped)
    by_step = draw_function({"z0": looped_["z0"].value, "z": looped_["t0::z"].value})(20_000, 1)
    for k, j in itertools.product(range(3), repeat=2):
        mine = ((draws["z0"] == k) & (draws["z"][:, 0] == j)).astype(float)
        theirs = ((by_step["z0"] == k) & (by_step["z"] == j)).astype(float)
        assert_mean(mine - theirs, 0.0)


@pytest.mark.parametrize(
    "model", [first_order, many_sequences, two_chains, elements_that_meet, ragged, second_order]
)
def test_probabilities_of_states(model):
    mine = compute_marginals(model, no_sites, scan, num_samples=1)
    theirs = compute_marginals(model, no_sites, looped, num_samples=1)
    for name in mine:
        by_step = np.stack([theirs[f"t{t}::{name}"].values for t in range(4)])
        np.testing.assert_allclose(mine[name].values, by_step, atol=1e-10)


def test_prior_draws_follow_the_chain():
    traced = handlers.trace(handlers.uncondition(second_order)).get_trace(scan)
    values = {name: traced[name].value for name in ("z", "y")}
    draws = draw_function(values)(20_000, 0)
    probability = {}
    for z in itertools.product(range(2), repeat=4):
        last, before, p = 0, 1, 1.0
        for now in z:
            q = 0.1 + 0.5 * last + 0.3 * before
            p *= q if now else 1 - q
            last, before = now, last
        probability[z] = p
    assert sum(probability.values()) == pytest.approx(1.0)
    for z, p in probability.items():
        assert_mean((draws["z"] == z).all(axis=1).astype(float), p)
    assert_mean(draws["y"] - 2.0 * draws["z"], np.zeros(4))


def test_predictions_depend_on_what_was_predicted_before():
    """The data are handed on from step to step; drawn anew, they are drawn in turn."""

    def model(ys):
        def step(last, y):
            y = pm.Normal("y", 0.8 * last, 1.0, observed=y)
            return y, y

        return scan(step, 10.0, ys)

    traced = handlers.trace(handlers.uncondition(model)).get_trace(Y)
    draws = draw_function({"y": traced["y"].value})(20_000, 0)["y"]
    assert_mean(draws, 10.0 * 0.8 ** np.arange(1, 5))
    centred = draws - 10.0 * 0.8 ** np.arange(1, 5)
    assert_mean(centred[:, 0] * centred[:, 1], 0.8)


# --- other sites ---------------------------------------------------------------------------------


def test_a_random_walk_with_an_automatic_guide():
    """Continuous sites get one latent vector: the fit is that of the walk as one variable."""

    def walk(ys):
        def step(x, y):
            x = pm.Normal("x", x, 0.5)
            pm.Normal("y", x, 1.0, observed=y)
            return x, 2 * x

        return scan(step, 0.0, ys)

    traced = handlers.trace(handlers.condition(walk, data={"x": Y})).get_trace(Y)
    exact = norm.logpdf(np.diff(np.r_[0.0, Y]), 0, 0.5).sum() + norm.logpdf(Y, Y, 1.0).sum()
    assert evaluate(traced.log_prob_sum()) == pytest.approx(exact)
    svi = SVI(walk, AutoNormal(walk), optim.Adam(0.02), Trace_ELBO(8))
    result = svi.run(1_500, Y, random_seed=0, progressbar=False)
    difference = np.eye(4) - np.eye(4, k=-1)
    precision = difference.T @ difference / 0.25 + np.eye(4)
    np.testing.assert_allclose(
        result.params["x_auto_loc"], np.linalg.solve(precision, Y), atol=0.08
    )
    np.testing.assert_allclose(result.params["x_auto_scale"], np.diag(precision) ** -0.5, rtol=0.1)


def test_continuous_sites_within_a_summed_loop():
    """They come from the guide; what is summed out is summed given them."""

    def model(loop):
        def step(z, y):
            z = pm.Bernoulli("z", 0.2 + 0.6 * z)
            x = pm.Normal("x", 2.0 * z, 1.0)
            pm.Normal("y", x, 0.5, observed=y)
            return z, None

        loop(step, 0, Y)

    values = np.array([0.1, -0.7, 1.5, 0.4])

    def given(loop):
        by_step = {f"t{t}::x": x for t, x in enumerate(values)}
        return handlers.condition(model, data=by_step if loop is looped else {"x": values})(loop)

    assert elbo(given, scan) == pytest.approx(elbo(given, looped), abs=1e-10)


def test_what_is_collected_and_handed_on():
    def model():
        def step(carry, x):
            z = pm.Normal("z", 0.0, 1.0)
            pm.Deterministic("twice", 2 * z)
            return carry + z, {"sum": carry + z, "x": (x, None)}

        return scan(step, 1.0, np.arange(3.0), dim="time")

    data = {"z": np.array([1.0, 2.0, 3.0])}
    with pm.Model(coords={"time": range(3)}):
        conditioned = handlers.condition(model, data=data)
        last, collected = handlers.seed(conditioned, rng_seed=0)()
        traced = handlers.trace(conditioned).get_trace()
    assert last == 7.0
    np.testing.assert_array_equal(collected["sum"], [2.0, 4.0, 7.0])
    np.testing.assert_array_equal(collected["x"][0], [0.0, 1.0, 2.0])
    assert collected["x"][1] is None
    np.testing.assert_array_equal(evaluate(traced["twice"].value), [2.0, 4.0, 6.0])
    assert traced["z"].dims == ("time",)


def test_results_have_the_dim_of_the_steps():
    def model(ys):
        level = pm.Normal("level", 0.0, 1.0)

        def step(z, y):
            z = pm.Bernoulli("z", 0.3 + 0.5 * z)
            pm.Normal("y", level + 3.0 * z, 1.0, observed=y)
            return z, None

        scan(step, 0, ys, dim="time")

    coords = {"time": [10, 20, 30, 40]}
    svi = SVI(model, AutoNormal(model), optim.Adam(0.02), TraceEnum_ELBO(), coords=coords)
    result = svi.run(50, Y, random_seed=0, progressbar=False)
    posterior = result.sample_posterior(20, random_seed=0).posterior
    assert posterior["z"].dims == ("chain", "draw", "time")
    np.testing.assert_array_equal(posterior["time"], coords["time"])
    predictive = Predictive(
        model, guide=svi.guide, params=result.params, num_samples=10, coords=coords
    )
    assert predictive(Y, random_seed=0).posterior_predictive["y"].shape == (1, 10, 4)


def test_length_in_place_of_data():
    def model():
        def step(z, _):
            return pm.Bernoulli("z", 0.2 + 0.6 * z), None

        scan(step, 0, length=5)

    assert handlers.trace(model).get_trace()["z"].shape == (5,)
    assert elbo(model) == pytest.approx(0.0, abs=1e-12)


# --- mistakes --------------------------------------------------------------------------------


def simple(z, y):
    z = pm.Bernoulli("z", 0.2 + 0.6 * z)
    pm.Normal("y", z, 1.0, observed=y)
    return z, None


def run(step, init=0, xs=Y, **options):
    return handlers.trace(lambda: scan(step, init, xs, **options)).get_trace()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda: scan(simple, 0, Y), "no handler around"),
        (lambda: run(lambda z, y: simple(z, y)[0]), "does not return a pair"),
        (lambda: run(simple, xs=None), "not clear how many steps.*xs or length"),
        (lambda: run(simple, length=7), "not clear how many steps.*4 by xs.*7 by length"),
        (lambda: run(simple, xs={"a": Y, "b": Y[:2]}), "not clear how many steps"),
        (lambda: run(simple, xs=3.0), "one leading entry"),
        (lambda: run(lambda c, y: ((c, c), None)), "another number of variables"),
        (lambda: run(lambda c, y: (pt.stack([c, c]), None), init=np.zeros(3)), "has another type"),
        (lambda: run(lambda c, y: (c[:2], None), init=np.zeros(3)), "changes its shape"),
        (lambda: run(lambda c, y: (c[0], None), init=np.zeros(3)), "loses dimensions"),
        (lambda: run(lambda c, y: (param("a", 0.0), None)), "param 'a' is made within a step"),
        (
            lambda: run(lambda z, y: (2 * simple(z, y)[0], None)) and elbo_of(doubled),
            "computed from 'z', which is summed out.*Hand on the site",
        ),
        (lambda: elbo_of(lambda: scan(simple, 3, Y)), "starts at a value that it cannot take"),
    ],
)
def test_mistakes_are_told(program, message):
    with pytest.raises((SiteError, ValueError), match=f"(?s){message}"):
        program()


def doubled():
    scan(lambda z, y: (2 * simple(z, y)[0], None), 0, Y)


def elbo_of(program):
    return elbo(program)


def test_a_whole_number_of_steps():
    with pytest.raises(ValueError, match="length is a whole number"):
        run(simple, xs=None, length=2.5)


def test_a_site_outside_that_depends_on_a_summed_state():
    def model():
        z, _ = scan(simple, 0, Y)
        pm.Normal("after", z, 1.0, observed=0.5)

    with pytest.raises(PairingError, match="'after' depends on 'z'.*within a scan"):
        elbo(model)


def test_a_guide_that_draws_a_loop():
    def guide():
        def step(x, y):
            return pm.Normal("x", x, param_outside), None

        param_outside = param("sd", 1.0)
        scan(step, 0.0, Y)

    def model():
        def step(x, y):
            x = pm.Normal("x", x, 1.0)
            pm.Normal("y", x, 1.0, observed=y)
            return x, None

        scan(step, 0.0, Y)

    with pytest.raises(SiteError, match="'x' of the guide is within a scan"):
        Trace_ELBO().loss(model, guide)


def test_scales_that_differ_within_a_loop():
    def model():
        def step(z, y):
            z = pm.Bernoulli("z", 0.2 + 0.6 * z)
            with handlers.scale(scale=2.0):
                pm.Normal("y", z, 1.0, observed=y)
            return z, None

        scan(step, 0, Y)

    with pytest.raises(PairingError, match="different scales"):
        elbo(model)


def test_one_scale_around_a_loop():
    with_scale = handlers.scale(first_order, scale=2.5)
    assert elbo(with_scale, scan) == pytest.approx(2.5 * elbo(first_order, scan))


def test_a_mask_from_outside():
    masked = handlers.mask(first_order, mask=False)
    with pytest.raises(SiteError, match="mask from outside.*within the step"):
        elbo(masked, scan)


def test_an_intervention_is_refused():
    intervened = handlers.do(lambda: scan(simple, 0, Y), data={"z": np.ones(4, dtype=int)})
    with pytest.raises(SiteError, match="'z' is intervened on.*condition"):
        handlers.trace(intervened).get_trace()


def test_what_cannot_be_drawn_step_by_step():
    def step(n, y):
        return pm.Poisson("n", 1.0 + n), None

    with pytest.raises(SiteError, match="'n' is handed on.*cannot be drawn"):
        run(step)


def test_sites_within_plates_with_minibatches():
    def model():
        def step(z, y):
            with plate("rows", 10, subsample_size=2):
                z = pm.Bernoulli("z", 0.2 + 0.6 * z)
            return z, None

        scan(step, 0, Y)

    with pytest.raises(SiteError, match="subsampled plate 'rows' is made within a step"):
        handlers.trace(model).get_trace()


def test_infer_options_reach_the_sites():
    def step(_, y):
        return None, sample("a", pm.Normal.dist(0.0, 1.0), infer={"mine": 1})

    assert run(step, init=None)["a"].infer == {"mine": 1}


def test_draws_from_outside_are_made_once():
    """Or a fit would see the same noise at each step."""

    def model():
        level = pm.Normal("level", 0.0, 1.0, shape=3)

        def step(z, y):
            z = pm.Categorical("z", P_[z])
            pm.Normal("y", level[z], 1.0, observed=y)
            return z, None

        scan(step, 0, Y)

    loss, _ = SVI(model, AutoNormal(model), loss=TraceEnum_ELBO()).build_loss()
    assert len(set(draw_function({"loss": loss.value})(20, 0)["loss"])) == 20
    draws = random_variables([loss.value])
    assert len({draw.owner.inputs[0] for draw in draws}) == len(draws)


def centred(level, rate, y):
    level = pm.Normal("level", rate * level, 1e-7)
    pm.Normal("y", level, 1.0, observed=y)
    return level, level


def non_centred(level, rate, y):
    level = rate * level + 1e-7 * pm.Normal("noise")
    pm.Normal("y", level, 1.0, observed=y)
    return level, level


@pytest.mark.parametrize("step", [centred, non_centred])
def test_a_step_refers_to_what_was_drawn_outside(step):
    """Once: not anew in each step."""

    def program():
        rate = pm.Normal("rate", 0.0, 2.0)
        _, levels = scan(lambda level, y: step(level, rate, y), 1.0, Y)
        pm.Deterministic("levels", levels)

    traced = handlers.trace(handlers.seed(program, 3)).get_trace()
    function = pytensor.function(
        [], [traced["rate"].value, traced["levels"].value], mode=evaluation_mode()
    )
    rate, levels = function()
    np.testing.assert_allclose(levels, rate ** np.arange(1, 5), atol=1e-5 * np.abs(levels).max())


def test_a_guide_draws_what_a_loop_accumulates():
    def model():
        rate = pm.Normal("rate", 0.0, 1.0)
        scan(lambda level, y: non_centred(level, rate, y), 1.0, Y)

    def guide():
        pm.Normal("rate", param("rate_at", 0.7), 1e-9)
        pm.Normal("noise", np.zeros(4), 1.0)

    loss = Trace_ELBO().loss(model, guide)
    found = float(evaluate(loss.terms["model: y"]))
    assert found == pytest.approx(norm.logpdf(Y, 0.7 ** np.arange(1, 5), 1.0).sum(), abs=1e-5)
