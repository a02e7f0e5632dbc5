"""What one module needs of another has no leading underscore.

The checker reads the source and imports nothing. A private name is for the module that defines it
(another object of the same class may be looked into) and for subclasses, on ``self``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pymc_svi"

# What PyMC, PyTensor and numba offer under no public name, each used in one place only, where a
# comment says what for.
FOREIGN = {
    ("engine/linker.py", "_cache"),
    ("gradients/multivariate.py", "_LKJCholeskyCovRV"),
    ("handlers/distributions.py", "_default_transform"),
}


def private_uses(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of each use of a private name that the source does not define."""
    nodes = list(ast.walk(ast.parse(source)))
    own = set(defined_names(nodes))
    for node in nodes:
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            of_self = ast.unparse(node.value) in ("self", "cls", "super()")
            if not of_self and node.attr not in own:
                yield node.lineno, node.attr
        if isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, a.name) for a in node.names if is_private(a.name))


def defined_names(nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the names of functions, classes and of what is assigned, also on ``self``."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def test_no_module_uses_a_private_name_of_another_but_the_foreign_ones():
    uses = {
        (path.relative_to(PACKAGE).as_posix(), name): f"line {line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, name in private_uses(path.read_text(encoding="utf-8"))
    }
    assert uses.keys() == FOREIGN, uses


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from a import _b", ["_b"]),
        ("import a\na._b()", ["_b"]),
        ("x = svi._mode", ["_mode"]),
        ("class A:\n    def f(self, other):\n        return other._f\n    def _f(self): ...", []),
        ("class A:\n    def __init__(self, other):\n        self._x = other._x", []),
        ("class A(B):\n    def f(self):\n        return self._of_b + super()._of_b", []),
        ("class A(B):\n    def f(self, other):\n        return other._of_b", ["_of_b"]),
        ("from __future__ import annotations\nx.__dict__", []),
    ],
)
def test_the_checker_sees_a_private_name(source, expected):
    assert [name for _, name in private_uses(source)] == expected
