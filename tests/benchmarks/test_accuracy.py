"""The parts of the accuracy benchmark that need no database."""

import json
import zipfile

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, gammaln
from scipy.stats import beta, cauchy, gamma, halfnorm, multivariate_normal, norm

from benchmarks.accuracy import models, run
from benchmarks.accuracy.database import Database, NotThere, stacked
from benchmarks.accuracy.regressions import exact_moments
from benchmarks.accuracy.report import report
from pymc_svi.evaluation import evaluation_mode

RNG = np.random.default_rng(3)


def simulated(n=12, p=3):
    X = np.column_stack([np.ones(n), RNG.normal(size=(n, p - 1))])
    return X, X @ np.arange(1.0, p + 1) + 0.7 * RNG.normal(size=n)


def least_squares(X, y):
    coefficients = np.linalg.solve(X.T @ X, X.T @ y)
    return coefficients, np.sum((y - X @ coefficients) ** 2)


def test_moments_of_a_regression_with_flat_priors_are_the_exact_ones():
    X, y = simulated()
    coefficients, rest = least_squares(X, y)
    m = len(y) - X.shape[1]
    moments = exact_moments(X, y)
    # The density of the noise is sigma^-m exp(-rest / 2 sigma^2).
    mean = np.sqrt(rest / 2) * np.exp(gammaln((m - 2) / 2) - gammaln((m - 1) / 2))
    square = rest / (m - 3)
    np.testing.assert_allclose(moments["sigma"], (mean, np.sqrt(square - mean**2)), rtol=1e-6)
    spread = np.sqrt(square * np.diagonal(np.linalg.inv(X.T @ X)))
    for i in range(3):
        np.testing.assert_allclose(moments[f"beta[{i + 1}]"], (coefficients[i], spread[i]))


def test_moments_with_a_half_cauchy_prior_of_the_noise_are_those_of_quadrature():
    X, y = simulated()
    _, rest = least_squares(X, y)
    m = len(y) - X.shape[1]

    def integral(power):
        def density(s):
            return s ** (power - m) * np.exp(-0.5 * rest / s**2) * cauchy.pdf(s, 0, 0.1)

        return quad(density, 0, np.inf, epsabs=0, epsrel=1e-10, limit=500)[0]

    mean, square = (integral(power) / integral(0) for power in (1, 2))
    found = exact_moments(X, y, half_cauchy=0.1)["sigma"]
    np.testing.assert_allclose(found, (mean, np.sqrt(square - mean**2)), rtol=1e-5)


# --- ports ----------------------------------------------------------------------------------------


def assert_same_density(model, point, density, *others):
    """Differences between points: constants do not matter."""
    logp = model.compile_logp(mode=evaluation_mode())
    expected = np.array([density(**p) for p in others]) - density(**point)
    found = np.array([logp(p) for p in others]) - logp(point)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_garch():
    y, first = np.array([0.4, -1.0, 2.0, 0.3, 0.1]), 0.7

    def density(mu, alpha0_log__, alpha1_interval__, beta1_interval__):
        alpha0, alpha1 = np.exp(alpha0_log__), expit(alpha1_interval__)
        share = expit(beta1_interval__)
        beta1 = share * (1 - alpha1)
        variances = [first**2]
        for before in y[:-1]:
            variances.append(alpha0 + alpha1 * (before - mu) ** 2 + beta1 * variances[-1])
        jacobian = alpha0 * alpha1 * (1 - alpha1) * share * (1 - share) * (1 - alpha1)
        return norm.logpdf(y, mu, np.sqrt(variances)).sum() + np.log(jacobian)

    names = ("mu", "alpha0_log__", "alpha1_interval__", "beta1_interval__")
    points = [dict(zip(names, RNG.normal(size=4), strict=True)) for _ in range(3)]
    assert_same_density(
        models.garch({"y": y, "sigma1": np.array(first)}), points[0], density, *points[1:]
    )


def test_gaussian_process():
    x, y = np.array([0.0, 1.0, 2.5]), np.array([1.0, 0.4, -0.5])

    def density(rho_log__, alpha_log__, sigma_log__):
        logs = np.array([rho_log__, alpha_log__, sigma_log__])
        rho, alpha, sigma = np.exp(logs)
        cov = alpha**2 * np.exp(-0.5 * ((x[:, None] - x) / rho) ** 2) + sigma * np.eye(3)
        prior = (
            gamma.logpdf(rho, 25, scale=1 / 4) + halfnorm.logpdf([alpha, sigma], 0, [2, 1]).sum()
        )
        return multivariate_normal.logpdf(y, np.zeros(3), cov) + prior + logs.sum()

    names = ("rho_log__", "alpha_log__", "sigma_log__")
    points = [dict(zip(names, 0.3 * RNG.normal(size=3), strict=True)) for _ in range(3)]
    assert_same_density(models.gaussian_process({"x": x, "y": y}), points[0], density, *points[1:])


