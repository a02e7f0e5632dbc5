"""Large arrays are overwritten where that is safe; small ones are not worth the search."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi.engine import training_mode


@pytest.mark.parametrize("shape, expected", [((4000,), True), ((None,), True), ((4,), False)])
def test_elementwise_operations_overwrite_large_inputs_only(shape, expected):
    n = shape[0] or 10
    state = pytensor.shared(np.ones(n), shape=shape)
    function = pytensor.function(
        [], [], updates={state: 2.0 * pt.sin(state)}, mode=training_mode("NUMBA")
    )
    nodes = function.maker.fgraph.apply_nodes
    assert any(node.op.destroy_map for node in nodes) is expected
    function()
    np.testing.assert_allclose(state.get_value(), 2.0 * np.sin(np.ones(n)))
