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
# # A variational autoencoder of digits
#
# Each image of a handwritten digit has a latent code of eight numbers, and a network, the
# *decoder*, maps the code to the probabilities of the pixels. There are as many codes as images:
# too many to learn a posterior for each. A second network, the *encoder*, computes the posterior
# of a code from its image. Both networks are learned together by SVI on minibatches; this is
# amortised inference, and the pair is a variational autoencoder (Kingma and Welling, 2014).
#
# You will meet
#
# - `module(name, network)`, which makes the weights of a `pytensor_ml` network params;
# - a guide that is a network;
# - `Trainer` with a callback that measures images the fit has not seen;
# - the fitted encoder applied to new images.

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

from pymc_svi import SVI, DataLoader, Predictive, Trainer, callbacks, module, optim

# Compiled code that has its BLAS from pip is as fast.
warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
RANDOM_SEED = 8927
rng = np.random.default_rng(RANDOM_SEED)

# %% [markdown]
# ## The images
#
# 1,797 images of 8 by 8 pixels come with scikit-learn. A pixel is on when it is at least half as
# dark as can be. A fifth of the images is kept to test with.

# %%
digits = load_digits()
images, labels = (digits.data >= 8).astype("int64"), digits.target
order = rng.permutation(len(images))
train, test = images[order[:1_437]], images[order[1_437:]]
test_labels = labels[order[1_437:]]
frequency = (train.sum(axis=0) + 1) / (len(train) + 2)
baseline = -(test * np.log(frequency) + (1 - test) * np.log(1 - frequency)).sum(axis=1).mean()
print(train.shape, test.shape, f"independent pixels: {baseline:.2f} nats an image")

# %% [markdown]
# ## Model and guide
#
# Both are programs of the images. The number of codes is that of the images they are given, so
# they work for a minibatch, for the test images, and for images yet to come.

# %%
CODE, HIDDEN = 8, 128
decoder = Sequential(
    Linear("hidden", n_in=CODE, n_out=HIDDEN),
    SoftPlus(),
    Linear("pixels", n_in=HIDDEN, n_out=64),
)
encoder = Sequential(
    Linear("hidden", n_in=64, n_out=HIDDEN),
    SoftPlus(),
    Linear("code", n_in=HIDDEN, n_out=2 * CODE),
)

# The layers drew their starting weights when they were made; this draws them from our seed.
for network, n_in in ((decoder, CODE), (encoder, 64)):
    weights = collect_trainable_params([network(pt.zeros((1, n_in)))])
    for weight, value in zip(weights, initialize_params(weights, rng=rng), strict=True):
        weight.set_value(value)


def model(x):
    z = pm.Normal("z", 0.0, 1.0, shape=(x.shape[0], CODE))
    logits = module("decoder", decoder)(z)
    pm.Deterministic("probability", pm.math.invlogit(logits))
    pm.Bernoulli("x", logit_p=logits, observed=x)


def guide(x):
    code = module("encoder", encoder)(pt.as_tensor(x).astype("float64"))
    pm.Normal("z", code[:, :CODE], pt.exp(code[:, CODE:]))


# %% [markdown]
# ## The fit
#
# One epoch sees each image once. After every tenth epoch the loss of the test images is measured.

# %%
EPOCHS = 100
loader = DataLoader({"x": train}, batch_size=128, drop_last=True)
svi = SVI(model, guide, optim.Adam(2e-3))
held_out = callbacks.HeldOutELBO({"x": test}, every=10 * len(loader))
result = Trainer(svi, loader, callbacks=[held_out]).fit(epochs=EPOCHS, random_seed=RANDOM_SEED)
# The ELBO counts every row as many times as needed to stand for all that are trained on.
test_losses = -np.array(held_out.elbos) / len(train)
for epoch, loss in zip(range(10, EPOCHS + 1, 10), test_losses, strict=True):
    print(f"epoch {epoch:3d}: {loss:.2f} nats an image")

# %%
losses = result.losses.reshape(EPOCHS, -1).mean(axis=1) / len(train)
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(np.arange(1, EPOCHS + 1), losses, label="train")
ax.plot(np.arange(10, EPOCHS + 1, 10), test_losses, "o-", label="test")
ax.axhline(baseline, color="0.6", linestyle="--", label="independent pixels")
ax.set(xlabel="epoch", ylabel="nats an image")
_ = ax.legend()

# %% [markdown]
# ## The encoder on images it has not seen
#
# The posterior of codes is drawn for the rows that are passed. The fit knows nothing of the test
# images; their codes come from the encoder alone. `Predictive` does the same from the params,
# wherever they were saved.

# %%
codes = result.sample_posterior(200, test, random_seed=RANDOM_SEED).posterior
mean_codes = codes["z"].mean(("chain", "draw")).values
probability = codes["probability"].mean(("chain", "draw")).values
print(mean_codes.shape, "codes of", len(test), "images")

predictive = Predictive(model, guide=guide, params=result.params, num_samples=200)
again = predictive(test[:5], random_seed=RANDOM_SEED)

# %%
fig, axes = plt.subplots(2, 10, figsize=(8, 1.8), layout="constrained")
for i, (above, below) in enumerate(axes.T):
    above.imshow(test[i].reshape(8, 8), cmap="gray_r")
    below.imshow(probability[i].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("image")
_ = axes[1, 0].set_ylabel("decoded")

# %% [markdown]
# The codes know nothing of the labels, but images of the same digit have codes close to each
# other: the nearest other test image mostly shows the same digit.

# %%
distance = ((mean_codes[:, None] - mean_codes) ** 2).sum(axis=-1) + np.diag([np.inf] * len(test))
same = (test_labels[distance.argmin(axis=1)] == test_labels).mean()
print(f"nearest neighbour shows the same digit: {same:.0%}")

directions = np.linalg.svd(mean_codes - mean_codes.mean(axis=0), full_matrices=False)[2]
plane = mean_codes @ directions[:2].T
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
points = ax.scatter(*plane.T, c=test_labels, cmap="tab10", s=12)
ax.set(xlabel="first principal direction", ylabel="second")
_ = fig.colorbar(points, label="digit")

# %% [markdown]
# ## New digits
#
# The decoder turns codes drawn from their prior into images. Without a guide, `Predictive` draws
# from the model; the params it needs are those of the fit.

# %%
prior = Predictive(model, params=result.params, num_samples=1)
new = prior(np.zeros((10, 64), dtype="int64"), random_seed=RANDOM_SEED)
fig, axes = plt.subplots(1, 10, figsize=(8, 0.9), layout="constrained")
for image, ax in zip(new.prior["probability"].values[0, 0], axes, strict=True):
    ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])

# %% [markdown]
# ## Check

# %%
assert abs(baseline - 25.1) < 0.5
assert test_losses[-1] <= 19.5
assert np.all(np.diff(test_losses) < 0.2)
decoded = -(test * np.log(probability) + (1 - test) * np.log(1 - probability)).sum(axis=1).mean()
assert decoded < 14  # nats an image, without the cost of the code
assert same > 0.75
first = again.posterior["z"].mean(("chain", "draw")).values
assert np.abs(first - mean_codes[:5]).max() < 0.5  # two sets of 200 draws
