"""pymc_svi: runs that go on from each other."""

from __future__ import annotations

import pytensor

from benchmarks.likelihoods.models import build
from benchmarks.likelihoods.problem import measure, options
from pymc_svi import SVI, optim
from pymc_svi.guides import AutoNormal


def main() -> None:
    """Measure."""
    given = options()
    pytensor.config.floatX = given.precision
    model = build(given.likelihood)
    svi = SVI(model, AutoNormal(model), optim.Adam(0.01))
    state = None

    def begin(steps):
        nonlocal state
        result = svi.run(steps, random_seed=0, progressbar=False)
        state = result.state
        return result.losses

    measure(begin, lambda steps: svi.run(steps, init_state=state, progressbar=False))


if __name__ == "__main__":
    main()