def test_mixture():
    y = np.array([-1.0, 0.2, 2.0])

    def density(mu_ordered__, sigma_log__, theta_logodds__):
        low, gap = mu_ordered__[0], np.exp(mu_ordered__[1])
        mu, sigma, theta = np.array([low, low + gap]), np.exp(sigma_log__), expit(theta_logodds__)
        parts = np.array([theta, 1 - theta]) * norm.pdf(y[:, None], mu, sigma)
        priors = norm.logpdf(mu, 0, 2).sum() + halfnorm.logpdf(sigma, 0, 2).sum()
        jacobian = np.log(gap) + sigma_log__.sum() + np.log(theta * (1 - theta))
        return np.log(parts.sum(axis=1)).sum() + priors + beta.logpdf(theta, 5, 5) + jacobian

    points = [
        {
            "mu_ordered__": RNG.normal(size=2),
            "sigma_log__": RNG.normal(size=2),
            "theta_logodds__": RNG.normal(),
        }
        for _ in range(3)
    ]
    assert_same_density(models.mixture({"y": y}), points[0], density, *points[1:])


# --- the database and the report ------------------------------------------------------------------

DATA = {"N": 2, "y": [1.0, 2.5]}
CHAINS = [{"mu[1]": [1.0, 2.0], "mu[2]": [0.5, 1.5]}, {"mu[1]": [3.0, 4.0], "mu[2]": [2.5, 3.5]}]


def zipped(path, content):
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(path.name.removesuffix(".zip"), json.dumps(content))


def test_a_clone_and_plain_files_are_read_alike(tmp_path):
    clone = tmp_path / "clone" / "posterior_database"
    zipped(clone / "data" / "data" / "d.json.zip", DATA)
    draws = clone / "reference_posteriors" / "draws" / "draws"
    zipped(draws / "d-m.json.zip", CHAINS)
    plain = tmp_path / "plain"
    (plain / "data").mkdir(parents=True)
    (plain / "data" / "d.json").write_text(json.dumps(DATA))
    (plain / "reference").mkdir()
    both = {name: np.concatenate([chain[name] for chain in CHAINS]) for name in CHAINS[0]}
    np.savez(plain / "reference" / "d-m.npz", **both)
    for database in (Database(tmp_path / "clone"), Database(plain)):
        np.testing.assert_array_equal(database.data("d")["y"], DATA["y"])
        draws = stacked(database.draws("d-m"))
        np.testing.assert_array_equal(draws["mu"], np.column_stack([both["mu[1]"], both["mu[2]"]]))
        with pytest.raises(NotThere, match="There is no .*other.json"):
            database.data("other")


def test_it_says_what_it_needs(tmp_path, capsys, monkeypatch):
    with pytest.raises(NotThere, match="has neither .*clone of https://github.com"):
        Database(tmp_path)
    monkeypatch.setattr("sys.argv", ["run"])
    with pytest.raises(SystemExit):
        run.main()
    assert "pass --posteriordb PATH" in capsys.readouterr().err


def test_the_report_tells_what_is_better_and_what_has_failed():
    def row(guide, elbo=None):
        if elbo is None:
            return {"guide": guide, "optimizer": "constant", "failed": "ValueError: no"}
        figures = dict.fromkeys(("mean_error", "sd_median", "sd_worst", "khat", "cpu"), 1.0)
        return {"guide": guide, "optimizer": "constant", "elbo": elbo, **figures}

    text = report(
        {
            "first": [row("AutoNormal", -10.0), row("pm.fit advi", -20.0)],
            "second": [row("AutoNormal", -30.0), row("pm.fit advi", -20.0)],
            "third": [row("AutoNormal", -20.0), row("pm.fit advi", -20.1)],
            "fourth": [row("AutoNormal"), row("pm.fit advi", -20.0)],
        },
        100,
    )
    assert "of 4 posteriors the ELBO is higher for 1, lower for 2 (second (-10.00), fourth" in text
    assert "- fourth, AutoNormal: ValueError: no" in text
