"""A model is the same after a fit: its nodes are not those that the fit rewrites."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.pytensorf import find_rng_nodes

from pymc_svi import SVI, Predictive
from pymc_svi.errors import SiteError
from pymc_svi.gradients.simplified import simplified
from pymc_svi.guides import AutoDAIS, AutoLaplaceApproximation, AutoNormal


def with_computed_data() -> pm.Model:
    """Return a model that computes from its data alone what PyTensor can simplify."""
    with pm.Model() as model:
        x = pm.Data("x", [1.0, 2.0, 4.0])
        logged = pm.Deterministic("logged", pt.log(pt.exp(x)) * 1.0)
        centred = pm.Deterministic("centred", logged - logged.mean())
        slope = pm.Normal("slope", 0.0, pt.exp(pt.log(x[0])))
        pm.Normal("y", slope * centred, 1.0, observed=[1.0, 2.0, 3.0])
    return model


@pytest.mark.parametrize("family", [AutoNormal, AutoLaplaceApproximation, AutoDAIS])
def test_what_a_model_computes_from_its_data_stays_as_it_is(family):
    model = with_computed_data()
    before = pytensor.dprint(model.basic_RVs + model.deterministics, file="str")
    svi = SVI(model, family(model))
    state = svi.init(random_seed=0)  # makes the gradient
    svi.guide.fitted(svi.get_params(state))
    assert pytensor.dprint(model.basic_RVs + model.deterministics, file="str") == before


def test_an_intervention_on_computed_data_works_after_a_fit():
    model = with_computed_data()
    SVI(model, AutoNormal(model)).init(random_seed=0)
    changed = pm.do(model, {"logged": np.array([0.0, 0.0, 3.0])})
    np.testing.assert_allclose(changed["centred"].eval(), [-1.0, -1.0, 2.0])


def test_a_simplified_expression_is_of_the_same_draws():
    draw = pm.Normal.dist(pt.exp(pt.log(pt.scalar("mu"))), 1.0)
    value = pt.log(pt.exp(draw)) + draw
    before = pytensor.dprint(value, file="str")
    simple = simplified(value)
    assert pytensor.dprint(value, file="str") == before
    assert pytensor.dprint(simple, file="str") != before
    assert draw in pytensor.graph.traversal.ancestors([simple])
    assert find_rng_nodes([simple]) == find_rng_nodes([value])


def test_sites_that_grew_with_the_data_are_named_and_can_be_predicted():
    with pm.Model(coords={"row": range(3)}) as model:
        data = pm.Data("data", np.zeros(3), dims="row")
        mu = pm.Normal("mu")
        x = pm.Normal("x", mu, 0.1, dims="row")
        pm.Normal("y", x, 1.0, observed=data, dims="row")
    result = SVI(model, AutoNormal(model)).run(2, random_seed=0, progressbar=False)
    draws = result.sample_posterior(5, random_seed=0).posterior.to_dataset()[["mu"]]
    with model:
        pm.set_data({"data": np.zeros(4)}, coords={"row": range(4)})
    with pytest.raises(SiteError, match=r"'x' has another shape.*\(row=4,\).*\(row=3,\)"):
        result.sample_posterior_predictive(draws=2)
    predicted = Predictive(model, posterior_samples=draws)(random_seed=1)
    assert predicted.posterior_predictive["y"].shape == (1, 5, 4)
