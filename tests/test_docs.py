"""The programs in the documentation are run, with the checks that they end in."""

import re
from pathlib import Path

import pytensor
import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ["choosing.md", "discrete_sites.md", "handlers.md", "objectives.md"]


@pytest.mark.parametrize("page", PAGES)
def test_programs_of_a_page_run_and_their_checks_hold(page):
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)
    assert any("assert " in block for block in blocks)
    namespace = {"__name__": page}
    with pytensor.config.change_flags(mode="FAST_COMPILE"):  # sooner ready than the default
        _run(blocks, namespace, page)


def _run(blocks, namespace, page):
    for block in blocks:
        exec(compile(block, f"{page}: {block[:40]!r}", "exec"), namespace)
