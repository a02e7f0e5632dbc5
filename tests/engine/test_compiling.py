"""Compiling pauses the garbage collector, and only then."""

import gc

import pytest

from pymc_svi.engine.compiling import compiled_at_first_call, uncollected


def test_the_collector_is_as_before_afterwards_also_after_an_error():
    assert gc.isenabled()
    with pytest.raises(ValueError, match="no"), uncollected():
        assert not gc.isenabled()
        raise ValueError("no")
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_only_the_first_successful_call_is_uncollected():
    enabled, fails = [], [True, False, False]

    def function(x):
        enabled.append(gc.isenabled())
        if fails.pop(0):
            raise ValueError("not yet")
        return x + 1

    call = compiled_at_first_call(function)
    with pytest.raises(ValueError):
        call(1)
    assert [call(1), call(2)] == [2, 3]
    assert enabled == [False, False, True]
