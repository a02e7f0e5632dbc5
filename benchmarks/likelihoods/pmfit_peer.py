"""pm.fit's ADVI."""

from __future__ import annotations

import pymc as pm
import pytensor

from benchmarks.likelihoods.models import build
from benchmarks.likelihoods.problem import measure, options


def main() -> None:
    """Measure."""
    given = options()
    pytensor.config.floatX = given.precision
    with build(given.likelihood):
        inference = pm.ADVI(random_seed=0)

    def begin(steps):
        inference.fit(steps, obj_optimizer=pm.adam(learning_rate=0.01), progressbar=False)
        return inference.hist

    measure(begin, lambda steps: inference.refine(steps, progressbar=False))


if __name__ == "__main__":
    main()
