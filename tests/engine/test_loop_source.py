"""Loops that are written out do what PyTensor's own do."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.scan.op import Scan

from pymc_svi.engine import training_mode
from pymc_svi.engine.loop_source import is_loop
from pymc_svi.evaluation import evaluation_mode

XS = np.linspace(-1.0, 1.0, 24).reshape(8, 3)


def sums(x, start):
    """Everything so far, of vectors."""
    return pytensor.scan(
        lambda row, last: last + row, sequences=[x], outputs_info=[start], return_updates=False
    )


def backwards(x, start):
    return pytensor.scan(
        lambda row, last: pt.tanh(last + row),
        sequences=[x],
        outputs_info=[start],
        go_backwards=True,
        return_updates=False,
    )


def only_the_last(x, start):
    return sums(x, start)[-1]


def only_the_last_two(x, start):
    return sums(x, start)[-2:]


def without_start(x, start):
    return pytensor.scan(
        lambda row, s: (row * s).sum(), sequences=[x], non_sequences=[start], return_updates=False
    )


def rows_of_unknown_length(x, start):
    return pytensor.scan(
        lambda row, s: pt.concatenate([row, s]), sequences=[x], non_sequences=[start],
        return_updates=False,
    )  # fmt: skip


def two_lags_of_numbers(x, start):
    return pytensor.scan(
        lambda now, before, last, older: 0.5 * last - 0.2 * older + now * before,
        sequences=[{"input": x[:, 0], "taps": [0, -1]}],
        outputs_info=[{"initial": start[:2], "taps": [-1, -2]}],
        return_updates=False,
    )


def two_lags_of_matrices(x, start):
    first = pt.stack([start[:, None] * start, pt.eye(3)])
    return pytensor.scan(
        lambda row, last, older: pt.tanh(last @ older) + row,
        sequences=[x],
        outputs_info=[{"initial": first, "taps": [-1, -2]}],
        return_updates=False,
    )


def several_at_once(x, start):
    found = pytensor.scan(
        lambda row, a, b: (a + row, b * 0.5 + a.sum(), row.max()),
        sequences=[x],
        outputs_info=[start, pt.zeros(()), None],
        return_updates=False,
    )
    return pt.concatenate([found[0].ravel(), found[1], found[2]])


def nested_with_inputs_of_one_type(x, start):
    """The inner graphs of both loops have the same variables."""

    def outer(row, state, factor):
        inner = pytensor.scan(
            lambda r, last, f: pt.tanh(last + r * f),
            sequences=[row * x], outputs_info=[state], non_sequences=[factor], return_updates=False,
        )  # fmt: skip
        return inner[-1] * row - state * factor + 0.1 * state

    return pytensor.scan(
        outer, sequences=[x], outputs_info=[start], non_sequences=[0.5 * start],
        return_updates=False,
    )  # fmt: skip


def nested(x, start):
    def step(row, last):
        inner = pytensor.scan(
            lambda v, s: s * 0.9 + v,
            sequences=[row],
            outputs_info=[last.sum()],
            return_updates=False,
        )
        return last * 0.5 + inner

    return pytensor.scan(step, sequences=[x], outputs_info=[start], return_updates=False)


LOOPS = [
    sums, backwards, only_the_last, only_the_last_two, without_start, rows_of_unknown_length,
    two_lags_of_numbers, two_lags_of_matrices, several_at_once, nested,
    nested_with_inputs_of_one_type,
]  # fmt: skip


def outputs_of(loop, known):
    x = pt.tensor("x", shape=(8, 3) if known else (None, 3))
    start = pt.tensor("start", shape=(3,))
    value = loop(x, start)
    return [x, start], [value, *pytensor.grad((value**2).sum(), [x, start])]


UNKNOWN = [sums, only_the_last_two, rows_of_unknown_length, two_lags_of_numbers]


@pytest.mark.parametrize(
    "loop, known",
    [*((loop, True) for loop in LOOPS), *((loop, False) for loop in UNKNOWN)],
    ids=lambda value: getattr(value, "__name__", "known length" if value else "unknown length"),
)
def test_values_and_gradients_are_those_of_pytensors_loops(loop, known):
    inputs, outputs = outputs_of(loop, known)
    mine = pytensor.function(inputs, outputs, mode=training_mode())
    theirs = pytensor.function(inputs, outputs, mode=evaluation_mode())
    scans = [n for n in mine.maker.fgraph.apply_nodes if isinstance(n.op, Scan)]
    assert scans and all(map(is_loop, scans))
    for n in (8,) if known else (8, 2):
        for _ in range(2):  # the inputs are left alone
            for a, b in zip(mine(XS[:n], XS[2]), theirs(XS[:n], XS[2]), strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_loop_that_ends_by_a_condition_is_pytensors():
    from pytensor.scan.utils import until

    values = pytensor.scan(
        lambda last: (last * 2.0, until(last > 20.0)),
        outputs_info=[pt.constant(1.0)],
        n_steps=100,
        return_updates=False,
    )
    function = pytensor.function([], values, mode=training_mode())
    assert not any(is_loop(node) for node in function.maker.fgraph.apply_nodes)
    np.testing.assert_allclose(function(), [2.0, 4.0, 8.0, 16.0, 32.0, 64.0])


def test_a_step_that_returns_another_shape_is_refused():
    lengths = pt.lvector("lengths")
    rows = pytensor.scan(lambda n: pt.arange(n), sequences=[lengths], return_updates=False)
    function = pytensor.function([lengths], rows, mode=training_mode())
    assert function([2, 2]).shape == (2, 2)
    with pytest.raises(ValueError, match="a step returns another shape than the step before"):
        function([2, 3])
