"""Checks that draws have the right distribution and gradient, against scipy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import find_rng_nodes, reseed_rngs
from scipy import integrate, stats

from pymc_svi.gradients import rsample

N = 20_000


@dataclass(frozen=True)
class Case:
    """A distribution, its parameters and the same distribution in scipy.

    `monotone`: at fixed noise, the draw is the quantile function.
    `f`: what to take the expectation of, in numpy and PyTensor; heavy tails need a bounded one.
    `mode`: None compiles, which pays where an operation is a long formula for each element.
    """

    name: str
    dist: Callable
    params: Mapping[str, float]
    scipy: Callable
    monotone: bool = True
    f: str = ""
    mode: str | None = "FAST_COMPILE"
    draws: dict = field(default_factory=dict, compare=False, hash=False)

    def __repr__(self):
        return self.name

    def numpy_f(self, x):
        return getattr(np, self.f)(x) if self.f else x

    def at(self, **changes):
        return self.scipy(**{**self.params, **changes})

    def sample(self):
        """Return draws and, by parameter, the gradient of f(draw) for each of them."""
        if not self.draws:
            given = {name: pt.vector(name) for name in self.params}
            draw = rsample(self.dist(**given))
            assert draw.type.ndim == 1
            value = getattr(pt, self.f)(draw) if self.f else draw
            outputs = [draw, *pytensor.grad(value.sum(), list(given.values()))]
            reseed_rngs(find_rng_nodes(outputs), 20240607)
            function = pytensor.function(list(given.values()), outputs, mode=self.mode)
            x, *gradients = function(*(np.full(N, p) for p in self.params.values()))
            self.draws.update(x=x, gradients=dict(zip(self.params, gradients, strict=True)))
        return self.draws["x"], self.draws["gradients"]


def check_distribution(case: Case):
    x, _ = case.sample()
    assert x.shape == (N,)
    dist = case.at()
    low, high = dist.support()
    assert (x >= low).all() and (x <= high).all() and np.isfinite(x).all()
    assert stats.kstest(x, dist.cdf).pvalue > 1e-4


def check_expected_gradient(case: Case):
    """The mean gradient is the derivative of the expectation."""
    _, gradients = case.sample()
    for name, gradient in gradients.items():
        at = case.params[name]
        h = 1e-3 * max(abs(at), 0.1)
        below, above = (expectation(case, {name: p}) for p in (at - h, at + h))
        exact = (above - below) / (2 * h)
        error = gradient.std() / np.sqrt(N)
        assert abs(gradient.mean() - exact) < 3.5 * error + 1e-5 * abs(exact), (
            f"{name}: {gradient.mean()} +- {error}, exactly {exact}"
        )


def check_quantile_gradient(case: Case):
    """Each draw moves as the quantile function does."""
    x, gradients = case.sample()
    dist = case.at()
    # Away from the edges of the support, which move.
    chosen = np.flatnonzero((dist.cdf(x) > 1e-2) & (dist.sf(x) > 1e-2))[:500]
    x = x[chosen]
    slope = derivative(case.numpy_f, x, step=1e-6)
    upper = x > dist.median()
    for name, gradient in gradients.items():
        at = case.params[name]
        below = derivative(lambda p, name=name: case.at(**{name: p}).cdf(x), at, step=1e-5)
        above = derivative(lambda p, name=name: case.at(**{name: p}).sf(x), at, step=1e-5)
        exact = slope * np.where(upper, above, -below) / dist.pdf(x)
        np.testing.assert_allclose(
            gradient[chosen], exact, rtol=1e-5, atol=1e-7 * np.abs(exact).max(), err_msg=name
        )


def expectation(case: Case, changes: Mapping[str, float]) -> float:
    """Integrate f times the density, piecewise between quantiles of the unchanged parameters."""
    dist, here = case.at(**changes), case.at()
    low, high = dist.support()
    middle = here.ppf([1e-12, 1e-8, 1e-4, 0.01, 0.2, 0.8, 0.99, 1 - 1e-4, 1 - 1e-8, 1 - 1e-12])
    edges = np.unique(np.clip([low, *middle, high], low, high))
    return sum(
        integrate.quad(
            lambda x: case.numpy_f(x) * dist.pdf(x), left, right, epsabs=1e-10, epsrel=1e-9
        )[0]
        for left, right in zip(edges[:-1], edges[1:], strict=True)
    )


def derivative(function: Callable, at, step: float = 1e-4):
    """Differentiate by a difference of fourth order."""
    h = step * np.maximum(np.abs(at), 0.1)
    return (
        8 * (function(at + h) - function(at - h)) - (function(at + 2 * h) - function(at - 2 * h))
    ) / (12 * h)
