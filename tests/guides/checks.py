"""What every guide family is checked for, with models whose posteriors are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.replace import vectorize_graph

from pymc_svi import SVI, Trace_ELBO, optim
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.handlers import substitute, trace
from pymc_svi.results.sampling import draw_function
from tests.models import gaussian_log_density


@dataclass(frozen=True)
class GaussianTarget:
    """Latent sites whose joint law is a known Normal: a Normal prior and one factor.

    The factor is the ratio of the target's density to the prior's, times ``exp(log_evidence)``,
    so that the log evidence is known.
    """

    mean: np.ndarray
    cov: np.ndarray
    log_evidence: float = -1.25

    @classmethod
    def simulated(cls, size: int = 3, seed: int = 1) -> GaussianTarget:
        rng = np.random.default_rng(seed)
        factor = rng.normal(size=(size, size)) / np.sqrt(size)
        return cls(rng.normal(size=size), factor @ factor.T + 0.3 * np.eye(size))

    def __call__(self) -> None:
        """The model: a scalar ``a`` and a vector ``b``."""
        a = pm.Normal("a")
        b = pm.Normal("b", shape=len(self.mean) - 1)
        x = pt.concatenate([a[None], b])
        log_prior = -0.5 * (x**2).sum() - 0.5 * len(self.mean) * np.log(2 * np.pi)
        residual = x - self.mean
        precision = np.linalg.inv(self.cov)
        constant = gaussian_log_density(self.mean, self.mean, self.cov)
        log_target = constant - 0.5 * (residual[:, None] * precision * residual).sum()
        pm.Potential("target", log_target - log_prior + self.log_evidence)

    def vector(self, posterior) -> np.ndarray:
        """Draws of a DataTree as vectors."""
        return np.column_stack([posterior["a"].values[0], posterior["b"].values[0]])


def fit(model, guide, *args, steps: int = 2_000, step_size: float = 0.05, particles: int = 4):
    """Fit with a step size that decays to a hundredth."""
    svi = SVI(
        model,
        guide,
        optim.Adam(optim.exponential_decay(step_size, steps, 0.01)),
        Trace_ELBO(num_particles=particles),
    )
    return svi.run(steps, *args, random_seed=0, progressbar=False)


def elbo_draws(model, guide, params, *args, n: int = 2_000, seed: int = 5) -> np.ndarray:
    """Return independent one-draw estimates of the ELBO at given params."""
    with substitute(data=params):
        loss = Trace_ELBO().loss(model, guide, *args)
    return -draw_function({"loss": loss.value})(n, seed)["loss"]


def log_density_function(dist):
    """Return the log-density of an unnamed distribution as a function of a batch of vectors."""
    value = dist.type()
    log_density = pm.logp(dist, value).sum()
    batch = pt.tensor("batch", dtype=value.dtype, shape=(None, *value.type.shape))
    [values] = vectorize_graph([log_density], {value: batch})
    return pytensor.function([batch], values, mode=evaluation_mode())


def joint_draws(guide, params, n: int, *args, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return draws of a guide's joint vector, and the log-densities that the guide gives them."""
    with substitute(data=params):
        site = trace(guide).get_trace(*args)[f"_{guide.prefix}_latent"]
    values = draw_function({"value": site.value, "log_density": site.log_prob})(n, seed)
    return values["value"], values["log_density"]
