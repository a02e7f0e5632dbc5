"""What is known of a distribution's support, and when a guide's leaves a model's."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pymc.dims as pmd
import pytest

from pymc_svi import param
from pymc_svi.handlers import Site
from pymc_svi.objectives.support import support_mismatch, support_of


@pytest.mark.parametrize(
    ("rv", "text"),
    [
        (lambda: pm.Normal.dist(), "the real line"),
        (lambda: pm.StudentT.dist(3), "the real line"),
        (lambda: pm.MvNormal.dist(np.zeros(2), np.eye(2)), "the real line"),
        (lambda: pm.HalfNormal.dist(), "(0.0, inf)"),
        (lambda: pm.Gamma.dist(2, 1), "(0.0, inf)"),
        (lambda: pm.Beta.dist(1, 1), "(0.0, 1.0)"),
        (lambda: pm.Uniform.dist(-2, 3), "(-2.0, 3.0)"),
        (lambda: pm.Uniform.dist([-2, 0], [3, 1]), "(-2.0, 3.0)"),
        (lambda: pm.Uniform.dist(0, pm.HalfNormal.dist()), "(0.0, ?)"),
        (lambda: pm.TruncatedNormal.dist(0, 1, lower=-1), "(-1.0, inf)"),
        (lambda: pm.Pareto.dist(2, 1.5), "(1.5, inf)"),
        (lambda: pm.VonMises.dist(0, 1), f"({-np.pi}, {np.pi})"),
        (lambda: pm.Dirichlet.dist(np.ones(3)), "the simplex"),
        (lambda: pm.ZeroSumNormal.dist(shape=3), "the zero-sum space"),
        (lambda: pm.LKJCorr.dist(n=3, eta=2), "the correlations"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_support_of(rv, text):
    support = support_of(rv())
    if text.startswith("("):
        assert support.kind == "interval"
        bounds = ["?" if b is None else str(b) for b in (support.lower, support.upper)]
        assert f"({', '.join(bounds)})" == text
    else:
        assert str(support) == text


@pytest.mark.parametrize(
    "rv",
    [
        lambda: pm.Poisson.dist(2),
        lambda: pm.Censored.dist(pm.Normal.dist(), lower=0, upper=None),
        lambda: pm.CustomDist.dist(0.0, dist=lambda m, size: pm.Normal.dist(m, 1, size=size)),
    ],
    ids=["discrete", "censored", "custom"],
)
def test_where_nothing_is_known_nothing_is_claimed(rv):
    assert support_of(rv()) is None


def mismatch(model_rv, guide_rv):
    return support_mismatch(Site("sample", "x", dist=model_rv), guide_rv)


def test_bounds_that_are_learned_count_as_bounds_of_unknown_value():
    learned = pm.Uniform.dist(0.0, param("upper", 2.0))
    assert support_of(learned).upper is None
    assert mismatch(pm.HalfNormal.dist(), learned) is None
    assert mismatch(learned, pm.HalfNormal.dist()) == "(0, ?) in the model, (0, inf) in the guide"


def test_a_vector_of_intervals_is_compared_by_its_outermost_bounds():
    assert mismatch(pm.Uniform.dist([0, 1], [2, 3]), pm.Uniform.dist(0.5, 2.5, shape=2)) is None
    assert mismatch(pm.Uniform.dist([0, 1], [2, 3]), pm.Uniform.dist(0.5, 4, shape=2))


def test_a_model_on_the_real_line_takes_anything():
    for rv in (pm.HalfNormal.dist(), pm.Beta.dist(1, 1), pm.Dirichlet.dist(np.ones(3))):
        assert mismatch(pm.Normal.dist(shape=rv.type.shape), rv) is None


def test_dims_variables_are_left_alone():
    with pm.Model(coords={"city": range(3)}):
        x = pmd.Normal("x", dims="city")
    assert support_of(x) is None
