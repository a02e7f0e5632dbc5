"""Checks on random numbers, and short ways to get many of them."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
from pymc.pytensorf import rewrite_pregrad

from pymc_svi import SVI, Trace_ELBO
from pymc_svi.engine.training import training_mode
from pymc_svi.results.sampling import draw_function

STANDARD_ERRORS = 3.5


def assert_mean(draws, expected, standard_errors: float = STANDARD_ERRORS) -> None:
    """Check that independent draws average to what is expected, elementwise."""
    draws = np.asarray(draws)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    off = np.abs(draws.mean(axis=0) - expected) / np.maximum(error, 1e-12)
    assert np.all(off < standard_errors), (
        f"mean {draws.mean(axis=0)}, expected {expected}: {np.max(off):.2f} standard errors"
    )


def assert_variance(draws, expected, standard_errors: float = STANDARD_ERRORS) -> None:
    """Check the variance of independent draws, elementwise."""
    squares = (np.asarray(draws) - np.mean(draws, axis=0)) ** 2
    assert_mean(squares * len(draws) / (len(draws) - 1), expected, standard_errors)


def assert_covariance(draws, expected, standard_errors: float = STANDARD_ERRORS) -> None:
    """Check the covariance matrix of independent vectors, elementwise."""
    centred = np.asarray(draws) - np.mean(draws, axis=0)
    products = centred[:, :, None] * centred[:, None, :]
    assert_mean(products * len(draws) / (len(draws) - 1), expected, standard_errors)


def built_loss(model, guide, *args, loss=None, coords=None):
    """Return the loss of a pair as expressions, and the store of its params."""
    return SVI(model, guide, loss=loss or Trace_ELBO(), coords=coords).build_loss(*args)


def loss_draws(model, guide, *args, n: int, seed: int = 0, **settings) -> np.ndarray:
    """Return ``n`` independent evaluations of the loss at the starting values of its params."""
    loss, _ = built_loss(model, guide, *args, **settings)
    return draw_function({"loss": loss.value})(n, seed)["loss"]


def gradient_draws(
    model, guide, *args, n: int, seed: int = 0, compiled: bool = False, **settings
) -> dict:
    """Return ``n`` independent gradients of the loss in unconstrained space, by param.

    Compile them where an operation of the gradient would be a loop over the draws in Python.
    """
    loss, store = built_loss(model, guide, *args, **settings)
    surrogate = rewrite_pregrad(loss.surrogate)
    gradients = pytensor.grad(surrogate, list(store.variables.values()))
    outputs = dict(zip(store.variables, gradients, strict=True))
    return draw_function(outputs, mode=training_mode() if compiled else None)(n, seed)


def as_built(program, *args, coords=None) -> pm.Model:
    """Return a function program as a built model."""
    with pm.Model(coords=coords) as model:
        program(*args)
    return model
