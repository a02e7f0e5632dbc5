"""Checks of plates, and the switch for all checks."""

from __future__ import annotations

import warnings

import numpy as np
import pymc as pm
import pytest

from pymc_svi import plate
from pymc_svi.config import complain, validation
from pymc_svi.errors import PairingError, SiteError
from pymc_svi.handlers import check_plates, check_plates_match, trace


def forgotten_plate():
    with plate("rows", 3):
        pm.Normal("x", np.zeros((2, 3)), 1.0)


def full(name="N", size=4, part=None):
    def program():
        with plate(name, size, subsample_size=part):
            pm.Normal("x")

    return trace(program).get_trace()


def test_a_batch_dimension_without_a_plate_warns():
    with pytest.warns(UserWarning, match="'x' has 2 repetitions along dim=-2.*no plate.*'rows'"):
        check_plates(trace(forgotten_plate).get_trace())


def test_programs_without_plates_and_with_all_plates_pass():
    def program():
        pm.Normal("free", shape=(2, 3))
        with plate("columns", 3), plate("rows", 2):
            pm.MvNormal("x", np.zeros(4), np.eye(4))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_plates(trace(program).get_trace())


def test_a_plate_of_the_guide_only_warns_with_a_suggestion():
    with pytest.warns(UserWarning, match="plate 'rwos' that the model does not have.*'rows'"):
        check_plates_match(full("rows"), full("rwos"))


@pytest.mark.parametrize("size, part", [(5, None), (4, 2)])
def test_a_plate_of_other_sizes_in_the_guide_is_refused(size, part):
    with pytest.raises(PairingError, match="'N' has different sizes"):
        check_plates_match(full(), full(size=size, part=part))


def test_one_switch_turns_all_checks_off_or_into_warnings_or_errors():
    run, other = trace(forgotten_plate).get_trace(), full(size=5)
    with validation("off"), warnings.catch_warnings():
        warnings.simplefilter("error")
        check_plates(run)
        check_plates_match(full(), other)
    with validation("error"), pytest.raises(SiteError):
        check_plates(run)
    with validation("warn"), pytest.warns(UserWarning, match="different sizes"):
        check_plates_match(full(), other)
    with validation("error"), validation(None), pytest.raises(SiteError):
        check_plates(run)


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="unknown level.*'strict'"):
        with validation("strict"):
            pass
    complain("silent", ValueError, default="off")
