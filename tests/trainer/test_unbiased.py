"""The loss of a batch is an unbiased estimate of the full one, and so is its gradient."""

from __future__ import annotations

import warnings

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.stats import norm

from pymc_svi import (
    SVI,
    DataLoader,
    TraceEnum_ELBO,
    TraceMeanField_ELBO,
    Trainer,
    constraints,
    optim,
    param,
    plate,
    sample,
)
from pymc_svi.data import DataError
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.guides import AutoNormal
from pymc_svi.handlers import block
from pymc_svi.trainer.session import build_session

N = 10
RNG = np.random.default_rng(3)
X = RNG.normal(size=(N, 3))
Y = X @ [1.0, -1.0, 0.5] + RNG.normal(size=N)
GROUP = RNG.integers(0, 4, size=N)


def regression(X, y):
    w = pm.Normal("w", 0, 1, shape=X.shape[1])
    pm.Normal("y", (X * w).sum(-1), 1.0, observed=y)


def built_regression(**coords) -> pm.Model:
    with pm.Model(coords=coords) as model:
        X_ = pm.Data("X", np.zeros((7, 3)), dims=("row", "feature"))
        y_ = pm.Data("y", np.zeros(7), dims="row")
        w = pm.Normal("w", 0, 1, shape=X_.shape[1])
        pm.Normal("obs", (X_ * w).sum(-1), 1.0, observed=y_, dims="row")
    return model


def local(X, y):
    """A latent for each row, whose guide is computed from the row; and a global one."""
    w = pm.Normal("w", 0, 1, shape=X.shape[1])
    z = pm.Normal("z", (X * w).sum(-1), 1.0, shape=X.shape[0])
    pm.Normal("y", z, 1.0, observed=y)


def amortised(X, y):
    loc = param("loc", np.zeros(3))
    pm.Normal("w", loc, param("sd", np.full(3, 0.3), constraint=constraints.positive))
    slope = param("slope", 0.4)
    pm.Normal(
        "z", slope * y + (X * 0.1).sum(-1), param("z_sd", 0.5, constraint=constraints.positive)
    )


def grouped(X, y, group):
    """Latents for groups, not rows; there are as many as a batch has rows."""
    effect = pm.Normal("effect", 0, 1, shape=4)
    pm.Normal("y", effect[group], 1.0, observed=y)
    pm.Potential("penalty", -(effect**2).sum())
    pm.Potential("rows", -((y - effect[group]) ** 2).sum())


def with_dim():
    return built_regression(row=range(7))


def of_lengths(y):
    """Terms that know of the rows only how many they are, as Python's numbers or in a graph."""
    mu = pm.Normal("mu", 0.3, 1)
    pm.Normal("y", mu, 1.0, observed=y)
    pm.Potential("length", -y.shape[0] * (mu - 1.0) ** 2)
    pm.Potential("prior", -((mu - 2.0) ** 2))  # not of the rows
    pm.CustomDist("zeros", mu, dist=shifted, observed=np.zeros(4))  # neither, in a graph of its own
    if isinstance(y.shape[0], int):
        pm.CustomDist("of rows", mu, dist=shifted, observed=np.ones(y.shape[0]))
    else:
        pm.CustomDist("of rows", mu, dist=shifted, observed=pt.ones(y.shape[0]))


def plated(y):
    """Statements that are repeated for each row by a plate alone."""
    mu = pm.Normal("mu", 0.3, 1)
    with plate("rows", y.shape[0]) as rows:
        sample("y", pm.Normal.dist(mu, 1.0), obs=y)
        pm.Potential("each", -((mu - 1.0) ** 2))
        pm.Potential("row", -((mu - y[rows]) ** 2))
    with plate("others", 3):
        pm.Potential("other", -((mu - 2.0) ** 2))


def shifted(mu, size):
    return pm.Normal.dist(mu, 1.0, size=size) + 1.0


CASES = {
    "function": (regression, AutoNormal(regression), {"X": X, "y": Y}),
    "built": ((m := built_regression()), AutoNormal(m), {"X": X, "y": Y}),
    "built with coords of another length": ((d := with_dim()), AutoNormal(d), {"X": X, "y": Y}),
    "local latents": (local, amortised, {"X": X, "y": Y}),
    "groups and potentials": (grouped, AutoNormal(grouped), {"X": X, "y": Y, "group": GROUP}),
    "terms of lengths": (of_lengths, AutoNormal(of_lengths), {"y": Y}),
    "a plate of the rows": (plated, AutoNormal(plated), {"y": Y}),
}


