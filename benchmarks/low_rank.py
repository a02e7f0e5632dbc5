"""Does the low-rank guide scale: seconds a step and peak memory against the number of latents.

Each size is fitted in a process of its own, whose peak is that of the fit and of importing the
package, which is printed beside it. Run it from the top of the repository:

    python -m benchmarks.low_rank
    python -m benchmarks.low_rank --sizes 1000 10000 --rank 10

The report is printed and kept in ``results/low_rank.md``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

REPORT = Path(__file__).parent / "results" / "low_rank.md"
SIZES = (1_000, 10_000, 100_000)


def peak_mb() -> float:
    """Return the largest memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(size: int, rank: int, steps: int) -> dict[str, float]:
    """Fit one size in this process."""
    import numpy as np
    import pymc as pm

    from pymc_svi import SVI, optim
    from pymc_svi.guides import AutoLowRankMultivariateNormal

    imported = peak_mb()
    y = np.random.default_rng(1).normal(size=size)

    def model(y):
        level = pm.Normal("level")
        x = pm.Normal("x", level, 1.0, shape=size - 1)
        pm.Normal("y", x, 1.0, observed=y[1:])

    svi = SVI(model, AutoLowRankMultivariateNormal(model, rank=rank), optim.Adam(0.01))
    began = time.perf_counter()
    result = svi.run(2, y, random_seed=0, progressbar=False)
    first = time.perf_counter() - began
    best = np.inf
    for _ in range(3):
        began = time.perf_counter()
        result = svi.run(steps, y, init_state=result.state, progressbar=False)
        best = min(best, (time.perf_counter() - began) / steps)
    return {
        "latents": size,
        "imported_mb": imported,
        "peak_mb": peak_mb(),
        "first_s": first,
        "ms_a_step": 1_000 * best,
    }


def main() -> None:
    """Measure all sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rank", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.rank, options.steps)))
        return
    report = [
        "# Time and memory of AutoLowRankMultivariateNormal",
        "",
        f"Rank {options.rank}, float64, Adam. The peak is that of the process; importing the "
        "package is the part in brackets.",
        "",
        "| latents | ms a step | µs a step and 1,000 latents | peak MB | s to the first step |",
        "|---:|---:|---:|---:|---:|",
    ]
    for size in options.sizes:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.low_rank"]
        command += ["--one", str(size), "--rank", str(options.rank), "--steps", str(options.steps)]
        line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        row = json.loads(line.splitlines()[-1])
        report.append(
            f"| {size:,} | {row['ms_a_step']:.2f} | {1e6 * row['ms_a_step'] / size:.0f} "
            f"| {row['peak_mb']:.0f} ({row['imported_mb']:.0f}) | {row['first_s']:.1f} |"
        )
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text("\n".join([*report, ""]))
    print("\n".join(report))


if __name__ == "__main__":
    main()
