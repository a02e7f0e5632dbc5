"""``python -m benchmarks.accuracy.run --posteriordb PATH``: fits beside known posteriors."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmarks.accuracy.database import Database, NotThere
from benchmarks.accuracy.fits import FITS, fit
from benchmarks.accuracy.models import MODELS
from benchmarks.accuracy.regressions import REGRESSIONS
from benchmarks.accuracy.report import report

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"
PROBLEMS = {problem.name: problem for problem in (*MODELS, *REGRESSIONS)}


def rows(arguments: argparse.Namespace) -> None:
    """Print a line of JSON for each fit of one posterior."""
    database, [name] = Database(arguments.posteriordb), arguments.posteriors
    problem = PROBLEMS[name]
    for guide, optimizer in FITS:
        if problem.enumerated and (guide.startswith("pm.fit") or optimizer == "white"):
            continue  # neither knows discrete sites
        figures = fit(
            problem, database, guide, optimizer, arguments.steps, arguments.draws, arguments.seed
        )
        row = {"posterior": name, "guide": guide, "optimizer": optimizer, **figures}
        print(json.dumps(row), flush=True)


def in_a_process(name: str, arguments: argparse.Namespace) -> list[dict]:
    """Fit one posterior in a process of its own, which may use one thread."""
    settings = [
        *("--posteriordb", str(arguments.posteriordb), "--posteriors", name, "--rows"),
        *("--steps", str(arguments.steps), "--draws", str(arguments.draws)),
        *("--seed", str(arguments.seed)),
    ]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.accuracy.run", *settings]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for row in found:
        print(row, flush=True)
    return found


def main() -> None:
    """Fit the posteriors, and write the report of all that have been fitted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posteriordb", type=Path, help="a clone of posteriordb, or its files")
    parser.add_argument("--posteriors", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="posteriors at a time")
    parser.add_argument("--no-save", action="store_true", help="only print")
    parser.add_argument("--rows", action="store_true", help="fit one posterior, here")
    arguments = parser.parse_args()
    try:
        Database(arguments.posteriordb)
    except NotThere as error:
        parser.error(str(error))
    if arguments.rows:
        rows(arguments)
        return
    kept: dict[str, list[dict]] = {}
    if RESULTS.exists() and not arguments.no_save:
        kept = json.loads(RESULTS.read_text())
    with ThreadPoolExecutor(arguments.jobs) as pool:
        fits = {pool.submit(in_a_process, name, arguments): name for name in arguments.posteriors}
        for done in as_completed(fits):
            kept[fits[done]] = done.result()
            if not arguments.no_save:
                RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    text = report({name: kept[name] for name in PROBLEMS if name in kept}, arguments.steps)
    print(text)
    if not arguments.no_save:
        RESULTS.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