def losses_and_gradients(model, guide, loader, loss=None):
    """Return loss and gradients of each batch of an epoch, at fixed noise."""
    svi = SVI(model, guide, loss=loss)
    session = build_session(svi, loader, 0)
    training = session.training
    state = training.start(np.random.SeedSequence(1))
    function = pytensor.function([], [training.value, *training.gradients], mode=evaluation_mode())
    found = []
    for step in range(len(loader)):
        session.feed.prepare(step, 1)
        training.load(state)
        session.feed.counter.set_value(np.array(step))
        found.append([np.asarray(v) for v in function()])
    return found


@pytest.mark.parametrize("shuffle", [False, True, "once"])
@pytest.mark.parametrize("batch_size", [5, 4, 3])
@pytest.mark.parametrize("case", [c for c in CASES if c != "local latents"])
def test_batches_average_to_the_full_loss_and_gradient(case, batch_size, shuffle):
    model, guide, data = CASES[case]
    [full] = losses_and_gradients(model, guide, DataLoader(data, shuffle=False))
    loader = DataLoader(data, batch_size=batch_size, shuffle=shuffle)
    parts = losses_and_gradients(model, guide, loader)
    sizes = [min(batch_size, N - i) for i in range(0, N, batch_size)]
    loss = sum(n / N * part[0] for n, part in zip(sizes, parts, strict=True))
    np.testing.assert_allclose(loss, full[0], rtol=1e-10)
    for i, expected in enumerate(full[1:], start=1):  # what a step moves the params by
        mean = sum(part[i] for part in parts) / len(sizes)
        np.testing.assert_allclose(mean, expected, rtol=1e-10, atol=1e-10)


def test_a_custom_dist_along_the_dim_of_the_rows_has_the_parameters_of_the_batch():
    def built(law) -> pm.Model:
        with pm.Model(coords={"row": range(7)}) as model:
            X_ = pm.Data("X", np.zeros((7, 3)))
            y_ = pm.Data("y", np.zeros(7), dims="row")
            law((X_ * pm.Normal("w", 0, 1, shape=3)).sum(-1), observed=y_, dims="row")
        return model

    def custom(mean, **kwargs):
        pm.CustomDist("obs", mean, dist=shifted, **kwargs)

    def same(mean, **kwargs):
        pm.Normal("obs", mean + 1.0, 1.0, **kwargs)

    found, expected = (
        losses_and_gradients(model, AutoNormal(model), DataLoader({"X": X, "y": Y}, 4))
        for model in (built(custom), built(same))
    )
    for a, b in zip(found, expected, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-10)


@pytest.mark.parametrize("batch_size", [5, 4])
def test_terms_of_local_latents_average_to_their_full_sum(batch_size):
    # Noise is drawn for each row of a batch, so the guide's sd is made tiny: what is left is exact.
    def guide(X, y):
        pm.Normal("w", param("loc", np.full(3, 0.2)), 1e-9)
        pm.Normal("z", param("slope", 0.4) * y, 1e-9)

    data = {"X": X, "y": Y}
    [full] = losses_and_gradients(local, guide, DataLoader(data, shuffle=False))
    parts = losses_and_gradients(local, guide, DataLoader(data, batch_size=batch_size))
    for i in (1, 2):  # gradients; in the loss -eps**2 / 2 of each row is left
        mean = sum(part[i] for part in parts) / len(parts)
        np.testing.assert_allclose(mean, full[i], rtol=1e-6)


@pytest.mark.parametrize("batch_size", [5, 4, 3])
def test_a_plate_of_the_rows_is_as_long_as_each_batch(batch_size):
    def model(y):
        mu = pm.Normal("mu", 0, 1)
        with plate("cols", 2, dim=-1), plate("rows", y.shape[0], dim=-2) as rows:
            z = pm.Normal("z", mu, 1.0)
            pm.Normal("y", z, 1.0, observed=y[rows, None] * np.ones(2))

    def guide(y):
        pm.Normal("mu", param("loc", 0.3), 1e-9)
        with plate("cols", 2, dim=-1), plate("rows", y.shape[0], dim=-2):
            pm.Normal("z", param("slope", 0.4), 1e-9)

    loader = DataLoader({"y": Y}, batch_size=batch_size)
    parts = losses_and_gradients(model, guide, loader)
    found = [sum(part[i] for part in parts) / len(parts) for i in (1, 2)]
    exact = [0.3 + 2 * N * (0.3 - 0.4), 2 * np.sum((0.4 - 0.3) + (0.4 - Y))]
    np.testing.assert_allclose(found, exact, rtol=1e-6)


