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
# # Effect handlers: programs you can ask questions
#
# After Pyro's [effect handlers tutorial](https://pyro.ai/examples/effect_handlers.html),
# [introduction](https://pyro.ai/examples/intro_long.html) and NumPyro's handler documentation
# (Pyro and NumPyro contributors, Apache-2.0).
#
# A PyMC program *says* things while it runs: here is a latent variable, here are data, here is a
# param. A **handler** listens to one kind of statement and may answer in the program's stead. With a
# dozen small handlers, one and the same program can be drawn from, conditioned, intervened on,
# scored and fitted, without a change to its text. All of `SVI` is built of them.
#
# The example is a scale that weighs an object with noise. We guess 8.5 and read 9.5. Everything
# about it is known exactly, and the last cell holds every number against that.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from scipy import stats

from pymc_svi import (
    SVI,
    LocScaleReparam,
    Trace_ELBO,
    constraints,
    handlers,
    log_density,
    optim,
    param,
    plate,
    render_model,
)

RANDOM_SEED = 8927


# %%
def scale_model(guess):
    weight = pm.Normal("weight", guess, 1.0)
    pm.Normal("measurement", weight, 0.75)


# %% [markdown]
# ## `seed` and `trace`: run a program and look at it
#
# Inside `seed` the program runs on numbers, so Python can branch on what was drawn. `trace` records
# each *site*: its name, its law, its value, its log-probability.


# %%
def number_of_tosses(n=1):
    if pm.Bernoulli(f"heads_{n}", 0.5):
        return n
    return number_of_tosses(n + 1)


tosses = [int(handlers.seed(number_of_tosses, rng_seed=i)()) for i in range(200)]
print("mean number of tosses until heads:", np.mean(tosses), "(exactly 2)")

with handlers.seed(rng_seed=RANDOM_SEED):
    drawn = handlers.trace(scale_model).get_trace(8.5)
{name: round(float(site.value.eval()), 3) for name, site in drawn.items()}

# %% [markdown]
# Without `seed` the values are PyTensor expressions: nothing is computed until you ask for it. A
# trace is then a *recipe*, and the same expressions are what `SVI` differentiates and compiles.

# %%
lazy = handlers.trace(scale_model).get_trace(8.5)
print(lazy.format_shapes())
print("the measurement depends on:", lazy.predecessors("measurement"))

# %% [markdown]
# ## One number, three ways
#
# What is the log joint density of a weight of 8.23 and a reading of 9.5? First, `condition` fixes both
# and the trace adds up the log-probabilities.

# %%
point = {"weight": 8.23, "measurement": 9.5}
conditioned = handlers.trace(handlers.condition(scale_model, data=point)).get_trace(8.5)
by_trace = float(conditioned.log_prob_sum().eval())

# %% [markdown]
# Second, with a handler of our own. A handler is a class with `process_message`, which sees a site
# before it has its value, and `postprocess_message`, which sees it afterwards. This one keeps a
# running total.


# %%
class LogJoint(handlers.Handler):
    def __enter__(self):
        self.total = 0.0
        return super().__enter__()

    def postprocess_message(self, site):
        if site.type == "sample":
            self.total = self.total + site.log_prob.sum()


with pm.Model(), LogJoint() as joint, handlers.condition(data=point):
    scale_model(8.5)
by_handler = float(joint.total.eval())

# %% [markdown]
# Third, by PyMC itself: the same program, run in a `pm.Model`, is a model as you know it. (And
# `log_density` is the ready-made function.)

# %%
with pm.Model() as built:
    scale_model(8.5)
by_pymc = float(built.compile_logp()(point))
by_function = float(log_density(scale_model, (8.5,), values=point)[0])
print(f"{by_trace:.6f} {by_handler:.6f} {by_pymc:.6f} {by_function:.6f}")

# %% [markdown]
# ## The truth table
#
# What does each handler do to a site? This program has a param `w`, a latent `z`, something computed
# from it, `twice`, and data `x`. For each handler the table says what an observer outside sees:
# whether a site is `latent` or `obs`erved, the value where it is fixed, and its weight.


# %%
def program():
    w = param("w", 1.0)
    z = pm.Normal("z", w, 1.0)
    twice = pm.Deterministic("twice", 2 * z)
    pm.Normal("x", twice, 1.0, observed=3.0)


five = {"z": 5.0}
elsewhere = handlers.trace(handlers.condition(program, data=five)).get_trace()
handled = {
    "nothing": program,
    "condition z": handlers.condition(program, data=five),
    "substitute z": handlers.substitute(program, data=five),
    "replay z": handlers.replay(program, trace=elsewhere),
    "do z": handlers.do(program, data=five),
    "uncondition": handlers.uncondition(program),
    "block z": handlers.block(program, hide=["z"]),
    "lift w": handlers.lift(program, prior={"w": pm.Normal.dist(0.0, 2.0)}),
    "scope a": handlers.scope(program, prefix="a"),
    "scale 10": handlers.scale(program, scale=10.0),
    "mask False": handlers.mask(program, mask=False),
}


