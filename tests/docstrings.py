"""What numpydoc docstrings say, and what the code under them does."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pymc_svi

# Beside pymc_svi itself: where programs outside import from.
MODULES = (
    "callbacks",
    "constraints",
    "data",
    "enumeration",
    "errors",
    "evaluation",
    "gradients",
    "guides",
    "handlers",
    "inspect",
    "objectives",
    "optim",
    "predictive",
    "relaxed",
    "reparam",
    "results",
    "trainer",
)

_HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


def public_objects() -> dict[str, Any]:
    """Return the public functions and classes by the name under which they are found first."""
    found: dict[str, Any] = {}
    seen = set()
    for module in (pymc_svi, *(importlib.import_module(f"pymc_svi.{m}") for m in MODULES)):
        for name in module.__all__:
            item = getattr(module, name)
            if (inspect.isroutine(item) or inspect.isclass(item)) and id(item) not in seen:
                seen.add(id(item))
                found[f"{module.__name__}.{name}".removeprefix("pymc_svi.")] = item
    return found


def public_methods(cls: type) -> Iterator[tuple[str, Callable]]:
    """Yield the public methods that a class introduces: those that no base of it has."""
    for name, item in vars(cls).items():
        item = item.__func__ if isinstance(item, classmethod | staticmethod) else item
        introduced = not any(hasattr(base, name) for base in cls.__bases__)
        if inspect.isfunction(item) and item.__name__ == name and introduced:
            if not name.startswith("_"):
                yield name, item


def sections(item: Any) -> dict[str, str]:
    """Return the sections of a docstring by their heading; what comes before under ''."""
    first, *rest = _HEADING.split(inspect.getdoc(item) or "")
    return {"": first, **dict(zip(rest[::2], rest[1::2], strict=True))}


def entries(section: str) -> list[str]:
    """Return the names that a section describes: ``x, y : float`` describes two."""
    lines = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return [name.strip() for line in lines for name in line.split(" : ")[0].split(",")]


def bare_entries(section: str) -> list[str]:
    """Return the entries that nothing is said about."""
    lines = [line for line in section.splitlines() if line.strip()]
    followed = zip(lines, [*lines[1:], ""], strict=False)
    return [line for line, after in followed if not (line.startswith(" ") or after.startswith(" "))]


def parameters(item: Any) -> list[str]:
    """Return the names of the parameters, with their stars; of a class, those of its constructor."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    function = constructor(item) if inspect.isclass(item) else item
    if function is None:
        return []
    found = inspect.signature(function).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in found if p.name not in ("self", "cls")]


def described_parameters(item: Any) -> list[str]:
    """Return the names that a docstring describes; of a record, those of its attributes."""
    there = sections(item)
    heading = "Attributes" if is_record(item) and "Parameters" not in there else "Parameters"
    return entries(there.get(heading, ""))


def is_record(item: Any) -> bool:
    """Whether this is a dataclass itself."""
    return "__dataclass_fields__" in vars(item)


def constructor(cls: type) -> Callable | None:
    """Return what a class is made with, if this package wrote it."""
    function = cls.__init__
    ours = getattr(function, "__module__", "").startswith(pymc_svi.__name__)
    return None if getattr(cls, "_is_protocol", False) or not ours else function


@cache
def body(item: Callable) -> list[ast.AST]:
    """Return the nodes of a function's body, without functions inside of it."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
                yield child
                yield from walk(child)

    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(item))))
    return list(walk(tree.body[0]))


def gives_a_value(item: Callable) -> bool:
    """Whether a function returns or yields something other than None."""
    return any(
        (isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None")
        or isinstance(node, ast.Yield | ast.YieldFrom)
        for node in body(item)
    )


def raised(item: Callable) -> set[str]:
    """Return the names of the errors that a function's own body raises.

    Those of the private functions of its file that it calls are its own too.
    """
    found = set()
    module = inspect.getmodule(inspect.unwrap(item))
    for node in body(item):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            error = ast.unparse(node.exc.func).rpartition(".")[2]
            if inspect.isclass(getattr(module, error, getattr(builtins, error, None))):
                found.add(error)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            helper = getattr(module, node.func.id, None)
            if node.func.id.startswith("_") and inspect.isfunction(helper):
                found |= raised(helper)
    return found - {"NotImplementedError", "AssertionError", "StopIteration"}


@cache
def doctests(module: str) -> frozenset[str]:
    """Return the names in a module whose examples the doctest run executes."""
    found = doctest.DocTestFinder().find(importlib.import_module(module), module)
    return frozenset(
        test.name for test in found if any(not ex.options.get(doctest.SKIP) for ex in test.examples)
    )
