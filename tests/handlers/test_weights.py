"""``scale``, ``mask`` and ``infer_config``."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytest
from scipy import stats

from pymc_svi import factor, plate, sample
from pymc_svi.errors import SiteError
from pymc_svi.handlers import (
    condition,
    get_mask,
    get_plates,
    infer_config,
    mask,
    scale,
    trace,
)


def log_density(program, *args):
    run = trace(program).get_trace(*args)
    return float(run.log_prob_sum().eval(mode="FAST_COMPILE"))


def program():
    x = pm.Normal("x", 0.0, 1.0)
    pm.Normal("y", x, 2.0, observed=[1.0, 2.0, 3.0])


def built() -> pm.Model:
    with pm.Model() as model:
        program()
    return model


FRONT_ENDS = pytest.mark.parametrize("model", [program, built()], ids=["function", "built"])
AT = {"x": 0.5}
PRIOR = stats.norm(0, 1).logpdf(0.5)
LIKELIHOOD = stats.norm(0.5, 2).logpdf([1.0, 2.0, 3.0])


@FRONT_ENDS
def test_scale_multiplies_every_log_probability(model):
    scaled = condition(scale(model, scale=10.0), data=AT)
    np.testing.assert_allclose(log_density(scaled), 10 * (PRIOR + LIKELIHOOD.sum()))


@FRONT_ENDS
def test_nested_scales_multiply(model):
    scaled = scale(condition(scale(model, scale=2.0), data=AT), scale=3.0)
    np.testing.assert_allclose(log_density(scaled), 6 * (PRIOR + LIKELIHOOD.sum()))


def test_scale_as_a_context_concerns_the_statements_inside():
    def partly():
        x = pm.Normal("x", 0.0, 1.0)
        with scale(scale=10.0):
            pm.Normal("y", x, 2.0, observed=[1.0, 2.0, 3.0])

    expected = PRIOR + 10 * LIKELIHOOD.sum()
    np.testing.assert_allclose(log_density(condition(partly, data=AT)), expected)


def test_a_built_model_keeps_the_scale_and_the_mask_it_was_built_under():
    with pm.Model() as model:
        x = pm.Normal("x", 0.0, 1.0)
        with scale(scale=10.0), mask(mask=np.array([True, True, False])):
            pm.Normal("y", x, 2.0, observed=[1.0, 2.0, 3.0])
    expected = PRIOR + 10 * LIKELIHOOD[:2].sum()
    np.testing.assert_allclose(log_density(condition(model, data=AT)), expected)


def test_a_symbolic_scale_can_change_after_the_trace_was_taken():
    weight = pytensor.shared(1.0)
    total = trace(condition(scale(program, scale=weight), data=AT)).get_trace().log_prob_sum()
    compute = pytensor.function([], total, mode="FAST_COMPILE")
    before = compute()
    weight.set_value(0.25)
    np.testing.assert_allclose(compute(), before / 4)


@pytest.mark.parametrize("bad", [0.0, -1.0, [1.0, 0.0]])
def test_a_scale_that_is_not_positive_is_refused(bad):
    with pytest.raises(ValueError, match="must be positive.*mask"):
        scale(scale=bad)


def test_a_scale_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="not a number"):
        scale(scale="2")


@FRONT_ENDS
def test_masked_elements_contribute_nothing(model):
    masked = condition(mask(model, mask=np.array([True, False, True])), data=AT)
    run = trace(masked).get_trace()
    expected = np.where([True, False, True], LIKELIHOOD, 0.0)
    np.testing.assert_allclose(run["y"].log_prob.eval(mode="FAST_COMPILE"), expected)


def test_mask_and_scale_combine_as_one_computes_by_hand():
    rows = np.array([True, False, True, True])
    data = np.array([0.1, 0.2, 0.3, 0.4])

    def masked():
        x = pm.Normal("x", 0.0, 1.0)
        with mask(mask=rows), scale(scale=2.0):
            pm.Normal("y", x, 1.0, observed=data)

    expected = PRIOR + 2 * stats.norm(0.5, 1).logpdf(data)[rows].sum()
    np.testing.assert_allclose(log_density(condition(masked, data=AT)), expected)


def test_masks_nest_by_and():
    run = trace(
        mask(mask(lambda: pm.Normal("y", observed=np.zeros(3)), mask=np.array([1, 1, 0]) > 0),
             mask=np.array([0, 1, 1]) > 0)
    ).get_trace()  # fmt: skip
    kept = run["y"].log_prob.eval(mode="FAST_COMPILE") != 0
    assert kept.tolist() == [False, True, False]


def test_a_masked_factor_of_minus_infinity_is_exactly_zero():
    def impossible():
        with mask(mask=False):
            factor("impossible", -np.inf)
        with mask(mask=np.array([False, False])):
            factor("also", np.array([-np.inf, np.nan]))

    assert log_density(impossible) == 0.0


@pytest.mark.parametrize("bad", [1.0, np.array([0, 1]), "yes"])
def test_a_mask_that_is_not_boolean_is_refused(bad):
    with pytest.raises(ValueError, match="True and False"):
        mask(mask=bad)


def test_a_mask_in_the_place_of_the_program_is_refused():
    with pytest.raises(TypeError, match="first argument must be a program"):
        mask(False)


@FRONT_ENDS
def test_infer_config_sets_options_of_the_sites_it_chooses(model):
    config = infer_config(model, lambda site: {"cost": 1} if site.name == "x" else None)
    run = trace(config).get_trace()
    assert run["x"].infer["cost"] == 1
    assert "cost" not in run["y"].infer


def test_a_built_model_keeps_infer_options():
    with pm.Model() as guide:
        sample("u", pm.Normal.dist(), infer={"is_auxiliary": True})
    assert trace(guide).get_trace()["u"].infer == {"is_auxiliary": True}


def test_a_program_can_ask_for_its_mask_and_its_plates():
    seen = []

    def program():
        seen.append((get_mask(), [frame.name for frame in get_plates()]))

    program()
    with mask(mask=True), plate("rows", 2):
        program()
        with mask(mask=np.array([True, False])), mask(mask=np.array([True, True])):
            program()
    assert [(None if m is None else np.asarray(m).tolist(), plates) for m, plates in seen] == [
        (None, []),
        (True, ["rows"]),
        ([True, False], ["rows"]),
    ]


@pytest.mark.parametrize(
    "handler, what",
    [
        (lambda p: mask(p, mask=np.array([True, False])), "mask"),
        (lambda p: scale(p, scale=np.ones(2)), "scale"),
    ],
)
def test_a_weight_of_the_wrong_shape_names_the_site(handler, what):
    def three():
        pm.Normal("y", 0.0, 1.0, observed=np.zeros(3))

    with pytest.raises(SiteError, match=rf"'y': the {what} does not fit.*\(2,\).*\(3,\)"):
        trace(handler(three)).get_trace().log_prob_sum()


@pytest.mark.parametrize("program", ["scalar", "factor", "vectors"])
def test_a_weight_that_would_count_a_site_several_times_is_refused(program):
    def statement():
        if program == "scalar":
            pm.Normal("x", 0.0, 1.0)
        elif program == "factor":
            factor("x", -1.0)
        else:
            pm.MvNormal("x", np.zeros(3), np.eye(3))  # one log-probability for three numbers

    for handler in (mask(mask=np.array([True, True, False])), scale(scale=np.ones(3))):
        with pytest.raises(SiteError, match=r"'x': .* does not fit.*\(3,\).*\(\).*its shape only"):
            trace(handler(statement)).get_trace().log_prob_sum()
