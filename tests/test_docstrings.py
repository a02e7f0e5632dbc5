"""Everything public says what it takes, gives and raises, and shows an example that is run."""

from __future__ import annotations

import inspect

import pytest

import pymc_svi
from tests.docstrings import (
    MODULES,
    bare_entries,
    constructor,
    described_parameters,
    doctests,
    entries,
    gives_a_value,
    is_record,
    parameters,
    public_methods,
    public_objects,
    raised,
    sections,
)

OBJECTS = public_objects()
METHODS = {
    f"{name}.{method}": function
    for name, item in OBJECTS.items()
    if inspect.isclass(item)
    for method, function in public_methods(item)
}
FUNCTIONS = {n: item for n, item in OBJECTS.items() if not inspect.isclass(item)} | METHODS
CLASSES = {n: item for n, item in OBJECTS.items() if inspect.isclass(item)}


def each(items):
    return pytest.mark.parametrize("item", [pytest.param(i, id=n) for n, i in items.items()])


@each(OBJECTS | METHODS)
def test_a_docstring_begins_with_one_sentence_on_a_line(item):
    first, *rest = sections(item)[""].splitlines()
    assert first.endswith((".", "]_.")) and (not rest or not rest[0])


@each(FUNCTIONS | {n: c for n, c in CLASSES.items() if constructor(c)})
def test_the_parameters_described_are_those_of_the_signature(item):
    taken, described = parameters(item), described_parameters(item)
    if inspect.isclass(item) and is_record(item):
        assert set(taken) <= set(described)  # and properties
        return
    if taken and taken[-1].startswith("**"):
        # They may come right after *args, or be described one by one under their own names.
        assert [name for name in described if name in taken[:-1]] == taken[:-1]
        others = [name for name in described if name not in taken[:-1]]
        assert others == [taken[-1]] or (others and not any(n.startswith("*") for n in others))
        return
    assert described == taken


@each(OBJECTS | METHODS)
def test_each_entry_is_described(item):
    there = sections(item)
    for heading in ("Parameters", "Attributes", "Returns", "Yields", "Raises"):
        assert bare_entries(there.get(heading, "")) == []


@each(FUNCTIONS)
def test_what_is_returned_is_described(item):
    described = {"Returns", "Yields"} & sections(item).keys()
    assert described or not gives_a_value(item)


@each(FUNCTIONS | {n: c for n, c in CLASSES.items() if "__init__" in vars(c) and not is_record(c)})
def test_the_errors_raised_are_described(item):
    function = constructor(item) if inspect.isclass(item) else item
    if function is not None:
        assert raised(function) <= set(entries(sections(item).get("Raises", "")))


@each({n: i for n, i in OBJECTS.items() if not (n in CLASSES and issubclass(i, Exception))})
def test_there_is_an_example_that_the_doctest_run_executes(item):
    assert "Examples" in sections(item)
    assert f"{item.__module__}.{item.__qualname__}" in doctests(item.__module__)


def test_every_public_subpackage_is_looked_at():
    named = {name for name in pymc_svi.__all__ if inspect.ismodule(getattr(pymc_svi, name))}
    homes = {item.__module__.split(".")[1] for item in OBJECTS.values()}
    # The rest are files around a class that is public in pymc_svi itself.
    assert named <= set(MODULES)
    assert homes - set(MODULES) == {"engine", "fit", "primitives", "svi"}


def takes(x, *args, scale=1.0, **kwargs):
    """Return something.

    Parameters
    ----------
    x : float
        A number.
    *args, **kwargs
        Others.
    scale : float
        Another.

    Raises
    ------
    TypeError
        If it is wrong.
    """
    if x:
        raise TypeError("wrong")
    _check(x)
    return [y for y in args]


def _check(x):
    if x is None:
        raise ValueError("none")


def gives_none(x):
    """Return nothing."""

    def inner():
        return x

    inner()
    return None


def test_the_checker_reads_docstrings_and_code():
    assert entries(sections(takes)["Parameters"]) == ["x", "*args", "**kwargs", "scale"]
    assert parameters(takes) == ["x", "*args", "scale", "**kwargs"]
    assert raised(takes) == {"TypeError", "ValueError"}
    assert bare_entries("x : float\ny : float\n    A number.") == ["x : float"]
    assert bare_entries("x : float\n    A number.\n\ny : float") == ["y : float"]
    assert gives_a_value(takes) and not gives_a_value(gives_none)
    assert described_parameters(gives_none) == [] and parameters(gives_none) == ["x"]
