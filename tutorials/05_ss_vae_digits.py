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
# # Reading digits from a hundred labels
#
# Of some fourteen hundred images of handwritten digits a hundred are labelled. A classifier can
# learn from those alone. A generative model can learn from all: each image has a label and a code
# (its slant, its weight), and a *decoder* maps both to pixels. Where the label is not known it is
# a latent variable, and its posterior is a classifier. This is the semi-supervised autoencoder of
# Kingma et al. (2014).
#
# You will meet
#
# - a discrete latent site that the *guide* sums over, `infer={"enumerate": "parallel"}` with
#   `TraceEnum_ELBO`, and what it is worth beside drawing it;
# - sites that are observed for some rows and latent for others;
# - a term that is weighed with `handlers.scale`;
# - networks that model and guide share by name.

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor_ml.activations import SoftPlus
from pytensor_ml.layers import Linear, Sequential
from pytensor_ml.pytensorf import collect_trainable_params
from pytensor_ml.state import initialize_params
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from pymc_svi import (
    SVI,
    DataLoader,
    Predictive,
    Trace_ELBO,
    TraceEnum_ELBO,
    Trainer,
    handlers,
    module,
    optim,
    sample,
)

# Compiled code that has its BLAS from pip is as fast.
warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
RANDOM_SEED = 8927
rng = np.random.default_rng(RANDOM_SEED)

# %% [markdown]
# ## The images
#
# A hundred with their labels, 360 to test with, and the rest without.

# %%
digits = load_digits()
images, labels = (digits.data >= 8).astype("int64"), digits.target
order = rng.permutation(len(images))
test, pool = order[:360], order[360:]
known, unknown = pool[:100], pool[100:]
x_known, y_known = images[known], labels[known]
x_unknown = images[unknown]
baseline = LogisticRegression(max_iter=1_000).fit(x_known, y_known)
baseline = (baseline.predict(images[test]) == labels[test]).mean()
print(len(known), "labelled,", len(unknown), "not;", f"logistic regression: {baseline:.1%}")

# %% [markdown]
# ## Networks
#
# The decoder sees a code and a label; the encoder of codes an image and a label; the classifier an
# image.

# %%
CODE, HIDDEN = 10, 128


def network(n_in, n_out):
    layers = Sequential(
        Linear("hidden", n_in=n_in, n_out=HIDDEN),
        SoftPlus(),
        Linear("out", n_in=HIDDEN, n_out=n_out),
    )
    # The layers drew their starting weights when they were made; this draws them from our seed.
    weights = collect_trainable_params([layers(pt.zeros((1, n_in)))])
    for weight, value in zip(weights, initialize_params(weights, rng=rng), strict=True):
        weight.set_value(value)
    return layers


def networks():
    """Return new networks; each fit starts from its own."""
    return {
        "decoder": network(CODE + 10, 64),
        "encoder": network(64 + 10, 2 * CODE),
        "classifier": network(64, 10),
    }


def one_hot(y):
    return pt.eq(pt.shape_padright(y), np.arange(10)).astype("float64")


# %% [markdown]
# ## Model and guide
#
# `image` writes one group of images, with labels or without. The model has both groups: the
# unlabelled rows come in minibatches, which the model does not know of, and the hundred labelled
# ones are there at every step. The guide draws the labels that are not known from the classifier,
# and the codes given the labels.
#
# So far nothing trains the classifier on the labels, for where a label is known the guide does not
# use it. The last line of the model adds what Kingma et al. add: the labels as data of the
# classifier, with a weight.

# %%
WEIGHT = 46.0


