"""Corners of sums over discrete sites: impossible values, weights, and what is refused."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.special import expit, logsumexp
from scipy.stats import norm

from pymc_svi import TraceEnum_ELBO, config_enumerate, handlers, markov, param, plate
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.evaluation import evaluate
from pymc_svi.guides import AutoDAIS, AutoLaplaceApproximation
from pymc_svi.guides.prototype import quick_mode
from tests.checks import built_loss
from tests.enumeration.brute_force import brute_loss


def nothing():
    pass


def one_plate_along_two_axes():
    a = pm.Bernoulli("a", 0.3, shape=3)
    b = pm.Bernoulli("b", 0.4, shape=3)
    pm.Normal("x", 1.0 * a * b, 1.0, observed=[0.1, 0.9, 1.4])
    pm.Normal("y", 1.0 * a[:, None] - b, 1.0, observed=np.linspace(-1, 1, 9).reshape(3, 3))


def loop():
    a = pm.Bernoulli("a", 0.3)
    b = pm.Bernoulli("b", 0.2 + 0.5 * a)
    c = pm.Bernoulli("c", 0.1 + 0.5 * a)
    d = pm.Bernoulli("d", 0.1 + 0.3 * b + 0.4 * c)
    pm.Normal("y", 2.0 * d, 1.0, observed=0.4)


@pytest.mark.parametrize("model", [one_plate_along_two_axes, loop], ids=lambda m: m.__name__)
def test_sums_in_the_model_that_are_no_tree_equal_brute_force(model):
    loss = evaluate(TraceEnum_ELBO().loss(model, nothing).value)
    assert loss == pytest.approx(brute_loss(model, nothing), abs=1e-9)


def two_plates():
    top = pm.Bernoulli("top", 0.4)
    with plate("rows", 2, dim=-2):
        row = pm.Bernoulli("row", 0.2 + 0.5 * top)
        with plate("columns", 2, dim=-1):
            z = pm.Bernoulli("z", 0.1 + 0.3 * row + 0.2 * top)
            pm.Normal("y", 1.0 * z + row, 1.0, observed=np.array([[0.3, -1.0], [1.2, 0.8]]))


def guide_of_two_plates():
    top = pm.Bernoulli("top", 0.7)
    with plate("rows", 2, dim=-2):
        row = pm.Bernoulli("row", 0.4 + 0.2 * top)
        with plate("columns", 2, dim=-1):
            pm.Bernoulli("z", 0.3 + 0.4 * row - 0.1 * top)


def plates_side_by_side():
    top = pm.Categorical("top", [0.2, 0.5, 0.3])
    a = pm.Bernoulli("a", 0.2 + 0.2 * top, shape=4)
    b = pm.Categorical("b", pt.as_tensor([[0.6, 0.4], [0.1, 0.9], [0.5, 0.5]])[top], shape=3)
    pm.Normal("y", 1.0 * a, 1.0, observed=[0.3, -1.2, 2.2, 0.9])
    pm.Normal("x", 0.5 * b, 1.0, observed=[0.3, -1.2, 2.2])


def guide_of_one_side():
    top = pm.Categorical("top", [0.6, 0.1, 0.3])
    pm.Bernoulli("a", pt.as_tensor([0.3, 0.6, 0.2])[top], shape=4)


def guide_of_the_loop():
    b = pm.Bernoulli("b", 0.4)
    c = pm.Bernoulli("c", 0.3 + 0.3 * b)
    pm.Bernoulli("a", 0.2 + 0.2 * b + 0.4 * c)


def narrow():
    z = pm.Categorical("z", [0.2, 0.5, 0.3], shape=2)
    pm.Uniform("y", 0.0, pt.as_tensor([1.0, 2.0, 0.1])[z], observed=np.array([0.5, 0.8]))


def guide_that_leaves_out_the_impossible():
    pm.Categorical("z", np.array([0.4, 0.6, 0.0]), shape=2)


@pytest.mark.parametrize(
    "model, guide",
    [
        (two_plates, guide_of_two_plates),
        (plates_side_by_side, guide_of_one_side),
        (loop, guide_of_the_loop),
        (narrow, guide_that_leaves_out_the_impossible),
    ],
    ids=lambda program: program.__name__,
)
def test_expectations_over_nested_sites_of_the_guide_equal_brute_force(model, guide):
    guide = config_enumerate(guide)
    loss = evaluate(TraceEnum_ELBO().loss(model, guide).value)
    assert loss == pytest.approx(brute_loss(model, guide), abs=1e-9)


def test_the_gradient_is_finite_where_one_value_makes_the_data_impossible():
    def model():
        top = pm.Bernoulli("top", pm.math.sigmoid(param("logit", 0.2)))
        z = pm.Bernoulli("z", 0.5)
        pm.Uniform("y", 0.0, 1.0 + z - top, observed=1.5)  # above 1: z = 1 and top = 0

    loss, store = built_loss(model, nothing, loss=TraceEnum_ELBO())
    [gradient] = pytensor.grad(loss.surrogate, list(store.variables.values()))
    compute = pytensor.function([], [loss.value, gradient], mode=quick_mode())
    value, slope = compute()
    assert value == pytest.approx(-np.log((1 - expit(0.2)) / 4))
    assert slope == pytest.approx(expit(0.2))


def test_a_chain_equals_the_forward_algorithm():
    """Forty steps have 3**40 paths."""
    moves = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]])
    means, y = np.array([-1.0, 0.5, 2.0]), np.sin(np.arange(40.0))

    def model():
        z = 0
        for t in markov(range(40)):
            z = pm.Categorical(f"z_{t}", pt.as_tensor(moves)[z])
            pm.Normal(f"y_{t}", pt.as_tensor(means)[z], 1.0, observed=y[t])

    forward = np.log(moves[0]) + norm.logpdf(y[0], means)
    for now in y[1:]:
        forward = logsumexp(forward[:, None] + np.log(moves), axis=0) + norm.logpdf(now, means)
    loss = evaluate(TraceEnum_ELBO().loss(model, nothing).value)
    assert loss == pytest.approx(-logsumexp(forward), abs=1e-10)


def test_labels_of_many_categorical_data_are_summed_out_one_by_one():
    """Sixty labels have 3**60 joint states."""
    weights = np.array([0.2, 0.5, 0.3])
    words = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    w = np.arange(60) % 3

    def model():
        z = pm.Categorical("z", weights, shape=60)
        pm.Categorical("w", pt.as_tensor(words)[z], observed=w)

    loss = evaluate(TraceEnum_ELBO().loss(model, nothing).value)
    assert loss == pytest.approx(-np.log(weights @ words[:, w]).sum())


def test_scales_of_elements_are_refused():
    def model():
        z = pm.Bernoulli("z", 0.3, shape=3)
        pm.Normal("y", 1.0 * z, 1.0, observed=np.zeros(3))

    scaled = handlers.scale(model, scale=np.array([1.0, 2.0, 1.0]))
    with pytest.raises(PairingError, match="Site 'z'.*elements have scales of their own"):
        TraceEnum_ELBO().loss(scaled, nothing)


def test_a_number_of_values_that_can_change_is_refused():
    def model():
        pm.Binomial("k", pm.Data("n", 3), 0.5)

    with pytest.raises(SiteError, match="Site 'k' cannot be enumerated.*not a constant"):
        TraceEnum_ELBO().loss(model, nothing)


@pytest.mark.parametrize("family", [AutoLaplaceApproximation, AutoDAIS])
def test_guides_that_need_the_density_of_the_model_refuse_discrete_sites(family):
    def model():
        x = pm.Normal("x")
        z = pm.Bernoulli("z", 0.3)
        pm.Normal("y", x + z, 1.0, observed=0.5)

    with pytest.raises(SiteError, match=f"Site 'z' is discrete; {family.__name__} is for models"):
        handlers.trace(family(model)).get_trace()