def describe(site):
    kind = "param" if site.type == "param" else site.type[:3]
    if site.type == "sample":
        kind = "obs" if site.observed else "latent"
    # Two seeds give one value where no draw is upstream of it.
    first, second = (float(pm.draw(site.value, random_seed=i)) for i in range(2))
    number = f" {first:.0f}" if first == second and site.type != "param" else ""
    weight = f" x{site.scale:.0f}" if site.scale != 1.0 else ""
    return kind + number + (" x0" if site.mask is False else weight)


truth = {
    label: {name: describe(site) for name, site in handlers.trace(p).get_trace().items()}
    for label, p in handled.items()
}
columns = ["w", "z", "twice", "x"]
print("handler".ljust(14), *(c.ljust(12) for c in columns))
for label, row in truth.items():
    cells = [row.get(c, row.get(f"a::{c}", "-")) for c in columns]
    print(label.ljust(14), *(c.ljust(12) for c in cells))

# %% [markdown]
# Four handlers give `z` the value 5, and they differ:
#
# - `condition` says we *saw* 5: the site is data now, and its log-probability is a likelihood term.
# - `substitute` and `replay` say the value *is* 5, but the site is still latent: it keeps its prior
#   term and a guide still has to provide it. `replay` takes the values from another run, which is how
#   a model is evaluated on the draws of its guide.
# - `do` says we *made* it 5: everything downstream sees 5 (`twice` is 10), while the site itself is
#   drawn as if nothing had happened.
#
# `block` only hides: `twice` is as random as before. `uncondition` makes `x` latent, `lift` turns the
# param into a site with a prior, `scope` renames (`x` is called `a::x`), `scale` and `mask` weigh.

# %% [markdown]
# ## Order of composition
#
# Handlers nest, and the innermost sees a site first. Of two `condition`s the outer one speaks last.

# %%
inner = handlers.condition(program, data={"z": 3.0})
outer = handlers.condition(inner, data={"z": 10.0})
outer_wins = float(handlers.trace(outer).get_trace()["z"].value.eval())

# %% [markdown]
# A `block` hides sites from handlers *outside* of it only.

# %%
block_inside = handlers.condition(handlers.block(program, hide=["z"]), data=five)
block_outside = handlers.block(handlers.condition(program, data=five), hide=["z"])


def value_of_twice(p):
    twice = handlers.trace(p).get_trace()["twice"].value
    return [round(float(pm.draw(twice, random_seed=i)), 2) for i in range(2)]


print("outer condition:        z =", outer_wins)
print("condition(block(...)):  twice =", value_of_twice(block_inside), "the condition never saw z")
print("block(condition(...)):  twice =", value_of_twice(block_outside), "it did")

# %% [markdown]
# `condition` and `do` answer a counterfactual: *we saw `z` = 0; what would `twice` have been, had `z`
# been 5?* Here the order does not matter, since one decides the site and the other what follows.

# %%
seen, made = {"z": 0.0}, {"z": 5.0}
counterfactuals = [
    handlers.trace(p).get_trace()
    for p in (
        handlers.condition(handlers.do(program, data=made), data=seen),
        handlers.do(handlers.condition(program, data=seen), data=made),
    )
]
for tr in counterfactuals:
    print("z:", float(tr["z"].value.eval()), " twice:", float(tr["twice"].value.eval()))

# %% [markdown]
# All of it holds for built models too: the handler walks through the `pm.Model`, which stays as it is.

# %%
with pm.Model() as twin:
    program()

counterfactual = handlers.condition(handlers.do(twin, data=made), data=seen)
walked = handlers.trace(counterfactual).get_trace()
print("z:", float(walked["z"].value.eval()), " twice:", float(walked["twice"].value.eval()))

# %% [markdown]
# ## An ELBO made by hand
#
# The evidence lower bound is $\mathbb E_q[\log p(z, x) - \log q(z)]$. With two handlers it is three
# lines: trace the guide, replay the model on it, subtract. The posterior of the weight is
# $\mathrm{Normal}(9.14, 0.6)$, and there the difference is the log evidence at *every* draw.

# %%
model = handlers.condition(scale_model, data={"measurement": 9.5})


def guide_at(loc, scale):
    def guide(guess):
        pm.Normal("weight", loc, scale)

    return guide


def elbo(model, guide, *args):
    guide_trace = handlers.trace(guide).get_trace(*args)
    model_trace = handlers.trace(handlers.replay(model, trace=guide_trace)).get_trace(*args)
    return model_trace.log_prob_sum() - guide_trace.log_prob_sum()


at_posterior = pm.draw(elbo(model, guide_at(9.14, 0.6), 8.5), draws=50, random_seed=RANDOM_SEED)
away = pm.draw(elbo(model, guide_at(9.0, 1.0), 8.5), draws=2_000, random_seed=RANDOM_SEED)
kl = np.log(0.6 / 1.0) + (1.0**2 + 0.14**2) / (2 * 0.6**2) - 0.5
log_evidence = stats.norm(8.5, 1.25).logpdf(9.5)
print(f"at the posterior: {at_posterior.min():.6f} to {at_posterior.max():.6f}")
print(f"log evidence:     {log_evidence:.6f}")
print(f"elsewhere:        {away.mean():.3f}, exactly {log_evidence - kl:.3f}")

