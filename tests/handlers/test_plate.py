"""``plate``, ``plate_stack``, ``subsample``, and params in plates."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import numpy as np
import pymc as pm
import pymc.dims as pmd
import pytensor
import pytensor.tensor as pt
import pytest
from scipy import stats

from pymc_svi import Trace_ELBO, factor, param, plate, plate_stack, subsample
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.guides import AutoNormal
from pymc_svi.handlers import (
    block_plate,
    condition,
    lift,
    replay,
    scope,
    seed,
    substitute,
    trace,
)
from pymc_svi.handlers.indices import DistinctIndices, random_subset

Y = np.array([0.3, -1.2, 0.8, 2.0, -0.4, 1.1])


def evaluated(expression):
    return expression.eval(mode="FAST_COMPILE")


def shape_of(program, name="x"):
    site = trace(program).get_trace()[name]
    assert site.log_prob.type.ndim == site.value.type.ndim
    return evaluated(site.value).shape


# --- shapes --------------------------------------------------------------------------------------


def test_a_plate_gives_a_scalar_statement_its_size():
    def program():
        with plate("N", 5):
            pm.Normal("x")

    assert shape_of(program) == (5,)


def test_automatic_dims_go_from_right_to_left():
    def program():
        with plate("a", 3), plate("b", 4):
            pm.Normal("x")

    assert shape_of(program) == (4, 3)


def test_explicit_dims_and_gaps():
    def program():
        with plate("a", 3, dim=-3), plate("b", 4):
            pm.Normal("x")

    assert shape_of(program) == (3, 1, 4)


def test_plate_stack_gives_a_whole_batch_shape():
    def program():
        with plate_stack("p", [2, 3, 4]):
            pm.Normal("x")
        with plate_stack("q", [2, 3], rightmost_dim=-2):
            pm.Normal("z")

    assert shape_of(program) == (2, 3, 4)
    assert shape_of(program, "z") == (2, 3, 1)


def test_parameters_of_the_size_of_the_plate_are_left_alone():
    def program():
        with plate("N", 3):
            pm.Normal("x", np.arange(3.0), 1.0)

    assert shape_of(program) == (3,)


@pytest.mark.parametrize(
    "dist, event",
    [
        (lambda: pm.MvNormal("x", np.zeros(2), np.eye(2)), (2,)),
        (lambda: pm.Dirichlet("x", np.ones(3)), (3,)),
        (lambda: pm.Gamma("x", 2.0, 1.0), ()),
        (lambda: pm.Categorical("x", [0.2, 0.8]), ()),
        (lambda: pm.Censored("x", pm.Normal.dist(), -1, 1), ()),
        (lambda: pm.ZeroSumNormal("x", shape=4), (4,)),
        (lambda: pm.GaussianRandomWalk("x", init_dist=pm.Normal.dist(), steps=3), (4,)),
        (lambda: pm.NormalMixture("x", [0.4, 0.6], [0.0, 1.0], 1.0), ()),
        (lambda: pm.CustomDist("x", 0.5, dist=lambda m, size: pm.Normal.dist(m, size=size)), ()),
    ],
)
def test_every_kind_of_distribution_is_repeated_independently(dist, event):
    def program():
        with plate("N", 3):
            dist()

    draw = evaluated(trace(program).get_trace()["x"].value)
    assert draw.shape == (3, *event)
    assert event == () or not np.allclose(draw[0], draw[1])


def test_a_plate_can_be_entered_again():
    def program():
        rows = plate("N", 5, subsample_size=2)
        with rows as first:
            pm.Normal("x")
        with rows as second:
            pm.Normal("z")
        assert first is second

    assert list(trace(program).get_trace()) == ["N", "x", "z"]


def test_a_plate_named_like_a_dim_has_its_length_and_its_sites_the_dim():
    with pm.Model(coords={"city": list("abc")}) as model:
        with plate("city"):
            x = pm.Normal("x")
            pm.MvNormal("v", np.zeros(2), np.eye(2))
    assert model.named_vars_to_dims["x"] == ("city",)
    assert trace(model).get_trace()["v"].dims == ("city", None)
    assert x.type.shape == (3,)


def test_a_dim_named_like_a_subsampled_plate_becomes_the_minibatch():
    with pm.Model(coords={"city": list("abcde")}):
        with plate("city", subsample_size=2), trace() as run:
            pm.Normal("x", dims="city")
    assert run["x"].shape == (2,)
    assert run["x"].dims is None


def test_a_minibatch_of_data_with_dims_has_fewer_elements_than_the_dim():
    def program(data):
        with plate("city", subsample_size=2):
            pm.Normal("x", 0.0, 1.0, observed=data(), dims="city")

    with pm.Model(coords={"city": list("abcdef")}):
        for data in (lambda: subsample(Y), lambda: Y[:2]):
            run = trace(program).get_trace(data)
            assert (run["x"].shape, run["x"].dims, run["x"].scale) == ((2,), None, 3.0)


def test_iterating_gives_numbers():
    assert [f"x_{i}" for i in plate("N", 3)] == ["x_0", "x_1", "x_2"]


def test_scope_renames_plates_and_their_frames():
    def program():
        with plate("N", 2):
            pm.Normal("x")

    run = trace(scope(program, prefix="a")).get_trace()
    assert list(run) == ["a::N", "a::x"]
    assert run["a::x"].plates[0].name == "a::N"


# --- scales --------------------------------------------------------------------------------------


def test_log_probabilities_inside_are_scaled_by_size_over_subsample_size():
    def program():
        with plate("N", 6, subsample_size=2):
            pm.Normal("x")
            factor("f", 1.0)
        pm.Normal("outside")

    run = trace(program).get_trace()
    assert (run["x"].scale, run["outside"].scale) == (3.0, 1.0)
    assert evaluated(run["f"].log_prob.sum()) == 6.0


def test_scales_of_nested_plates_multiply():
    def program():
        with plate("a", 4, subsample_size=2), plate("b", 6, subsample_size=2):
            pm.Normal("x")

    assert trace(program).get_trace()["x"].scale == 6.0


def test_a_factor_counts_once_for_each_repetition():
    def program():
        factor("one", 1.0)
        with plate("N", 3):
            factor("each", 1.0)

    assert evaluated(trace(program).get_trace().log_prob_sum()) == 4.0


def test_a_full_plate_changes_no_density():
    def program():
        mu = pm.Normal("mu")
        with plate("N", 6):
            pm.Normal("y", mu, 1.0, observed=Y)

    total = trace(condition(program, data={"mu": 0.5})).get_trace().log_prob_sum()
    expected = stats.norm.logpdf(0.5) + stats.norm(0.5).logpdf(Y).sum()
    assert evaluated(total) == pytest.approx(expected)


# --- subsampling ---------------------------------------------------------------------------------


def test_subsets_are_distinct_and_equally_likely():
    u = pt.vector("u", shape=(2,))
    choose = pytensor.function([u], DistinctIndices(4)(u))
    rng = np.random.default_rng(0)
    n = 12_000
    draws = [tuple(sorted(choose(rng.random(2)))) for _ in range(n)]
    assert set(draws) == set(combinations(range(4), 2))
    counts = np.array([draws.count(pair) for pair in combinations(range(4), 2)])
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("n, size", [(5, 5), (1000, 300), (10**9, 50), (1, 1)])
def test_indices_never_repeat(n, size):
    indices = evaluated(random_subset(n, size))
    assert len(set(indices)) == size
    assert 0 <= indices.min() and indices.max() < n


def minibatch_model(local: bool, size: int | None):
    def program():
        mu = pm.Normal("mu", 0.0, 2.0)
        with plate("N", 6, subsample_size=size):
            z = pm.Normal("z", mu, 1.5) if local else mu
            pm.Normal("y", z, 1.0, observed=subsample(Y))

    return program


def minibatch_guide(local: bool, size: int | None):
    def program():
        pm.Normal("mu", param("mu_loc", 0.3), 0.5)
        if local:
            with plate("N", 6, subsample_size=size):
                locs = param("z_loc", np.linspace(-1, 1, 6), event_dim=0)
                scales = pt.exp(param("z_log_scale", np.linspace(-0.3, 0.2, 6), event_dim=0))
                pm.Normal("z", locs, scales)

    return program


def built(program) -> pm.Model:
    with pm.Model() as model:
        program()
    return model


@pytest.mark.parametrize("front_end", ["function", "built"])
@pytest.mark.parametrize("local", [False, True], ids=["global", "local"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_loss_and_gradient_averaged_over_all_minibatches_are_the_full_ones(local, size, front_end):
    # The draws are fixed, so that the estimates can be compared exactly.
    data = {"mu": 0.7, "z": np.array([0.1, -0.5, 0.9, 1.3, -0.2, 0.4])}

    def loss_and_gradient(size, batches):
        model, guide = minibatch_model(local, size), minibatch_guide(local, size)
        if front_end == "built":
            model, guide = built(model), built(guide)
        indices = pytensor.shared(np.arange(size or 6), shape=(size or 6,))
        draws = data | {"z": pt.as_tensor(data["z"])[indices]}
        fixed = {} if size is None else {"N": indices}
        draws = draws if local else {"mu": data["mu"]}
        q = trace(substitute(substitute(guide, data=fixed), data=draws)).get_trace()
        p = trace(replay(model, trace=q)).get_trace() if local else trace(
            replay(substitute(model, data=fixed), trace=q)).get_trace()  # fmt: skip
        loss = q.log_prob_sum() - p.log_prob_sum()
        params = [site.unconstrained for site in q.params.values()]
        grads = pt.grad(loss, params)
        compute = pytensor.function([], [loss, *grads], mode="FAST_COMPILE")
        for batch in batches:
            indices.set_value(np.array(batch))
            yield compute()

    [full] = loss_and_gradient(None, [range(6)])
    parts = list(loss_and_gradient(size, combinations(range(6), size)))
    for of_full, *of_parts in zip(full, *parts, strict=True):
        np.testing.assert_allclose(np.mean(of_parts, axis=0), of_full, rtol=1e-10, atol=1e-10)


def test_model_and_guide_share_a_minibatch():
    q = trace(minibatch_guide(True, 2)).get_trace()
    p = trace(replay(minibatch_model(True, 2), trace=q)).get_trace()
    assert p["N"].value is q["N"].value
    shared = [q["N"].value, p["N"].value, p["y"].value]
    first, second, data = pytensor.function([], shared, mode="FAST_COMPILE")()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(data, Y[first])


def test_the_elbo_of_a_minibatch_is_an_unbiased_estimate():
    full = Trace_ELBO().loss(minibatch_model(True, None), minibatch_guide(True, None)).value
    part = Trace_ELBO().loss(minibatch_model(True, 2), minibatch_guide(True, 2)).value
    means, variances = [], []
    for value in (full, part):
        draws = pm.draw(value, 3000, random_seed=1)
        means.append(draws.mean())
        variances.append(draws.var() / len(draws))
    assert abs(means[0] - means[1]) < 3.5 * np.sqrt(sum(variances))


def test_many_particles_have_a_minibatch_each():
    loss = Trace_ELBO(num_particles=3).loss(minibatch_model(True, 2), minibatch_guide(True, 2))
    assert np.isfinite(evaluated(loss.value))


def test_substitute_fixes_the_indices_of_a_function_and_of_a_built_model():
    program = minibatch_model(False, 2)
    for model in (program, built(program)):
        run = trace(substitute(model, data={"N": np.array([1, 4])})).get_trace()
        np.testing.assert_array_equal(evaluated(run["y"].value), Y[[1, 4]])
        assert run["y"].observed and run["y"].scale == 3.0


def test_seeded_minibatches_are_numbers():
    def program():
        with plate("N", 6, subsample_size=2) as indices:
            return Y[indices.data]

    assert seed(program, rng_seed=0)().shape == (2,)


def test_subsample_takes_the_part_of_every_plate_around():
    data = np.arange(24.0).reshape(4, 6)

    def program():
        with plate("columns", 6, subsample_size=3), plate("rows", 4, subsample_size=2):
            return subsample(data)

    fixed = {"columns": [0, 2, 4], "rows": [1, 3]}
    with substitute(data=fixed), pm.Model():
        part = program()
    np.testing.assert_array_equal(evaluated(part), data[[1, 3]][:, [0, 2, 4]])


def test_outside_of_plates_subsample_does_nothing():
    assert subsample(Y) is Y


def test_a_full_size_param_is_one_param_of_which_the_program_gets_a_part():
    def program():
        with plate("N", 6, subsample_size=2):
            whole = param("whole", np.arange(6.0), event_dim=0)
            rows = param("rows", np.arange(18.0).reshape(6, 3), event_dim=1)
            alone = param("alone", 1.0, event_dim=0)
            return whole, rows, alone

    with trace() as run, substitute(data={"N": [2, 5]}), pm.Model():
        whole, rows, alone = program()
    assert run["whole"].shape == (6,)
    assert evaluated(whole).tolist() == [2.0, 5.0]
    assert evaluated(rows).tolist() == [[6.0, 7.0, 8.0], [15.0, 16.0, 17.0]]
    assert evaluated(alone) == 1.0


def test_a_param_with_the_dim_of_the_plate_needs_no_event_dim():
    with pm.Model(coords={"city": range(4)}), substitute(data={"city": [3, 1]}):
        with plate("city", subsample_size=2):
            part = param("w", np.arange(4.0), dims="city")
    assert evaluated(part).tolist() == [3.0, 1.0]


# --- mistakes ------------------------------------------------------------------------------------


def test_a_batch_that_does_not_fit_is_refused():
    def program():
        with plate("N", 6, subsample_size=2):
            pm.Normal("x", np.zeros(6))

    with pytest.raises(SiteError, match="'x' does not fit plate 'N'.*6 along dim=-1.*subsample"):
        trace(program).get_trace()


def test_a_vector_in_each_repetition_is_told_the_dim_of_the_plate():
    """What is ``.to_event(1)`` in Pyro is a plate further to the left here."""

    def program(**where):
        with plate("N", 6, **where):
            pm.Normal("x", np.zeros((6, 2)))

    with pytest.raises(SiteError, match=r"2 along dim=-1.*plate\('N', 6, dim=-2\).*to_event\(1\)"):
        trace(program).get_trace()
    assert trace(program).get_trace(dim=-2)["x"].shape == (6, 2)


def test_plates_that_collide_are_refused():
    with pytest.raises(ValueError, match="'a' and 'b' collide at dim=-1"):
        with plate("a", 2, dim=-1), plate("b", 3, dim=-1):
            pass


def test_a_plate_inside_itself_is_refused():
    with pytest.raises(ValueError, match="'a' is inside itself"):
        with plate("a", 2), plate("a", 2):
            pass


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(size=0), "positive whole number"),
        (dict(size=2.5), "positive whole number"),
        (dict(), "has no size.*name of a dim"),
        (dict(size=3, dim=0), "counts from the right"),
        (dict(size=3, subsample_size=4), "between 1 and the size"),
        (dict(size=3, subsample_size=0), "between 1 and the size"),
    ],
)
def test_arguments_that_make_no_plate_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plate("N", **arguments)


def test_a_plate_of_another_length_than_its_dim_is_refused():
    with pm.Model(coords={"city": range(4)}):
        with pytest.raises(SiteError, match="dim 'city' has 4 in the model, 5 in the plate"):
            plate("city", 5)


def test_another_subsample_size_in_the_guide_is_refused():
    q = trace(minibatch_guide(True, 2)).get_trace()
    with pytest.raises(SiteError, match="another number.*same size and subsample_size"):
        trace(replay(minibatch_model(True, 3), trace=q)).get_trace()


def test_another_size_in_the_guide_is_refused():
    def guide():
        with plate("N", 7, subsample_size=2):
            pass

    q = trace(guide).get_trace()
    with pytest.raises(PairingError, match="different sizes"):
        trace(replay(minibatch_model(False, 2), trace=q)).get_trace()


def test_indices_beyond_the_plate_are_refused():
    for built in (False, True):
        for bad in ([0, 6], [-1, 2]):
            with pytest.raises(SiteError, match="indices that it does not have.*0 to 5"):
                trace(substitute(minibatch_model(built, 2), data={"N": bad})).get_trace()


def test_a_param_of_another_size_is_refused():
    with pytest.raises(SiteError, match="param 'w' does not have its size"):
        with plate("N", 6, subsample_size=2), pm.Model():
            param("w", np.zeros(5), event_dim=0)


def test_an_error_inside_a_plate_leaves_the_stack_empty():
    from pymc_svi.handlers.stack import active_handlers

    with pytest.raises(ZeroDivisionError):
        with plate("N", 3):
            raise ZeroDivisionError
    assert active_handlers() == ()


# --- one plate in several places --------------------------------------------------------------


def test_a_full_plate_may_be_made_twice():
    def program():
        for name in ("x", "y"):
            with plate("n", 3):
                pm.Normal(name)

    for kind in (program, built(program)):
        tr = trace(kind).get_trace()
        assert (tr["x"].shape, tr["y"].shape) == ((3,), (3,))


def test_a_plate_of_two_sizes_is_refused():
    def program():
        for size in (3, 4):
            with plate("n", size):
                pm.Normal(f"x{size}")

    for kind in (program, built(program)):
        with pytest.raises(SiteError, match="'n' has two sizes.*3 of 3 at first, then 4 of 4"):
            trace(kind).get_trace()


def test_a_subsampled_plate_is_made_once_or_shares_its_minibatch():
    def program(n_plates):
        plates = [plate("n", 9, subsample_size=2) for _ in range(n_plates)]
        for name, rows in zip(("x", "y"), plates * (3 - n_plates), strict=True):
            with rows:
                pm.Normal(name, subsample(np.arange(9.0)))

    twice, once = partial(program, 2), partial(program, 1)
    for kind in (twice, built(twice)):
        with pytest.raises(SiteError, match="'n' is made twice.*rows = plate.'n'"):
            trace(kind).get_trace()
    for kind in (once, built(once)):
        assert trace(kind).get_trace()["y"].scale == 4.5
    tr = trace(substitute(twice, data={"n": [1, 2]})).get_trace()
    assert {site.scale for site in tr.sites("sample")} == {4.5}


def test_a_plate_can_be_left_for_a_while():
    def program():
        with plate("rows", 6, subsample_size=2), plate("columns", 3):
            with block_plate("rows"):
                mu = pm.Normal("mu")
            with block_plate(dim=-2):
                pm.Normal("x", mu)
            with block_plate("other", strict=False):
                pm.Normal("y")

    for kind in (program, built(program)):
        tr = trace(kind).get_trace()
        found = {s.name: (s.shape, s.scale, [f.name for f in s.plates]) for s in tr.sites("sample")}
        assert found == {
            "mu": ((3, 1), 1.0, ["columns"]),
            "x": ((3, 2), 3.0, ["rows"]),
            "y": ((3, 2), 3.0, ["rows", "columns"]),
        }


def test_block_plate_says_what_is_wrong():
    with plate("rows", 3):
        with pytest.raises(ValueError, match="no plate 'row' around. Found: the plates 'rows'"):
            with block_plate("row"):
                pass
        with pytest.raises(ValueError, match="no plate with dim=-2 around"):
            with block_plate(dim=-2):
                pass
        with pytest.raises(ValueError, match="exactly one of name and dim"):
            with block_plate():
                pass


# --- lifted params, guides of built models --------------------------------------------------------


def test_a_lifted_param_is_sampled_as_a_whole_and_read_in_part():
    def program():
        with plate("n", 6, subsample_size=2):
            w = param("w", np.zeros(6), event_dim=0)
            pm.Normal("y", w, 1.0, observed=subsample(Y))

    at = {"w": np.linspace(-1, 1, 6), "n": [0, 5]}
    prior = {"w": pm.Normal.dist(0, 2)}
    for kind in (lift(program, prior=prior), built(lift(program, prior=prior))):
        tr = trace(substitute(kind, data=at)).get_trace()
        expected = stats.norm(0, 2).logpdf(at["w"]).sum()
        expected += 3 * stats.norm([-1, 1], 1).logpdf(Y[[0, 5]]).sum()
        assert evaluated(tr.log_prob_sum()) == pytest.approx(expected)
        assert tr["w"].plates == ()


def test_an_automatic_guide_of_a_built_model_learns_all_rows_and_draws_those_of_the_minibatch():
    program = minibatch_model(local=True, size=2)
    given = {
        "N": [1, 4],
        "z_auto_loc": np.arange(6.0),
        "z_auto_scale": np.full(6, 1e-6),
        "mu_auto_loc": 0.5,
    }
    for kind in (program, built(program)):
        tr = trace(substitute(AutoNormal(kind), data=given)).get_trace()
        np.testing.assert_allclose(evaluated(tr["z"].value), [1.0, 4.0], atol=1e-4)
        assert trace(AutoNormal(kind)).get_trace()["z_auto_loc"].shape == (6,)
        assert tr["z"].scale == 3.0


# --- pymc.dims ------------------------------------------------------------------------------------


def with_named_dims(size=None):
    def program():
        mu = pmd.Normal("mu", 0.0, 2.0)
        with plate("city", subsample_size=size):
            z = pmd.Normal("z", mu, 1.5, dims="city")
            rows = pmd.as_xtensor(subsample(Y), dims=("city",))
            pmd.Normal("y", z, 1.0, observed=rows)

    return program


CITY = {"city": list("abcdef")}


@pytest.mark.parametrize("front_end", ["function", "built"])
def test_named_dims_are_those_of_the_plate_in_whole_and_in_minibatches(front_end):
    values = {"mu": 0.7, "z": np.array([0.1, -0.5, 0.9, 1.3, -0.2, 0.4])}

    def log_joint(size, rows):
        with pm.Model(coords=CITY) as model:
            program = with_named_dims(size)
            if front_end == "built":
                program()
        with pm.Model(coords=CITY):
            at = {"mu": values["mu"], "z": values["z"][rows], "city": rows}
            kind = model if front_end == "built" else program
            tr = trace(substitute(kind, data=at)).get_trace()
        return evaluated(tr.log_prob_sum())

    whole = stats.norm(0, 2).logpdf(0.7) + stats.norm(0.7, 1.5).logpdf(values["z"]).sum()
    whole += stats.norm(values["z"], 1).logpdf(Y).sum()
    full = log_joint(None, np.arange(6))
    assert full == pytest.approx(whole, rel=1e-7)  # PyTensor takes log(2.0) in single precision
    batches = [log_joint(2, np.array(rows)) for rows in combinations(range(6), 2)]
    assert np.mean(batches) == pytest.approx(full, rel=1e-12)


def test_a_site_with_named_dims_needs_the_dim_of_the_plate():
    def without():
        with plate("city"):
            pmd.Normal("x", 0.0, 1.0)

    def of_full_size():
        loc = pmd.as_xtensor(Y, dims=("city",))
        with plate("city", subsample_size=2):
            pmd.Normal("x", loc, 1.0)

    with pm.Model(coords=CITY):
        with pytest.raises(SiteError, match="'x' does not have the dim of plate 'city'.*dims="):
            trace(without).get_trace()
        with pytest.raises(SiteError, match="'x' does not fit.*6 along dim 'city'.*Expected: 2"):
            trace(of_full_size).get_trace()
