"""``TraceEnum_ELBO`` is what summing over all combinations of all elements gives."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.pytensorf import rewrite_pregrad
from scipy.special import logsumexp
from scipy.stats import norm

from pymc_svi import (
    SVI,
    DataLoader,
    Trace_ELBO,
    TraceEnum_ELBO,
    Trainer,
    compute_marginals,
    config_enumerate,
    handlers,
    infer_discrete,
    optim,
    param,
    plate,
    sample,
    scan,
)
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.evaluation import evaluate
from pymc_svi.guides import AutoDelta, AutoNormal
from tests.checks import as_built, assert_mean, gradient_draws
from tests.enumeration import models
from tests.enumeration.brute_force import brute_loss
from tests.enumeration.models import MEANS, MODELS, Y

LOSS = TraceEnum_ELBO()


def no_sites():
    """A guide that leaves everything to the sums."""


def loss_of(model, guide=no_sites, *args):
    return float(evaluate(LOSS.loss(model, guide, *args).value))


# --- sums in the model ------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_summing_out_the_model_equals_brute_force(model):
    assert loss_of(model) == pytest.approx(brute_loss(model, no_sites), abs=1e-8)


@pytest.mark.parametrize("model", [models.nested, models.chain], ids=lambda model: model.__name__)
def test_built_models_have_the_same_sums(model):
    assert loss_of(as_built(model)) == pytest.approx(loss_of(model), abs=1e-10)


def test_a_scaled_local_site_is_summed_out_before_it_is_scaled():
    """``sum_a p(a) prod_n (sum_z p(z|a) p(y_n|z))^2.5``."""
    inner = [
        logsumexp([np.log([1 - p, p]) + norm.logpdf(y, [0.0, 1.0]) for y in Y], axis=1).sum()
        for p in (0.2, 0.7)
    ]
    exact = logsumexp(np.log([0.6, 0.4]) + 2.5 * np.array(inner))
    assert loss_of(models.scaled) == pytest.approx(-exact, abs=1e-8)


def test_minibatches_of_a_plate_average_to_the_sum_over_all_of_it():
    def model():
        a = pm.Bernoulli("a", 0.4)
        with plate("rows", 4, subsample_size=2) as rows:
            z = pm.Bernoulli("z", 0.2 + 0.5 * a)
            pm.Normal("y", 1.0 * z, 1.0, observed=pt.constant(Y)[rows])

    def guide():
        with plate("rows", 4, subsample_size=2):
            pass
        sample("a", pm.Bernoulli.dist(0.35), infer={"enumerate": "parallel"})

    def full():
        a = pm.Bernoulli("a", 0.4)
        z = pm.Bernoulli("z", 0.2 + 0.5 * a, shape=4)
        pm.Normal("y", 1.0 * z, 1.0, observed=Y)

    def full_guide():
        sample("a", pm.Bernoulli.dist(0.35), infer={"enumerate": "parallel"})

    pairs = [(i, j) for i in range(4) for j in range(i)]
    losses = []
    for rows in pairs:
        both = [handlers.substitute(p, data={"rows": np.array(rows)}) for p in (model, guide)]
        losses.append(loss_of(*both))
    assert np.mean(losses) == pytest.approx(loss_of(full, full_guide), abs=1e-10)


def test_masked_elements_count_for_nothing():
    mask = np.array([True, False, True, True])

    def model(keep):
        z = pm.Categorical("z", [0.2, 0.5, 0.3], shape=len(keep))
        pm.Normal("y", pt.constant(MEANS)[z], 1.0, observed=Y[keep])

    everything = np.arange(4)
    masked = handlers.mask(lambda: model(everything), mask=mask)
    assert loss_of(masked) == pytest.approx(loss_of(lambda: model(everything[mask])), abs=1e-10)


def test_impossible_values_do_no_harm():
    def model():
        z = pm.Categorical("z", [0.0, 0.4, 0.6], shape=4)
        pm.Normal("y", pt.constant(MEANS)[z], 1.0, observed=Y)

    assert loss_of(model) == pytest.approx(brute_loss(model, no_sites), abs=1e-8)


def test_named_dims_of_both_kinds():
    import pymc.dims as pmd

    coords = {"row": range(4), "kind": range(3)}

    def plain():
        z = pm.Categorical("z", [0.2, 0.5, 0.3], dims="row")
        pm.Normal("y", pt.constant(MEANS)[z], 1.0, observed=Y, dims="row")

    def named():
        z = pmd.Bernoulli("z", p=0.3, dims="row")
        pmd.Normal("y", 2.0 * z, 1.0, observed=pmd.as_xtensor(Y, dims=("row",)))

    def unnamed():
        z = pm.Bernoulli("z", p=0.3, shape=4)
        pm.Normal("y", 2.0 * z, 1.0, observed=Y)

    with pm.Model(coords=coords):
        assert loss_of(plain) == pytest.approx(loss_of(models.labels), abs=1e-8)
    with pm.Model(coords=coords):
        assert loss_of(named) == pytest.approx(loss_of(unnamed), abs=1e-8)


# --- sums in the guide --------------------------------------------------------------------------


def guided_labels():
    pm.Categorical(
        "z", pm.math.softmax(param("logits", np.linspace(-1, 1, 12).reshape(4, 3)), axis=-1)
    )


def guided_parent():
    pm.Bernoulli("a", logit_p=param("u", 0.4))


def guided_chain():
    z = 0
    for t in range(4):
        z = pm.Categorical(f"z{t}", pt.constant(np.roll(models.MOVES, t, axis=1))[z])


def guided_levels():
    a = pm.Bernoulli("a", logit_p=param("u", np.array([0.4, -0.3])))
    pm.Bernoulli("z", logit_p=(0.8 * a - 0.2)[:, None], shape=(2, 3))


def guided_columns():
    pm.Bernoulli("b", logit_p=param("u", np.array([0.4, -0.3, 0.1])))


def guided_rows_and_columns():
    guided_columns()
    pm.Bernoulli("a", logit_p=param("v", np.array([0.2, -0.7])))


GUIDED = [
    (models.labels, guided_labels),
    (models.nested, guided_parent),
    (models.chain_with_a_parent, guided_parent),
    (models.chain, guided_chain),
    (models.two_levels, guided_levels),
    (models.crossing, guided_columns),
    (models.crossing, guided_rows_and_columns),
    (models.crossing_under_cells, guided_columns),
    (models.crossing_under_cells, guided_rows_and_columns),
]


@pytest.mark.parametrize("model, guide", GUIDED, ids=lambda program: program.__name__)
def test_sums_over_the_guide_equal_brute_force(model, guide):
    guide = config_enumerate(guide)
    assert loss_of(model, guide) == pytest.approx(brute_loss(model, guide), abs=1e-8)


def test_a_guide_that_rules_a_value_out_has_a_finite_loss():
    def guide():
        pm.Categorical("z", [0.0, 0.5, 0.5], shape=4)

    guide = config_enumerate(guide)
    assert loss_of(models.labels, guide) == pytest.approx(
        brute_loss(models.labels, guide), abs=1e-8
    )


# --- gradients ----------------------------------------------------------------------------------


def learned_chain():
    z = 0
    p = param("p", 0.3)
    mu = param("mu", np.array([-0.5, 0.8]))
    for t in range(4):
        z = pm.Bernoulli(f"z{t}", logit_p=p + 0.7 * z)
        pm.Normal(f"y{t}", mu[z], 1.0, observed=Y[t])


@pytest.mark.parametrize(
    "model, guide",
    [(learned_chain, no_sites), *((m, config_enumerate(g)) for m, g in GUIDED[:3])],
    ids=lambda program: getattr(program, "__name__", ""),
)
def test_gradients_equal_differences(model, guide):
    loss, store = SVI(model, guide, loss=LOSS).build_loss()
    variables = list(store.variables.values())
    for name, site in store.sites.items():
        store.variables[name].set_value(site.make_start())
    gradients = pytensor.grad(rewrite_pregrad(loss.surrogate), variables)
    compute = pytensor.function([], [loss.value, *gradients], mode="FAST_COMPILE")
    _, *found = compute()
    for variable, gradient in zip(variables, found, strict=True):
        start = variable.get_value()
        for index in np.ndindex(start.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = start.copy()
                moved[index] += step
                variable.set_value(moved)
                ends.append(compute()[0])
            variable.set_value(start)
            assert gradient[index] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-7)


def test_with_continuous_sites_the_gradient_is_that_of_the_model_summed_out_by_hand():
    def model():
        mu = pm.Normal("mu", 0.0, 2.0, shape=2)
        z = pm.Bernoulli("z", 0.4, shape=4)
        pm.Normal("y", mu[z], 1.0, observed=Y)

    def by_hand():
        mu = pm.Normal("mu", 0.0, 2.0, shape=2)
        parts = [pm.Normal.dist(mu[0], 1.0), pm.Normal.dist(mu[1], 1.0)]
        pm.Mixture("y", [0.6, 0.4], parts, observed=Y)

    def guide():
        pm.Normal("mu", param("loc", np.array([-0.2, 0.9])), 0.5, shape=2)

    mine = gradient_draws(model, guide, n=5, loss=LOSS, seed=3)["loc"]
    hand = gradient_draws(by_hand, guide, n=5, loss=Trace_ELBO(), seed=3)["loc"]
    np.testing.assert_allclose(mine, hand, rtol=1e-8)


def test_draws_that_are_not_summed_keep_their_score_function():
    """A guide's Poisson site beside labels that are summed out: unbiased by quadrature."""

    def model():
        k = pm.Poisson("k", 2.0)
        z = pm.Bernoulli("z", 0.4, shape=4)
        pm.Normal("y", z + 0.5 * k, 1.0, observed=Y)

    def guide():
        pm.Poisson("k", pt.exp(param("log_rate", 0.3)))

    ks = np.arange(40)
    step = 1e-5

    def exact(log_rate):
        from scipy.stats import poisson

        log_q = poisson.logpmf(ks, np.exp(log_rate))
        likelihood = [
            logsumexp(
                np.log([0.6, 0.4]) + norm.logpdf(Y[:, None], np.array([0.0, 1.0]) + 0.5 * k), axis=1
            ).sum()
            for k in ks
        ]
        return np.sum(np.exp(log_q) * (log_q - poisson.logpmf(ks, 2.0) - likelihood))

    draws = gradient_draws(model, guide, n=20_000, loss=LOSS)["log_rate"]
    assert_mean(draws, (exact(0.3 + step) - exact(0.3 - step)) / (2 * step))


