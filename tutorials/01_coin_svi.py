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
# # SVI from the ground up: is this coin fair?
#
# A port of Pyro's [SVI Part I](https://pyro.ai/examples/svi_part_i.html) and
# [MLE and MAP estimation](https://pyro.ai/examples/mle_map.html) (Pyro contributors,
# Apache-2.0). Ten flips of a coin, six of them heads. The model is conjugate, so every number
# below has an exact value to be held against, and the last cell does so.
#
# You will meet
#
# - a **model** and a **guide**, both ordinary PyMC programs, paired by the names of their sites;
# - `param`, which declares what is learned, and constraints on it;
# - `SVI` and `Trace_ELBO`, which fit the guide to the posterior;
# - maximum likelihood and maximum a posteriori estimates as two more guides for the same engine.

# %%
import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from scipy import stats
from scipy.special import betaln

from pymc_svi import SVI, Trace_ELBO, constraints, optim, param

RANDOM_SEED = 8927
flips = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0])

# %% [markdown]
# ## The model
#
# The fairness of the coin has a $\mathrm{Beta}(10, 10)$ prior: we believe it is roughly fair
# before we flip it. The model is a function that creates PyMC variables. Data come in as
# arguments, so that the compiled fit can be used for other data.


# %%
def model(flips):
    fairness = pm.Beta("fairness", 10, 10)
    pm.Bernoulli("obs", fairness, observed=flips)


# %% [markdown]
# ## The guide
#
# The guide is a second program with the model's latent site, `fairness`, whose distribution has
# learnable parameters. Both must stay positive, which `constraints.positive` sees to: the
# optimizer moves their logarithms. We start at $\mathrm{Beta}(15, 15)$.


# %%
def guide(flips):
    alpha = param("alpha_q", 15.0, constraint=constraints.positive)
    beta = param("beta_q", 15.0, constraint=constraints.positive)
    pm.Beta("fairness", alpha, beta)


# %% [markdown]
# ## The fit
#
# `Trace_ELBO` is the evidence lower bound, estimated from draws of the guide. Its gradient goes
# through the draw itself: a Beta draw is made differentiable in its parameters by implicit
# reparameterisation. The loss that is minimised is minus the ELBO, which can never fall below
# minus the log evidence, and reaches it when the guide is the posterior.

# %%
svi = SVI(
    model,
    guide,
    optim.Adam(optim.cosine_decay(0.02, decay_steps=20_000)),
    Trace_ELBO(num_particles=20),
)
result = svi.run(20_000, flips, random_seed=RANDOM_SEED, progressbar=False)

alpha, beta = result.params["alpha_q"], result.params["beta_q"]
posterior = stats.beta(alpha, beta)
exact = stats.beta(10 + 6, 10 + 4)
log_evidence = betaln(16, 14) - betaln(10, 10)

print(f"guide:     Beta({alpha:.2f}, {beta:.2f})", end=", ")
print(f"mean {posterior.mean():.4f}, sd {posterior.std():.4f}")
print(f"posterior: Beta(16, 14), mean {exact.mean():.4f}, sd {exact.std():.4f}")
print(f"loss: {result.losses[-2_000:].mean():.4f}, minus log evidence: {-log_evidence:.4f}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
left.plot(np.convolve(result.losses, np.ones(100) / 100, mode="valid"))
left.axhline(-log_evidence, color="black", ls=":", label="minus log evidence")
left.set(xlabel="step", ylabel="loss (mean of 100 steps)")
left.legend()
grid = np.linspace(0.2, 0.9, 200)
right.plot(grid, stats.beta(10, 10).pdf(grid), ls="--", label="prior")
right.plot(grid, exact.pdf(grid), lw=4, alpha=0.4, label="exact posterior")
right.plot(grid, posterior.pdf(grid), label="guide")
right.set(xlabel="fairness", ylabel="density")
_ = right.legend()

# %% [markdown]
# ## Reading the result in ArviZ
#
# `sample_posterior` draws from the fitted guide and gives an ArviZ `DataTree`, with the draws in
# `posterior`, the params in `fit` and the losses in `fit_stats`.

# %%
idata = result.sample_posterior(4_000, random_seed=RANDOM_SEED)
az.summary(idata, kind="stats")

# %% [markdown]
# New flips are predicted by drawing data from the model with its latent sites drawn from the
# guide. The probability that the next flip is heads is the posterior mean of the fairness.

# %%
predictive = result.sample_posterior_predictive(draws=4_000, random_seed=RANDOM_SEED)
next_heads = float(predictive.posterior_predictive["obs"].mean())
print(f"P(heads) = {next_heads:.3f}, exactly {16 / 30:.3f}")

# %% [markdown]
# ## Maximum likelihood
#
# A `param` can stand in the model too. With no latent site left there is nothing for the guide
# to do, and minus the ELBO is minus the log-likelihood: SVI becomes maximum likelihood.


# %%
def model_mle(flips):
    fairness = param("fairness", 0.5, constraint=constraints.unit_interval)
    pm.Bernoulli("obs", fairness, observed=flips)


def no_guide(flips):
    pass


mle = SVI(model_mle, no_guide, optim.Adam(0.02)).run(2_000, flips, progressbar=False)
print(f"MLE {mle.params['fairness']:.4f}, loss {mle.losses[-1]:.4f}")

# %% [markdown]
# ## Maximum a posteriori
#
# With a guide that puts all its mass on one point, minus the ELBO is minus the log of the joint
# density, and its minimum is the mode of the posterior: $15/28$.


# %%
def guide_map(flips):
    point = param("fairness_map", 0.5, constraint=constraints.unit_interval)
    pm.DiracDelta("fairness", point)


map_fit = SVI(model, guide_map, optim.Adam(0.02)).run(2_000, flips, progressbar=False)
print(f"MAP {map_fit.params['fairness_map']:.4f}, loss {map_fit.losses[-1]:.4f}")

# %% [markdown]
# ## Check
#
# The numbers of this notebook against exact ones.

# %%
assert abs(posterior.mean() - 0.5333) < 0.003
assert abs(posterior.std() - 0.0896) < 0.003
assert abs(result.losses[-2_000:].mean() - 7.0694) < 0.002
assert abs(float(idata.posterior["fairness"].mean()) - 0.5333) < 0.006
assert abs(mle.params["fairness"] - 0.6) < 1e-4
assert abs(mle.losses[-1] - 6.7301) < 1e-4
assert abs(map_fit.params["fairness_map"] - 15 / 28) < 1e-4
assert abs(map_fit.losses[-1] - 5.6004) < 1e-4
