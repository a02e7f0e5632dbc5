"""A guide that does not fit its model is refused when the two meet, in a sentence that says why."""

from __future__ import annotations

import functools
import re
import warnings

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.distributions import transforms as tr

from pymc_svi import (
    ELBO,
    SVI,
    Predictive,
    RenyiELBO,
    Trace_ELBO,
    Trace_MMD,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    constraints,
    deterministic,
    factor,
    handlers,
    param,
    plate,
    sample,
)
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.gradients import NoPathwiseDraw
from pymc_svi.gradients.stand_in import detached
from pymc_svi.guides import AutoNormal
from pymc_svi.handlers import scale
from pymc_svi.objectives.pairing import paired_traces
from tests.checks import as_built, assert_mean, gradient_draws


def learned(shape=()):
    return param("loc", np.zeros(shape))


def pair(model, guide, **settings):
    """Bring model and guide together, without compiling anything."""
    return SVI(model, guide, **settings).build_loss()


def refusal(model, guide, error=PairingError, **settings) -> str:
    """The message, which is the same for function programs and for built models."""
    messages = []
    for m, g in ((model, guide), (as_built(model), as_built(guide))):
        with pytest.raises(error) as caught:
            pair(m, g, **settings)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    return messages[0]


# --- sizes ----------------------------------------------------------------------------------


def test_a_total_size_of_a_latent_site_is_refused_as_it_would_weight_nothing():
    def model(y):
        z = pm.Normal("z", shape=2, total_size=10)
        pm.Normal("y", z, observed=y, total_size=10)

    def guide(y):
        pm.Normal("z", learned(2), shape=2)

    with pytest.raises(PairingError, match=r"'z' has a total_size but is not observed.*=10.*plate"):
        SVI(model, guide).build_loss(np.zeros(2))
    Predictive(model, num_samples=2)(None, random_seed=0)  # where y is drawn


# --- names ------------------------------------------------------------------------------------


def two_latents():
    slope = pm.Normal("slope")
    pm.Normal("intercept")
    pm.Normal("y", slope, observed=1.0)


def test_a_latent_that_got_a_value_otherwise_than_as_data_is_told_apart():
    def guide():
        pm.Normal("slope", learned())

    for model in (two_latents, as_built(two_latents)):
        with pytest.raises(PairingError) as caught:
            pair(handlers.substitute(model, data={"intercept": 1.0}), guide)
        message = str(caught.value)
        assert "'intercept' got a value, as by handlers.substitute, but stayed latent." in message
        assert message.endswith("handlers.condition makes data of it.")

    def misspelt():
        guide()
        pm.Normal("intersept")

    with pytest.raises(PairingError, match="Did you mean 'intersept'"):
        pair(handlers.substitute(two_latents, data={"intercept": 1.0}), misspelt)


def test_a_latent_that_the_guide_misses_is_named_with_the_way_out():
    def guide():
        pm.Normal("slope", learned())

    message = refusal(two_latents, guide)
    assert "latent sites that the guide does not sample: 'intercept'" in message
    assert "the guide samples 'slope'" in message
    assert "Sample 'intercept' in the guide, or condition the model on it" in message


