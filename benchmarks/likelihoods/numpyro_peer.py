"""NumPyro: ``SVI.run`` as a whole compiled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO, init_to_feasible, init_to_value
from numpyro.infer.autoguide import AutoNormal

from benchmarks.likelihoods.problem import COLUMNS, HIDDEN, ROWS, data, measure, options

sample = numpyro.sample


def normals(*shape, loc=0.0, scale=1.0):
    """Return independent normals that are one site."""
    return dist.Normal(loc, scale).expand(shape).to_event(len(shape))


def law(likelihood: str, X) -> dist.Distribution:
    """Return the law of the response, of sites that are sampled here."""
    if likelihood == "mixture of 3 normals":
        mu = sample("mu", dist.Normal(jnp.array([-1.0, 0.0, 1.0]), 3.0).to_event(1))
        sigma = sample("sigma", dist.HalfNormal(1.0).expand([3]).to_event(1))
        w = sample("w", dist.Dirichlet(jnp.ones(3)))
        return dist.MixtureSameFamily(dist.Categorical(w), dist.Normal(mu, sigma))
    if likelihood == "network of 32 units":
        W1, w2 = sample("W1", normals(COLUMNS, HIDDEN)), sample("w2", normals(HIDDEN))
        return dist.Normal(jnp.tanh(X @ W1) @ w2, 0.1)
    if likelihood == "categorical":
        return dist.Categorical(logits=X @ sample("W", normals(COLUMNS, 3)))
    eta = X @ sample("w", normals(COLUMNS))

    def positive(scale):
        return sample("s", dist.HalfNormal(scale))

    if likelihood == "Normal":
        return dist.Normal(eta, positive(1.0))
    if likelihood == "Student's t":
        return dist.StudentT(sample("nu", dist.Gamma(2.0, 0.1)), eta, positive(1.0))
    if likelihood == "Poisson":
        return dist.Poisson(jnp.exp(eta))
    if likelihood == "negative binomial":
        return dist.NegativeBinomial2(jnp.exp(eta), positive(5.0))
    if likelihood == "gamma":
        a = positive(5.0)
        return dist.Gamma(a, a / jnp.exp(eta))
    if likelihood == "beta":
        a, p = positive(5.0), jax.nn.sigmoid(eta)
        return dist.Beta(a * p, a * (1 - p))
    if likelihood == "binomial":
        return dist.Binomial(10, logits=eta)
    if likelihood == "Weibull":
        return dist.Weibull(jnp.exp(eta), positive(5.0))
    if likelihood == "probit":
        return dist.Bernoulli(probs=jax.scipy.stats.norm.cdf(eta))
    if likelihood == "ordered logistic":
        centers = dist.Normal(jnp.array([-1.0, 0.0, 1.0]), 1.0).to_event(1)
        cutpoints = dist.TransformedDistribution(centers, dist.transforms.OrderedTransform())
        return dist.OrderedLogistic(eta, sample("c", cutpoints))
    if likelihood == "zero-inflated Poisson":
        return dist.ZeroInflatedPoisson(1 - sample("psi", dist.Beta(1.0, 1.0)), jnp.exp(eta))
    raise KeyError(likelihood)


def main() -> None:
    """Measure."""
    given = options()
    if given.precision == "float64":
        numpyro.enable_x64()
    X, y = (jnp.asarray(array) for array in data(given.likelihood))

    def model(X, y):
        of_rows = law(given.likelihood, X)
        with numpyro.plate("rows", ROWS):
            sample("y", of_rows, obs=y)

    # Where PyMC starts, so that losses after as many steps can be compared.
    start = init_to_feasible
    if given.likelihood == "mixture of 3 normals":
        start = init_to_value(values={"mu": jnp.array([-1.0, 0.0, 1.0]), "sigma": jnp.ones(3)})

    def take(key, X, y, steps):
        # A guide keeps values of the trace in which it was first used.
        guide = AutoNormal(model, init_loc_fn=start)
        svi = SVI(model, guide, numpyro.optim.Adam(0.01), Trace_ELBO())
        return svi.run(key, steps, X, y, progress_bar=False).losses

    compiled = jax.jit(take, static_argnums=3)

    def run(steps):
        return jax.block_until_ready(compiled(jax.random.key(0), X, y, steps))

    measure(run, run)


if __name__ == "__main__":
    main()
