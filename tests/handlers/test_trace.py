"""Traces: which sites are computed from which, filters, the table of shapes."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytest
from scipy import stats

from pymc_svi import handlers, param, plate
from pymc_svi.errors import SiteError


def program():
    w = param("w", 1.0)
    z = pm.Normal("z", w, 1.0, shape=3)
    total = pm.Deterministic("total", z.sum())
    pm.Potential("f", -(total**2))
    x = pm.Normal("x", total, 1.0, observed=2.0)
    pm.Normal("y", x, 1.0)


def built():
    with pm.Model() as model:
        program()
    return model


EDGES = [("w", "z"), ("z", "total"), ("total", "f"), ("total", "x"), ("x", "y")]


@pytest.fixture(params=[lambda: program, built], ids=["function", "built"])
def kind(request):
    """The program in both kinds."""
    return request.param()


def traced(of):
    return handlers.trace(of).get_trace()


def test_edges_are_those_of_the_program_and_stop_at_the_next_site(kind):
    tr = traced(kind)
    assert sorted(tr.edges) == sorted(EDGES)
    assert tr.predecessors("x") == ["total"]
    assert tr.successors("total") == ["f", "x"]


def test_conditioned_sites_keep_their_edges(kind):
    assert sorted(traced(handlers.condition(kind, data={"z": np.zeros(3)})).edges) == sorted(EDGES)


def test_an_intervention_cuts_the_edges_out_of_its_site_and_keeps_those_into_it(kind):
    edges = traced(handlers.do(kind, data={"total": 0.0})).edges
    assert sorted(edges) == [("w", "z"), ("x", "y"), ("z", "total")]


def test_hidden_sites_are_bridged(kind):
    edges = traced(handlers.block(kind, hide=["total"])).edges
    assert sorted(edges) == [("w", "z"), ("x", "y"), ("z", "f"), ("z", "x")]


def test_renamed_sites_have_renamed_edges(kind):
    edges = traced(handlers.scope(kind, prefix="a")).edges
    assert sorted(edges) == sorted((f"a::{p}", f"a::{c}") for p, c in EDGES)


def test_edges_reach_through_subsampled_params():
    def subsampled():
        with plate("n", 10, subsample_size=2):
            loc = param("loc", np.zeros(10), event_dim=0)
            pm.Normal("x", loc, 1.0)

    assert traced(subsampled).edges == [("loc", "x")]


def test_a_site_that_is_not_there_is_named_with_the_closest():
    with pytest.raises(SiteError, match="no site 'totl'.*'total'.*Did you mean 'total'"):
        traced(program).predecessors("totl")
    with pytest.raises(SiteError, match="no site 'totl'"):
        traced(program).successors("totl")


def test_sites_are_filtered_by_type_and_by_a_function(kind):
    tr = traced(kind)
    assert [s.name for s in tr.sites("sample", "factor")] == ["z", "f", "x", "y"]
    assert [s.name for s in tr.sites("sample", where=lambda s: s.observed)] == ["x"]
    assert [s.name for s in tr.sites(where=lambda s: s.shape == (3,))] == ["z"]


def test_log_prob_sum_counts_the_sites_of_a_filter(kind):
    at = {"z": np.array([0.1, 0.2, 0.3]), "y": 1.5}
    tr = traced(handlers.condition(kind, data=at))
    parts = {
        "z": stats.norm(1.0, 1.0).logpdf(at["z"]).sum(),
        "f": -(0.6**2),
        "x": stats.norm(0.6, 1.0).logpdf(2.0),
        "y": stats.norm(2.0, 1.0).logpdf(1.5),
    }
    for names in (["z"], ["f", "y"], list(parts), []):
        found = tr.log_prob_sum(lambda site, names=names: site.name in names)
        assert float(found.eval()) == pytest.approx(sum(parts[n] for n in names), abs=1e-6)
    assert float(tr.log_prob_sum().eval()) == pytest.approx(sum(parts.values()), abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_densities_of_walks_are_those_at_the_draws_of_their_parents():
    """PyMC's search for random variables would go on into the parents, and draw them anew."""

    def walk():
        a, b = pm.HalfNormal("a"), pm.HalfNormal("b")
        start = pm.MvNormal.dist(np.zeros(2), np.eye(2))
        chol = pm.math.stack([[a, 0.0], [0.0, b]])
        pm.MvGaussianRandomWalk("x", np.zeros(2), chol=chol, init_dist=start, steps=3)

    tr = traced(walk)
    values = [*(tr[name].value for name in ("a", "b", "x")), tr.log_prob_sum()]
    a, b, x, total = pytensor.function([], values, mode="FAST_COMPILE")()
    expected = stats.halfnorm.logpdf([a, b]).sum() + stats.norm.logpdf(x[0]).sum()
    expected += stats.norm.logpdf(np.diff(x, axis=0), scale=[a, b]).sum()
    assert float(total) == pytest.approx(expected)


def test_table_of_shapes_has_names_of_dims_and_shapes_of_log_probabilities():
    def labelled():
        with plate("city", 2):
            m = pm.MvNormal("m", np.zeros(3), cov=np.eye(3))
        pm.Deterministic("total", m.sum(axis=-1), dims="city")
        pm.Normal("x", 0.0, 1.0, observed=np.zeros(4))

    with pm.Model(coords={"city": ["a", "b"]}):
        table = traced(labelled).format_shapes()
    assert table.splitlines() == [
        "site   type           value        log_prob",
        "city   plate          (2,)",
        "m      sample         (city=2, 3)  (2,)",
        "total  deterministic  (city=2,)",
        "x      observed       (4,)         (4,)",
    ]


def test_an_error_inside_a_program_says_which_sites_came_before():
    def breaking():
        pm.Normal("x", shape=3)
        pm.Normal("y", 0.0, 1.0, observed=np.zeros(2))
        raise RuntimeError("oh")

    with pytest.raises(RuntimeError, match="oh") as caught:
        traced(breaking)
    [note] = caught.value.__notes__
    assert [line.split() for line in note.splitlines()[2:]] == [
        ["x", "sample", "(3,)"],
        ["y", "observed", "(2,)"],
    ]
