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
# # Discrete sites summed out: a mixture of Normals
#
# After Pyro's [Gaussian mixture model](https://pyro.ai/examples/gmm.html) (Pyro contributors,
# Apache-2.0). Five data, two clusters. Which cluster a datum belongs to is a discrete site, and
# draws of it have no gradient. `TraceEnum_ELBO` does not draw it: it sums over its values, exactly.
#
# You will meet
#
# - `TraceEnum_ELBO`, to which automatic guides leave the discrete sites of a model;
# - `compute_marginals` and `infer_discrete`, which bring these sites back once the rest is fitted;
# - `config_enumerate`, for guides that have discrete sites of their own.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from scipy.special import logsumexp
from scipy.stats import norm

from pymc_svi import (
    SVI,
    TraceEnum_ELBO,
    compute_marginals,
    config_enumerate,
    constraints,
    handlers,
    infer_discrete,
    optim,
    param,
)
from pymc_svi.guides import AutoDelta, init_to_value

RANDOM_SEED = 8927
data = np.array([0.0, 1.0, 10.0, 11.0, 12.0])


def model(data):
    weights = pm.Dirichlet("weights", np.full(2, 0.5))
    scale = pm.LogNormal("scale", 0.0, 2.0)
    locs = pm.Normal("locs", 0.0, 10.0, shape=2)
    assignment = pm.Categorical("assignment", weights, shape=len(data))
    pm.Normal("obs", locs[assignment], scale, observed=data)


# %% [markdown]
# ## The most probable parameters
#
# `AutoDelta` puts all its mass on one point: the fit finds the posterior mode of weights, locations
# and scale, the assignments summed out. Nothing is said about `assignment` anywhere. The likelihood
# is the same if the clusters swap places, so the start decides which is the first.

# %%
start = init_to_value(
    values={"weights": np.array([0.5, 0.5]), "scale": 2.0, "locs": np.array([9.0, 2.0])}
)
guide = AutoDelta(model, init_loc_fn=start)
svi = SVI(model, guide, optim.Adam(0.05), TraceEnum_ELBO())
result = svi.run(1_500, data, random_seed=RANDOM_SEED, progressbar=False)

weights, locs = result.params["weights_auto_loc"], result.params["locs_auto_loc"]
scale = result.params["scale_auto_loc"]
print(f"weights {weights}, locations {locs}, scale {scale:.5f}, loss {result.losses[-1]:.5f}")

# %% [markdown]
# The loss is minus the log joint density with the assignments summed out. By hand, going through
# all $2^5$ of them:

# %%
cells = np.array(np.meshgrid(*[[0, 1]] * 5, indexing="ij")).reshape(5, -1).T
log_joint = [(np.log(weights[cell]) + norm(locs[cell], scale).logpdf(data)).sum() for cell in cells]
prior = (
    pm.logp(pm.Dirichlet.dist(np.full(2, 0.5)), weights)
    + pm.logp(pm.LogNormal.dist(0.0, 2.0), scale)
    + pm.logp(pm.Normal.dist(0.0, 10.0), locs).sum()
)
by_hand = -(logsumexp(log_joint) + float(prior.eval()))
exact = float(svi.evaluate(result.state, data))
print(f"summed out {exact:.10f}, by hand {by_hand:.10f}")

# %% [markdown]
# ## Which datum is in which cluster
#
# `compute_marginals` gives the probabilities of the sites that were summed out. `infer_discrete`
# makes a program whose discrete sites are drawn from their posterior, or, with `temperature=0`, are
# the most probable ones.

# %%
marginals = compute_marginals(model, guide, data, params=result.params, num_samples=1)
responsibilities = marginals["assignment"].sel(assignment_value=1).values
print("probability of the second cluster", responsibilities.round(3))

fitted = {"weights": weights, "locs": locs, "scale": scale}


def assignments_of(points):
    decided = infer_discrete(handlers.condition(model, data=fitted), temperature=0)
    return handlers.trace(decided).get_trace(points)["assignment"].value.eval()


print("most probable assignment", assignments_of(data))

# %% [markdown]
# New points need no new fit: the boundary between the clusters is where the assignment flips.

# %%
grid = np.linspace(-3.0, 15.0, 1_801)
flips = assignments_of(grid)
boundary = grid[np.flatnonzero(np.diff(flips))]

x = grid[:, None]
density = (weights * norm(locs, scale).pdf(x)).sum(axis=1)
fig, ax = plt.subplots(figsize=(6, 2.5))
ax.plot(grid, density, color="black")
ax.scatter(data, np.zeros(5), c=assignments_of(data), cmap="coolwarm", zorder=3)
ax.axvline(boundary[0], linestyle="--", color="grey")
ax.set(xlabel="x", ylabel="density", title="Fitted mixture, data by cluster, and the boundary")
fig.tight_layout()

# %% [markdown]
# ## A guide with discrete sites of its own
#
# The guide may have opinions about the assignments: probabilities that are learned. Marked by
# `config_enumerate`, its expectation over them is a sum as well, and their gradient has no noise.
# With the other parameters where they were found, the optimum is the exact posterior, and the loss is
# that of the fit above.


# %%
def guide_of_assignments(data):
    probs = param("probs", np.full((len(data), 2), 0.5), constraint=constraints.simplex)
    pm.Categorical("assignment", probs)


conditioned = handlers.condition(model, data=fitted)
soft = SVI(conditioned, config_enumerate(guide_of_assignments), optim.Adam(0.3), TraceEnum_ELBO())
soft_result = soft.run(1_000, data, random_seed=RANDOM_SEED, progressbar=False)
print("learned probabilities of the second cluster", soft_result.params["probs"][:, 1].round(3))
print(f"loss {soft_result.losses[-1]:.5f}")

# %% [markdown]
# ## Check
#
# The numbers of this notebook against exact ones.

# %%
assert np.allclose(weights, [0.625, 0.375], atol=1e-3)
assert np.allclose(locs, [10.98446, 0.49894], atol=2e-3)
assert abs(scale - 0.651434) < 1e-3
assert abs(result.losses[-1] - 17.44325) < 1e-4
assert abs(exact - by_hand) < 1e-8
assert np.allclose(responsibilities, [1, 1, 0, 0, 0], atol=1e-8)
assert assignments_of(data).tolist() == [1, 1, 0, 0, 0]
assert len(boundary) == 1 and abs(boundary[0] - 5.7210) < 0.01
assert np.allclose(soft_result.params["probs"][:, 1], [1, 1, 0, 0, 0], atol=0.02)
assert 0 <= soft_result.losses[-1] - exact < 0.05
