"""The models for PyMC."""

from __future__ import annotations

import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.distributions.transforms import ordered

from benchmarks.likelihoods.problem import COLUMNS, HIDDEN, data

__all__ = ["build"]


def build(likelihood: str) -> pm.Model:
    """Return the model of a likelihood, with its data."""
    X, y = data(likelihood)
    floatX = pytensor.config.floatX
    with pm.Model() as model:
        X = pm.Data("X", X.astype(floatX))
        y = pm.Data("y_data", y.astype(floatX) if y.dtype.kind == "f" else y)
        _likelihood(likelihood, X, y)
    return model


def _likelihood(likelihood: str, X, y) -> None:
    if likelihood == "mixture of 3 normals":
        mu = pm.Normal("mu", [-1.0, 0.0, 1.0], 3.0, shape=3)
        sigma = pm.HalfNormal("sigma", 1.0, shape=3)
        w = pm.Dirichlet("w", [1.0, 1.0, 1.0])
        pm.NormalMixture("y", w=w, mu=mu, sigma=sigma, observed=y)
        return
    if likelihood == "network of 32 units":
        W1 = pm.Normal("W1", 0.0, 1.0, shape=(COLUMNS, HIDDEN))
        w2 = pm.Normal("w2", 0.0, 1.0, shape=HIDDEN)
        pm.Normal("y", pt.tanh(X @ W1) @ w2, 0.1, observed=y)
        return
    if likelihood == "categorical":
        W = pm.Normal("W", 0.0, 1.0, shape=(COLUMNS, 3))
        pm.Categorical("y", logit_p=X @ W, observed=y)
        return
    eta = X @ pm.Normal("w", 0.0, 1.0, shape=COLUMNS)
    if likelihood == "Normal":
        pm.Normal("y", eta, _positive(1.0), observed=y)
    elif likelihood == "Student's t":
        nu, s = pm.Gamma("nu", 2.0, 0.1), _positive(1.0)
        pm.StudentT("y", nu=nu, mu=eta, sigma=s, observed=y)
    elif likelihood == "Poisson":
        pm.Poisson("y", pt.exp(eta), observed=y)
    elif likelihood == "negative binomial":
        pm.NegativeBinomial("y", pt.exp(eta), _positive(5.0), observed=y)
    elif likelihood == "gamma":
        a = _positive(5.0)
        pm.Gamma("y", a, a / pt.exp(eta), observed=y)
    elif likelihood == "beta":
        a, p = _positive(5.0), pt.sigmoid(eta)
        pm.Beta("y", a * p, a * (1 - p), observed=y)
    elif likelihood == "binomial":
        pm.Binomial("y", 10, logit_p=eta, observed=y)
    elif likelihood == "Weibull":
        pm.Weibull("y", _positive(5.0), pt.exp(eta), observed=y)
    elif likelihood == "probit":
        pm.Bernoulli("y", pm.math.invprobit(eta), observed=y)
    elif likelihood == "ordered logistic":
        c = pm.Normal("c", [-1.0, 0.0, 1.0], 1.0, shape=3, transform=ordered)
        pm.OrderedLogistic("y", eta=eta, cutpoints=c, observed=y)
    elif likelihood == "zero-inflated Poisson":
        pm.ZeroInflatedPoisson("y", pm.Beta("psi", 1.0, 1.0), pt.exp(eta), observed=y)
    else:
        raise KeyError(likelihood)


def _positive(scale: float):
    """Return a scale or shape that starts at 1: from its prior's mean some densities are out of reach."""
    return pm.HalfNormal("s", scale, initval=1.0)
