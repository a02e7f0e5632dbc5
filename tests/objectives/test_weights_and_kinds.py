"""Every objective, kind of site and weight together: exact values and unbiased gradients.

One model has a global pathwise site ``u``, a global discrete site ``k``, and, in a plate, discrete
sites ``z`` and observations. What a weight does (a scale, a mask, a subsample of the plate) and what
an objective does with a kind of site are each tested elsewhere; here they meet. Expectations are
sums over all states, with quadrature over ``u``; a subsample is a sum over all subsets too.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.pytensorf import rewrite_pregrad
from scipy.special import expit
from scipy.stats import norm

from pymc_svi import (
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    constraints,
    handlers,
    param,
    plate,
    sample,
)
from pymc_svi.results.sampling import draw_function
from tests.checks import assert_mean, built_loss

Y = np.array([0.9, -0.4, 1.6])
SCALE = 1.7
MASK = np.array([True, False, True])
KINDS = {"pathwise": ("u",), "score": ("k", "z"), "mixed": ("u", "k", "z")}
WEIGHTS = ("plain", "scale", "mask", "subsample")
START = {"loc": 0.3, "sd": np.log(0.7), "k_logit": -0.4, "z_logit": 0.6}
PARAMS = {"u": ("loc", "sd"), "k": ("k_logit",), "z": ("z_logit",)}


@dataclass(frozen=True)
class Case:
    """A pair of programs: which sites are random, how they are weighted, which are summed."""

    kind: str
    weight: str
    summed: tuple[str, ...] = ()  # in the guide, but for "z in model"

    @property
    def sites(self) -> tuple[str, ...]:
        return KINDS[self.kind]

    @property
    def z_in_guide(self) -> bool:
        return "z" in self.sites and "z in model" not in self.summed

    @property
    def params(self) -> list[str]:
        sites = [s for s in self.sites if s != "z" or self.z_in_guide]
        return [name for site in sites for name in PARAMS[site]]

    def rows(self):
        return plate("rows", 3, subsample_size=2 if self.weight == "subsample" else None)

    def scaled(self):
        return handlers.scale(scale=SCALE) if self.weight == "scale" else nullcontext()

    def masked(self):
        return handlers.mask(mask=MASK) if self.weight == "mask" else nullcontext()

    def model(self):
        u = pm.Normal("u", 0.0, 1.0) if "u" in self.sites else 0.0
        with self.scaled():
            k = pm.Bernoulli("k", 0.3) if "k" in self.sites else 0
            with self.rows() as rows, self.masked():
                z = pm.Bernoulli("z", 0.4) if "z" in self.sites else 0
                pm.Normal("y", u + 1.5 * k - z, 0.8, observed=pt.constant(Y)[rows])

    def guide(self):
        if "u" in self.sites:
            sd = param("sd", np.exp(START["sd"]), constraint=constraints.positive)
            pm.Normal("u", param("loc", START["loc"]), sd)
        with self.scaled():
            if "k" in self.sites:
                self.discrete("k")
            with self.rows(), self.masked():
                if self.z_in_guide:
                    self.discrete("z")

    def discrete(self, name):
        law = pm.Bernoulli.dist(logit_p=param(f"{name}_logit", START[f"{name}_logit"]))
        sample(name, law, infer={"enumerate": "parallel"} if name in self.summed else None)

    def states(self, **changed):
        """Return each state's probability, and by subset of rows ``log p`` and ``log q`` of it."""
        at = {**START, **changed}
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        if "u" not in self.sites:
            nodes, weights = np.zeros(1), np.ones(1)
        weights = weights / weights.sum()
        k_values = (0, 1) if "k" in self.sites else (0,)
        z_values = list(product((0, 1), repeat=3)) if self.z_in_guide else [(0, 0, 0)]
        subsets = list(combinations(range(3), 2)) if self.weight == "subsample" else [range(3)]
        scale = SCALE if self.weight == "scale" else 1.0
        q_k, q_z = expit(at["k_logit"]), expit(at["z_logit"])
        probability, log_p, log_q = [], [], []
        for k, z in product(k_values, z_values):
            z = np.array(z)
            u = at["loc"] + np.exp(at["sd"]) * nodes if "u" in self.sites else nodes
            p, q, here = np.zeros_like(u), np.zeros_like(u), weights.copy()
            if "u" in self.sites:
                p += norm.logpdf(u)
                q += norm.logpdf(u, at["loc"], np.exp(at["sd"]))
            if "k" in self.sites:
                p += scale * np.log([0.7, 0.3][k])
                q += scale * np.log([1 - q_k, q_k][k])
                here *= [1 - q_k, q_k][k]
            row_p, row_q = np.zeros((3, len(u))), np.zeros((3, len(u)))
            for i in range(3):
                likelihood = [norm.logpdf(Y[i], u + 1.5 * k - value, 0.8) for value in (0, 1)]
                if self.z_in_guide:
                    row_p[i] = np.log([0.6, 0.4][z[i]]) + likelihood[z[i]]
                    row_q[i] = np.log([1 - q_z, q_z][z[i]])
                    here *= [1 - q_z, q_z][z[i]]
                elif "z" in self.sites:
                    row_p[i] = np.logaddexp(
                        np.log(0.6) + likelihood[0], np.log(0.4) + likelihood[1]
                    )
                else:
                    row_p[i] = likelihood[0]
            keep = (MASK if self.weight == "mask" else np.ones(3)) * scale
            probability.append(here)
            for total, rows, out in ((p, row_p, log_p), (q, row_q, log_q)):
                out.append(
                    [total + 3 / len(s) * sum(keep[i] * rows[i] for i in s) for s in subsets]
                )
        return (
            np.concatenate(probability),
            np.concatenate(log_p, axis=-1),
            np.concatenate(log_q, axis=-1),
        )