# --- fits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("built", [False, True])
def test_a_mixture_is_fitted_in_one_line_and_its_labels_come_with_the_posterior(built):
    y = np.array([-2.1, -1.9, -2.0, 2.9, 3.1])

    def model():
        mu = pm.Normal("mu", [-1.0, 1.0], 3.0)
        z = pm.Bernoulli("z", 0.5, dims="row")
        pm.Normal("y", mu[z], 1.0, observed=y, dims="row")
        pm.Deterministic("centre", mu[z], dims="row")

    coords = {"row": list("abcde")}
    program = as_built(model, coords=coords) if built else model
    svi = SVI(program, AutoNormal(program), optim.Adam(0.05), LOSS, coords=coords)
    result = svi.run(500, random_seed=0, progressbar=False)
    posterior = result.sample_posterior(200, random_seed=1).posterior
    assert posterior["z"].dims == ("chain", "draw", "row") and list(posterior["row"]) == list(
        "abcde"
    )
    mean = posterior.mean(("chain", "draw"))
    np.testing.assert_allclose(mean["z"], [0, 0, 0, 1, 1], atol=0.05)
    # Deterministics follow from the labels of the same draw.
    expected = np.take_along_axis(posterior["mu"].values, posterior["z"].values, axis=-1)
    np.testing.assert_allclose(posterior["centre"], expected)


