"""``python -m benchmarks.likelihoods.run``: a step of regressions with many kinds of likelihoods.

Each figure is measured in a process of its own; all of a round before the next round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

from benchmarks.environments import NotAvailable, python_of
from benchmarks.likelihoods.problem import COLUMNS, LIKELIHOODS, ROWS
from benchmarks.report import machine

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "likelihoods.md"
OURS, NUMPYRO, PM_FIT = "pymc_svi", "NumPyro", "pm.fit"
MODULES = {OURS: "ours", NUMPYRO: "numpyro_peer", PM_FIT: "pmfit_peer"}
KINDS = ((OURS, "float64"), (NUMPYRO, "float64"), (PM_FIT, "float64"))
KINDS += ((OURS, "float32"), (NUMPYRO, "float32"))


def worker(peer: str, precision: str, likelihood: str, python: str) -> dict:
    """Run a worker and return what it printed, or why it didn't."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }
    command = [python, "-W", "ignore", "-m", f"benchmarks.likelihoods.{MODULES[peer]}"]
    command += ["--likelihood", likelihood, "--precision", precision]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(found: dict, rounds: int) -> str:
    """Return the tables."""
    lines = [
        "# A step with many kinds of likelihoods",
        "",
        f"Made by `python -m benchmarks.likelihoods.run`: {ROWS:,} rows x {COLUMNS} columns, full batch, mean "
        "field, Adam(0.01), one particle; microseconds of CPU time a step, in the middle of all runs of "
        f"{rounds} round{'s' * (rounds > 1)}; one thread of BLAS and of XLA.",
        "",
        *(f"- {key}: {value}" for key, value in machine([]).items()),
        "",
    ]
    for precision in ("float64", "float32"):
        peers = [peer for peer, kind in KINDS if kind == precision]
        others = [peer for peer in peers if peer != OURS]
        heads = [*peers, *(f"{peer} / {OURS}" for peer in others)]
        # pm.fit starts from a guide ten times as wide, and is elsewhere after as many steps.
        heads += [f"loss, {peer}" for peer in peers if peer != PM_FIT]
        heads += [f"s to 2,000 steps, {peer}" for peer in peers]
        lines += [f"## {precision}", "", f"| likelihood | {' | '.join(heads)} |"]
        lines.append("|---" + "|---:" * len(heads) + "|")
        for likelihood in LIKELIHOODS:
            of = {peer: found[peer, precision, likelihood] for peer in peers}
            us = {
                peer: median(us for run in runs for us in run["us"]) if runs else None
                for peer, runs in of.items()
            }
            cells = [_number(us[peer], ",.0f") for peer in peers]
            cells += [_number(us[p] and us[OURS] and us[p] / us[OURS], ".2f") for p in others]
            for key, form in (("loss", ",.1f"), ("cold_s", ".1f")):
                for peer, runs in of.items():
                    if key == "cold_s" or peer != PM_FIT:
                        value = median(run[key] for run in runs) if runs else None
                        cells.append(_number(value, form))
            lines.append(f"| {likelihood} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def main() -> None:
    """Measure, print the tables and save them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--likelihoods", nargs="+", default=LIKELIHOODS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-save", action="store_true")
    given = parser.parse_args()
    pythons = {OURS: sys.executable, PM_FIT: sys.executable}
    try:
        pythons[NUMPYRO] = python_of("numpyro")
    except NotAvailable as error:
        print(f"NumPyro: not available: {error}")
    found: dict[tuple, list[dict]] = defaultdict(list)
    for round_ in range(given.rounds):
        for likelihood in given.likelihoods:
            for peer, precision in KINDS:
                if peer not in pythons:
                    continue
                result = worker(peer, precision, likelihood, pythons[peer])
                print(f"[{round_ + 1}] {likelihood}, {peer}, {precision}: {result}", flush=True)
                if "failed" not in result:
                    found[peer, precision, likelihood].append(result)
    text = report(found, given.rounds)
    print(text)
    if not given.no_save:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
