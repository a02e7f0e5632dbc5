"""The density of a traced program is the density that PyMC compiles."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from pymc_svi.handlers import condition, trace
from pymc_svi.handlers.log_prob import as_plain_tensor
from tests.handlers.catalogue import DISTRIBUTIONS, MODELS, Entry

CATALOGUE = MODELS | {f"just {name}": Entry(program) for name, program in DISTRIBUTIONS.items()}


def random_point(model: pm.Model, seed: int = 5) -> tuple[dict, dict]:
    """Draw the latent variables: their values, and PyMC's unconstrained values for them."""
    rvs = model.free_RVs
    free = []
    for rv in rvs:
        transform = model.rvs_to_transforms[rv]
        free.append(rv if transform is None else transform.forward(rv, *rv.owner.inputs))
    try:
        draws = pm.draw(
            [as_plain_tensor(v) for v in (*rvs, *free)], random_seed=seed, mode="FAST_COMPILE"
        )
        values, start = draws[: len(rvs)], draws[len(rvs) :]
    except NotImplementedError:  # Flat and others cannot be drawn
        start = [np.nan]
    if not all(np.isfinite(v).all() for v in start):  # or are drawn without their transform
        point = model.initial_point(random_seed=seed)
        start = [point[value.name] for value in model.value_vars]
        constrain = pm.compile(
            model.value_vars,
            [as_plain_tensor(v) for v in model.replace_rvs_by_values(rvs)],
            mode="FAST_COMPILE",
            on_unused_input="ignore",
        )
        values = constrain(**point)
    names = [rv.name for rv in rvs]
    value_names = [value.name for value in model.value_vars]
    return dict(zip(names, values, strict=True)), dict(zip(value_names, start, strict=True))


def evaluated(expression) -> float:
    return float(expression.eval(mode="FAST_COMPILE"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CATALOGUE)
def test_log_prob_sum_at_a_point_is_pymcs_log_density_there(name):
    entry = CATALOGUE[name]
    model = entry.built()
    values, unconstrained = random_point(model)
    log_density = model.compile_logp(jacobian=False, mode="FAST_COMPILE")
    expected = float(log_density(unconstrained))
    assert np.isfinite(expected)
    with pm.Model(coords=entry.coords):
        run = trace(condition(entry.program, data=values)).get_trace()
    np.testing.assert_allclose(evaluated(run.log_prob_sum()), expected, rtol=1e-7)
    walked = trace(condition(model, data=values)).get_trace()
    np.testing.assert_allclose(evaluated(walked.log_prob_sum()), expected, rtol=1e-7)
    assert set(run) == set(walked)
