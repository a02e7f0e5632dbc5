"""One switch decides what the checks of a model and guide pair do."""

import pymc as pm
import pytest

from pymc_svi import SVI, param
from pymc_svi.errors import PairingError


def model():
    pm.HalfNormal("x")


def guide():
    pm.Normal("x", param("loc", 0.0), 1.0)


def test_a_mismatch_is_an_error_by_default():
    with pytest.raises(PairingError, match="'x' has a smaller support in the model"):
        SVI(model, guide).build_loss()


def test_validate_warn_warns_of_it():
    with pytest.warns(UserWarning, match="'x' has a smaller support in the model"):
        SVI(model, guide, validate="warn").build_loss()


@pytest.mark.filterwarnings("error")
def test_validate_off_is_silent():
    SVI(model, guide, validate="off").build_loss()


def test_unknown_level_is_refused():
    with pytest.raises(ValueError, match="'off', 'warn' or 'error'"):
        SVI(model, guide, validate="strict")
