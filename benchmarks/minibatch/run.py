"""``python -m benchmarks.minibatch.run``: minibatches by rows of data, beside NumPyro.

Each figure is measured in a process of its own; all of a round before the next round.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.environments import NotAvailable, python_of
from benchmarks.minibatch.problem import BATCH, COLUMNS, regression

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "minibatch.md"
OURS = "pymc_svi, `Trainer`"
ONCE = 'the same with `shuffle="once"`'
READING = "the first's rows alone, read into one array after the other"
PEERS = {
    OURS: ("benchmarks.minibatch.ours", "", None),
    ONCE: ("benchmarks.minibatch.ours", "once", None),
    "the first with `buffer_size=12_800`": ("benchmarks.minibatch.ours", "buffered", None),
    "the first in float32": ("benchmarks.minibatch.ours", "float32", None),
    READING: ("benchmarks.minibatch.ours", "reading", None),
    "NumPyro, Python loop over jitted `update`": ("benchmarks.minibatch.numpyro_peer", "loop", 1),
    "the same in float64": ("benchmarks.minibatch.numpyro_peer", "loop_x64", 1),
    "NumPyro, `lax.scan` that indexes inside": ("benchmarks.minibatch.numpyro_peer", "scan", 1),
    "the same scan in float64": ("benchmarks.minibatch.numpyro_peer", "scan_x64", 1),
}
# How files are written, beside what pyarrow does by itself.
ENCODINGS: dict[str, dict[str, Any]] = {
    "Parquet, as pyarrow writes it": {},
    "Parquet in row groups of 100,000 rows": {"rows_a_group": 100_000},
    "Parquet without dictionaries": {"dictionary": False},
    "Parquet without dictionaries, `nullable=False`": {"dictionary": False, "nullable": False},
}
CACHED = "the first, from the second epoch on with `cache=`"
ROWS_A_FILE = 1_000_000
# Files of more rows are links to one file: the contents do not matter, their size does.
MOST_WRITTEN = 10**7


def worker(module: str, *arguments: str, python: str = sys.executable) -> dict:
    """Run a worker and return what it printed."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }
    done = subprocess.run(
        [python, "-m", module, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def write_parquet(
    folder: Path,
    rows: int,
    dictionary: bool = True,
    nullable: bool = True,
    rows_a_group: int | None = None,
) -> None:
    """Write random rows into files of a million."""
    import pyarrow
    import pyarrow.parquet as parquet

    X, y = regression(ROWS_A_FILE)
    columns = {**{f"x{i}": X[:, i] for i in range(COLUMNS)}, "y": y}
    fields = [pyarrow.field(name, pyarrow.float64(), nullable) for name in columns]
    table = pyarrow.table(list(columns.values()), schema=pyarrow.schema(fields))
    first = folder / "0.parquet"
    parquet.write_table(table, first, use_dictionary=dictionary, row_group_size=rows_a_group)
    for number in range(1, rows // ROWS_A_FILE):
        if rows <= MOST_WRITTEN:
            shutil.copy(first, folder / f"{number}.parquet")
        else:
            (folder / f"{number}.parquet").symlink_to(first)


def _fit_in_memory(rows: int) -> bool:
    """Whether there is room for the arrays, and as much again."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2 * rows * (COLUMNS + 1) * 8 < memory


def main() -> None:
    """Measure, print the tables and save them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--stream-rows", type=int, nargs="*", default=[6_000_000, 60_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--no-save", action="store_true")
    given = parser.parse_args()
    try:
        numpyro = python_of("numpyro")
    except NotAvailable as error:
        numpyro = None
        print(f"NumPyro: not available: {error}")
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    cpu_rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    streams: dict[tuple[int, str], list[dict]] = defaultdict(list)
    common = ["--seconds", str(given.seconds), "--repeats", "1"]
    with tempfile.TemporaryDirectory() as temporary:
        folders: dict[tuple[int, str], Path | None] = {}
        for rows in given.stream_rows:
            if _fit_in_memory(rows):
                folders[rows, "in memory"] = None
            for number, (how, options) in enumerate(ENCODINGS.items()):
                folder = folders[rows, how] = Path(temporary, f"{rows}-{number}")
                folder.mkdir()
                write_parquet(folder, rows, **options)
            if rows <= MOST_WRITTEN:
                folders[rows, CACHED] = folders[rows, next(iter(ENCODINGS))]
        for round_ in range(given.rounds):
            for rows in given.rows:
                for name, (module, how, elsewhere) in PEERS.items():
                    if elsewhere and numpyro is None:
                        continue
                    found = worker(
                        module, "--rows", str(rows), "--how", how, *common,
                        python=numpyro if elsewhere else sys.executable,
                    )  # fmt: skip
                    print(f"[{round_ + 1}] {rows:,} {name}: {found}", flush=True)
                    rates[name, rows] += found.get("steps_per_s", [])
                    cpu_rates[name, rows] += found.get("steps_per_cpu_s", [])
            for (rows, how), folder in folders.items():
                where = [] if folder is None else ["--folder", str(folder)]
                if how == CACHED:
                    where += ["--cache", str(Path(temporary, "cache"))]
                found = worker(PEERS[OURS][0], "--rows", str(rows), *where, *common)
                print(f"[{round_ + 1}] {rows:,} {how}: {found}", flush=True)
                if "failed" not in found:
                    streams[rows, how].append(found)
    report = _report(given, rates, cpu_rates, streams)
    print(report)
    if not given.no_save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(report)
        _plot(given.rows, cpu_rates)


def _table(sizes: list[int], rates) -> list[str]:
    """Return a table of medians, with the microseconds of one of our steps below.

    A step cannot be shorter than the reading of its rows, which the size of the data decides.
    """
    lines = ["| | " + " | ".join(f"N = {rows:,}" for rows in sizes) + " |"]
    lines.append("|---|" + "---|" * len(sizes))
    for name in PEERS:
        cells = [f"{median(r):,.0f}" if (r := rates[name, rows]) else "-" for rows in sizes]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    times = {
        name: [1e6 / median(r) if (r := rates[name, rows]) else math.nan for rows in sizes]
        for name in (OURS, READING, ONCE)
    }
    times["the first without the reading"] = [
        step - reading for step, reading in zip(times[OURS], times[READING], strict=True)
    ]
    for name, values in times.items():
        cells = " | ".join(f"{value:.1f}" for value in values)
        lines.append(f"| microseconds a step: {name} | {cells} |")
    return lines


def _plot(sizes: list[int], rates) -> None:
    """Save a plot of the CPU time of a step."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for name in PEERS:
        if all(rates[name, rows] for rows in sizes):
            ax.plot(sizes, [1e6 / median(rates[name, rows]) for rows in sizes], "o-", label=name)
    ax.set(xscale="log", yscale="log", xlabel="rows", ylabel="microseconds of CPU time a step")
    ax.legend(fontsize="small")
    fig.savefig(RESULTS.with_suffix(".svg"))


def _report(given, rates, cpu_rates, streams) -> str:
    lines = [
        "# Minibatches",
        "",
        f"Linear regression, {BATCH} of N rows x {COLUMNS} columns a step, mean-field guide, Adam; "
        f"median of {given.rounds} rounds of {given.seconds:g} s, one thread for arithmetic. "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores.",
        "",
        "## In memory",
        "",
        "Steps a second:",
        "",
        *_table(given.rows, rates),
        "",
        "Steps a second of CPU time, of all threads, which other programs on the machine change less:",
        "",
        *_table(given.rows, cpu_rates),
        "",
        "![CPU time of a step against the number of rows](minibatch.svg)",
    ]
    lines += [
        "",
        "pymc_svi goes through the rows without repeating any in an epoch, in float64, which is its "
        "default, unless it is said otherwise; NumPyro's scan draws them with replacement, which needs "
        "no order of the rows. What a step takes more for more rows is the way to memory: random rows are in the caches of the processor up to "
        "some ten thousand, and then no longer. The order of the rows is made by a second thread. With "
        "`buffer_size=` rows are shuffled within blocks of runs of 16 rows, which share lines of memory. "
        'With `shuffle="once"` they are read side by side from a copy in random order, where the '
        "processor asks for those to come by itself: the time does not grow with the data.",
    ]
    if streams:
        lines += [
            "",
            "## From Parquet files",
            "",
            "Files of a million rows, which are one row group each, and Snappy, as pyarrow writes them "
            "by itself, unless it is said otherwise. Dictionaries only slow continuous columns down, and so "
            "does the room for nulls.",
            "",
            "| rows | as arrays | | steps/s | of in memory | of CPU time | peak memory | of it before the fit |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for (rows, how), found in streams.items():
            rate, cpu_rate = (
                median(rate for each in found for rate in each[which])
                for which in ("steps_per_s", "steps_per_cpu_s")
            )
            peak = max(each["peak_mb"] for each in found)
            before = median(each["compiled_mb"] for each in found)
            whole = streams.get((rows, "in memory"))
            share = ""
            if whole:
                share = f"{rate / median(r for each in whole for r in each['steps_per_s']):.0%}"
            lines.append(
                f"| {rows:,} | {rows * (COLUMNS + 1) * 8 / 1e9:.1f} GB | {how} | {rate:,.0f} | {share} "
                f"| {cpu_rate:,.0f} | {peak:,.0f} MB | {before:,.0f} MB |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