def test_labels_of_rows_are_summed_out_of_batches_of_one_size():
    def labelled(y):
        mu = pm.Normal("mu", [-1.0, 1.0], 1)
        with plate("rows", y.shape[0]):
            z = sample("z", pm.Categorical.dist([0.3, 0.7]), infer={"enumerate": "parallel"})
            pm.Normal("y", mu[z], 1.0, observed=y)

    guide = AutoNormal(block(labelled, hide=["z"]))
    full, *parts = (
        found
        for size in (N, 5)
        for found in losses_and_gradients(
            labelled, guide, DataLoader({"y": Y}, size), TraceEnum_ELBO()
        )
    )
    for i, expected in enumerate(full):
        np.testing.assert_allclose(sum(part[i] for part in parts) / 2, expected, rtol=1e-10)
    with pytest.raises(PairingError, match="shape is not known.*drop_last=True"):
        Trainer(SVI(labelled, guide, loss=TraceEnum_ELBO()), DataLoader({"y": Y}, 4)).fit(n=1)


def test_data_that_do_not_fit_are_named_with_batches_of_several_lengths_too():
    loader = DataLoader({"X": X, "y": Y[:, None]}, batch_size=4)
    message = r"'y': its value does not fit its distribution. Found: a value of shape \(4, 1\)"
    with pytest.raises(SiteError, match=message):
        build_session(SVI(regression, AutoNormal(regression)), loader, 0)


def test_what_does_not_have_the_length_of_each_batch_is_named():
    def fixed(y):
        with plate("rows", y.shape[0]):
            pm.Normal("z", np.zeros(4), 1.0, observed=np.zeros(4))

    def repeated(y):
        for _ in plate("rows", y.shape[0]):
            pass

    for program, error, message in (
        (fixed, SiteError, "'z' does not fit plate 'rows'.*not as many in each"),
        (repeated, ValueError, "iterated over has one size.*drop_last=True"),
    ):

        def model(y, program=program):
            pm.Normal("y", pm.Normal("mu"), 1.0, observed=y)
            program(y)

        with pytest.raises(error, match=message):
            build_session(SVI(model, AutoNormal(model)), DataLoader({"y": Y}, 4), 0)


def test_divergences_in_closed_form_of_local_latents_have_the_weight_of_a_ragged_batch():
    def model(y):
        z = pm.Normal("z", 0.0, 1.0, shape=y.shape[0])
        pm.Normal("y", z, 1.0, observed=y)

    def guide(y):
        pm.Normal("z", param("slope", 0.5) * y, 1e-9)

    for batch_size in (5, 4):
        losses = losses_and_gradients(
            model, guide, DataLoader({"y": Y}, batch_size, shuffle=False), TraceMeanField_ELBO()
        )
        for i, (loss, *_) in enumerate(losses):
            y = Y[i * batch_size : (i + 1) * batch_size]
            mean = 0.5 * y
            divergence = np.sum(np.log(1e9) + (1e-18 + mean**2) / 2 - 0.5)
            exact = N / len(y) * (divergence - norm.logpdf(y, mean).sum())
            np.testing.assert_allclose(loss, exact, rtol=1e-7)


@pytest.mark.parametrize("kind", ["in memory", "parquet", "stream"])
def test_the_last_rows_of_an_epoch_count_as_the_others(kind, tmp_path):
    # Nothing is shuffled, so that the one row of the last batch is always the same.
    y = np.where(np.arange(N) == N - 1, 10.0, 0.0)

    def program(y):
        pm.Normal("y", pm.Normal("mu", 0, 10), 1.0, observed=y)

    def guide(y):
        pm.Normal("mu", param("loc", 0.0), 1e-3)

    if kind == "in memory":
        loader = DataLoader({"y": y}, batch_size=9, shuffle=False)
    elif kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"y": y}), tmp_path / "0.parquet")
        loader = DataLoader.from_parquet(tmp_path, batch_size=9, shuffle=False)
    else:
        loader = DataLoader([{"y": y[:9]}, {"y": y[9:]}], total_size=N)
    svi = SVI(program, guide, optim.SGD(1e-3), compile_kwargs={"mode": "FAST_COMPILE"})
    result = Trainer(svi, loader).fit(n=4_000, random_seed=0)
    exact = y.sum() / (N + 1 / 100)
    np.testing.assert_allclose(result.params["loc"], exact, rtol=0.02)


