"""Fits leave nothing behind that makes the next one slower."""

import gc

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Variable

from pymc_svi import SVI, optim
from pymc_svi.engine import training_mode
from pymc_svi.guides import AutoNormal


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "inside an operation"])
def test_traces_of_a_constant_do_not_grow_with_each_compilation(inside):
    zero = pt.constant(0.0)
    mode = training_mode(Mode("py", "fast_run"))
    for number in range(6):
        x = pt.dscalar("x")
        y = pt.switch(x > number, zero, zero) + x
        if inside:
            y = OpFromGraph([x], [y], inline=True)(x)
        assert pytensor.function([x], y, mode=mode)(1.5) == 1.5
    assert len(zero.tag.trace) == 0  # 728 in PyTensor's mode


def longest_trace() -> int:
    variables = (each for each in gc.get_objects() if issubclass(type(each), Variable))
    return max(len(getattr(variable.tag, "trace", [])) for variable in variables)


def test_traces_do_not_grow_with_each_fit():
    def model():
        sd = pm.HalfNormal("sd", 2.0)
        pm.Uniform("share", 0.0, sd)
        pm.Normal("y", 0.0, sd, observed=np.ones(2))

    gc.collect()
    before = longest_trace()
    gc.disable()  # what a large heap amounts to: it is seldom searched
    try:
        for _ in range(5):
            svi = SVI(
                model, AutoNormal(model), optim.SGD(0.1), compile_kwargs={"mode": "FAST_COMPILE"}
            )
            svi.run(1, progressbar=False)
        assert longest_trace() < before + 16
    finally:
        gc.enable()