# %% [markdown]
# `Trace_ELBO` does this with differentiable draws, and `SVI` with an optimizer in a compiled loop. It
# takes the conditioned program as it is.


# %%
def guide(guess):
    loc = param("a", guess)
    scale = param("b", 1.0, constraint=constraints.positive)
    pm.Normal("weight", loc, scale)


svi = SVI(model, guide, optim.Adam(optim.cosine_decay(0.05, decay_steps=4_000)), Trace_ELBO())
result = svi.run(4_000, 8.5, random_seed=RANDOM_SEED, progressbar=False)
a, b = float(result.params["a"]), float(result.params["b"])
print(f"fitted Normal({a:.3f}, {b:.3f}), exactly Normal(9.14, 0.6)")

grid = np.linspace(5, 12, 200)
plt.figure(figsize=(6, 3), layout="constrained")
plt.plot(grid, stats.norm(8.5, 1).pdf(grid), ls="--", label="prior")
plt.plot(grid, stats.norm(9.14, 0.6).pdf(grid), lw=4, alpha=0.4, label="exact posterior")
plt.plot(grid, stats.norm(a, b).pdf(grid), label="fitted guide")
plt.xlabel("weight")
_ = plt.legend()

# %% [markdown]
# ## Plates and reparameterisation
#
# `plate` repeats what is inside, and with `subsample_size` takes a random part and weighs it up.
# `reparam` changes how a latent site is *written* without changing its law: here eight schools from
# centred to non-centred, from outside.

# %%
effect = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
sd = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def schools():
    mu = pm.Normal("mu", 0, 5)
    tau = pm.HalfCauchy("tau", 5)
    with plate("school", 8):
        theta = pm.Normal("theta", mu, tau)
        pm.Normal("y", theta, sd, observed=effect)


non_centred = handlers.reparam(schools, config={"theta": LocScaleReparam(0.0)})
print(handlers.trace(non_centred).get_trace().format_shapes())

# %% [markdown]
# Both are one model: at the same `theta` the densities agree up to the Jacobian of
# $\theta = \mu + \tau\,\theta_{dec}$, which is $\tau^8$.

# %%
decentred = np.linspace(-1, 1, 8)
top = {"mu": 1.0, "tau": 2.0}
centred_density, _ = log_density(schools, values={**top, "theta": 1.0 + 2.0 * decentred})
moved_density, _ = log_density(non_centred, values={**top, "theta_decentered": decentred})
print(float(moved_density - centred_density), 8 * np.log(2.0))

# %% [markdown]
# `render_model` draws what a trace knows, model and guide side by side. With the Graphviz programs
# installed the object itself is shown as a picture; this is its text.

# %%
picture = render_model(model, guide, model_args=(8.5,))
print(picture.source)

# %% [markdown]
# ## Check
#
# The numbers of this notebook against exact ones. More handlers of your own, with exact answers, are
# in [docs/handlers.md](../docs/handlers.md).

# %%
assert abs(np.mean(tosses) - 2.0) < 4 * np.sqrt(2 / 200)
assert lazy.edges == [("weight", "measurement")]
for number in (by_trace, by_handler, by_pymc, by_function):
    assert abs(number - -3.020334) < 1e-6
plain = {"w": "param", "z": "latent", "twice": "det", "x": "obs 3"}
assert truth == {
    "nothing": plain,
    "condition z": {**plain, "z": "obs 5", "twice": "det 10"},
    "substitute z": {**plain, "z": "latent 5", "twice": "det 10"},
    "replay z": {**plain, "z": "latent 5", "twice": "det 10"},
    "do z": {**plain, "twice": "det 10"},
    "uncondition": {**plain, "x": "latent"},
    "block z": {"w": "param", "twice": "det", "x": "obs 3"},
    "lift w": {**plain, "w": "latent"},
    "scope a": {f"a::{name}": cell for name, cell in plain.items()},
    "scale 10": {**plain, "z": "latent x10", "x": "obs 3 x10"},
    "mask False": {**plain, "z": "latent x0", "x": "obs 3 x0"},
}
assert outer_wins == 10.0
assert value_of_twice(block_outside) == [10.0, 10.0]
assert 10.0 not in value_of_twice(block_inside)
for tr in (*counterfactuals, walked):
    assert (float(tr["z"].value.eval()), float(tr["twice"].value.eval())) == (0.0, 10.0)
assert abs(log_evidence - -1.462082) < 1e-6
assert np.abs(at_posterior - log_evidence).max() < 1e-6
assert abs(away.mean() - (log_evidence - kl)) < 4 * away.std() / np.sqrt(2_000)
assert '\t\t"guide/b" -> "guide/weight"' in picture.source
assert abs(a - 9.14) < 0.01
assert abs(b - 0.6) < 0.01
assert abs(moved_density - centred_density - 8 * np.log(2.0)) < 1e-9