def test_a_guide_in_the_place_of_the_model_is_told():
    def guide():
        pm.Normal("slope", learned())

    def model():
        pm.Normal("y", pm.Normal("slope"), observed=1.0)

    with pytest.warns(UserWarning, match="guide observes data, 'y', and the model.*comes first"):
        pair(guide, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair(model, guide)


def test_a_misspelt_site_is_suggested():
    def guide():
        pm.Normal("slope", learned())
        pm.Normal("intercpt", learned())

    assert "Did you mean 'intercpt'?" in refusal(two_latents, guide)


def test_a_site_that_only_the_guide_has_is_named_with_the_way_out():
    def guide():
        pm.Normal("slope", learned())
        pm.Normal("intercept", learned())
        pm.Normal("noise", learned())

    message = refusal(two_latents, guide)
    assert "The guide samples sites that the model does not have: 'noise'" in message
    assert "the model's latent sites are 'slope', 'intercept'" in message
    assert '{"is_auxiliary": True}' in message


def test_an_auxiliary_site_of_the_guide_is_accepted_and_counts_in_its_density():
    def model():
        pm.Normal("x")

    def guide():
        u = sample("u", pm.Normal.dist(0.0, 2.0), infer={"is_auxiliary": True})
        pm.Normal("x", learned() + 0 * u)

    loss, _ = pair(model, guide)
    assert set(loss.terms) == {"model: x", "guide: u", "guide: x"}


def test_an_auxiliary_site_that_the_model_has_too_warns():
    def model():
        pm.Normal("x")

    def guide():
        sample("x", pm.Normal.dist(learned(), 1.0), infer={"is_auxiliary": True})

    with pytest.warns(UserWarning, match="auxiliary that the model has too: 'x'. Rename them"):
        pair(model, guide)


def test_a_site_sampled_in_the_guide_but_observed_in_the_model_is_refused():
    def model():
        pm.Normal("x")
        pm.Normal("y", observed=1.0)

    def guide():
        pm.Normal("x", learned())
        pm.Normal("y", learned())

    message = refusal(model, guide)
    assert "Site 'y' is sampled in the guide but is observed in the model" in message
    assert "Remove it from the guide" in message


def test_a_site_sampled_in_the_guide_but_computed_in_the_model_is_refused():
    def model():
        x = pm.Normal("x")
        deterministic("y", 2 * x)

    def guide():
        pm.Normal("x", learned())
        pm.Normal("y", learned())

    assert "Site 'y' is sampled in the guide but is a deterministic" in refusal(model, guide)


def test_a_site_sampled_in_the_model_but_computed_in_the_guide_is_refused():
    def model():
        pm.Normal("x")

    def guide():
        deterministic("x", 2 * learned())

    message = refusal(model, guide)
    assert "Site 'x' is sampled in the model but is a deterministic in the guide" in message
    assert "Sample it in the guide" in message


# --- shapes and dims --------------------------------------------------------------------------


def test_different_shapes_are_named_on_both_sides():
    def model():
        pm.Normal("x", shape=3)

    def guide():
        pm.Normal("x", learned(4))

    message = refusal(model, guide)
    assert "Site 'x' has different shapes in model and guide" in message
    assert "(3,) in the model, (4,) in the guide" in message


def test_different_numbers_of_dimensions_are_refused():
    def model():
        pm.Normal("x", shape=(3, 1))

    def guide():
        pm.Normal("x", learned(3))

    assert "(3, 1) in the model, (3,) in the guide" in refusal(model, guide)


def test_a_scalar_in_the_guide_is_not_broadcast_to_a_vector_of_the_model():
    def model():
        pm.Normal("x", shape=3)

    def guide():
        pm.Normal("x", learned())

    assert "(3,) in the model, () in the guide" in refusal(model, guide)


def test_dims_of_different_length_are_named():
    def program(n, loc):
        with pm.Model(coords={"city": range(n), "year": range(2)}) as model:
            pm.Normal("x", loc(n), dims=("city", "year"))
        return model

    model = program(12, lambda n: 0.0)
    guide = program(10, lambda n: param("loc", np.zeros((n, 2))))
    with pytest.raises(PairingError) as caught:
        pair(model, guide)
    message = str(caught.value)
    assert "Site 'x': dim 'city' has 12 in the model, 10 in the guide" in message
    assert "(city=12, year=2) in the model, (city=10, year=2) in the guide" in message


def test_dims_in_another_order_are_refused_also_where_the_lengths_agree():
    coords = {"city": range(2), "year": range(2)}
    with pm.Model(coords=coords) as model:
        pm.Normal("x", dims=("city", "year"))
    with pm.Model(coords=coords) as guide:
        pm.Normal("x", param("loc", np.zeros((2, 2))), dims=("year", "city"))
    with pytest.raises(PairingError, match="different dims in model and guide") as caught:
        pair(model, guide)
    assert "(city=2, year=2) in the model, (year=2, city=2) in the guide" in str(caught.value)


def test_dims_may_be_left_out_of_the_guide():
    with pm.Model(coords={"city": range(3)}) as model:
        pm.Normal("x", dims="city")

    def guide():
        pm.Normal("x", learned(3))

    pair(model, guide)


# --- supports ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "found"),
    [
        (lambda **kwargs: pm.Normal("x", learned(), **kwargs), "the guide; a transform does not"),
        (lambda **kwargs: pm.Uniform("x", -5.0, 5.0, shape=3), r"\(-5, 5\) in the guide\. Give"),
    ],
    ids=["Normal", "Uniform"],
)
def test_a_guide_whose_site_only_has_the_transform_of_the_model_is_refused(law, found):
    ordered = {
        "transform": pm.distributions.transforms.ordered,
        "shape": 3,
        "initval": [-1.0, 0.0, 1.0],
    }
    message = refusal(lambda: pm.Normal("x", 0.0, 3.0, **ordered), lambda: law(**ordered))
    assert re.search(found, message)
    assert "AutoNormal(handlers.block(model, expose=['x']))" in message


