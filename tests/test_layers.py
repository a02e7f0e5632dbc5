"""The package's imports go downwards, and never in a circle.

The checker reads the source and imports nothing. It counts every import, also those inside
functions, but not those under ``if TYPE_CHECKING``, which never run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pymc_svi"

# The layers from the bottom up, as names directly inside the package. A module imports from its
# own layer or below; pymc_svi/__init__.py is above all of them.
LAYERS = (
    {"constraints", "optim", "errors", "evaluation", "config", "stack_traces"},
    {"handlers", "primitives", "reparam"},
    {"gradients", "relaxed", "enumeration"},
    {"objectives", "guides"},
    {"engine"},
    {"svi", "results"},
    {"trainer", "fit", "data", "callbacks", "checkpoint", "predictive", "inspect"},
)


@dataclass(frozen=True)
class Import:
    """One module importing another, and where it says so."""

    importer: str
    imported: str
    where: str


def problems(package: Path, layers=LAYERS) -> list[str]:
    """Return a sentence for each import upwards, each circle and each name without a layer."""
    modules = find_modules(package)
    imports = [found for module in modules for found in imports_of(module, modules)]
    layer_of = {name: number for number, names in enumerate(layers) for name in names}

    def layer(module: str) -> int | None:
        _, _, inside = module.partition(".")
        return layer_of.get(inside.split(".")[0]) if inside else len(layers)

    homeless = sorted({m.split(".")[1] for m in modules if layer(m) is None})
    found = [
        f"{package.name}.{name} belongs to no layer: add {name!r} to LAYERS in tests/test_layers.py"
        for name in homeless
    ]
    for edge in imports:
        above, below = layer(edge.imported), layer(edge.importer)
        if above is not None and below is not None and above > below:
            found.append(
                f"{edge.where}: {edge.importer} (layer {below}) imports {edge.imported} "
                f"(layer {above}), an import upwards"
            )
    circle = find_circle(imports)
    if circle:
        found.append(f"modules import each other in a circle: {' -> '.join(circle)}")
    return found


def find_modules(package: Path) -> dict[str, Path]:
    """Return the files of a package by module name."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imports_of(module: str, modules: dict[str, Path]) -> Iterator[Import]:
    """Yield what a module imports from its own package, the packages that this runs included."""
    path = modules[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    root = module.split(".")[0]
    for node in running_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        for name in imported_names(node, package, modules):
            if name.split(".")[0] != root:
                continue
            # `import a.b.c` runs a/__init__ and a.b/__init__ before; around the importer they
            # are running already.
            parts = name.split(".")
            parents = [".".join(parts[:n]) for n in range(1, len(parts))]
            around = [p for p in parents if p == package or package.startswith(p + ".")]
            for imported in [*(p for p in parents if p not in around), name]:
                if imported != module:
                    where = f"{path.relative_to(modules[root].parents[1])}:{node.lineno}"
                    yield Import(module, imported, where)


def running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a syntax tree but those under ``if TYPE_CHECKING``."""
    yield node
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If):
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            children = iter(node.orelse)
    for child in children:
        yield from running_nodes(child)


def imported_names(node: ast.AST, package: str, modules: dict[str, Path]) -> Iterator[str]:
    """Yield the modules that an import statement names, absolute."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            outer = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*outer, *filter(None, [base])])
        for alias in node.names:
            inside = f"{base}.{alias.name}"
            yield inside if inside in modules else base


def find_circle(imports: list[Import]) -> list[str]:
    """Return the modules of one circle, each importing the next, or nothing."""
    graph: dict[str, set[str]] = {}
    for edge in imports:
        graph.setdefault(edge.importer, set()).add(edge.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def test_imports_go_downwards_and_never_in_a_circle():
    found = problems(PACKAGE)
    assert not found, "\n".join(found)


def test_the_layers_are_those_of_the_package_and_of_the_picture_in_contributing():
    there = {m.split(".")[1] for m in find_modules(PACKAGE) if "." in m}
    assert set().union(*LAYERS) == there
    picture = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[1]
    number = None
    for line in picture.splitlines()[3:]:
        if found := re.search(r"  (\d)  ", line):
            number = int(found[1])
        for name in re.findall(r"(\w+)(?:/|\.py)(?=\s|$)", line[50:]):
            assert name in LAYERS[number], f"{name} is not in layer {number}"
            there.discard(name)
    assert not there, "not in the picture"


@pytest.fixture
def tree(tmp_path):
    """Write a package of two layers, ``low`` and ``high``, with some files replaced."""

    def write(**files: str) -> list[str]:
        package = tmp_path / "toy"
        sources = {
            "__init__": "from toy.high import top",
            "low/__init__": "from toy.low.base import Base",
            "low/base": "import os",
            "low/more": "from toy.low.base import Base",
            "high/__init__": "from .top import Top",
            "high/top": "from toy.low import Base\nfrom toy import low",
        }
        for name, source in (
            sources | {k.replace("__in_", "/"): v for k, v in files.items()}
        ).items():
            path = package / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return problems(package, layers=({"low"}, {"high"}))

    return write


def test_checker_accepts_imports_downwards_and_sideways(tree):
    assert tree() == []


@pytest.mark.parametrize(
    "source",
    [
        "import toy.high.top",
        "import toy.high.top as t",
        "from toy.high.top import Top",
        "from toy.high import Top",
        "from toy import high",
        "from ..high import top",
        "from .. import high",
        "def late():\n    from toy.high.top import Top",
        "try:\n    import toy.high\nexcept ImportError:\n    pass",
        "if not TYPE_CHECKING:\n    import toy.high",
    ],
)
def test_checker_finds_an_import_upwards_however_it_is_spelled(tree, source):
    found = tree(low__in_more=source)
    assert any("toy.low.more (layer 0) imports toy.high" in problem for problem in found)
    assert any("more.py:" in problem for problem in found)


def test_checker_finds_an_import_of_the_package_itself(tree):
    found = tree(low__in_more="from toy import Top")
    assert any("toy.low.more (layer 0) imports toy (layer 2)" in problem for problem in found)


@pytest.mark.parametrize(
    "source",
    ["from toy.low.more import More", "from . import more", "def late():\n    import toy.low.more"],
)
def test_checker_finds_a_circle_within_a_layer(tree, source):
    [problem] = tree(low__in_base=source)
    assert "circle" in problem
    assert "toy.low.base -> toy.low.more" in problem or "toy.low.more -> toy.low.base" in problem


def test_checker_finds_a_circle_through_the_init_of_a_package(tree):
    # Importing toy.high.other from outside runs toy.high, which imports toy.high.top.
    found = tree(high__in_other="", extra="import toy.high.other", high__in_top="import toy.extra")
    assert any("circle" in problem and "toy.extra" in problem for problem in found)


def test_checker_ignores_what_is_imported_for_type_checking_only(tree):
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.high import Top"
    assert tree(low__in_more=source) == []


def test_checker_asks_for_the_layer_of_a_new_module(tree):
    assert any("add 'extra' to LAYERS" in problem for problem in tree(extra=""))
