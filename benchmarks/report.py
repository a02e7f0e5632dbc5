"""From the records of all runs to tables: medians, ratios to each peer, and the targets."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.launch import REGIMES
from benchmarks.peers import OURS, OURS_FLOAT32, PEERS
from benchmarks.problems import PROBLEMS, elbo

__all__ = ["TARGETS", "Row", "machine", "markdown", "rows", "save", "targets"]

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Target:
    """A figure to hold: our warm speed over a peer's, or our seconds to a finished fit."""

    problem: str
    peer: str | None = None
    at_least: float | None = None
    regime: str | None = None
    at_most: float | None = None


TARGETS = (
    Target("eight_schools", peer="numpyro", at_least=2.0),
    Target("logistic", peer="numpyro", at_least=0.6),
    Target("logistic", peer="pmfit", at_least=1.2),
    Target("eight_schools", regime="first", at_most=12.0),
    Target("eight_schools", regime="new", at_most=3.0),
)


@dataclass
class Row:
    """One library on one problem.

    Attributes
    ----------
    cold : dict
        Median seconds of a fit from the building of the model to the last step, by regime.
    refit : float, optional
        Seconds of a second fit of the same model in the same process.
    speed : tuple, optional
        Warm steps/s: median, least and most of all repeats.
    ratio : tuple, optional
        Our warm speed over this library's, in the same precision and round: median, least and most.
    cpu_ratio : tuple, optional
        The same with seconds of CPU time, which other processes on the machine change less.
    elbo : float, optional
        ELBO of the fitted guide.
    elbo_steps : int, optional
        Steps after which it was fitted, if fewer than asked for.
    elbo_of_losses : bool
        Whether the ELBO is only the mean of the last losses.
    note : str
        Why there are no figures, or fewer.
    """

    problem: str
    peer: str
    cold: dict[str, float]
    refit: float | None = None
    speed: tuple[float, float, float] | None = None
    ratio: tuple[float, float, float] | None = None
    cpu_ratio: tuple[float, float, float] | None = None
    elbo: float | None = None
    elbo_steps: int | None = None
    elbo_of_losses: bool = False
    note: str = ""


def rows(records: Iterable[Mapping], steps: int) -> list[Row]:
    """Summarise records, each ``{problem, peer, round, regime, result}``."""
    records = list(records)
    pairs = dict.fromkeys((record["problem"], record["peer"]) for record in records)
    return [_row(records, problem, peer, steps) for problem, peer in pairs]


def _row(records: list[Mapping], problem: str, peer: str, steps: int) -> Row:
    mine = [r for r in records if (r["problem"], r["peer"]) == (problem, peer)]
    good = [r for r in mine if "cold_s" in r["result"]]
    row = Row(problem, peer, {})
    if bad := [r["result"] for r in mine if r not in good]:
        [(kind, reason)] = bad[0].items()
        count = f"{len(bad)} of {len(mine)} runs " if good else ""
        row.note = f"{count}{kind.replace('_', ' ')}: {reason}"
    if not good:
        return row
    for regime in REGIMES:
        times = [
            r["result"]["cold_s"]
            for r in good
            if r["regime"] == regime or not PEERS[peer].disk_cache
        ]
        if times:
            row.cold[regime] = median(times)
    if refits := [r["result"]["refit_s"] for r in good if "refit_s" in r["result"]]:
        row.refit = median(refits)
    if speeds := _speeds(good, "steps_per_s"):
        row.speed = _spread([v for values in speeds.values() for v in values])
    if peer not in (OURS, OURS_FLOAT32):
        pair = problem, PEERS[peer].beside
        ours = [r for r in records if (r["problem"], r["peer"]) == pair]
        row.ratio = _ratio(ours, good, "steps_per_s")
        row.cpu_ratio = _ratio(ours, good, "steps_per_cpu_s")
    last = good[-1]["result"]
    row.elbo = elbo(PROBLEMS[problem], last["fitted"])
    if row.elbo is None:
        row.elbo, row.elbo_of_losses = -last["loss_tail"], True
    row.elbo_steps = last["steps"] if last["steps"] < steps else None
    return row


def _ratio(ours: list[Mapping], theirs: list[Mapping], which: str):
    mine, other = _speeds(ours, which), _speeds(theirs, which)
    rounds = [i for i in mine if i in other]
    return _spread([median(mine[i]) / median(other[i]) for i in rounds]) if rounds else None


def _speeds(records: list[Mapping], which: str) -> dict[int, list[float]]:
    return {r["round"]: r["result"]["warm"][which] for r in records if "warm" in r["result"]}