def test_local_latents_are_weighted_in_model_and_guide_and_global_ones_are_not():
    from pymc_svi.handlers import trace
    from pymc_svi.trainer.batching import Batched
    from pymc_svi.trainer.feeds import feed_of
    from pymc_svi.trainer.planning import plan_batches

    feed = feed_of(DataLoader({"X": X, "y": Y}, batch_size=5), 0)
    plan = plan_batches(local, amortised, feed)
    assert plan.local == {"z"}
    model = trace(Batched(local, plan)).get_trace()
    guide = trace(Batched(amortised, plan)).get_trace()
    scales = {name: site.scale for name, site in model.items()}
    assert scales == {"w": 1.0, "z": 2.0, "y": 2.0}
    assert guide["w"].scale == 1.0 and guide["z"].scale == 2.0


def test_a_global_prior_that_is_computed_from_the_batch_is_warned_of():
    def program(X, y):
        w = pm.Normal("w", 0, 1 / np.sqrt(X.shape[0]), shape=X.shape[1])
        a = pm.Normal("a", y.mean(), 1)
        b = pm.Normal("b", a, 1)
        pm.Normal("y", b + (X * w).sum(-1), 1.0, observed=y)

    with pytest.warns(UserWarning, match="The priors of 'w', 'a' are computed from the batch"):
        build_session(SVI(program, AutoNormal(program)), DataLoader({"X": X, "y": Y}, 5), 0)


def counted(n, k):
    pm.Normal("obs", pm.Normal("p") * (k - n) + n**2 / 1e4, 1.0, observed=k)


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "uint64", ">i4"])
def test_whole_numbers_of_few_bytes_or_without_sign_do_not_overflow(dtype, built):
    data = {"n": np.full(N, 200), "k": RNG.integers(120, 200, size=N)}
    program = counted
    if built:
        with pm.Model() as program:
            counted(pm.Data("n", data["n"]), pm.Data("k", data["k"]))
    guide = AutoNormal(program)
    narrow = {name: array.astype(dtype) for name, array in data.items()}
    for batch_size in (4, None):
        wide, found = (
            losses_and_gradients(program, guide, DataLoader(each, batch_size, seed=1))
            for each in (data, narrow)
        )
        np.testing.assert_allclose(found, wide, rtol=1e-12)


def walk(y):
    pm.GaussianRandomWalk("y", sigma=pm.HalfNormal("s"), init_dist=pm.Normal.dist(), observed=y)


def process(X, y):
    distance = ((X[:, None] - X[None]) ** 2).sum(-1)
    cov = pt.exp(-distance / (1 + pm.HalfNormal("s"))) + pt.eye(X.shape[0])
    pm.MvNormal("y", pt.zeros(X.shape[0]), cov=cov, observed=y)


@pytest.mark.parametrize(("program", "data"), [(walk, {"y": Y}), (process, {"X": X, "y": Y})])
@pytest.mark.parametrize("batch_size", [5, 4])
def test_rows_that_depend_on_each_other_are_warned_of(program, data, batch_size):
    def build(batch_size, **options):
        svi = SVI(program, AutoNormal(program), **options)
        build_session(svi, DataLoader(data, batch_size), 0)

    with pytest.warns(UserWarning, match="'y' have one law for all rows.*series, times"):
        build(batch_size)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        build(N)
        build(batch_size, validate="off")
    with pytest.raises(SiteError, match="one law for all rows"):
        build(batch_size, validate="error")


def test_laws_along_another_axis_than_the_rows_are_taken():
    walks = np.cumsum(RNG.normal(size=(N, 6)), axis=1)
    [full] = losses_and_gradients(walk, AutoNormal(walk), DataLoader({"y": walks}, shuffle=False))
    parts = losses_and_gradients(walk, AutoNormal(walk), DataLoader({"y": walks}, 4))
    loss = sum(n / N * part[0] for n, part in zip((4, 4, 2), parts, strict=True))
    np.testing.assert_allclose(loss, full[0], rtol=1e-10)


def test_a_random_walk_along_the_dim_of_the_rows_is_refused():
    with pm.Model(coords={"row": range(N)}) as model:
        y = pm.Data("y", Y, dims="row")
        start = pm.Normal.dist()
        pm.GaussianRandomWalk("walk", sigma=1.0, init_dist=start, observed=y, dims="row")
    with pytest.raises(SiteError, match="'walk' have one law for all rows"):
        build_session(SVI(model, AutoNormal(model)), DataLoader({"y": Y}, 5), 0)