@pytest.mark.parametrize(
    ("prior", "found"),
    [
        (lambda: pm.HalfNormal("x"), r"\(0, inf\) in the model, the real line in the guide"),
        (lambda: pm.Beta("x", 2, 2), r"\(0, 1\) in the model, the real line in the guide"),
        (lambda: pm.Uniform("x", -1, 2), r"\(-1, 2\) in the model, the real line in the guide"),
        (lambda: pm.TruncatedNormal("x", 0, 1, lower=0), r"\(0, inf\) in the model"),
        (lambda: pm.Uniform("x", 0, pm.HalfNormal("u", 1)), r"\(0, \?\) in the model"),
    ],
    ids=["HalfNormal", "Beta", "Uniform", "TruncatedNormal", "random bound"],
)
def test_a_normal_guide_for_a_bounded_site_is_refused(prior, found):
    def guide():
        pm.LogNormal("u", 0.0, 0.1)
        pm.Normal("x", learned())

    def model():
        prior()
        if "u" not in pm.modelcontext(None).named_vars:
            pm.LogNormal("u")

    message = refusal(model, guide)
    assert "Site 'x' has a smaller support in the model than in the guide" in message
    assert re.search(found, message)
    assert "Give the guide a distribution on the model's support" in message


@pytest.mark.parametrize(
    ("prior", "found"),
    [
        (lambda: pm.Normal("x", shape=3, transform=tr.ordered), "the ordered vectors in the model"),
        (lambda: pm.HalfNormal("x", shape=3, transform=tr.ordered), "the ordered vectors in"),
        (lambda: pm.Normal("x", shape=3, transform=tr.log), "(0, inf) in the model"),
        (lambda: pm.Flat("x", shape=3, transform=tr.Interval(-1, 1)), "(-1, 1) in the model"),
        (
            lambda: pm.LKJCholeskyCov("x", n=2, eta=2, sd_dist=pm.HalfNormal.dist()),
            "the Cholesky factors of covariances in the model",
        ),
    ],
    ids=["ordered", "positive and ordered", "log", "interval", "Cholesky"],
)
def test_a_users_transform_bounds_the_models_support(prior, found):
    def guide(**transform):
        pm.Normal("x", learned(3), **transform)

    message = refusal(prior, guide)
    assert found in message and "the real line in the guide" in message
    assert "or leave the site to an automatic guide" in message
    # The transform of a guide's site does not move its draws.
    assert found in refusal(prior, lambda: guide(transform=tr.ordered))
    pair(prior, lambda: pm.DiracDelta("x", param("x_at", [0.1, 0.2, 0.3])))


def test_a_users_transform_onto_the_whole_support_changes_nothing():
    def guide():
        pm.LogNormal("x", learned())

    pair(lambda: pm.HalfNormal("x", default_transform=tr.log_exp_m1), guide)
    pair(lambda: pm.HalfNormal("x", default_transform=None), guide)


def test_a_normal_guide_for_a_simplex_is_refused():
    def model():
        pm.Dirichlet("x", np.ones(3))

    def guide():
        pm.Normal("x", learned(3))

    assert "the simplex in the model, the real line in the guide" in refusal(model, guide)


@pytest.mark.parametrize(
    ("prior", "posterior"),
    [
        (lambda: pm.Normal("x"), lambda: pm.LogNormal("x", learned())),
        (lambda: pm.Normal("x"), lambda: pm.Uniform("x", 0.0, pt.exp(learned()))),
        (lambda: pm.HalfNormal("x"), lambda: pm.LogNormal("x", learned())),
        (lambda: pm.HalfCauchy("x", 2), lambda: pm.HalfNormal("x", pt.exp(learned()))),
        (lambda: pm.Uniform("x", 0, 5), lambda: pm.Uniform("x", 1.0, 4.0 + 0 * learned())),
    ],
    ids=["LogNormal in Normal", "Uniform in Normal", "LogNormal in HalfNormal", "half", "inside"],
)
def test_a_guide_on_a_smaller_or_equal_support_is_accepted(prior, posterior):
    pair(prior, posterior)