def _spread(values: list[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


# --- targets --------------------------------------------------------------------------------------


def targets(summary: list[Row]) -> list[tuple[str, bool]]:
    """Return each target that was measured, in words, and whether it holds."""
    by_name = {(row.problem, row.peer): row for row in summary}
    found = []
    for target in TARGETS:
        if target.peer is not None:
            row = by_name.get((target.problem, target.peer))
            if row is not None and row.ratio is not None:
                text = f"{target.problem}: warm, ours / {PEERS[target.peer].title} = "
                text += f"{row.ratio[0]:.2f}, wanted >= {target.at_least:g}"
                found.append((text, row.ratio[0] >= target.at_least))
            continue
        row = by_name.get((target.problem, OURS))
        if row is not None and target.regime in row.cold:
            seconds = row.cold[target.regime]
            text = f"{target.problem}: cold, {target.regime} = {seconds:.1f} s, "
            found.append((text + f"wanted <= {target.at_most:g} s", seconds <= target.at_most))
    return found


# --- tables ---------------------------------------------------------------------------------------

_HEADER = (
    "library",
    "first ever, s",
    "new model, s",
    "same model, s",
    "same process, s",
    "warm steps/s (least - most)",
    "final ELBO",
    "ours / this, warm",
    "by CPU time",
)


def markdown(summary: list[Row], about: Mapping) -> str:
    """Return the report."""
    lines = [
        "# pymc_svi beside its neighbours",
        "",
        "Made by `make bench`; what the columns mean is in [../README.md](../README.md).",
        "",
        *(f"- {name}: {value}" for name, value in about.items()),
    ]
    for name in dict.fromkeys(row.problem for row in summary):
        lines += ["", f"## {PROBLEMS[name].title}", ""]
        mine = [row for row in summary if row.problem == name]
        lines += _table([_HEADER, *map(_cells, mine)])
        if any(row.note for row in mine):
            lines += ["", *(f"- {PEERS[row.peer].title}: {row.note}" for row in mine if row.note)]
    if held := targets(summary):
        lines += ["", "## Targets", ""]
        lines += [f"- {'held' if ok else 'MISSED'}: {text}" for text, ok in held]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    title = PEERS[row.peer].title
    cold = [f"{row.cold[regime]:.2f}" if regime in row.cold else "-" for regime in REGIMES]
    refit = "-" if row.refit is None else f"{row.refit:.2f}"
    speed = "-"
    if row.speed is not None:
        speed = "{:,.0f} ({:,.0f} - {:,.0f})".format(*row.speed)
    value = "-" if row.elbo is None else f"{row.elbo:.3f}"
    if row.elbo_of_losses:
        value += " (losses)"
    if row.elbo_steps is not None:
        value += f" (after {row.elbo_steps:,})"
    own = row.peer in (OURS, OURS_FLOAT32)
    ratios = ("", "") if own else map(_ratio_cell, (row.ratio, row.cpu_ratio))
    return (title, *cold, refit, speed, value, *ratios)


def _ratio_cell(ratio: tuple[float, float, float] | None) -> str:
    if ratio is None:
        return "-"
    middle, least, most = (f"{value:.2f}" if value < 10 else f"{value:,.0f}" for value in ratio)
    return middle if least == most else f"{middle} ({least} - {most})"


def _table(cells: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in cells) for i in range(len(_HEADER))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [lines[0], rule, *lines[1:]]


# --- where and when -------------------------------------------------------------------------------


def machine(records: Iterable[Mapping]) -> dict[str, str]:
    """Return what the figures depend on: machine, load, commit and versions."""
    versions = {}
    for record in records:
        title = PEERS[record["peer"]].title
        versions[title] = record["result"].get("versions", versions.get(title))
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "commit": _commit(),
    }
    if hasattr(os, "getloadavg"):
        found["load at the end"] = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    for title, of in versions.items():
        if of:
            found[title] = ", ".join(f"{name} {version}" for name, version in of.items())
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(RESULTS.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    try:
        return (git("rev-parse", "--short", "HEAD") or "none") + (
            " with changes" if git("status", "--porcelain", "--", "../pymc_svi") else ""
        )
    except OSError:
        return "unknown"


def save(records: list[Mapping], summary: list[Row], text: str, about: Mapping) -> Path:
    """Write ``results/latest.md`` and ``latest.json``; return the former's path."""
    RESULTS.mkdir(exist_ok=True)
    whole = {"about": dict(about), "summary": [asdict(row) for row in summary], "records": records}
    (RESULTS / "latest.json").write_text(json.dumps(whole, indent=1))
    path = RESULTS / "latest.md"
    path.write_text(text)
    return path
