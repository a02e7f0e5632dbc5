"""A fit in compiled code takes the steps that PyTensor's own take, one operation at a time.

The training loop is written by this package: models of many kinds of operations, and of loops within
it, must come out as they do where PyTensor alone computes them.
"""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

from pymc_svi import SVI, optim, scan
from pymc_svi.guides import AutoMultivariateNormal

RNG = np.random.default_rng(0)
X, GROUP = RNG.normal(size=(40, 3)), RNG.integers(0, 4, 40)
COUNTS, Y = RNG.poisson(2.0, 40), RNG.normal(size=40)


def counts():
    rate = pm.Gamma("rate", 2.0, pm.HalfNormal("scale", 1.0))
    effects = pm.ZeroSumNormal("effects", pm.HalfNormal("spread", 1.0), shape=4)
    mean = rate * pt.exp(effects[GROUP])
    pm.NegativeBinomial("y", mu=mean, alpha=pm.Gamma("alpha", 2.0, 1.0), observed=COUNTS)


def covariances():
    scales = pm.HalfNormal("scales", 1.0, shape=3)
    pm.MvNormal("x", pm.Normal("mean"), cov=pt.diag(scales**2) + 0.1, observed=X)


def cutpoints():
    ordered = pm.distributions.transforms.ordered
    cuts = pm.Normal("cuts", 0.0, 2.0, shape=3, transform=ordered, initval=[-1.0, 0.0, 1.0])
    weights = pm.Normal("weights", 0.0, 1.0, shape=3)
    pm.OrderedLogistic("y", eta=X @ weights, cutpoints=cuts, observed=GROUP)


def mixture():
    weights = pm.Dirichlet("weights", np.ones(3))
    pm.NormalMixture("y", weights, pm.Normal("loc", shape=3), pm.Exponential("s", 1), observed=Y)


def process():
    points = np.linspace(0.0, 1.0, 12)[:, None]
    covariance = pm.gp.cov.ExpQuad(1, ls=pm.InverseGamma("length", 3.0, 1.0))
    gp = pm.gp.Marginal(cov_func=covariance)
    gp.marginal_likelihood("y", X=points, y=Y[:12], sigma=pm.HalfNormal("noise", 1.0))


def walk():
    """Loops within the loop over steps."""

    def step(last, y):
        now = pm.Normal("z", 0.9 * last, pm.math.exp(0.1 * last))
        pm.Normal("y", now, 1.0, observed=y)
        return now, None

    scan(step, pm.Normal("start"), Y[:5])


@pytest.mark.slow
@pytest.mark.parametrize("program", [counts, covariances, cutpoints, mixture, process, walk])
def test_steps_are_those_of_pytensor(program):
    fits = [
        SVI(program, AutoMultivariateNormal(program), optim.Adam(0.05), compile_kwargs=kwargs).run(
            6, random_seed=3, progressbar=False
        )
        for kwargs in (None, {"mode": "FAST_COMPILE"})
    ]
    compiled, plain = fits
    np.testing.assert_allclose(compiled.losses, plain.losses, rtol=1e-10)
    for name, value in plain.params.items():
        np.testing.assert_allclose(compiled.params[name], value, rtol=1e-7, atol=1e-10)
