"""How long it takes to trace a program and to pair it with its guide, by the number of its sites.

    python -m benchmarks.tracing

Nothing is compiled here: this is the time from a model and a guide to the loss as an expression.
The target is 5 seconds for 300 sites, and twice the time for twice the sites.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import pymc as pm

from pymc_svi import SVI, Trace_ELBO, constraints, param
from pymc_svi.handlers import trace
from pymc_svi.objectives import paired_traces


def chain(n: int) -> Callable[[], None]:
    """A model in which each site depends on the one before."""

    def model():
        previous = pm.Normal("x_0")
        for i in range(1, n):
            previous = pm.Normal(f"x_{i}", previous, 1.0)
        pm.Normal("y", previous, 1.0, observed=0.5)

    return model


def mean_field(n: int) -> Callable[[], None]:
    """A guide of a chain: a Normal for each site."""

    def guide():
        for i in range(n):
            scale = param(f"x_{i}_scale", 1.0, constraint=constraints.positive)
            pm.Normal(f"x_{i}", param(f"x_{i}_loc", 0.0), scale)

    return guide


def built(program: Callable[[], None]) -> pm.Model:
    """A function program as a built model."""
    with pm.Model() as model:
        program()
    return model


def seconds(action: Callable[[], object], repeats: int) -> float:
    """The least of a few times."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[75, 150, 300, 600])
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    print("| sites | program | trace | pair | loss |\n|---|---|---|---|---|")
    for n in options.sites:
        for kind, prepare in (("function", lambda p: p), ("built", built)):
            model, guide = prepare(chain(n)), prepare(mean_field(n))
            found = [
                seconds(action, options.repeats)
                for action in (
                    lambda m=model: trace(m).get_trace().log_prob_sum(),
                    lambda m=model, g=guide: paired_traces(m, g),
                    lambda m=model, g=guide: SVI(m, g, loss=Trace_ELBO()).build_loss(),
                )
            ]
            print(f"| {n} | {kind} | " + " | ".join(f"{t:.2f} s" for t in found) + " |", flush=True)


if __name__ == "__main__":
    main()
