"""Places that do not exist are errors in compiled steps, which neither read nor write there."""

import re

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi import SVI, DataLoader, Predictive, Trainer, log_likelihood, param
from pymc_svi.engine import training_mode
from pymc_svi.errors import SiteError
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.guides import AutoNormal

ROWS = pt.lvector("rows")
LOOKED_UP = {
    "fused with what is computed": lambda x: (x[ROWS] - 1.0) ** 2,
    "alone": lambda x: x[ROWS],
    "in columns": lambda x: pt.exp(x[:, ROWS]),
    "by element": lambda x: pt.exp(x[ROWS, pt.arange(3)]),
    "by element, of several": lambda x: pt.exp(x[ROWS, 0] + x[ROWS, 1]) * x[pt.arange(3), ROWS],
    "by a matrix": lambda x: pt.exp(x[pt.stack([ROWS, ROWS])]),
}


@pytest.mark.parametrize(
    ("case", "shape"),
    [("fused with what is computed", (4, 4)), *((case, (None, None)) for case in LOOKED_UP)],
)
def test_a_place_that_does_not_exist_is_an_error(case, shape):
    x = pt.tensor("x", shape=shape, dtype="float64")
    value = LOOKED_UP[case](x)
    outputs = [value, pt.grad(value.sum(), x)]
    mine, expected = (
        pytensor.function([x, ROWS], outputs, mode=mode)
        for mode in (training_mode(), evaluation_mode())
    )
    values = np.arange(16.0).reshape(4, 4) / 16
    for place in (3, -4):  # the last and the first
        rows = np.array([0, 2, place])
        for a, b in zip(mine(values, rows), expected(values, rows), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)
    for place in (4, -5, 10**9):
        with pytest.raises(IndexError, match=str(place)):
            mine(values, np.array([0, 2, place]))


def model(group, y):
    level = pm.Normal("level", shape=3)
    pm.Normal("y", level[group], 1.0, observed=y)


Y = np.arange(12.0)
GROUP = np.arange(12) % 3


@pytest.mark.parametrize("kind", ["function", "built", "generator"])
def test_a_label_of_a_later_batch_that_is_too_large_is_named(kind):
    group = np.where(np.arange(12) == 10, 3, GROUP)
    data = {"group": group, "values": Y}

    def program(group, values):
        model(group, values)

    if kind == "built":
        with pm.Model() as program:
            model(pm.Data("group", GROUP), pm.Data("values", Y))
    if kind == "generator":
        batches = ({n: v[i : i + 4] for n, v in data.items()} for i in range(0, 12, 4))
        loader = DataLoader(batches, total_size=12)
    else:
        loader = DataLoader(data, 4, shuffle=False)
    message = "Index 3 is out of bounds for an axis with 3: 'group' in the batch of step 2"
    with pytest.raises(IndexError, match=message):
        Trainer(SVI(program, AutoNormal(program)), loader).fit(n=3)


def test_a_site_that_looks_up_a_label_that_is_too_large_is_named():
    message = r"Site 'y' cannot be computed.*index 3 is out of bounds.*Labels count from 0"
    with pytest.raises(SiteError, match=message):
        SVI(model, AutoNormal(model)).run(1, GROUP + 1, Y, progressbar=False)


def test_labels_of_all_rows_are_checked_before_the_first_step():
    def guide(group, y):
        pm.Normal("level", param("loc", np.zeros(3)), 1.0)

    with pytest.raises(IndexError, match="Index 3 is out of bounds for an axis with 3: 'group'"):
        SVI(model, guide).run(1, group=GROUP + 1, y=Y, progressbar=False)


def test_a_label_that_a_loop_of_the_model_looks_up_is_an_error():
    def looped(group, y):
        level = pm.Normal("level", shape=3)
        means = pytensor.scan(lambda g, level: level[g], group, None, level, return_updates=False)
        pm.Normal("y", means, 1.0, observed=y)

    def guide(group, y):
        pm.Normal("level", param("loc", np.zeros(3)), 1.0)

    message = "One of the steps 0 to 1 looks up what does not exist.*Labels count from 0"
    with pytest.raises(IndexError, match=message):
        SVI(looped, guide).run(2, GROUP + 1, Y, progressbar=False)


def test_labels_that_are_too_large_are_named_after_the_fit_too():
    svi = SVI(model, AutoNormal(model))
    result = svi.run(2, GROUP, Y, random_seed=0, progressbar=False)
    samples = result.sample_posterior(5, random_seed=1)
    message = "Index 3 is out of bounds for an axis with 3: 'group'. Labels count from 0"
    for call in (
        lambda: svi.evaluate(result.state, GROUP + 1, Y),
        lambda: result.diagnose(100, GROUP + 1, Y),
        lambda: result.sample_posterior_predictive(GROUP + 1, None, draws=5),
        lambda: result.sample_posterior_predictive(group=GROUP + 1, y=None, draws=200),
        lambda: log_likelihood(model, samples, GROUP + 1, Y),
        lambda: Predictive(model, samples)(GROUP + 1, None),
    ):
        with pytest.raises(IndexError, match=message):
            call()


def test_labels_that_are_floats_are_named():
    def fit(group):
        loader = DataLoader({"group": group, "y": Y}, 4)
        return Trainer(SVI(model, AutoNormal(model)), loader).fit(n=1)

    message = "those of 'group', 'y' are stored as floats. Pass group.astype"
    with pytest.raises(TypeError, match="index must be integers") as raised:
        fit(GROUP.astype(float))
    assert re.search(message, "".join(raised.value.__notes__))
    with pytest.raises(TypeError) as raised:
        fit(GROUP + 0.5)
    assert "Pass group" not in "".join(raised.value.__notes__)
