"""The tutorials are executed for real; each ends in a cell that checks its numbers."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parent.parent / "tutorials"
SOURCES = sorted(TUTORIALS.glob("[0-9]*.py"))


def code_cells(notebook):
    return [cell.source.strip() for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_tutorials():
    assert SOURCES


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_tutorial_runs_and_its_checks_hold(source):
    notebook = jupytext.read(source)
    assert "assert " in notebook.cells[-1].source, (
        "a tutorial ends in a cell that checks its numbers"
    )
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": TUTORIALS}}
    ).execute()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_committed_notebook_is_its_source_executed(source):
    committed = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert code_cells(committed) == code_cells(jupytext.read(source))
    executed = [c.execution_count for c in committed.cells if c.cell_type == "code"]
    assert executed == list(range(1, len(executed) + 1))
