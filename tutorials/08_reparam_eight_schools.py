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
# # Eight schools: a better model for the same guide
#
# A port of NumPyro's [automatic
# reparameterisation](https://num.pyro.ai/en/stable/tutorials/bad_posterior_geometry.html) and Pyro's
# [eight schools](https://github.com/pyro-ppl/pyro/tree/dev/examples/eight_schools) (Pyro
# contributors, Apache-2.0). The hierarchical model of eight coaching programs (Rubin, 1981) is the
# classic of difficult geometry: where the spread `tau` of the schools is small, their effects have
# little room, and no Normal has the shape of that funnel.
#
# You will
#
# - change the coordinates of a model with the handler `reparam`, without rewriting it;
# - have SVI **learn** how far to change them (Gorinova, Moore and Hoffman, 2020);
# - hand the coordinates to `pm.sample`, whose divergences they cure;
# - ask a fit whether it is to be trusted.
#
# Given `tau` everything is Normal, so one integral over `tau` gives every exact number.

# %%
import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from scipy import stats
from scipy.special import logsumexp

from pymc_svi import SVI, LocScaleReparam, Trace_ELBO, handlers, optim
from pymc_svi.guides import AutoMultivariateNormal, AutoNormal

RANDOM_SEED = 8927
COORDS = {"school": list("ABCDEFGH")}
effect = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
error = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

# %% [markdown]
# ## The model
#
# As one writes it down: each school's effect comes from a common Normal.


# %%
def model():
    mu = pm.Normal("mu", 0, 5)
    tau = pm.HalfCauchy("tau", 5)
    theta = pm.Normal("theta", mu, tau, dims="school")
    pm.Normal("y", theta, error, observed=effect, dims="school")


# %% [markdown]
# ## Exact numbers
#
# Given `tau`, the data and `mu` are jointly Normal. What is left is a sum over a grid of `tau`.

# %%
log_tau = np.linspace(-12, 8, 4_001)
tau_grid = np.exp(log_tau)
variance = tau_grid[:, None] ** 2 + error**2
precision = 1 / 25 + (1 / variance).sum(axis=1)
mu_mean = (effect / variance).sum(axis=1) / precision
log_likelihood = (
    stats.norm.logpdf(effect, 0.0, np.sqrt(variance)).sum(axis=1)
    - 0.5 * np.log(25 * precision)
    + 0.5 * precision * mu_mean**2
)
log_joint = log_likelihood + stats.halfcauchy.logpdf(tau_grid, scale=5) + log_tau
log_evidence = logsumexp(log_joint) + np.log(log_tau[1] - log_tau[0])
weight = np.exp(log_joint - logsumexp(log_joint))

exact_mu = weight @ mu_mean
exact_mu_sd = np.sqrt(weight @ (1 / precision + mu_mean**2) - exact_mu**2)
exact_tau_median = np.interp(0.5, np.cumsum(weight), tau_grid)
shrinkage = tau_grid[:, None] ** 2 / variance
exact_theta = weight @ (shrinkage * effect + (1 - shrinkage) * mu_mean[:, None])
print(f"log evidence {log_evidence:.4f}")
print(f"mu {exact_mu:.3f} ± {exact_mu_sd:.3f}, median of tau {exact_tau_median:.3f}")
print("theta", exact_theta.round(2))

# %% [markdown]
# ## Three sets of coordinates
#
# `LocScaleReparam(c)` replaces `theta` by `theta_decentered`, which is Normal with location
# $c \mu$ and scale $\tau^c$, and computes `theta` from it. At $c = 1$ nothing changes (the model is
# *centred*); at $c = 0$ the new site is standard Normal, whatever `mu` and `tau` are. Without a
# number, $c$ is a `param` of the model, `theta_centered`, and is learned with the guide's.
#
# It is the same model each time. The posterior of `mu`, `tau` and `theta` does not change, nor
# does the evidence; what changes is how well independent Normals fit.

# %%
programs = {
    "centred": model,
    "learned": handlers.reparam(model, config={"theta": LocScaleReparam()}),
    "non-centred": handlers.reparam(model, config={"theta": LocScaleReparam(0.0)}),
}
for label, program in programs.items():
    with pm.Model(coords=COORDS):
        print(f"{label:>12}:", handlers.trace(program).get_trace())

# %%
STEPS = 8_000


def fit(program, guide):
    schedule = optim.exponential_decay(0.03, STEPS, 0.01)
    svi = SVI(program, guide, optim.Adam(schedule), Trace_ELBO(num_particles=8), coords=COORDS)
    return svi.run(STEPS, random_seed=RANDOM_SEED, progressbar=False)


results = {label: fit(program, AutoNormal(program)) for label, program in programs.items()}
loss = {label: result.losses[-2_000:].mean() for label, result in results.items()}
centredness = float(results["learned"].params["theta_centered"])
for label, value in loss.items():
    print(f"{label:>12}: loss {value:.3f}, {value + log_evidence:.3f} above minus log evidence")
print(f"learned centredness: {centredness:.3f}")

# %% [markdown]
# Nearly two nats are gained by a change of coordinates alone, and the learned ones are close to the
# non-centred ones: with eight noisy measurements the prior says more about the schools than the
# data do. A full-rank guide in the original coordinates, with many more params, gains half of that.

