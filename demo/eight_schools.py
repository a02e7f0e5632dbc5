"""Fit eight schools with three guides and print their posteriors beside reference values.

Run with ``make demo``. Saves the curves of the loss to ``demo/elbo.png``.

The data are the coaching effects of Rubin (1981); the reference values are means and standard
deviations of 10,000 draws of the posteriordb posterior ``eight_schools_noncentered``.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pathlib import Path
from time import perf_counter

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from rich.console import Console
from rich.table import Table

from pymc_svi import SVI, Trace_ELBO, constraints, optim, param
from pymc_svi.guides import AutoMultivariateNormal, AutoNormal

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
COORDS = {"school": list("ABCDEFGH")}
REFERENCE = {
    "mu": (4.411, 3.309),
    "tau": (3.602, 3.198),
    "theta": (
        [6.151, 4.940, 3.906, 4.796, 3.614, 4.051, 6.317, 4.884],
        [5.616, 4.645, 5.280, 4.771, 4.614, 4.796, 5.003, 5.317],
    ),
}
STEPS = 20_000


def model():
    """Eight schools, non-centred."""
    mu = pm.Normal("mu", 0, 5)
    tau = pm.HalfCauchy("tau", 5)
    z = pm.Normal("z", 0, 1, dims="school")
    theta = pm.Deterministic("theta", mu + tau * z, dims="school")
    pm.Normal("y", theta, ERRORS, observed=EFFECTS, dims="school")


def guide():
    """A guide by hand: tau is log-normal and the schools lean on it."""
    positive = constraints.positive
    tau = pm.LogNormal("tau", param("tau_loc", 1.0), param("tau_scale", 0.5, constraint=positive))
    mu_loc, mu_slope = param("mu_loc", 4.0), param("mu_slope", 0.0)
    mu = pm.Normal("mu", mu_loc + mu_slope * tau, param("mu_scale", 3.0, constraint=positive))
    # Where the data pull a school depends on what is left for it once mu and tau are drawn.
    pull = param("pull", 0.1, constraint=positive, dims="school")
    spread = param("spread", 1.0, constraint=positive, dims="school")
    loc = pull * (EFFECTS - mu) * tau / (1 + pull * tau**2)
    pm.Normal("z", loc, spread / pm.math.sqrt(1 + pull * tau**2), dims="school")


def main():
    console = Console()
    fits = {}
    for name, a_guide in (
        ("hand-written guide", guide),
        ("AutoNormal", AutoNormal(model)),
        ("AutoMultivariateNormal", AutoMultivariateNormal(model)),
    ):
        began = perf_counter()
        rate = optim.linear_onecycle(peak_value=0.03, total_steps=STEPS)
        svi = SVI(model, a_guide, optim.Adam(rate), Trace_ELBO(), coords=COORDS)
        result = svi.run(STEPS, random_seed=0)
        posterior = result.sample_posterior(20_000, random_seed=1).posterior
        fits[name] = (result.losses, posterior)
        loss = result.losses[-2_000:].mean()
        console.print(f"{name}: loss {loss:.2f}, {perf_counter() - began:.1f} s with compiling")

    console.print(posterior_table({name: fit[1] for name, fit in fits.items()}))
    path = Path(__file__).parent / "elbo.png"
    plot_losses({name: fit[0] for name, fit in fits.items()}, path)
    console.print(f"ELBO plot saved to {path.parent.name}/{path.name}")


def posterior_table(posteriors):
    """Return a table of posterior means and sds beside the reference."""
    table = Table(title="Eight schools: posterior mean ± sd")
    table.add_column("site")
    for name in ("reference", *posteriors):
        table.add_column(name, justify="right")
    rows = [("mu", {}), ("tau", {})] + [("theta", {"school": s}) for s in COORDS["school"]]
    for site, where in rows:
        mean, sd = REFERENCE[site]
        label = site
        if where:
            i = COORDS["school"].index(where["school"])
            mean, sd, label = mean[i], sd[i], f"theta[{where['school']}]"
        cells = [f"{mean:.2f} ± {sd:.2f}"]
        for posterior in posteriors.values():
            draws = posterior[site].sel(where)
            cells.append(f"{float(draws.mean()):.2f} ± {float(draws.std()):.2f}")
        table.add_row(label, *cells)
    return table


def plot_losses(losses, path):
    """Plot the ELBO of each fit, smoothed over 200 steps."""
    fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, values in losses.items():
        ax.plot(-np.convolve(values, np.ones(200) / 200, mode="valid"), label=name)
    ax.axhline(-31.3113, color="black", ls=":", label="log evidence")
    ax.set(
        xlabel="step", ylabel="ELBO (mean of 200 steps)", ylim=(-40, -30.5), title="Eight schools"
    )
    ax.legend()
    fig.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
