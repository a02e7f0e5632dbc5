"""Linear regressions of posteriordb, whose posteriors are known but for one integral."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pymc as pm
from scipy.special import logsumexp

from benchmarks.accuracy.problem import Moments, Problem

__all__ = ["REGRESSIONS", "exact_moments"]

type Arrays = Mapping[str, np.ndarray]
# Outcome and predictors, of which the first is always a column of ones.
type Design = Callable[[Arrays], tuple[np.ndarray, np.ndarray]]


def exact_moments(X: np.ndarray, y: np.ndarray, half_cauchy: float | None = None) -> Moments:
    """Return means and sds of coefficients and noise, under flat priors of the coefficients.

    Given the noise the coefficients are Normal around least squares; the noise is integrated on a
    fine grid of its logarithm.

    Parameters
    ----------
    X, y : numpy.ndarray
        Predictors and outcome.
    half_cauchy : float, optional
        Scale of the prior of the noise; flat if not given.
    """
    n, p = X.shape
    Q, R = np.linalg.qr(X)
    inverse = np.linalg.inv(R)
    coefficients = inverse @ (Q.T @ y)
    rest = np.sum((y - X @ coefficients) ** 2)
    log_sigma = 0.5 * np.log(rest / n) + np.linspace(-12, 12, 4_001) / np.sqrt(n - p)
    sigma = np.exp(log_sigma)
    log_density = -(n - p - 1) * log_sigma - 0.5 * rest / sigma**2
    if half_cauchy is not None:
        log_density -= np.log1p((sigma / half_cauchy) ** 2)
    weights = np.exp(log_density - logsumexp(log_density))
    mean = weights @ sigma
    spread = np.sqrt(weights @ sigma**2 * (inverse**2).sum(axis=1))
    moments = {
        f"beta[{i + 1}]": (float(b), float(s))
        for i, (b, s) in enumerate(zip(coefficients, spread, strict=True))
    }
    moments["sigma"] = (float(mean), float(np.sqrt(weights @ (sigma - mean) ** 2)))
    return moments


def regression(name: str, data: str, design: Design, half_cauchy: float | None = None) -> Problem:
    """Return the regression of a design, with flat priors but for that of the noise."""

    def make(data: Arrays) -> pm.Model:
        X, y = design(data)
        with pm.Model() as model:
            beta = pm.Flat("beta", shape=X.shape[1])
            if half_cauchy is None:
                sigma = pm.HalfFlat("sigma")
            else:
                sigma = pm.HalfCauchy("sigma", half_cauchy)
            pm.Normal("y", X @ beta, sigma, observed=y)
        return model

    def exact(data: Arrays) -> Moments:
        return exact_moments(*design(data), half_cauchy)

    return Problem(name, data, make, ("beta", "sigma"), exact)


def columns(*predictors: np.ndarray) -> np.ndarray:
    """Return a column of ones and the predictors."""
    ones = np.ones(len(predictors[0]))
    return np.column_stack([ones, *predictors]).astype("float64")


def nes(d: Arrays):
    groups = [d["age_discrete"] == group for group in (2, 3, 4)]
    names = ("real_ideo", "race_adj", "educ1", "gender", "income")
    ideo, race, *others = (d[name] for name in names)
    return columns(ideo, race, *groups, *others), d["partyid7"]


def kids(*names: str) -> Design:
    """Return the design of the scores of children; ``"*"`` is the interaction."""

    def design(d: Arrays):
        by_name = {**d, "*": d["mom_hs"] * d["mom_iq"]}
        return columns(*(by_name[name] for name in names)), d["kid_score"]

    return design


def kids_centered(d: Arrays):
    school, iq = (d[name] - d[name].mean() for name in ("mom_hs", "mom_iq"))
    return columns(school, iq, school * iq), d["kid_score"]


def earnings(d: Arrays):
    return columns(d["height"]), d["earn"]


def log_earnings(d: Arrays):
    return columns(d["height"], d["male"], d["height"] * d["male"]), np.log(d["earn"])


def log_earnings_standardized(d: Arrays):
    z = (d["height"] - d["height"].mean()) / d["height"].std(ddof=1)
    return columns(z, d["male"], z * d["male"]), np.log(d["earn"])


def mesquite(d: Arrays):
    names = ("diam1", "diam2", "canopy_height", "total_height", "density")
    return columns(*(np.log(d[name]) for name in names), d["group"]), np.log(d["weight"])


def mesquite_volume(d: Arrays):
    area, shape = np.log(d["diam1"] * d["diam2"]), np.log(d["diam1"] / d["diam2"])
    volume, height = area + np.log(d["canopy_height"]), np.log(d["total_height"])
    return columns(volume, area, shape, height, d["group"]), np.log(d["weight"])


REGRESSIONS = [
    regression("nes", "nes2000", nes),
    regression("kidscore_momhs", "kidiq", kids("mom_hs"), 2.5),
    regression("kidscore_momiq", "kidiq", kids("mom_iq"), 2.5),
    regression("kidscore_momhsiq", "kidiq", kids("mom_hs", "mom_iq"), 2.5),
    regression("kidscore_interaction", "kidiq", kids("mom_hs", "mom_iq", "*"), 2.5),
    regression("kidscore_interaction_c", "kidiq", kids_centered),
    regression("earn_height", "earnings", earnings),
    regression("logearn_interaction", "earnings", log_earnings),
    regression("logearn_interaction_z", "earnings", log_earnings_standardized),
    regression("logmesquite", "mesquite", mesquite),
    regression("logmesquite_logvash", "mesquite", mesquite_volume),
]
