"""The models of the benchmark of likelihoods are what their names say."""

import numpy as np
import pytest

from benchmarks.likelihoods.models import build
from benchmarks.likelihoods.problem import COLUMNS, LIKELIHOODS, ROWS, data


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_has_data_and_a_density_that_is_finite(likelihood):
    X, y = data(likelihood)
    assert X.shape == (ROWS, COLUMNS) and y.shape == (ROWS,)
    assert all(np.array_equal(a, b) for a, b in zip(data(likelihood), (X, y), strict=True))
    model = build(likelihood)
    function = model.compile_fn(model.logp(), inputs=model.value_vars, mode="FAST_COMPILE")
    density = function(model.initial_point())
    assert np.isfinite(density)


def test_an_unknown_likelihood_is_an_error():
    with pytest.raises(KeyError, match="stable"):
        build("stable")
