"""What the automatic guides reach: families against each other, and beside NumPyro's.

Run it from the top of the repository with the package's own Python; it takes some ten minutes:

    python -m benchmarks.guides
    python -m benchmarks.guides --steps 200 --draws 500      # does everything run?
    python -m benchmarks.guides --compile-only               # the compile times alone

The report is printed and kept in ``results/guides.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environments import python_of
from benchmarks.guide_problems import FAMILIES, GUIDES, SHARED, TARGETS

ROOT = Path(__file__).parents[1]
REPORT = Path(__file__).parent / "results" / "guides.md"

COMPILE = """
import time, numpy as np, pymc as pm
from pymc_svi import SVI
from pymc_svi.guides import AutoMultivariateNormal
rng = np.random.default_rng(0)
y, counts = rng.normal(size=(30, 3)), np.array([[5, 3, 2]])
with pm.Model() as model:
    p = pm.Dirichlet("p", np.ones(3))
    pm.Multinomial("n", 10, p, observed=counts)
    chol, _, _ = pm.LKJCholeskyCov("chol", n=3, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0))
    pm.MvNormal("y", pm.Normal("mu", shape=3), chol=chol, observed=y)
began, cpu = time.perf_counter(), time.process_time()
SVI(model, AutoMultivariateNormal(model)).run(1, random_seed=0, progressbar=False)
print(f"{time.perf_counter() - began:.1f} s ({time.process_time() - cpu:.1f} s of CPU time)")
"""


def run(python: str, *arguments: str, **environment: str) -> list[str]:
    """Return the lines that a process of one thread prints."""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **environment}
    command = [python, "-W", "ignore", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


def fits(python: str, module: str, models: Sequence[str], guides: Sequence[str], options) -> dict:
    """Return the rows that a peer prints, by model and guide."""
    settings = ["--steps", str(options.steps), "--draws", str(options.draws)]
    settings += ["--seeds", str(options.seeds)]
    lines = run(python, "-m", module, "--models", *models, "--guides", *guides, *settings)
    rows = defaultdict(list)
    for row in (json.loads(line) for line in lines if line.startswith("{")):
        rows[row["model"], row["guide"]].append(row)
    return {key: median_of(found) for key, found in rows.items()}


def median_of(rows: Sequence[dict]) -> dict:
    """Return the fit in the middle, with the least and largest ELBO of all seeds."""
    ordered = sorted(rows, key=lambda row: row["elbo"])
    ends = {"least": ordered[0]["elbo"], "most": ordered[-1]["elbo"]} if len(rows) > 1 else {}
    return {**ordered[len(rows) // 2], **ends}


def cell(row: dict | None) -> str:
    """Return an ELBO with its standard error."""
    if row is None:
        return "not run"
    if "least" in row:
        return f"{row['elbo']:.3f} ({row['least']:.3f} to {row['most']:.3f})"
    return f"{row['elbo']:.3f} ± {row['error']:.3f}"


def families(rows: dict) -> list[str]:
    """Return the table of targets and families."""
    lines = ["| guide | " + " | ".join(t.replace("_", " ") for t in TARGETS) + " |"]
    lines.append("|---|" + "---:|" * len(TARGETS))
    for guide in FAMILIES:
        cells = [cell(rows.get((target, guide))) for target in TARGETS]
        lines.append(f"| {guide} | " + " | ".join(cells) + " |")
    return lines


def beside_numpyro(ours: dict, theirs: dict, guides: Sequence[str] = GUIDES) -> list[str]:
    """Return the table of models and guides of the same name."""
    lines = ["| model | guide | pymc_svi | NumPyro | difference | standard errors |"]
    lines.append("|---|---|---:|---:|---:|---:|")
    for model in SHARED:
        for guide in guides:
            a, b = ours[model, guide], theirs[model, guide]
            difference = a["elbo"] - b["elbo"]
            error = (a["error"] ** 2 + b["error"] ** 2) ** 0.5
            errors = "" if "least" in a else f"{difference / error:+.1f}"
            lines.append(
                f"| {model} | {guide} | {cell(a)} | {cell(b)} | {difference:+.3f} | {errors} |"
            )
    return lines


def compile_seconds() -> dict[str, str]:
    """Return seconds to the first step with an empty cache, and with that left behind."""
    with tempfile.TemporaryDirectory() as folder:
        cache = {"PYTENSOR_FLAGS": f"base_compiledir={folder}", "NUMBA_CACHE_DIR": f"{folder}/n"}
        times = [run(sys.executable, "-c", COMPILE, **cache)[-1] for _ in range(2)]
    return dict(zip(("empty cache", "again"), times, strict=True))


def main() -> None:
    """Measure everything and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=5, help="of guides that start at random")
    parser.add_argument("--guides", nargs="+", default=list(GUIDES), help="beside NumPyro's")
    parser.add_argument("--compile-only", action="store_true")
    options = parser.parse_args()
    seconds = compile_seconds()
    compiling = ", ".join(f"{name} {value}" for name, value in seconds.items())
    compiling = (
        f"AutoMultivariateNormal on a Dirichlet and LKJ model, to the first step: {compiling}."
    )
    if options.compile_only:
        print(compiling)
        return
    peers = "benchmarks.peers."
    ours = fits(sys.executable, peers + "guides_ours", TARGETS, FAMILIES, options)
    shared = fits(sys.executable, peers + "guides_ours", SHARED, options.guides, options)
    theirs = fits(python_of("numpyro"), peers + "guides_numpyro", SHARED, options.guides, options)
    report = [
        "# What the automatic guides reach",
        "",
        f"ELBO of {options.draws:,} draws and its standard error, after {options.steps:,} steps of "
        "8 particles, Adam from 0.03 decaying to a hundredth. DAIS takes 4 steps.",
        "",
        "## Families against each other",
        "",
        "The targets are normalised: the largest ELBO there can be is 0. The funnel is symmetric, "
        "which leaves a covariance nothing to gain; the leaning one is not.",
        "",
        *families(ours),
        "",
        "## Beside NumPyro's guides of the same name",
        "",
        "Normals have one optimum. Flows start at random weights, and where they end differs from "
        f"seed to seed: the median of {options.seeds} fits, the least and the largest.",
        "",
        *beside_numpyro(shared, theirs, options.guides),
        "",
        "## Compiling",
        "",
        compiling,
        "",
    ]
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text("\n".join(report))
    print("\n".join(report))


if __name__ == "__main__":
    main()