# --- total_size= --------------------------------------------------------------------------------

ROWS = np.array([-1.2, 0.4, 2.5, 3.0])
LABELLED = np.log([0.7, 0.3]) + norm.logpdf(ROWS[:, None], [-1.0, 2.0], 1.5)  # (rows, labels)


def rows_with_labels(total_size=None):
    z = pm.Bernoulli("z", 0.3, shape=4)
    pm.Normal("y", pt.constant([-1.0, 2.0])[z], 1.5, observed=ROWS, total_size=total_size)


@pytest.mark.parametrize("front_end", ["function", "built"])
@pytest.mark.parametrize("size", [400, [400]])
def test_the_total_size_of_data_is_that_of_their_labels(size, front_end):
    model = lambda: rows_with_labels(size)  # noqa: E731
    model = as_built(model) if front_end == "built" else model
    # PyMC has the constant of the Normal density in single precision.
    assert loss_of(model) == pytest.approx(-100 * logsumexp(LABELLED, axis=1).sum(), rel=1e-7)
    found = compute_marginals(model, no_sites, num_samples=1)["z"]
    expected = np.exp(LABELLED - logsumexp(LABELLED, axis=1, keepdims=True))
    np.testing.assert_allclose(found.values, expected, rtol=1e-7)
    counts = np.mean(
        pm.draw(handlers.trace(infer_discrete(model)).get_trace()["z"].value, 4_000, random_seed=1),
        axis=0,
    )
    errors = np.sqrt(expected[:, 1] * expected[:, 0] / 4_000)
    assert np.all(np.abs(counts - expected[:, 1]) < 4 * errors)


