"""Every test that the table of the peers' tests names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = (Path(__file__).parent / "README.md").read_text()


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if hasattr(node, "name")}


def missing(table: str) -> list[str]:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", table)
    return [
        f"{path}::{name}"
        for path, name in named
        if not (TESTS / path).exists() or name not in functions_of(TESTS / path)
    ]


def test_named_tests_exist():
    assert missing(TABLE) == []


def test_the_check_finds_what_is_not_there():
    assert missing("| a | `test_svi.py::test_nothing`, `none.py::test_it` |") == [
        "test_svi.py::test_nothing",
        "none.py::test_it",
    ]


def test_every_row_names_a_test_or_says_why_not():
    rows = [line for line in TABLE.splitlines() if line.startswith("|")]
    bare = [r for r in rows if "::test_" not in r and "| - " not in r]
    assert all(r.startswith(("| test | ours", "|---")) for r in bare), bare