def negative_elbo(case, **at):
    probability, log_p, log_q = case.states(**at)
    return float(((log_q - log_p) @ probability).mean())


def importance_weighted(case, **at):
    """The bound of two draws: a sum over all pairs of states."""
    probability, log_p, log_q = case.states(**at)
    [log_w] = log_p - log_q
    pairs = np.logaddexp(log_w[:, None], log_w[None, :]) - np.log(2)
    return -float(probability @ pairs @ probability)


def wake(case, **at):
    """What the guide follows awake: ``-sum_k w_k log q``, the weights and draws held."""
    probability, log_p, log_q = case.states()
    [log_w] = log_p - log_q
    share = np.exp(log_w[:, None] - np.logaddexp(log_w[:, None], log_w[None, :]))
    held = 2 * probability * (share @ probability)
    return -float(held @ held_log_q(case, **at))


def held_log_q(case, **at):
    """``log q`` at the states of the starting values under other params."""
    at = {**START, **at}
    moved, start = np.exp(at["sd"]), np.exp(START["sd"])
    nodes, _ = np.polynomial.hermite_e.hermegauss(40)
    scale = SCALE if case.weight == "scale" else 1.0
    keep = (MASK if case.weight == "mask" else np.ones(3)) * scale
    out = []
    k_values = (0, 1) if "k" in case.sites else (0,)
    z_values = list(product((0, 1), repeat=3)) if "z" in case.sites else [(0, 0, 0)]
    for k, z in product(k_values, z_values):
        q = np.zeros(40 if "u" in case.sites else 1)
        if "u" in case.sites:
            q = q + norm.logpdf(START["loc"] + start * nodes, at["loc"], moved)
        if "k" in case.sites:
            q = q + scale * np.log([expit(-at["k_logit"]), expit(at["k_logit"])][k])
            laws = np.log([expit(-at["z_logit"]), expit(at["z_logit"])])
            q = q + sum(keep[i] * laws[z[i]] for i in range(3))
        out.append(q)
    return np.concatenate(out)


def slope(function, case, name, step=1e-4):
    return (
        function(case, **{name: START[name] + step}) - function(case, **{name: START[name] - step})
    ) / (2 * step)


def check(case, loss, n=6_000, value=negative_elbo, target=None):
    """Compare averages of the loss and of its gradient with ``value`` and slopes of ``target``."""
    built, store = built_loss(case.model, case.guide, loss=loss)
    assert set(store.variables) == set(case.params)
    gradients = pytensor.grad(rewrite_pregrad(built.surrogate), list(store.variables.values()))
    named = dict(zip(store.variables, gradients, strict=True))
    draws = draw_function({"loss": built.value, **named})(n, 1)
    exact = {"loss": value(case), **{p: slope(target or value, case, p) for p in case.params}}
    for name, expected in exact.items():
        if np.ptp(draws[name]) < 1e-12:  # summed exactly: what is left is that of the differences
            np.testing.assert_allclose(draws[name], expected, rtol=1e-7)
        else:
            assert_mean(draws[name], expected, 4.0)


every_weight = pytest.mark.parametrize("weight", WEIGHTS)

ELBOS = {
    "Trace_ELBO": Trace_ELBO(),
    "sticking": Trace_ELBO(sticking_the_landing=True),
    "TraceMeanField_ELBO": TraceMeanField_ELBO(),
    "TraceGraph_ELBO": TraceGraph_ELBO(),
}
PARTICLES = {
    "vectorised": Trace_ELBO(num_particles=3),
    "sequential": Trace_ELBO(num_particles=2, vectorize_particles=False),
    "TraceGraph_ELBO": TraceGraph_ELBO(num_particles=2),
}


@every_weight
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ELBOS)
def test_the_bound_of_one_draw_is_unbiased(name, kind, weight):
    check(Case(kind, weight), ELBOS[name])


@every_weight
@pytest.mark.parametrize("name", PARTICLES)
def test_the_mean_of_several_draws_is_unbiased(name, weight):
    check(Case("mixed", weight), PARTICLES[name], n=3_000)


BOUNDS = {  # where no draw has a score, the plain gradient is another estimator
    "pathwise": RenyiELBO(0.0),
    "pathwise plain": RenyiELBO(0.0, doubly_reparameterized=False),
    "score": RenyiELBO(0.0),
    "mixed": RenyiELBO(0.0),
    "mixed sequential": RenyiELBO(0.0, vectorize_particles=False),
}


# A bound of several draws bends: over subsets of rows it does not average to that of all rows.
@pytest.mark.parametrize("weight", WEIGHTS[:3])
@pytest.mark.parametrize("name", BOUNDS)
def test_the_bound_of_two_draws_is_unbiased(name, weight):
    check(Case(name.split()[0], weight), BOUNDS[name], value=importance_weighted)


@pytest.mark.parametrize("weight", WEIGHTS[:3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_guide_awake_follows_the_weighted_draws(kind, weight):
    check(Case(kind, weight), ReweightedWakeSleep(), value=importance_weighted, target=wake)


SUMMED = {
    "all": ("score", ("k", "z")),
    "some": ("mixed", ("k",)),
    "others": ("mixed", ("z",)),
    "in the model": ("mixed", ("k", "z in model")),
    "under a draw": ("mixed", ("z in model",)),
}


@every_weight
@pytest.mark.parametrize("which", SUMMED)
def test_sites_that_are_summed_beside_draws_keep_both_unbiased(which, weight):
    kind, summed = SUMMED[which]
    check(Case(kind, weight, summed), TraceEnum_ELBO())
