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
# # Where gradients come from, and how noisy they are
#
# A port of Pyro's [SVI Part III](https://pyro.ai/examples/svi_part_iii.html) and
# [Boosting BBVI](https://pyro.ai/examples/boosting_bbvi.html) (Pyro contributors, Apache-2.0).
#
# A fit follows an estimate of the gradient of the ELBO. All estimates used here are right on
# average; they differ in their noise, by factors of hundreds, and with it in how many steps a fit
# needs. `SVI.sample_gradients` shows the noise. You will meet
#
# - the **pathwise** gradient, which goes through the draw, and the **score function**, which does not
#   need the draw to have a derivative;
# - **baselines**, which take most of the noise of the score function: a number, a running average, a
#   function that is learned;
# - the use of **conditional independence**: a draw pays only for what depends on it;
# - a posterior with two modes, fitted one mode after the other.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from scipy import integrate, stats
from scipy.special import logsumexp, psi

from pymc_svi import SVI, Trace_ELBO, TraceGraph_ELBO, constraints, factor, optim, param, sample

RANDOM_SEED = 8927
flips = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0])


# %% [markdown]
# ## One gradient, two estimators
#
# The coin of the first tutorial, with the guide $q = \mathrm{Beta}(\alpha, \beta)$. Its draws have
# derivatives in $\alpha$ and $\beta$, so the default is the pathwise gradient. `infer=` asks for the
# score function instead, which is what a discrete site gets anyway:
#
# $$\nabla_\alpha\, \mathbb{E}_q[f] = \mathbb{E}_q[f\, \nabla_\alpha \log q], \qquad
#   f = \log q - \log p.$$


# %%
def model(flips):
    p = pm.Beta("p", 10, 10)
    pm.Bernoulli("obs", p, observed=flips)


def guide_with(**infer):
    def guide(flips):
        alpha = param("alpha", 15.0, constraint=constraints.positive)
        beta = param("beta", 15.0, constraint=constraints.positive)
        sample("p", pm.Beta.dist(alpha, beta), infer=infer)

    return guide


# %% [markdown]
# At $\alpha = \beta = 15$ everything about these estimators is known by quadrature. The params move
# as logarithms, so a gradient has another factor of 15.


# %%
def cost(p):
    log_joint = stats.beta.logpdf(p, 10, 10) + 6 * np.log(p) + 4 * np.log1p(-p)
    return stats.beta.logpdf(p, 15, 15) - log_joint


def score(p):
    return 15 * (np.log(p) - psi(15) + psi(30))


def expected(f):
    return integrate.quad(lambda p: stats.beta.pdf(p, 15, 15) * f(p), 0, 1, epsabs=1e-12)[0]


exact_mean = expected(lambda p: cost(p) * score(p))
mean_cost = expected(cost)


def exact_variance(baseline):
    return expected(lambda p: ((cost(p) - baseline) * score(p)) ** 2) - exact_mean**2


print(f"gradient {exact_mean:.4f}")
print(f"variance of the score function {exact_variance(0):.2f}")
print(f"with the mean cost {mean_cost:.3f} as a baseline {exact_variance(mean_cost):.3f}")

# %%
N_DRAWS = 50_000


def gradients(guide):
    svi = SVI(model, guide, loss=TraceGraph_ELBO())
    return svi.sample_gradients(N_DRAWS, flips, random_seed=RANDOM_SEED)["alpha"]


draws = {
    "pathwise": gradients(guide_with()),
    "score function": gradients(guide_with(score_function=True)),
    "and a baseline": gradients(
        guide_with(score_function=True, baseline={"baseline_value": mean_cost})
    ),
}
for name, g in draws.items():
    error = g.std() / np.sqrt(N_DRAWS)
    print(f"{name:15s} mean {g.mean():7.3f} +- {error:.3f}   variance {g.var():8.3f}")

# %% [markdown]
# All three have the same mean. The score function is $f\,\nabla\log q$, and $f$ is about 7 wherever
# $q$ has its mass. A constant $b$ may be taken from $f$ because $\mathbb{E}_q[\nabla\log q] = 0$; taking
# the mean of $f$ leaves 182 times less variance.

