"""``python -m benchmarks.enumeration``: how the cost of a hidden Markov model grows with its length.

The same model with its steps written out (``markov``) and as one ``scan``, summed out by
``TraceEnum_ELBO``: the time to build and to compile it, each in a process of its own with an empty
cache, and the time of a step of the fit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LENGTHS = {"markov": (10, 20, 40), "scan": (25, 250, 1_000, 4_000)}
REPORT = Path(__file__).parent / "results" / "enumeration.md"


def measure(kind: str, length: int) -> dict[str, float]:
    """Return seconds to build, to compile and for a step."""
    import pymc as pm
    import pytensor.tensor as pt

    from pymc_svi import SVI, TraceEnum_ELBO, markov, optim, scan
    from pymc_svi.guides import AutoNormal

    ys = np.random.default_rng(0).normal(size=length) + 2.0 * (np.arange(length) // 10 % 2)

    def model():
        transitions = pm.Dirichlet("transitions", np.ones((3, 3)) + 2 * np.eye(3))
        means = pm.Normal("means", [-1.0, 0.0, 2.0], 1.0)

        def step(z, y, name=""):
            z = pm.Categorical(f"z{name}", transitions[z])
            pm.Normal(f"y{name}", means[z], 1.0, observed=y)
            return z, None

        if kind == "scan":
            scan(step, 0, ys)
        else:
            z = pt.constant(0)
            for t in markov(range(length)):
                z, _ = step(z, ys[t], str(t))

    svi = SVI(model, AutoNormal(model), optim.Adam(0.01), TraceEnum_ELBO())
    began = time.perf_counter()
    svi.build_loss()
    built = time.perf_counter()
    result = svi.run(1, random_seed=0, progressbar=False)
    compiled = time.perf_counter()
    steps = max(20, 20_000 // length)
    state = svi.run(steps, init_state=result.state, progressbar=False).state
    rounds = []
    for _ in range(5):
        warm = time.perf_counter()
        svi.run(steps, init_state=state, progressbar=False)
        rounds.append((time.perf_counter() - warm) / steps)
    return {"build": built - began, "compile": compiled - built, "step": min(rounds)}


def in_a_process(kind: str, length: int) -> dict[str, float]:
    """Measure in a new process with empty caches."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {
            "PYTENSOR_FLAGS": f"base_compiledir={cache}",
            "NUMBA_CACHE_DIR": cache,
            "OPENBLAS_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "benchmarks.enumeration", "--one", kind, str(length)]
        found = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "LENGTH"), help="measure one, here")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], int(arguments.one[1]))))
        return
    lines = [
        "# Hidden Markov models of growing length",
        "",
        "Made by `python -m benchmarks.enumeration`: three states with learned transitions and means,",
        "summed out by `TraceEnum_ELBO`; each line in a new process with empty caches. The time of a step",
        "is the least of five runs.",
        "",
        "| written as | steps of the chain | build, s | compile, s | step of the fit, ms |",
        "|------------|--------------------|----------|------------|---------------------|",
    ]
    print("\n".join(lines))
    for kind, lengths in LENGTHS.items():
        for length in lengths:
            m = in_a_process(kind, length)
            line = (
                f"| `{kind}` | {length:,} | {m['build']:.1f} | {m['compile']:.1f} | "
                f"{1e3 * m['step']:.3f} |"
            )
            print(line, flush=True)
            lines.append(line)
    REPORT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
