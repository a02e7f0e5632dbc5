"""What ``import pymc_svi`` does, and what it leaves for later."""

import subprocess
import sys


def test_the_import_warns_of_nothing_and_leaves_arviz_for_later():
    code = "import sys, pymc_svi; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.split())
    assert "pymc_svi" in loaded
    assert not loaded & {"arviz", "arviz_base", "arviz_stats", "jax", "matplotlib", "graphviz"}
