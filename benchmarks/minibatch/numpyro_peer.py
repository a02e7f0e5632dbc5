"""NumPyro: a Python loop over a jitted update, or a ``lax.scan`` that draws rows inside."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from benchmarks.minibatch.problem import BATCH, measure, options, regression


def main() -> None:
    """Measure; ``--how`` is loop, loop_x64, scan or scan_x64."""
    given = options()
    if given.how.endswith("x64"):
        numpyro.enable_x64()
    X, y = regression(given.rows)
    n = given.rows

    def model(X, y):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("rows", BATCH), numpyro.handlers.scale(scale=n / BATCH):
            numpyro.sample("y", dist.Normal(X @ w, 1.0), obs=y)

    svi = SVI(model, AutoNormal(model), numpyro.optim.Adam(0.01), Trace_ELBO())
    start = svi.init(jax.random.key(0), jnp.asarray(X[:BATCH]), jnp.asarray(y[:BATCH]))

    if given.how.startswith("loop"):
        update = jax.jit(svi.update)

        def run(steps):
            state, order = start, np.random.default_rng(0).permutation(n)
            for step in range(steps):
                first = step * BATCH % (n - BATCH + 1)
                rows = order[first : first + BATCH]
                state, _ = update(state, X[rows], y[rows])
            jax.block_until_ready(state)

    else:
        data = jnp.asarray(X), jnp.asarray(y)
        del X, y

        @jax.jit
        def scan(state, keys, data):
            def step(state, key):
                rows = jax.random.randint(key, (BATCH,), 0, n)
                return svi.update(state, data[0][rows], data[1][rows])

            return jax.lax.scan(step, state, keys)

        def run(steps):
            # Blocks of one length, so that nothing is compiled again.
            state = start
            for block in range(-(-steps // 1_000)):
                keys = jax.random.split(jax.random.key(block), 1_000)
                state, losses = scan(state, keys, data)
            jax.block_until_ready((state, losses))

    measure(run, given.seconds, given.repeats)


if __name__ == "__main__":
    main()