def test_an_interval_that_reaches_beyond_the_models_is_refused():
    def model():
        pm.Uniform("x", 0.0, 5.0)

    def guide():
        pm.Uniform("x", 0.0, 6.0)
        learned()

    assert "(0, 5) in the model, (0, 6) in the guide" in refusal(model, guide)


# --- kinds ------------------------------------------------------------------------------------


def test_discrete_in_the_model_and_continuous_in_the_guide_is_refused():
    def model():
        pm.Poisson("n", 3.0)

    def guide():
        pm.LogNormal("n", learned())

    message = refusal(model, guide)
    assert "Site 'n' is discrete in the model and continuous in the guide" in message
    assert "dtype int64 in the model, float64 in the guide" in message


def test_a_discrete_site_of_the_guide_has_no_differentiable_draw():
    class Pathwise(ELBO):
        def loss(self, model, guide, *args):
            paired_traces(model, guide, *args)

    def model():
        pm.Bernoulli("n", 0.5)

    def guide():
        pm.Bernoulli("n", logit_p=learned())

    assert "'n'" in refusal(model, guide, NoPathwiseDraw, loss=Pathwise())


def test_a_dim_with_other_labels_in_the_guide_is_refused():
    def built(labels, location=0.0):
        with pm.Model(coords={"city": labels}) as program:
            pm.Normal("x", location, 1.0, dims="city")
        return program

    model = built(["Bern", "Oslo", "Rome"])
    with pytest.raises(
        PairingError,
        match="Dim 'city' has other labels.*Bern, Oslo, Rome in the model, Oslo, Bern, Rome in the",
    ):
        paired_traces(model, built(["Oslo", "Bern", "Rome"]))
    paired_traces(model, built(["Bern", "Oslo", "Rome"]))
    paired_traces(model, model)


def test_a_fit_with_nothing_to_learn_is_refused():
    def model():
        pm.Normal("x")

    message = refusal(model, model)
    assert "There is nothing to learn: neither guide nor model has a param" in message
    assert "param('loc', 0.0)" in message and "AutoNormal" in message


def test_params_in_the_model_alone_are_enough():
    def model():
        pm.Normal("x", param("loc", 0.0), observed=2.0)

    loss, store = pair(model, lambda: None)
    assert list(store.sites) == ["loc"]
    assert float(loss.value.eval()) == pytest.approx(0.5 * np.log(2 * np.pi) + 2.0)


def test_two_constraints_for_one_param_are_refused():
    def model():
        pm.Normal("x", 0.0, param("s", 1.0, constraint=constraints.positive))

    def guide():
        pm.Normal("x", param("s", 1.0))

    message = refusal(model, guide, SiteError)
    assert "Param 's' is declared with two constraints" in message


def test_two_sites_of_one_name_are_refused():
    def model():
        pm.Normal("x")
        factor("x", 1.0)

    with pytest.raises(ValueError, match="x"):
        pair(model, AutoNormal(model))


# --- vectors and numbers ----------------------------------------------------------------------


def test_vectors_against_independent_numbers_are_told_on_request():
    def model():
        pm.MvNormal("x", np.zeros(3), np.eye(3))

    def guide():
        pm.Normal("x", learned(3))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair(model, guide)  # a mean-field guide
    message = refusal(model, guide, validate="error")
    assert "Site 'x': model and guide disagree on how many of its dimensions make one" in message
    assert "1 in the model, 0 in the guide, of 1" in message


# --- minibatches ------------------------------------------------------------------------------


def local(where):
    """A program whose local variable is in the minibatch, beside it, or weighed by hand."""

    def program():
        loc = param("loc", 0.0)
        if where == "inside":
            with plate("N", 6, subsample_size=2):
                pm.Normal("z", loc)
        elif where == "beside":
            with plate("N", 6, subsample_size=2):
                pass
            pm.Normal("z", loc, shape=2)
        else:
            with scale(scale=3.0):
                pm.Normal("z", loc, shape=2)

    return program