def test_a_dim_of_rows_that_the_data_do_not_name_is_named():
    with pm.Model(coords={"row": range(N)}) as model:
        y = pm.Data("y", Y)
        z = pm.Normal("z", 0, 1, dims="row")
        pm.Normal("obs", z, 1, observed=y)

    def guide(y):
        pm.Normal("z", param("slope", 0.4) * y, 0.5)

    with pytest.raises(DataError, match=r'\'z\' lie along.*pm.Data\("y", ..., dims="row"\)'):
        Trainer(SVI(model, guide), DataLoader(Y, batch_size=5)).fit(n=1)


@pytest.mark.parametrize("batch_size", [5, 1])
def test_a_latent_of_all_rows_without_a_dim_is_named(batch_size):
    with pm.Model() as model:
        y = pm.Data("y", Y)
        z = pm.Normal("z", 0, 1, shape=N)
        pm.Normal("obs", z, 1, observed=y)
    message = r"'z' of the model keep an element for each row.*pm.Data\(\"y\", ..., dims=\"row\"\)"
    with pytest.raises(DataError, match=message):
        Trainer(SVI(model, AutoNormal(model)), DataLoader(Y, batch_size)).fit(n=1)


def test_params_for_each_row_of_a_batch_are_an_error():
    loader = DataLoader({"X": X, "y": Y}, batch_size=5)
    with pytest.raises(PairingError, match="'z' have an element for each row of a batch"):
        Trainer(SVI(local, AutoNormal(local)), loader).fit(n=10)

    def fixed(X, y):
        pm.Normal("w", param("loc", np.zeros(3)), 0.1)
        pm.Normal("z", param("z_loc", np.zeros(5)), 0.1, shape=X.shape[0])

    with pytest.raises(PairingError, match="one size of batches only"):
        Trainer(SVI(local, fixed), loader).fit(n=10)


def test_a_plate_or_total_size_in_the_program_is_not_weighted_twice():
    def with_plate(X, y):
        w = pm.Normal("w", 0, 1, shape=3)
        with plate("rows", N, subsample_size=5):
            pm.Normal("y", (X * w).sum(-1), 1.0, observed=y)

    def with_total_size(X, y):
        w = pm.Normal("w", 0, 1, shape=3)
        pm.Normal("y", (X * w).sum(-1), 1.0, observed=y, total_size=N)

    data = {"X": X, "y": Y}
    expected = losses_and_gradients(regression, AutoNormal(regression), DataLoader(data, 5))
    for program in (with_plate, with_total_size):
        found = losses_and_gradients(program, AutoNormal(program), DataLoader(data, 5))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a[0], b[0], rtol=1e-12)


def test_a_total_size_that_contradicts_the_loader_is_an_error():
    def program(X, y):
        w = pm.Normal("w", 0, 1, shape=3)
        pm.Normal("y", (X * w).sum(-1), 1.0, observed=y, total_size=1_000)

    with pytest.raises(DataError, match="total_size=1000 in the program, 10 rows"):
        Trainer(SVI(program, AutoNormal(program)), DataLoader({"X": X, "y": Y}, 5)).fit(n=1)


def test_a_minibatch_model_is_fitted_as_it_is():
    X_, y_ = pm.Minibatch(X, Y, batch_size=5)
    with pm.Model() as model:
        w = pm.Normal("w", 0, 1, shape=3)
        pm.Normal("y", (X_ * w).sum(-1), 1.0, observed=y_, total_size=N)
    with model:
        result = Trainer(SVI(model, AutoNormal(model))).fit(n=20, random_seed=0)
    assert np.isfinite(result.losses).all()


def test_a_bare_array_feeds_the_only_data():
    with pm.Model() as model:
        data = pm.Data("data", np.zeros(3))
        mu = pm.Normal("mu")
        pm.Normal("y", mu, 1.0, observed=data)
    result = Trainer(SVI(model, AutoNormal(model)), DataLoader(Y, batch_size=5)).fit(n=5)
    assert result.losses.shape == (5,)


def test_a_guide_that_closes_over_the_models_data_sees_the_batch():
    model = built_regression()

    def guide():
        slope = param("slope", 0.1)
        pm.Normal("w", slope + 0 * pt.sum(model["X"]), 0.1, shape=3)

    trainer = Trainer(SVI(model, guide), DataLoader({"X": X, "y": Y}, batch_size=5))
    assert np.isfinite(trainer.fit(n=3, random_seed=0).losses).all()
    placeholders = {v for v in model.data_vars}
    from pytensor.graph.traversal import ancestors

    assert not placeholders & set(ancestors([trainer._session.training.value]))
