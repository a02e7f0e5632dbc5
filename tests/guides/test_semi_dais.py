"""``AutoSemiDAIS``: local sites by annealed importance sampling, global ones by another guide."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from scipy.integrate import quad

from pymc_svi import SVI, Trace_ELBO, constraints, handlers, optim, param, plate, subsample
from pymc_svi.errors import SiteError
from pymc_svi.guides import AutoGuideList, AutoNormal, AutoSemiDAIS
from tests.checks import assert_mean
from tests.guides.checks import elbo_draws

Y = np.array([0.4, 2.1, 0.9, 1.3])


def waiting(batch=None):
    """Exponential waiting times, each with a rate of its own; rates have a common scale."""
    theta = pm.Gamma("theta", 2.0, 1.0)
    with plate("N", len(Y), subsample_size=batch):
        rate = pm.Exponential("rate", theta)
        pm.Exponential("y", rate, observed=subsample(Y))


def evidence() -> float:
    """By quadrature over theta; the rates are integrated out exactly."""
    return quad(lambda t: t * np.exp(-t) * np.prod(t / (t + Y) ** 2), 0, np.inf)[0]


def global_guide(batch=None):
    """Close to the marginal posterior of theta, so that weights are not wild."""
    pm.LogNormal("theta", param("loc", 0.5), param("sd", 0.6, constraint=constraints.positive))


def local_guide(batch=None):
    """Near the posterior of a rate at theta = 1.6, with heavier tails."""
    with plate("N", len(Y), subsample_size=batch):
        center = np.log(2.0) - np.log(1.6 + subsample(Y))
        pm.LogNormal("rate", center + param("shift", -0.2), 0.8)


MOVING = {"K": 2, "eta_init": 0.3, "eta_max": 1.0, "init_scale": 0.8}


def start_of(guide, *args, **changes):
    trace = handlers.trace(guide).get_trace(*args)
    return {n: s.value.eval() for n, s in trace.params.items()} | changes


def full_size(guide):
    """Params of a run on all data; those of a minibatch show only its rows."""
    params = start_of(guide)
    if "auto_z_0_loc" in params:
        params["auto_z_0_loc"] = np.array([[0.0], [-0.8], [-0.3], [-0.5]])
    return params


@pytest.mark.parametrize(
    ("local", "shared"),
    [
        (None, False),
        (None, True),
        (local_guide, False),
        (AutoNormal(handlers.block(waiting, expose=["rate"]), prefix="base", init_scale=0.8), True),
    ],
)
def test_weights_average_to_the_evidence(local, shared):
    guide = AutoSemiDAIS(
        waiting, None, global_guide, local, use_global_dais_params=shared, **MOVING
    )
    params = full_size(guide)
    assert params["auto_gamma"].shape == (() if shared else (4,))
    elbo = elbo_draws(waiting, guide, params, n=40_000)
    assert_mean(np.exp(elbo), evidence())


@pytest.mark.parametrize("local", [None, local_guide])
def test_bound_of_minibatches_is_that_of_all_data_on_average(local):
    guide = AutoSemiDAIS(waiting, None, global_guide, local, **MOVING)
    params = full_size(guide)
    full = elbo_draws(waiting, guide, params, n=40_000).mean()
    small = elbo_draws(waiting, guide, params, 1, n=40_000, seed=8)
    assert_mean(small, full, standard_errors=4)


def pairs(batch=None):
    """Local sites only: two of them in each repetition, with correlation 0.9."""
    with plate("N", 2, subsample_size=batch):
        a, b = pm.Normal("a"), pm.Normal("b")
        quadratic = (a**2 - 1.8 * a * b + b**2) / 0.19
        prior = -0.5 * (a**2 + b**2)
        pm.Potential("target", -0.5 * (quadratic + np.log(0.19)) - prior)


@pytest.mark.slow
def test_bound_of_minibatches_beats_mean_field():
    guide = AutoSemiDAIS(pairs, K=3, eta_init=0.05, use_global_dais_params=True)
    rate = optim.exponential_decay(0.05, 4_000, 0.01)
    svi = SVI(pairs, guide, optim.Adam(rate), Trace_ELBO(num_particles=4))
    result = svi.run(4_000, 1, random_seed=0, progressbar=False)
    elbo = elbo_draws(pairs, guide, result.params)
    error = elbo.std() / np.sqrt(len(elbo))
    mean_field = np.log(0.19)  # half of it in each repetition, exactly; the evidence is one
    assert mean_field + 0.4 < elbo.mean() < 3.5 * error


def test_draws_of_all_sites_come_with_their_shapes():
    guide = AutoSemiDAIS(waiting, None, global_guide, **MOVING)
    params = full_size(guide)
    draws = guide.sample_posterior(params, 30, random_seed=1)
    assert {name: value.shape for name, value in draws.items()} == {"theta": (30,), "rate": (30, 4)}
    assert (draws["rate"] > 0).all()
    assert guide.median(params)["rate"].shape == (4,)


def test_rows_of_vector_sites_at_another_plate_dim():
    def model():
        with plate("N", 3, dim=-2), plate("M", 2):
            pm.Dirichlet("p", np.ones(3), shape=(3, 2, 3))

    trace = handlers.trace(AutoSemiDAIS(model, K=1, subsample_plate="N")).get_trace()
    assert trace["auto_z_0_loc"].shape == (3, 4)
    np.testing.assert_allclose(trace["p"].value.eval().sum(axis=-1), 1.0)


# --- mistakes ---------------------------------------------------------------------------------


def test_global_sites_need_a_guide():
    with pytest.raises(
        SiteError, match="no sites in the guide. Expected: 'theta'.*expose=\\['theta"
    ):
        handlers.trace(AutoSemiDAIS(waiting)).get_trace()


def test_a_global_guide_that_draws_local_sites_is_refused():
    guide = AutoSemiDAIS(waiting, None, AutoNormal(waiting))
    with pytest.raises(SiteError, match="outside of plate 'N', and no others.*'theta', 'rate'"):
        handlers.trace(guide).get_trace()


def test_a_local_guide_of_other_sites_is_refused():
    guide = AutoSemiDAIS(waiting, None, global_guide, lambda: None)
    with pytest.raises(SiteError, match="local guide draws the latent sites of plate 'N'"):
        handlers.trace(guide).get_trace()


def test_a_model_without_local_sites_is_referred_to_autodais():
    def model():
        pm.Normal("x")

    with pytest.raises(SiteError, match="needs one plate with latent sites.*Use AutoDAIS"):
        handlers.trace(AutoSemiDAIS(model)).get_trace()


def test_two_plates_need_a_choice():
    def model():
        with plate("N", 3, subsample_size=1):
            pm.Normal("x")
        with plate("M", 2, subsample_size=1):
            pm.Normal("z")

    with pytest.raises(SiteError, match="in the plates 'N', 'M'. Choose one with subsample_plate"):
        handlers.trace(AutoSemiDAIS(model)).get_trace()


def test_data_in_another_subsampled_plate_are_refused():
    def model():
        with plate("N", 3, subsample_size=1):
            pm.Normal("x")
        with plate("M", 2, subsample_size=1):
            pm.Normal("y", observed=subsample(np.zeros(2)))

    with pytest.raises(SiteError, match="site 'y' is in another subsampled plate, 'M'"):
        handlers.trace(AutoSemiDAIS(model)).get_trace()


def test_guides_of_the_wrong_type_are_refused():
    with pytest.raises(TypeError, match="AutoSemiDAIS: global_guide is a guide or None. Found: 3"):
        AutoSemiDAIS(waiting, None, 3)


def test_it_cannot_be_a_part_of_a_list():
    with pytest.raises(TypeError, match="AutoSemiDAIS cannot be a part"):
        AutoGuideList(waiting).append(AutoSemiDAIS(waiting))