# %%
fig, ax = plt.subplots(figsize=(7, 3))
for name, g in draws.items():
    ax.hist(g, bins=np.linspace(-60, 60, 121), density=True, histtype="step", label=name)
ax.axvline(exact_mean, color="k", lw=0.8)
ax.set(yscale="log", xlabel=r"gradient for $\log \alpha$", ylabel="density")
ax.legend()

# %% [markdown]
# ## Baselines that are not known in advance
#
# `TraceGraph_ELBO` has three kinds, chosen for each site by `infer={"baseline": {...}}`:
#
# - `baseline_value`: a number or an expression of earlier draws, as above;
# - `use_decaying_avg_baseline`: a running average of the costs at earlier steps;
# - `nn_baseline`: a function of `nn_baseline_input` whose params are learned along with the rest.
#
# A fit of 3,000 steps of ten draws from the same start with each. The exact posterior is $\mathrm{Beta}(16, 14)$.


# %%
def fit(**infer):
    decay = optim.exponential_decay(0.02, decay_steps=1_000, decay_rate=0.3)
    svi = SVI(model, guide_with(**infer), optim.Adam(decay), TraceGraph_ELBO(num_particles=10))
    return svi.run(3_000, flips, random_seed=RANDOM_SEED, progressbar=False)


def constant_baseline(_):
    return param("baseline", 0.0)


fits = {
    "pathwise": fit(),
    "score function": fit(score_function=True),
    "decaying average": fit(score_function=True, baseline={"use_decaying_avg_baseline": True}),
    "learned constant": fit(
        score_function=True,
        baseline={"nn_baseline": constant_baseline, "nn_baseline_input": 0.0},
    ),
}


def mean_and_sd(result):
    fitted = stats.beta(result.params["alpha"], result.params["beta"])
    return fitted.mean(), fitted.std()


posterior = stats.beta(16, 14)
print(f"{'exact':17s} {posterior.mean():.4f} +- {posterior.std():.4f}")
for name, result in fits.items():
    mean, sd = mean_and_sd(result)
    print(f"{name:17s} {mean:.4f} +- {sd:.4f}")

# %% [markdown]
# ## A draw pays only for what depends on it
#
# A hundred data points, each with a label of its own: the gradient for the first label has no business
# with the costs of the other 99. Pyro needs a `plate` to know that. Here the graph of the model says
# so, element by element: the variance for the first label is the same with a hundred labels as with one.


# %%
def labelled(y):
    z = pm.Bernoulli("z", 0.5, shape=len(y))
    pm.Normal("y", 3.0 * z, 1.0, observed=y)


def label_guide(y):
    pm.Bernoulli("z", logit_p=param("logit", np.zeros(len(y))))


many = np.random.default_rng(RANDOM_SEED).normal(1.5, 2.0, size=100)
variances = {}
for n in (1, 10, 100):
    svi = SVI(labelled, label_guide, loss=Trace_ELBO())
    g = svi.sample_gradients(20_000, many[:n], random_seed=RANDOM_SEED)["logit"]
    variances[n] = g[:, 0].var()
    print(f"{n:3d} labels: variance of the first gradient {variances[n]:.4f}")


# %% [markdown]
# By hand: with $q(z) = \frac12$ the gradient is $f(z)\,(z - \frac12)$, so its variance follows from
# two values of the cost.


# %%
def label_cost(z, y):
    return -stats.norm.logpdf(y, 3.0 * z, 1.0)  # q and p are equal and cancel


two = np.array([label_cost(z, many[0]) * (z - 0.5) for z in (0, 1)])
exact_label_variance = two.var()
print(f"exact: {exact_label_variance:.4f}")

