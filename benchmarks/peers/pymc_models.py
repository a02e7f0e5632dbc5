"""The models as PyMC programs, for the three libraries that fit those.

Data are ``pm.Data``: shared variables, which none of the three compiles into its code.
"""

from __future__ import annotations

import pymc as pm

__all__ = ["MODELS"]


def eight_schools(data) -> pm.Model:
    """Return the non-centred hierarchical model."""
    with pm.Model() as model:
        sigma = pm.Data("sigma", data["sigma"])
        y = pm.Data("y_observed", data["y"])
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfCauchy("tau", 5.0)
        theta = pm.Normal("theta", 0.0, 1.0, shape=8)
        pm.Normal("y", mu + tau * theta, sigma, observed=y)
    return model


def logistic(data) -> pm.Model:
    """Return the logistic regression."""
    with pm.Model() as model:
        X = pm.Data("X", data["X"])
        y = pm.Data("y_observed", data["y"].astype(int))
        w = pm.Normal("w", 0.0, 1.0, shape=data["X"].shape[1])
        pm.Bernoulli("y", logit_p=X @ w, observed=y)
    return model


def primer(data) -> pm.Model:
    """Return the linear regression that fills the caches of single operations."""
    with pm.Model() as model:
        X = pm.Data("X", data["X"])
        y = pm.Data("y_observed", data["y"])
        intercept = pm.Normal("intercept", 0.0, 10.0)
        slopes = pm.Normal("slopes", 0.0, 1.0, shape=data["X"].shape[1])
        noise = pm.HalfNormal("noise", 2.0)
        pm.Normal("y", intercept + X @ slopes, noise, observed=y)
    return model


MODELS = {"eight_schools": eight_schools, "logistic": logistic, "primer": primer}
