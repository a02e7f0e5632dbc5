"""pymc_svi: in memory, or from a folder of Parquet files; or reading rows alone."""

from __future__ import annotations

import resource

import numba
import pymc as pm
import pytensor

from benchmarks.minibatch.problem import BATCH, COLUMNS, measure, options, regression
from pymc_svi import SVI, DataLoader, Trainer, optim
from pymc_svi.engine.rows import row_taker
from pymc_svi.guides import AutoNormal


def model(X, y):
    """A linear regression."""
    w = pm.Normal("w", 0.0, 1.0, shape=X.shape[1])
    pm.Normal("y", X @ w, 1.0, observed=y)


take_rows, take_numbers = row_taker(COLUMNS), row_taker(1)


@numba.njit
def read(X, y, order, steps):
    """Take the rows of some steps, which no step can do without; return something of each."""
    total = 0.0
    for step in range(steps):
        rows = order[step % len(order)]
        total += take_rows(X, rows)[0, 0] + take_numbers(y, rows)[0]
    return total


def measure_reading(given) -> None:
    """Measure how long the rows of a step take to arrive."""
    X, y = regression(given.rows)
    loader = DataLoader({"X": X, "y": y}, batch_size=BATCH, drop_last=True)
    order = loader.order(0, stop=len(loader) * BATCH).reshape(-1, BATCH)
    read(X, y, order, 1)
    measure(lambda steps: read(X, y, order, steps), given.seconds, given.repeats, len(loader))


def main() -> None:
    """Measure."""
    given = options()
    if given.how == "reading":
        measure_reading(given)
        return
    if given.how == "float32":
        pytensor.config.floatX = "float32"
    if given.folder:
        columns = {"X": [f"x{i}" for i in range(COLUMNS)], "y": "y"}
        loader = DataLoader.from_parquet(
            given.folder, columns, batch_size=BATCH, drop_last=True, cache=given.cache
        )
        if given.cache:
            for _ in loader:  # decode all
                pass
    else:
        dtype = pytensor.config.floatX
        X, y = (array.astype(dtype, copy=False) for array in regression(given.rows))
        buffer_size = 50 * BATCH if given.how == "buffered" else None
        shuffle = "once" if given.how == "once" else True
        loader = DataLoader(
            {"X": X, "y": y}, BATCH, shuffle, drop_last=True, buffer_size=buffer_size
        )
    trainer = Trainer(SVI(model, AutoNormal(model), optim.Adam(0.01)), loader)
    trainer.fit(n=10, random_seed=0)
    compiled = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measure(
        lambda steps: trainer.fit(n=steps, random_seed=1),
        given.seconds,
        given.repeats,
        0 if given.folder else given.rows // BATCH,
        compiled_mb=compiled,
        total_rows=loader.total_size,
    )


if __name__ == "__main__":
    main()