def test_minibatches_of_pymc_have_the_weighted_loss_of_their_rows():
    data = pytensor.shared(np.tile(ROWS, 3), shape=(12,))
    batch = pm.Minibatch(data, batch_size=4)

    def model(y):
        z = pm.Bernoulli("z", 0.3, shape=4)
        pm.Normal("y", pt.constant([-1.0, 2.0])[z], 1.5, observed=y, total_size=12)

    draws = pm.draw(LOSS.loss(lambda: model(batch), no_sites).value, 4_000, random_seed=1)
    assert_mean(draws, -3 * logsumexp(LABELLED, axis=1).sum())


def test_a_label_of_all_rows_is_summed_out_after_they_are_weighted():
    def model():
        k = pm.Bernoulli("k", 0.4)
        z = pm.Bernoulli("z", 0.3, shape=4)
        means = pt.constant([-1.0, 2.0])[z] + 0.5 * k
        pm.Normal("y", means, 1.5, observed=ROWS, total_size=12)

    def of_rows(k):
        terms = np.log([0.7, 0.3]) + norm.logpdf(ROWS[:, None], [-1 + k / 2, 2 + k / 2], 1.5)
        return 3 * logsumexp(terms, axis=1).sum()

    expected = logsumexp([np.log(0.6) + of_rows(0), np.log(0.4) + of_rows(1)])
    assert loss_of(model) == pytest.approx(-expected, rel=1e-7)


def test_a_total_size_beside_sums_of_the_guide_weights_the_rows():
    def guide():
        pm.Bernoulli("z", [0.2, 0.4, 0.6, 0.8], shape=4)

    enumerated = config_enumerate(guide)
    whole, weighted = (loss_of(lambda s=s: rows_with_labels(s), enumerated) for s in (None, 400))
    assert weighted == pytest.approx(100 * whole, rel=1e-7)


def test_scaled_data_of_labels_that_are_not_scaled_are_a_warning():
    def model(both):
        with handlers.scale(scale=100.0 if both else 1.0):
            z = pm.Bernoulli("z", 0.3, shape=4)
        with handlers.scale(scale=100.0):
            pm.Normal("y", pt.constant([-1.0, 2.0])[z], 1.5, observed=ROWS)

    both = loss_of(lambda: model(both=True))
    assert both == pytest.approx(-100 * logsumexp(LABELLED, axis=1).sum(), rel=1e-7)
    with pytest.warns(
        UserWarning, match=r"'y' is scaled, and 'z'.* is not.*total_size= at the data"
    ):
        tempered = loss_of(lambda: model(both=False))
    terms = np.log([0.7, 0.3]) + 100 * norm.logpdf(ROWS[:, None], [-1.0, 2.0], 1.5)
    assert tempered == pytest.approx(-logsumexp(terms, axis=1).sum(), rel=1e-7)


@pytest.mark.parametrize("other", [12, 8])
def test_two_data_of_one_label_have_one_total_size(other):
    def model():
        z = pm.Bernoulli("z", 0.3, shape=4)
        pm.Normal("y", pt.constant([-1.0, 2.0])[z], 1.5, observed=ROWS, total_size=12)
        pm.Normal("x", -1.0 * z, 1.0, observed=ROWS, total_size=other)

    if other == 12:
        terms = LABELLED + norm.logpdf(ROWS[:, None], [0.0, -1.0])
        assert loss_of(model) == pytest.approx(-3 * logsumexp(terms, axis=1).sum(), rel=1e-7)
    else:
        with pytest.raises(PairingError, match="'y' and 'x' depend on.*different total sizes"):
            loss_of(model)


def test_a_total_size_in_a_chain_is_refused_with_the_way_out():
    def model():
        def step(state, y):
            z = pm.Bernoulli("z", 0.2 + 0.6 * state, shape=2)
            pm.Normal("y", 2.0 * z, 1.0, observed=y, total_size=10)
            return z, None

        scan(step, np.zeros(2, dtype="int64"), pt.constant(np.zeros((5, 2))))

    with pytest.raises(PairingError, match=r"scan: site 'y' has a total_size.*handlers.scale"):
        loss_of(model)


def test_batches_of_a_loader_average_to_the_loss_of_all_rows():
    """Labels of rows are found to be local, and their sums are scaled like the data's."""

    def model(y):
        mu = pm.Normal("mu", [-1.0, 1.0], 3.0)
        z = pm.Bernoulli("z", 0.4, shape=y.shape[0])
        pm.Normal("y", mu[z], 1.0, observed=y)

    def fit():
        return SVI(model, AutoDelta(model), optim.SGD(1e-300), LOSS)

    y = np.linspace(-2.0, 3.0, 8)
    full = fit().run(1, y, progressbar=False).losses
    trainer = Trainer(fit(), DataLoader({"y": y}, batch_size=2))
    batches = trainer.fit(epochs=1, random_seed=0).losses
    assert len(batches) == 4
    assert batches.mean() == pytest.approx(full[0], abs=1e-10)