# %% [markdown]
# ## Two modes, one after the other
#
# A Normal guide finds one mode of a posterior. *Boosting* [Locatello et al. 2018] fits another component
# to what the mixture so far leaves over: its objective is the ELBO of a model whose density has been
# divided by that of the mixture. In a language of effects this needs no new objective, only a factor.
#
# $z$ is only seen through its square, so the posterior has two equal modes.

# %%
SIGMA = 0.5
y = 4.0 + SIGMA * stats.norm.ppf((np.arange(20) + 0.5) / 20)  # twenty points around 2 squared


def squared(y):
    z = pm.Normal("z", 0.0, 5.0)
    pm.Normal("y", z**2, SIGMA, observed=y)
    return z


def component(y):
    loc = param("loc", -0.5)
    pm.Normal("z", loc, param("scale", 0.5, constraint=constraints.positive))


def log_mixture(z, components, xp=pm.math):
    """A mixture of the components so far, and a hundredth of the prior to keep its tails."""
    weights = [0.01] + [0.99 / len(components)] * len(components)
    normals = [(0.0, 5.0), *components]
    terms = [
        np.log(w) - 0.5 * ((z - m) / s) ** 2 - np.log(s * np.sqrt(2 * np.pi))
        for w, (m, s) in zip(weights, normals, strict=True)
    ]
    return xp.logsumexp(xp.stack(terms), axis=0)


components = []
for start in (1.0, -1.0):

    def left_over(y):
        z = squared(y)
        if components:
            factor("mixture", -log_mixture(z, components).squeeze())

    svi = SVI(left_over, component, optim.Adam(0.01), Trace_ELBO(num_particles=10))
    result = svi.run(
        3_000, y, init_params={"loc": start}, random_seed=RANDOM_SEED, progressbar=False
    )
    components.append((float(result.params["loc"]), float(result.params["scale"])))
    print("component at {:.3f} with sd {:.4f}".format(*components[-1]))


# %% [markdown]
# The mixture of the two, half and half, against the exact posterior:


# %%
def log_joint(z):
    return stats.norm.logpdf(z, 0, 5) + stats.norm.logpdf(y[:, None], z**2, SIGMA).sum(axis=0)


grid = np.linspace(-4, 4, 40_001)
width = grid[1] - grid[0]
log_evidence = logsumexp(log_joint(grid)) + np.log(width)
exact_density = np.exp(log_joint(grid) - log_evidence)
mixture = np.mean([stats.norm.pdf(grid, m, s) for m, s in components], axis=0)
seen = mixture > 1e-300
elbo = np.sum(mixture[seen] * (log_joint(grid[seen]) - np.log(mixture[seen]))) * width
print(f"log evidence {log_evidence:.4f}, ELBO of the mixture {elbo:.4f}")

fig, ax = plt.subplots(figsize=(7, 3))
ax.plot(grid, exact_density, "k", lw=3, alpha=0.3, label="posterior")
ax.plot(grid, mixture, label="two components")
ax.set(xlabel="$z$", xlim=(-2.5, 2.5))
ax.legend()
# %% [markdown]
# ## The numbers

# %%
error = {name: np.sqrt(g.var() / N_DRAWS) for name, g in draws.items()}
assert abs(exact_mean + 1.0340734) < 1e-6
for name, g in draws.items():
    assert abs(g.mean() - exact_mean) < 4 * error[name], name
assert abs(exact_variance(0) - 419.34) < 0.01
assert abs(exact_variance(mean_cost) - 2.3037) < 1e-3
assert abs(draws["score function"].var() / 419.34 - 1) < 0.03
assert abs(draws["and a baseline"].var() / 2.3037 - 1) < 0.05
for name in ("pathwise", "decaying average", "learned constant"):
    mean, sd = mean_and_sd(fits[name])
    assert abs(mean - 16 / 30) < 0.005 and abs(sd - 0.0896) < 0.005, name
for n, variance in variances.items():
    assert abs(variance / exact_label_variance - 1) < 0.05, n
(m1, s1), (m2, s2) = components
assert abs(m1 - 2) < 0.02 and abs(m2 + 2) < 0.02
assert abs(elbo - log_evidence) < 0.02