@pytest.mark.parametrize("sides", ["inside beside", "beside inside"])
def test_a_local_variable_outside_of_the_minibatch_is_refused(sides):
    inner, outer = ("model", "guide") if sides.startswith("inside") else ("guide", "model")
    message = refusal(*map(local, sides.split()))
    assert f"'z' is in the subsampled plate 'N' in the {inner} but not in the {outer}" in message
    assert f"Write it inside plate('N', 6, subsample_size=2) in the {outer} too" in message


def test_a_local_variable_weighed_by_hand_is_accepted():
    pair(local("inside"), local("by hand"))


# --- factors of the guide ---------------------------------------------------------------------


def standard_normal():
    pm.Normal("x")


@pytest.mark.parametrize("term", [factor, pm.Potential], ids=["factor", "Potential"])
def test_a_factor_of_the_guide_that_does_not_say_what_it_is_is_refused(term):
    def guide():
        x = pm.Normal("x", learned())
        term("f", -(x**2))

    message = refusal(standard_normal, guide)
    assert "Factor 'f' of the guide does not say whether it is" in message
    assert "factor('f', ..., has_rsample=True)" in message


def test_a_factor_without_differentiable_draws_needs_an_objective_that_knows_them():
    def guide():
        x = pm.Normal("x", learned())
        factor("f", -(x**2), has_rsample=False)

    message = refusal(standard_normal, guide, loss=Trace_MMD())
    assert "Factor 'f' of the guide has has_rsample=False" in message
    assert "Use Trace_ELBO()" in message


def test_has_rsample_is_true_or_false():
    with pytest.raises(TypeError, match="factor\\('f'\\): has_rsample.*'yes'"):
        factor("f", 0.0, has_rsample="yes")


def test_a_draw_that_only_a_factor_speaks_for_has_an_unbiased_gradient():
    # k is 0 or 1 without being a site, x ~ N(2 k, 1); the loss is p (log p + 2) + (1 - p) log(1 - p).
    def guide():
        p = pm.math.sigmoid(param("logit", 0.4))
        k = detached(pm.Bernoulli.dist(p))
        factor("k", pm.logp(pm.Bernoulli.dist(p), k), has_rsample=False)
        pm.Normal("x", 2.0 * k, 1.0)

    p = 1 / (1 + np.exp(-0.4))
    exact = p * (1 - p) * (np.log(p) + 2 - np.log(1 - p))
    for program in (guide, as_built(guide)):
        assert_mean(gradient_draws(standard_normal, program, n=20_000)["logit"], exact)
    loss = RenyiELBO(alpha=0.5, num_particles=2)
    pair(standard_normal, guide, loss=loss)


@pytest.mark.parametrize("front_end", [lambda model: model, as_built], ids=["function", "built"])
def test_a_loop_that_draws_a_site_anew_is_refused(front_end):
    def model(given):
        m = pm.Normal("m")
        path = pytensor.scan(
            (lambda y, last, m: 0.5 * last + m * y)
            if given
            else (lambda y, last: 0.5 * last + m * y),
            sequences=[pt.arange(3.0)],
            outputs_info=[pt.zeros(())],
            non_sequences=[m] if given else [],
            return_updates=False,
        )
        pm.Normal("y", path, 1.0, observed=np.zeros(3))

    def guide():
        pm.Normal("m", param("loc", 0.3))

    pair(front_end(functools.partial(model, True)), guide)
    message = r"law of site 'y' has a loop .* refers to a draw \(of 'm'\) without.*non_sequences="
    with pytest.raises(PairingError, match=message):
        pair(front_end(functools.partial(model, False)), guide)


@pytest.mark.parametrize("name", ["model", "guide", "draws", "program", "loss", "args", "first"])
@pytest.mark.parametrize(
    "objective",
    [Trace_ELBO(), TraceMeanField_ELBO(), TraceGraph_ELBO(), TraceEnum_ELBO(), RenyiELBO(0.5, 2)],
    ids=lambda objective: type(objective).__name__,
)
def test_arguments_of_programs_have_any_names(name, objective):
    def model(**data):
        mu = pm.Normal("mu", 0.0, 1.0)
        pm.Normal("y", mu, 1.0, observed=data[name])

    def guide(**data):
        pm.Normal("mu", param("loc", 0.0), 1.0)

    loss = objective.loss(model, guide, **{name: np.zeros(2)})
    assert loss.value.ndim == 0
