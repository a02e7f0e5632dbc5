# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Minibatches, local variables, and data larger than memory
#
# A fit needs many steps, and a step on all data may be slow or not even possible. This notebook
# fits one model in four ways: on all data at each step, on minibatches, on minibatches with a
# latent variable for every row, and on Parquet files that are never in memory as a whole. The
# models have Normal posteriors, so that every result can be held against an exact one.
#
# You will meet
#
# - `DataLoader`, which gives out data in batches, and `Trainer`, which fits a method to them;
# - models that know nothing of batches: terms of their rows are weighted by themselves;
# - **amortisation**: a guide that computes the posterior of a row from the row;
# - `DataLoader.from_parquet`, and callbacks.

# %%
import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pymc as pm

from pymc_svi import SVI, DataLoader, Trainer, callbacks, constraints, optim, param
from pymc_svi.guides import AutoMultivariateNormal

RANDOM_SEED = 8927
# Rows in the Parquet files of the last section. Set it to 10_000_000 to see that neither the time
# of a step nor the memory grows.
ROWS = int(os.environ.get("TUTORIAL_ROWS", 200_000))
rng = np.random.default_rng(RANDOM_SEED)

# %% [markdown]
# ## The data
#
# A linear regression with known noise. Its posterior is Normal with a precision matrix that is a
# sum over rows.

# %%
N, NOISE = 20_000, 2.0
true_w = np.array([1.0, -2.0, 0.5, 0.0])


def simulate(n):
    X = rng.normal(size=(n, 4))
    X[:, 1] += 0.7 * X[:, 0]
    return X, X @ true_w + NOISE * rng.normal(size=n)


def exact_posterior(gram, moments):
    cov = np.linalg.inv(gram / NOISE**2 + np.eye(4))
    return cov @ moments / NOISE**2, cov


X, y = simulate(N)
mean, cov = exact_posterior(X.T @ X, X.T @ y)
sd = np.sqrt(np.diag(cov))

# %% [markdown]
# ## One model, all rows or some
#
# The model is written for all data. `svi.run` passes them at each step; `Trainer` passes the
# arrays of the `DataLoader` by the names of the model's arguments, a batch at a time. The
# likelihood of a batch is weighted by the number of all rows over those of the batch, so that
# the loss is that of all data on average.


# %%
def model(X, y=None):
    w = pm.Normal("w", 0.0, 1.0, shape=4)
    pm.Normal("y", (X * w).sum(axis=-1), NOISE, observed=y, shape=X.shape[0])


STEPS = 8_000


def method():
    guide = AutoMultivariateNormal(model, init_scale=0.02)
    return SVI(model, guide, optim.Adam(optim.cosine_decay(0.01, decay_steps=STEPS)))


began = time.perf_counter()
full = method().run(STEPS, X, y, random_seed=RANDOM_SEED, progressbar=False)
seconds_full = time.perf_counter() - began

began = time.perf_counter()
loader = DataLoader({"X": X, "y": y}, batch_size=200)
batched = Trainer(method=method(), dataloader=loader).fit(n=STEPS, random_seed=RANDOM_SEED)
seconds_batched = time.perf_counter() - began

print(f"all {N:,} rows a step: {seconds_full:5.1f} s, with compilation")
print(f"      200 rows a step: {seconds_batched:5.1f} s, {STEPS / len(loader):.0f} epochs")

# %% [markdown]
# Both fits have to be near the posterior, as counted in its standard deviations. The gradients
# of batches are noisier, which shows in the losses; the step size is lowered towards the end so
# that the noise averages out.


# %%
def deviation(result):
    """Distance of the fitted mean from the exact one, and ratio of the standard deviations."""
    tril = result.params["auto_scale_tril"]
    fitted_sd = np.sqrt(np.diag(tril @ tril.T))
    return (result.params["auto_loc"] - mean) / sd, fitted_sd / sd


for name, result in {"all rows": full, "batches": batched}.items():
    off, ratio = deviation(result)
    print(f"{name:9s} mean off by {np.abs(off).max():.3f} sd, sd ratio {ratio.round(3)}")

fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
ax.plot(batched.losses, alpha=0.4, label="batches of 200")
ax.plot(full.losses, label="all rows")
ax.set(xlabel="step", ylabel="loss", yscale="log")
_ = ax.legend()

# %% [markdown]
# After a fit to batches, the posterior has the sites that belong to no rows. What belongs to
# rows, such as a prediction, is drawn for the rows that you pass.

# %%
posterior = batched.sample_posterior(1_000, random_seed=RANDOM_SEED).posterior
new_rows = np.eye(4)
predicted = batched.sample_posterior_predictive(new_rows, random_seed=RANDOM_SEED)
print(dict(posterior.sizes))
print(predicted.posterior_predictive["y"].mean(("chain", "draw")).values.round(1), true_w)

# %% [markdown]
# ## A latent variable for every row
#
# Suppose that we see every row through a noisy instrument: `z` is what the row really is, with an
# element for each. Its size follows from the batch, so a batch has the latent variables of its
# own rows only. A guide cannot learn params for variables that it meets once in a while; it
# *computes* their posterior from the row. Here, three numbers, `slope`, `pull` and `spread`, hold
# the posterior of all 20,000 variables.