# --- mistakes -----------------------------------------------------------------------------------


def test_nothing_to_sum_out_is_a_warning():
    def program():
        pm.Normal("x", 0.0, 1.0)

    with pytest.warns(UserWarning, match="found no site to sum out"):
        LOSS.loss(program, program)


def test_a_discrete_site_under_another_objective_is_pointed_here():
    with pytest.raises(PairingError, match=r"'z'.*sum it out with loss=TraceEnum_ELBO\(\)"):
        Trace_ELBO().loss(models.labels, no_sites)


def test_infinitely_many_values_are_refused():
    def model():
        k = pm.Poisson("k", 2.0)
        pm.Normal("y", k, 1.0, observed=0.3)

    with pytest.raises(PairingError, match="does not sample: 'k'"):
        LOSS.loss(model, no_sites)
    with pytest.raises(SiteError, match="'k' cannot be enumerated.*Truncate it"):
        marked = handlers.infer_config(model, lambda site: {"enumerate": "parallel"})
        LOSS.loss(marked, no_sites)


@pytest.mark.parametrize("n, count", [(14, "16,384"), (30, "10^9"), (3_000, "10^903")])
def test_too_many_joint_states_are_refused_with_the_way_out(n, count):
    def model():
        z = pm.Bernoulli("z", 0.4, shape=n)
        pm.Normal("y", z[1:] - z[:-1], 1.0, observed=np.zeros(n - 1))

    message = f"'z' has elements that depend on each other.*{count} combinations.*markov"
    with pytest.raises(PairingError, match=message.replace("^", r"\^")):
        LOSS.loss(model, no_sites)


@pytest.mark.parametrize(
    "rows, columns, counts",
    [
        (20, 30, "10^9 combinations of the elements of 'b' and 1,048,576 .* of 'a'"),
        (30, 20, "1,048,576 combinations of the elements of 'b' and 10^9 .* of 'a'"),
        (2_000, 3_000, "10^903 combinations of the elements of 'b' and 10^602 .* of 'a'"),
    ],
)
def test_crossing_plates_with_too_many_elements_are_refused_with_the_numbers(rows, columns, counts):
    def model():
        a = pm.Bernoulli("a", 0.4, shape=rows)
        b = pm.Bernoulli("b", 0.4, shape=columns)
        pm.Normal("y", a[:, None] + b, 1.0, observed=np.zeros((rows, columns)))

    message = (
        f"The sum over 'a' does not factorise: it meets 'b'.*{counts}; at most 4,096.*"
        "Draw one of them in the guide"
    )
    with pytest.raises(PairingError, match=message.replace("^", r"\^")):
        LOSS.loss(model, no_sites)


def test_a_few_rows_cross_many_columns():
    """The cost is that of the smaller side: 2 ** 3 states of the rows, for each column."""
    y = np.linspace(-1.0, 2.0, 150).reshape(3, 50)

    def model():
        b = pm.Bernoulli("b", 0.3, shape=50)
        a = pm.Bernoulli("a", 0.4, shape=3)
        pm.Normal("y", a[:, None] + 2.0 * b, 1.0, observed=y)

    exact = []
    for a in np.ndindex(2, 2, 2):
        rows = np.array(a)[:, None]
        given_b = [norm.logpdf(y, rows + 2.0 * b).sum(axis=0) for b in (0, 1)]
        columns = logsumexp(np.log([[0.7], [0.3]]) + given_b, axis=0).sum()
        exact.append(columns + np.log(np.where(a, 0.4, 0.6)).sum())
    assert loss_of(model) == pytest.approx(-logsumexp(exact), abs=1e-9)


def test_a_draw_whose_law_depends_on_a_summed_site_of_the_guide_is_refused():
    def model():
        a = pm.Bernoulli("a", 0.4)
        k = pm.Poisson("k", 1.0 + a)
        pm.Normal("y", k, 1.0, observed=0.3)

    def guide():
        a = sample("a", pm.Bernoulli.dist(0.5), infer={"enumerate": "parallel"})
        pm.Poisson("k", 1.0 + a)

    with pytest.raises(PairingError, match="'k' of the guide is drawn without a derivative.*'a'"):
        LOSS.loss(model, guide)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="config_enumerate: unknown default"):
        config_enumerate(models.labels, default="parallell")
    marked = handlers.infer_config(models.labels, lambda site: {"enumerate": "all"})
    with pytest.raises(SiteError, match="unknown way to enumerate. Found: 'all'"):
        LOSS.loss(marked, no_sites)
