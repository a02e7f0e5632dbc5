"""Models that several tests use, with what is known exactly about them beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from pymc_svi import constraints, param

# --- a Normal mean with known noise -----------------------------------------------------------

NOISE, PRIOR_SD = 1.5, 3.0
MEASUREMENTS = np.array([1.2, 0.3, 2.6, 1.9])


def normal_mean(y=None):
    """A Normal mean with known noise; without data, four measurements are drawn."""
    mu = pm.Normal("mu", 1.0, PRIOR_SD)
    pm.Normal("y", mu, NOISE, shape=4, observed=y)


def normal_mean_guide(y=None):
    """The family of the exact posterior."""
    loc = param("loc", 0.0)
    scale = param("scale", 1.0, constraint=constraints.positive)
    pm.Normal("mu", loc, scale)


def normal_mean_posterior(y=MEASUREMENTS) -> tuple[float, float]:
    """Mean and standard deviation of ``mu`` given the measurements."""
    precision = 1 / PRIOR_SD**2 + len(y) / NOISE**2
    mean = (1.0 / PRIOR_SD**2 + np.sum(y) / NOISE**2) / precision
    return float(mean), float(precision**-0.5)


def normal_mean_log_evidence(y=MEASUREMENTS) -> float:
    cov = NOISE**2 * np.eye(len(y)) + PRIOR_SD**2
    return gaussian_log_density(y, np.full(len(y), 1.0), cov)


# --- linear regression with known noise -------------------------------------------------------


def gaussian_log_density(x, mean, cov) -> float:
    """Log-density of a multivariate Normal."""
    deviation = np.asarray(x) - mean
    _, log_det = np.linalg.slogdet(cov)
    quadratic = deviation @ np.linalg.solve(cov, deviation)
    return float(-0.5 * (quadratic + log_det + len(deviation) * np.log(2 * np.pi)))


def gaussian_kl(mean, cov, other_mean, other_cov) -> float:
    """Kullback-Leibler divergence of one multivariate Normal from another."""
    precision = np.linalg.inv(other_cov)
    deviation = np.asarray(other_mean) - mean
    log_dets = np.linalg.slogdet(other_cov)[1] - np.linalg.slogdet(cov)[1]
    trace = np.trace(precision @ cov) + deviation @ precision @ deviation
    return float(0.5 * (trace - len(deviation) + log_dets))


@dataclass(frozen=True)
class Regression:
    """Linear regression with known noise: two latent sites, Normal posterior, known evidence.

    Attributes
    ----------
    X, y : numpy.ndarray
        The data; the columns of X are correlated, and so are the weights a posteriori.
    """

    X: np.ndarray
    y: np.ndarray
    noise: float = 0.8
    intercept_sd: float = 2.0
    weight_sd: float = 1.5

    @classmethod
    def simulated(cls, n: int = 12, k: int = 2, seed: int = 3) -> Regression:
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n, k))
        X[:, -1] += 2 * X[:, 0]
        y = 0.5 + X @ np.linspace(1.0, -0.5, k) + 0.8 * rng.normal(size=n)
        return cls(X, y)

    @property
    def design(self) -> np.ndarray:
        return np.column_stack([np.ones(len(self.X)), self.X])

    @property
    def prior_variances(self) -> np.ndarray:
        k = self.X.shape[1]
        return np.array([self.intercept_sd**2, *[self.weight_sd**2] * k])

    @property
    def precision(self) -> np.ndarray:
        return np.diag(1 / self.prior_variances) + self.design.T @ self.design / self.noise**2

    @property
    def cov(self) -> np.ndarray:
        """Posterior covariance of (intercept, weights)."""
        return np.linalg.inv(self.precision)

    @property
    def mean(self) -> np.ndarray:
        """Posterior mean of (intercept, weights)."""
        return self.cov @ self.design.T @ self.y / self.noise**2

    @property
    def log_evidence(self) -> float:
        cov = self.design * self.prior_variances @ self.design.T
        cov += self.noise**2 * np.eye(len(self.y))
        return gaussian_log_density(self.y, np.zeros(len(self.y)), cov)

    @property
    def mean_field_elbo(self) -> float:
        """The best ELBO of independent Normals: their precisions are the posterior's diagonal."""
        best = np.diag(1 / np.diag(self.precision))
        return self.log_evidence - gaussian_kl(self.mean, best, self.mean, self.cov)

    def __call__(self, X, y=None):
        """The model as a function program."""
        intercept = pm.Normal("intercept", 0.0, self.intercept_sd)
        weights = pm.Normal("weights", 0.0, self.weight_sd, shape=X.shape[1])
        # A sum, not a matrix product: its wrappers take half a minute to compile.
        mean = intercept + (X * weights).sum(axis=-1)
        pm.Normal("y", mean, self.noise, shape=X.shape[0], observed=y)

    def built(self) -> pm.Model:
        """The same as a built model, with its data in ``pm.Data``."""
        coords = {"feature": [f"x{i}" for i in range(self.X.shape[1])]}
        with pm.Model(coords=coords) as model:
            X = pm.Data("X", self.X, dims=("row", "feature"))
            y = pm.Data("y_data", self.y, dims="row")
            intercept = pm.Normal("intercept", 0.0, self.intercept_sd)
            weights = pm.Normal("weights", 0.0, self.weight_sd, dims="feature")
            mean = pm.Deterministic("mean", intercept + (X * weights).sum(axis=-1), dims="row")
            pm.Normal("y", mean, self.noise, observed=y, dims="row")
        return model


# --- eight schools (Rubin 1981) ---------------------------------------------------------------

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
SCHOOLS = {"school": list("ABCDEFGH")}


def eight_schools() -> pm.Model:
    """Eight schools, non-centred, as a built model."""
    with pm.Model(coords=SCHOOLS) as model:
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", 5)
        z = pm.Normal("z", 0, 1, dims="school")
        theta = pm.Deterministic("theta", mu + tau * z, dims="school")
        pm.Normal("y", theta, ERRORS, observed=EFFECTS, dims="school")
    return model


# --- a support that depends on another site ---------------------------------------------------


def wedge():
    """A point below a random bound: no draw may have ``x > u``."""
    u = pm.HalfNormal("u", 1.0)
    x = pm.Uniform("x", 0.0, u)
    pm.Normal("y", x, 0.5, observed=0.7)


def wedge_guide():
    """A guide by hand whose bound depends on its own draw."""
    positive = constraints.positive
    u = pm.LogNormal("u", param("u_loc", 0.0), param("u_scale", 0.5, constraint=positive))
    share = param("share", np.full(2, 1.0), constraint=positive)
    width = pt.sum(share) / (1 + pt.sum(share))
    pm.Uniform("x", 0.0, width * u)