# %%
full_rank = fit(model, AutoMultivariateNormal(model))
loss["centred, full rank"] = full_rank.losses[-2_000:].mean()
fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for label, result in {**results, "centred, full rank": full_rank}.items():
    smooth = np.convolve(result.losses, np.ones(100) / 100, mode="valid")
    ax.plot(smooth, label=f"{label}: {loss[label]:.2f}")
ax.axhline(-log_evidence, color="black", ls=":", label="minus log evidence")
ax.set(xlabel="step", ylabel="loss (mean of 100 steps)", ylim=(30.5, 38))
_ = ax.legend()

# %% [markdown]
# ## NUTS in the learned coordinates
#
# A program made by handlers is a PyMC model when it is run in one. `theta_centered` is a number
# now, and `pm.sample` needs to know nothing of how it was found.


# %%
def sample(program):
    with pm.Model(coords=COORDS):
        program()
        return pm.sample(
            1_500,
            tune=1_000,
            chains=2,
            cores=1,
            target_accept=0.9,
            random_seed=RANDOM_SEED,
            progressbar=False,
        )


learned = handlers.reparam(model, config={"theta": LocScaleReparam(centredness)})
nuts = {"centred": sample(model), "learned": sample(learned)}
divergences = {label: int(idata.sample_stats["diverging"].sum()) for label, idata in nuts.items()}
ess_tau = {label: float(az.ess(idata, var_names="tau")["tau"]) for label, idata in nuts.items()}
for label in nuts:
    print(
        f"{label:>8}: {divergences[label]} divergences, effective draws of tau {ess_tau[label]:.0f}"
    )

# %%
fig, axes = plt.subplots(1, 3, figsize=(11, 3.5), sharey=True, layout="constrained")
posterior = nuts["learned"].posterior
log_tau_draws = np.log(posterior["tau"].values.ravel())
for ax, site in zip(axes, ("theta", "theta_decentered"), strict=False):
    ax.plot(posterior[site].sel(school="A").values.ravel(), log_tau_draws, ".", ms=2, alpha=0.4)
    ax.set(xlabel=f"{site}, school A", title="NUTS")
axes[0].set(ylabel="log tau")
drawn = results["learned"].sample_posterior(3_000, random_seed=RANDOM_SEED)
axes[2].plot(
    drawn.posterior["theta"].sel(school="A").values.ravel(),
    np.log(drawn.posterior["tau"].values.ravel()),
    "C1.",
    ms=2,
    alpha=0.4,
)
_ = axes[2].set(xlabel="theta, school A", title="the guide", xlim=axes[0].get_xlim())

# %% [markdown]
# On the left the funnel, in the middle the same draws in the coordinates that SVI found. The guide
# is independent Normals in those; as draws of `theta` it has the funnel too.
#
# ## Can the guide be trusted?
#
# A loss does not say how good a fit is, as the evidence is unknown in general. `diagnose` weighs
# draws of the guide by posterior over guide. It asks for no exact number.

# %%
diagnosis = {label: results[label].diagnose(random_seed=RANDOM_SEED) for label in programs}
for label, found in diagnosis.items():
    print(f"--- {label}\n{found}\n")

# %%
az.summary(drawn, var_names=["mu", "tau", "theta"], kind="stats")

# %% [markdown]
# ## Check
#
# The numbers of this notebook against exact ones.

# %%
assert abs(log_evidence + 31.3113) < 1e-3
assert abs(exact_mu - 4.397) < 2e-3 and abs(exact_mu_sd - 3.318) < 2e-3
assert abs(exact_tau_median - 2.746) < 0.01
# The bound holds, and the order of the fits is the expected one.
assert -log_evidence < loss["learned"] < loss["non-centred"] - 0.01
assert loss["non-centred"] + 0.5 < loss["centred, full rank"] < loss["centred"] - 0.5
assert abs(loss["learned"] - 31.56) < 0.03 and abs(loss["non-centred"] - 31.60) < 0.03
assert 0 < centredness < 0.1
# NUTS: in the learned coordinates it mixes, and has the exact posterior.
assert divergences["centred"] > 20 * (divergences["learned"] + 1)
assert ess_tau["learned"] > 5 * ess_tau["centred"]
assert abs(float(posterior["mu"].mean()) - exact_mu) < 0.25
assert abs(float(posterior["mu"].std()) - exact_mu_sd) < 0.25
assert abs(float(posterior["tau"].median()) - exact_tau_median) < 0.25
nuts_theta = posterior["theta"].mean(["chain", "draw"]).values
np.testing.assert_allclose(nuts_theta, exact_theta, atol=0.5)
# The guide: the diagnosis tells the good fits from the bad one, and finds the evidence.
assert diagnosis["learned"].covers_posterior and diagnosis["non-centred"].covers_posterior
assert not diagnosis["centred"].covers_posterior
assert abs(diagnosis["learned"].log_evidence - log_evidence) < 0.05
assert abs(float(drawn.posterior["mu"].mean()) - exact_mu) < 0.1 * exact_mu_sd + 0.1