def programs(*, weight=0.0, enumerate_labels=True):
    parts = networks()
    options = {"enumerate": "parallel"} if enumerate_labels else {}

    def image(group, x, y=None):
        z = pm.Normal(f"z_{group}", 0.0, 1.0, shape=(x.shape[0], CODE))
        y = pm.Categorical(f"y_{group}", np.full(10, 0.1), shape=x.shape[0], observed=y)
        logits = module("decoder", parts["decoder"])(pt.concatenate([z, one_hot(y)], axis=1))
        pm.Bernoulli(f"x_{group}", logit_p=logits, observed=x)

    def model(x):
        image("unknown", x)
        image("known", x_known, y_known)
        if weight:
            with handlers.scale(scale=weight):
                scores = module("classifier", parts["classifier"])(pt.as_tensor(x_known * 1.0))
                pm.Categorical("label", logit_p=scores, observed=y_known)

    def code(group, x, y):
        inputs = pt.concatenate([pt.as_tensor(x).astype("float64"), one_hot(y)], axis=1)
        found = module("encoder", parts["encoder"])(inputs)
        pm.Normal(f"z_{group}", found[:, :CODE], pt.exp(found[:, CODE:]))

    def guide(x):
        scores = module("classifier", parts["classifier"])(pt.as_tensor(x).astype("float64"))
        y = sample("y_unknown", pm.Categorical.dist(logit_p=scores), infer=options)
        code("unknown", x, y)
        code("known", x_known, pt.as_tensor(y_known))

    return model, guide, parts


# %% [markdown]
# ## Three fits
#
# 1. Labels drawn, with the score function as their gradient: too noisy to find out which label is
#    which.
# 2. Labels summed over: ten terms for each image, no noise.
# 3. Labels summed over, and the classifier trained on those that are known.


# %%
def fitted(loss, epochs, **options):
    model, guide, parts = programs(**options)
    loader = DataLoader({"x": x_unknown}, batch_size=191, drop_last=True)
    svi = SVI(model, guide, optim.Adam(1e-3), loss)
    result = Trainer(svi, loader, progressbar=False).fit(epochs=epochs, random_seed=RANDOM_SEED)

    def classify(x):
        pm.Deterministic("scores", module("classifier", parts["classifier"])(pt.as_tensor(x * 1.0)))

    scores = Predictive(classify, params=result.params, num_samples=1)
    scores = scores(images[test], random_seed=0).prior["scores"].values[0, 0]
    accuracy = (scores.argmax(axis=1) == labels[test]).mean()
    return result, accuracy, parts


_, drawn, _ = fitted(Trace_ELBO(), 40, enumerate_labels=False)
print(f"drawn:                {drawn:.1%}")
_, summed, _ = fitted(TraceEnum_ELBO(), 60)
print(f"summed over:          {summed:.1%}")
result, trained, parts = fitted(TraceEnum_ELBO(), 100, weight=WEIGHT)
print(f"and trained on labels: {trained:.1%}")

# %% [markdown]
# | | test images read rightly |
# |---|---|
# | logistic regression on the hundred | 81 % |
# | labels drawn | 12 %, as good as guessing |
# | labels summed over | 67 % |
# | and trained on those known | 85 % |
#
# A sum in the place of a draw is what makes the labels learnable at all. The images without labels then make the
# classifier better than one that knows the labelled ones only.

# %%
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
per_image = result.losses / (len(unknown) + len(known))
ax.plot(per_image.reshape(100, -1).mean(axis=1))
_ = ax.set(xlabel="epoch", ylabel="loss by image, with the weighted term")

# %% [markdown]
# ## Digits to order
#
# The decoder draws any digit. A row shares its code, which is what images of different digits have
# in common: slant, weight, width.


# %%
def to_order(z, y):
    logits = module("decoder", parts["decoder"])(
        pt.concatenate([pt.as_tensor(z), one_hot(pt.as_tensor(y))], axis=1)
    )
    pm.Deterministic("probability", pm.math.invlogit(logits))


ROWS = 4
codes = np.repeat(rng.normal(size=(ROWS, CODE)), 10, axis=0)
ordered = np.tile(np.arange(10), ROWS)
drawn_digits = Predictive(to_order, params=result.params, num_samples=1)
drawn_digits = drawn_digits(codes, ordered, random_seed=0).prior["probability"].values[0, 0]
fig, axes = plt.subplots(ROWS, 10, figsize=(8, 3.4), layout="constrained")
for image, ax in zip(drawn_digits, axes.flat, strict=True):
    ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])

# %% [markdown]
# ## Check

# %%
assert 0.75 < baseline < 0.85
assert drawn <= 0.25
assert 0.55 <= summed <= 0.80
assert trained >= 0.83
assert trained > baseline
# What is ordered is what the images with that label look like.
means = np.stack([images[known][y_known == digit].mean(axis=0) for digit in range(10)])
nearest = ((drawn_digits[:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
assert (nearest == ordered).mean() > 0.7
