"""The report of the fits of all posteriors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

__all__ = ["report"]

COLUMNS = {
    ("AutoNormal", "constant"): "AutoNormal",
    ("pm.fit advi", "constant"): "advi of `pm.fit`",
    ("AutoMultivariateNormal", "constant"): "AutoMultivariateNormal",
    ("pm.fit fullrank_advi", "constant"): "fullrank_advi of `pm.fit`",
    ("AutoNormal", "default"): "AutoNormal, default",
    ("AutoMultivariateNormal", "default"): "AutoMultivariateNormal, default",
    ("AutoIAFNormal", "falling"): "AutoIAFNormal, falling",
    ("AutoMultivariateNormal", "white"): "AutoMultivariateNormal, whitened",
}
PAIRS = [
    (("AutoNormal", "constant"), ("pm.fit advi", "constant")),
    (("AutoMultivariateNormal", "constant"), ("pm.fit fullrank_advi", "constant")),
]
# Nats below which a difference of ELBOs is that of two seeds.
NOISE = 0.25

type Rows = Mapping[tuple[str, str], dict]


def number(value: float) -> str:
    """Return a number with what is worth reading of it."""
    if not np.isfinite(value):
        return "not finite"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


def table(fits: Mapping[str, Rows], cell: Callable[[dict], str]) -> list[str]:
    """Return a table of posteriors and fits."""
    lines = ["| posterior | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("|---|" + "---:|" * len(COLUMNS))
    for name, rows in fits.items():
        cells = []
        for column in COLUMNS:
            row = rows.get(column)
            cells.append("" if row is None else "failed" if "failed" in row else cell(row))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def beside_pm_fit(fits: Mapping[str, Rows]) -> list[str]:
    """Say which of two fits of the same family has the higher ELBO."""
    lines = []
    for ours, theirs in PAIRS:
        better, worse, n = [], [], 0
        for name, rows in fits.items():
            if ours not in rows or theirs not in rows:
                continue
            n += 1
            # A fit that failed has no ELBO, and none is lower.
            first, second = (rows[fit].get("elbo", -np.inf) for fit in (ours, theirs))
            (better if first > second + NOISE else worse if first < second - NOISE else []).append(
                f"{name} ({first - second:+,.2f})"
            )
        lines.append(
            f"{COLUMNS[ours]} beside {COLUMNS[theirs]}: of {n} posteriors the ELBO is higher for "
            f"{len(better)}, lower for {len(worse)}"
            + (f" ({', '.join(worse)})" if worse else "")
            + f", and within {NOISE} nats for the rest."
        )
    return lines


def report(kept: Mapping[str, list[dict]], steps: int) -> str:
    """Return the report as Markdown."""
    fits = {
        name: {(row["guide"], row["optimizer"]): row for row in rows} for name, rows in kept.items()
    }
    failed = [
        f"- {name}, {COLUMNS[fit]}: {row['failed']}"
        for name, rows in fits.items()
        for fit, row in rows.items()
        if "failed" in row
    ]
    lines = [
        "# Accuracy on real posteriors",
        "",
        "Made by `python -m benchmarks.accuracy.run --posteriordb PATH`: the posteriors of "
        "[posteriordb](https://github.com/stan-dev/posteriordb), ported to PyMC, against the means "
        "and sds of its reference draws; for linear regressions against the exact ones, by a sum "
        "over the one variable that is not Normal.",
        "",
        f"Each fit takes {steps:,} steps of one particle from PyMC's initial point. The first four "
        "columns are at equal terms: Adam(0.01) for `pm.fit` too, whose fitted Normal is judged by "
        "the same code. *Default*: the optimizer of `fit`, AdamNC with a step size that falls from "
        "0.05 along a cosine. *Falling*: Adam with such a step size. *Whitened*: "
        "on `guides.whiten(model)`, from scale 1 and a step size of 0.01, with "
        "`Trace_ELBO(sticking_the_landing=True)`. `AutoGuide` chooses AutoMultivariateNormal for "
        "all of these. An empty cell: not run, or the method does not know discrete sites, which "
        "are summed out of the hidden Markov model by `TraceEnum_ELBO`.",
        "",
        *beside_pm_fit(fits),
        "",
        "## Largest error of a posterior mean, in posterior sds",
        "",
        "4,000 draws alone give 0.03 or so.",
        "",
        *table(fits, lambda row: number(row["mean_error"])),
        "",
        "## Ratio of sds to the true ones: median, and the one that is furthest off",
        "",
        *table(fits, lambda row: f"{number(row['sd_median'])} ({number(row['sd_worst'])})"),
        "",
        "## ELBO",
        "",
        *table(fits, lambda row: f"{row['elbo']:,.2f}"),
        "",
        "## Pareto k",
        "",
        "Below 0.7 the guide covers the posterior.",
        "",
        *table(fits, lambda row: number(row["khat"])),
        "",
        "## Seconds of CPU time, with compiling",
        "",
        "With caches as earlier fits have left them.",
        "",
        *table(fits, lambda row: f"{row['cpu']:.0f}"),
        "",
    ]
    if failed:
        lines += ["## Failed", "", *failed, ""]
    return "\n".join(lines)