# %%
INSTRUMENT = 1.0


def local_model(X, y=None):
    w = pm.Normal("w", 0.0, 1.0, shape=4)
    z = pm.Normal("z", (X * w).sum(axis=-1), np.sqrt(NOISE**2 - INSTRUMENT**2), shape=X.shape[0])
    pm.Normal("y", z, INSTRUMENT, observed=y)


def amortised_guide(X, y=None):
    loc = param("w_loc", np.zeros(4))
    w = pm.Normal("w", loc, param("w_sd", np.full(4, 0.1), constraint=constraints.positive))
    pull, slope = param("pull", 0.0), param("slope", 0.0)
    spread = param("spread", 1.0, constraint=constraints.positive)
    pm.Normal("z", pull * (X * w).sum(axis=-1) + slope * y, spread, shape=X.shape[0])


local = Trainer(
    method=SVI(local_model, amortised_guide, optim.Adam(optim.cosine_decay(0.02, STEPS))),
    dataloader=loader,
).fit(n=STEPS, random_seed=RANDOM_SEED)

# The exact posterior of z given w is Normal with these numbers.
prior_var, noise_var = NOISE**2 - INSTRUMENT**2, INSTRUMENT**2
exact = {
    "slope": prior_var / NOISE**2,
    "pull": noise_var / NOISE**2,
    "spread": np.sqrt(prior_var * noise_var / NOISE**2),
}
for name, value in exact.items():
    print(f"{name}: {local.params[name]:.3f}, exactly {value:.3f}")
print(f"w off by {np.abs((local.params['w_loc'] - mean) / sd).max():.2f} sd")

# %% [markdown]
# The posterior of `z` can be drawn for any rows, whether they were in the data or not.

# %%
z = local.sample_posterior(2_000, X[:3], y[:3], random_seed=RANDOM_SEED).posterior["z"]
print(z.mean(("chain", "draw")).values.round(2), "for observations", y[:3].round(2))

# %% [markdown]
# ## Data that are never in memory
#
# The same regression on a folder of Parquet files. They are read a row group at a time in a
# background thread, groups in random order and rows shuffled within a buffer; a stack of batches
# at a time is handed to the compiled steps. Memory stays what it is, whatever the size of the
# folder. The checkpoints let a killed fit go on where it was.

# %%
folder = Path(tempfile.mkdtemp())
gram, moments, written = np.zeros((4, 4)), np.zeros(4), 0
while written < ROWS:
    rows, response = simulate(min(100_000, ROWS - written))
    table = pa.table({**{f"x{i}": rows[:, i] for i in range(4)}, "y": response})
    pq.write_table(table, folder / f"part-{written:09d}.parquet", row_group_size=50_000)
    gram, moments = gram + rows.T @ rows, moments + rows.T @ response
    written += len(rows)
stream_mean, stream_cov = exact_posterior(gram, moments)
size = sum(file.stat().st_size for file in folder.iterdir())

# %%
stream = DataLoader.from_parquet(
    folder, columns={"X": ["x0", "x1", "x2", "x3"], "y": "y"}, batch_size=500
)
tracker = callbacks.Tracker(every=1_000, loss=lambda moment: moment.losses[-1_000:].mean())
checkpoint = callbacks.Checkpoint(folder / "checkpoint", every=1_000)
streamed = Trainer(method(), stream, callbacks=[tracker, checkpoint]).fit(
    n=STEPS, random_seed=RANDOM_SEED
)
stream_sd = np.sqrt(np.diag(stream_cov))
off = (streamed.params["auto_loc"] - stream_mean) / stream_sd
print(f"{ROWS:,} rows, {size / 1e6:.0f} MB on disk; mean off by {np.abs(off).max():.2f} sd")
print("loss per row:", [round(float(loss) / ROWS, 3) for loss in tracker["loss"]])

# %% [markdown]
# Going on from the checkpoint gives the same numbers as a fit that was not interrupted, order of
# the data included.

# %%
resumed = Trainer(method(), stream, callbacks=[checkpoint]).fit(
    n=STEPS + 100, random_seed=RANDOM_SEED, resume=True
)
print(len(resumed.losses), np.array_equal(resumed.losses[:STEPS], streamed.losses))

# %% [markdown]
# ## Check

# %%
for result, furthest in ((full, 0.1), (batched, 0.2)):
    off, ratio = deviation(result)
    assert np.abs(off).max() < furthest
    assert np.abs(ratio - 1).max() < furthest
assert all(abs(local.params[name] - value) < 0.01 for name, value in exact.items())
assert np.abs((local.params["w_loc"] - mean) / sd).max() < 0.3
exact_z = exact["slope"] * y[:3] + exact["pull"] * (X[:3] @ mean)
assert np.abs(z.mean(("chain", "draw")) - exact_z).max() < 0.1
off = streamed.params["auto_loc"] - stream_mean
if STEPS * 500 > 10 * ROWS:
    assert np.abs(off / stream_sd).max() < 0.4
else:  # a few rows of many are not enough for the last digits
    assert np.abs(off).max() < 0.01
assert np.array_equal(resumed.losses[:STEPS], streamed.losses)
