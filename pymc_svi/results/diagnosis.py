"""Whether a fit can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.basic import Variable
from scipy.special import logsumexp

from pymc_svi.errors import DataError, SiteError, sentence
from pymc_svi.gradients.score_function import pathwise_or_score
from pymc_svi.handlers import Trace
from pymc_svi.handlers.core import Program
from pymc_svi.objectives.pairing import traces_of_pair
from pymc_svi.objectives.trace_enum import Sums
from pymc_svi.results.sampling import FixedParams, draw_function
from pymc_svi.results.tree import site_dataset

__all__ = ["Diagnosis", "diagnose"]

# Losses are averaged in this many blocks, the averages of which are nearly independent.
_BLOCKS = 20
# A guide is told apart from the posterior by less than this: nobody would act on it.
_NATS = 0.1
# Draws whose sd is at most this many times their precision are all the same.
_SAME = 4
# Draws and weights that differ by at most this many times their precision differ by rounding.
_ROUNDING = 64

# The largest shape of the tail of the weights with which their averages are of use.
_USABLE = 0.7
# Weights this far from a Pareto law, a distance that 1 in 1,000 samples of it has, are not of it.
_MISFIT = 1.2
# Logarithms of weights that differ by less are equal.
_NEGLIGIBLE = 1e-9

_RICHER = "a richer guide, such as AutoMultivariateNormal or a flow, AutoIAFNormal"


@dataclass(frozen=True)
class Diagnosis:
    """What a fit's own importance weights and losses say about it.

    The weights are the ratios of posterior and guide at draws of the guide. If the guide were
    the posterior, they would all be equal.

    Attributes
    ----------
    khat : float
        Shape of the Pareto distribution that the largest weights follow [1]_ [2]_. Below
        ``threshold`` the weights have a usable average: the guide covers the posterior, and the
        corrected values of ``sites`` can be relied on. Above 0.7 they do not for any number of
        draws, above 1 they have no mean at all: the guide misses a part of the posterior. How
        many weights are the largest is chosen such that they do follow that law [3]_.
    threshold : float
        ``min(1 - 1 / log10(draws), 0.7)``.
    ess : float
        How many independent draws of the posterior the weighted draws are worth.
    draws : int
        How many there are.
    elbo, elbo_se : float
        The ELBO at the fitted params, with its standard error.
    log_evidence : float
        Estimate of the log evidence from the smoothed weights: its distance from the ELBO is the
        divergence of guide and posterior, in nats. Too low where ``khat`` is above the threshold.
    loss_change, loss_change_se : float
        Mean loss of the last quarter of the steps minus that of the quarter before. Clearly
        negative: the fit was still improving.
    sites : xarray.DataTree
        For each latent site: ``mean`` and ``sd`` of the guide; ``corrected_mean`` and
        ``corrected_sd``, those of the weighted draws.
    log_weights : numpy.ndarray
        Smoothed log-weights of the draws, which sum to one as weights.
    step_up : str
        What to try in the place of the guide, if it misses a part of the posterior.

    References
    ----------
    .. [1] Yao, Vehtari, Simpson and Gelman (2018), Yes, but Did It Work?: Evaluating Variational
       Inference.
    .. [2] Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto Smoothed Importance Sampling.
    .. [3] Bader, Yan and Zhang (2018), Automated threshold selection for extreme value analysis via
       ordered goodness-of-fit tests.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import SVI, param
    >>> def model():
    ...     mu = pm.Normal("mu", 0.0, 1.0)
    ...     pm.Normal("y", mu, 1.0, observed=2.0)
    >>> def guide():
    ...     pm.Normal("mu", param("loc", 1.0), 0.5**0.5)  # the posterior
    >>> result = SVI(model, guide).run(8, random_seed=0, progressbar=False)
    >>> diagnosis = result.diagnose(500, random_seed=1)
    >>> diagnosis.is_reliable, round(diagnosis.log_evidence, 2)
    (True, -2.27)
    """

    khat: float
    threshold: float
    ess: float
    draws: int
    elbo: float
    elbo_se: float
    log_evidence: float
    loss_change: float
    loss_change_se: float
    sites: xr.DataTree
    log_weights: np.ndarray
    step_up: str = _RICHER

    @property
    def is_reliable(self) -> bool:
        """Whether the guide covers the posterior, and the fit had come to its end."""
        return self.covers_posterior and self.has_converged

    @property
    def covers_posterior(self) -> bool:
        """Whether ``khat`` is below its threshold."""
        return bool(self.khat < self.threshold)

    @property
    def has_converged(self) -> bool:
        """Whether the loss no longer falls by more than its noise and a tenth of a nat."""
        return not self.loss_change < -max(_NATS, 3 * self.loss_change_se)

    def shifts(self) -> xr.Dataset:
        """Return how far corrected means are from the guide's, in corrected sds.

        Returns
        -------
        xarray.Dataset
            By site name. Elements that are the same in all draws, such as the diagonal of a
            correlation matrix, are not off.
        """
        sites = {name: self.sites[name].to_dataset() for name in self.sites.children}
        return xr.Dataset({name: _shift(site) for name, site in sites.items()})

    def __str__(self) -> str:
        lines = [
            f"Pareto k      {self.khat:.2f}  ({self._on_khat()})",
            f"weighted draws are worth {self.ess:,.0f} of {self.draws:,}",
            f"ELBO          {self.elbo:,.2f} +- {self.elbo_se:.2f}",
            f"log evidence  {self.log_evidence:,.2f}"
            + ("" if self.covers_posterior else "  (or more: the weights miss a part)"),
            f"loss          {self._on_loss()}",
        ]
        worst = self._worst()
        if worst:
            lines.append(f"furthest off  {worst}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Diagnosis(khat={self.khat:.2f}, is_reliable={self.is_reliable})"

    def _on_khat(self) -> str:
        if self.covers_posterior:
            return f"below {self.threshold:.2f}: the guide covers the posterior"
        if self.khat < _USABLE:
            return f"above {self.threshold:.2f}: draw more to be sure"
        misses = f"above {self.threshold:.2f}: the guide misses a part of the posterior"
        if not self.has_converged:
            return f"{misses}. Take more steps first; then try {self.step_up}"
        return (
            f"{misses}. Try {self.step_up}; or better coordinates, guides.whiten(model) or reparam"
        )

    def _on_loss(self) -> str:
        change = f"{self.loss_change:+.3g} +- {self.loss_change_se:.2g} over the last quarter"
        return change if self.has_converged else f"{change}: still falling, take more steps"

    def _worst(self) -> str:
        shifts = {n: float(np.abs(s).max()) for n, s in self.shifts().items() if s.size}
        if not self.covers_posterior or not shifts:
            return ""
        name = max(shifts, key=lambda n: shifts[n])
        return f"{name!r}, whose mean is off by {shifts[name]:.2f} posterior sds"


def diagnose(
    model: Program,
    guide: Program,
    params: Mapping[str, Any],
    losses: np.ndarray,
    args: tuple,
    kwargs: Mapping[str, Any],
    draws: int,
    random_seed: Any,
    step_up: str | None = None,
) -> Diagnosis:
    """Weigh draws of a fitted guide against the model; see :class:`Diagnosis`."""
    with FixedParams(params):
        model_trace, guide_trace = traces_of_pair(
            model, guide, args, kwargs, draws=pathwise_or_score, enumerate_missing=True
        )
    _refuse_minibatches(model_trace)
    latent = [site for site in model_trace.latent.values() if site.name in guide_trace]
    log_weight = Sums(model_trace, guide_trace).log_weight()
    outputs: dict[str, Variable] = {site.name: site.value for site in latent}
    values = draw_function({**outputs, "log weight": log_weight})(draws, random_seed)
    log_ratios = values.pop("log weight")
    _refuse_points(values, log_ratios)
    smoothed, khat = _smoothed(log_ratios)
    change, change_se = _last_change(losses)
    return Diagnosis(
        khat=khat,
        threshold=min(1 - 1 / np.log10(draws), _USABLE),
        ess=float(np.exp(-logsumexp(2 * smoothed))),
        draws=draws,
        elbo=float(log_ratios.mean(dtype="float64")),
        elbo_se=float(log_ratios.std(dtype="float64", ddof=1) / np.sqrt(draws)),
        log_evidence=_smoothed_mean(log_ratios, smoothed),
        loss_change=change,
        loss_change_se=change_se,
        sites=_moments(values, smoothed, model_trace),
        log_weights=smoothed,
        step_up=step_up or _RICHER,
    )


def _shift(site: xr.Dataset) -> xr.DataArray:
    """Return the shift of the mean of a site, in sds; none where the draws differ by rounding."""
    rounding = _SAME * np.finfo(site["sd"].dtype).eps  # the sd has the dtype of the draws
    is_constant = site["sd"] <= rounding * np.abs(site["mean"])
    shift = (site["corrected_mean"] - site["mean"]) / site["corrected_sd"]
    return shift.where(~is_constant, 0.0)


def _smoothed(log_ratios: np.ndarray) -> tuple[np.ndarray, float]:
    """Return smoothed log-weights that sum to one as weights, and the shape of their tail."""
    rounding = _ROUNDING * np.finfo(log_ratios.dtype).eps * np.abs(log_ratios).max()
    log_ratios = log_ratios.astype("float64")
    largest = np.sort(log_ratios)[-len(log_ratios) // 10 :]
    if np.ptp(largest) < max(rounding, 1e-8):  # there is no tail to smooth
        smoothed, khat = log_ratios, -np.inf
    else:
        smoothed, khat = _pareto_smoothed(log_ratios)
        if np.isnan(khat):  # beside the largest weight all others vanish in floating point
            khat = np.inf
    return np.asarray(smoothed) - logsumexp(smoothed), float(khat)


def _pareto_smoothed(log_ratios: np.ndarray) -> tuple[np.ndarray, float]:
    """Return Pareto-smoothed log-weights and the shape of their tail.

    The tail is the largest ``3 sqrt(n)`` weights. Where a shape that is too large fits them badly,
    it is shortened: among them are draws from around the middle of the guide, whose weights are
    all alike, and the shape is that of the step from those to the tail proper.
    """
    # Here, for it takes longer to import than all of this package.
    from arviz_stats.base import array_stats

    def at(shortening: float) -> tuple[np.ndarray, float]:
        # It expects a log-likelihood; the tail has a length of 3 sqrt(n / r_eff).
        return array_stats.psislw(-log_ratios, r_eff=shortening)

    found = whole = at(1)
    # A shape read off fewer than 20 weights says little.
    for shortening in 2 ** np.arange(1, np.log2(9 * len(log_ratios) / 20**2)):
        if not found[1] > _USABLE or _misfit(log_ratios, found[0]) < _MISFIT:
            return found
        found = at(float(shortening))
    return found if _misfit(log_ratios, found[0]) < _MISFIT else whole


def _misfit(log_ratios: np.ndarray, smoothed: np.ndarray) -> float:
    """Return the Kolmogorov-Smirnov distance of the largest weights from their Pareto law.

    Times the root of their number, so that it is about 0.5 for weights of that law.
    """
    change = smoothed - log_ratios
    change = change - np.median(change)
    largest = log_ratios >= log_ratios[np.abs(change) > _NEGLIGIBLE].min(initial=np.inf)
    if not largest.any():
        return 0.0
    peak = log_ratios.max()
    weights = np.sort(np.exp(log_ratios[largest] - peak))
    quantiles = np.sort(np.exp((log_ratios + change)[largest] - peak))
    shares = (np.arange(len(weights)) + 0.5) / len(weights)
    distance = np.abs(np.interp(weights, quantiles, shares) - shares).max()
    return float(distance * np.sqrt(len(weights)))


def _smoothed_mean(log_ratios: np.ndarray, smoothed: np.ndarray) -> float:
    """Return the logarithm of the mean weight, its largest ones smoothed.

    Smoothing leaves all but the tail as it is up to normalisation, which the median gives back.
    """
    offset = np.median(log_ratios - smoothed)
    return float(offset - np.log(len(log_ratios)))


def _moments(
    values: Mapping[str, np.ndarray], log_weights: np.ndarray, traced: Trace
) -> xr.DataTree:
    """Return mean and sd of each site, plain and weighted."""
    weights = np.exp(log_weights)
    tree = {}
    for name, draws in values.items():
        mean = np.tensordot(weights, draws, axes=1)
        square = np.tensordot(weights, (draws - mean) ** 2, axes=1)
        parts = {
            # Summed in double precision: in single a sum is off by more than a small sd.
            "mean": draws.mean(axis=0, dtype="float64"),
            "sd": draws.std(axis=0, dtype="float64").astype(draws.std(axis=0).dtype),
            "corrected_mean": mean,
            "corrected_sd": np.sqrt(square),
        }
        datasets = (
            site_dataset({name: part}, traced).rename({name: which})
            for which, part in parts.items()
        )
        tree[f"/{name}"] = xr.merge(datasets)
    return xr.DataTree.from_dict(tree)


def _last_change(losses: np.ndarray) -> tuple[float, float]:
    """Return how the mean loss changed in the last quarter, and the standard error of that."""
    quarter = len(losses) // 4
    if quarter < _BLOCKS:
        return float("nan"), float("nan")
    before, last = losses[-2 * quarter : -quarter], losses[-quarter:]
    errors = [
        np.std([np.nanmean(block) for block in np.array_split(part, _BLOCKS)], ddof=1)
        / np.sqrt(_BLOCKS)
        for part in (before, last)
    ]
    return float(np.nanmean(last) - np.nanmean(before)), float(np.hypot(*errors))


def _refuse_points(values: Mapping[str, np.ndarray], log_ratios: np.ndarray) -> None:
    if not values:
        raise SiteError(
            sentence(
                "diagnose: the guide draws no latent site, so there is no posterior to judge",
                fix="Look at result.losses for whether the fit has come to its end",
            )
        )
    for name, draws in values.items():
        # Draws of a law with a density are all different, but for those that rounding has put
        # on the edge of a support or made equal to their neighbours. They are told apart by any
        # projection but a special one: the elements of a simplex have the same sum.
        flat = draws.reshape(len(draws), -1)
        if draws.dtype.kind != "f":
            continue
        # Cold draws of relaxed distributions are nearly all on these two, with densities of their own.
        info = np.finfo(draws.dtype)
        flat = flat[~np.isin(flat, [info.tiny, 1 - info.epsneg]).all(axis=1)]
        different = len(np.unique(flat @ np.random.default_rng(0).normal(size=flat.shape[1])))
        if flat.size and different < len(flat) / 2 and not _is_rounded(flat):
            where = "a point" if different == 1 else f"{different} points"
            raise SiteError(
                sentence(
                    f"diagnose: the guide puts {name!r} at {where}, which have no density to "
                    "weigh against the posterior's",
                    fix="Fit a guide with spread, such as AutoNormal",
                )
            )
    if not np.isfinite(log_ratios).all():
        bad = int((~np.isfinite(log_ratios)).sum())
        raise SiteError(
            sentence(
                f"diagnose: {bad} of {len(log_ratios)} draws of the guide have no finite density",
                fix="Compare the supports of model and guide, site by site: "
                "compute_log_probs shows which one it is",
            )
        )


def _is_rounded(draws: np.ndarray) -> bool:
    """Return whether equal draws are equal by rounding: their neighbours are next to them."""
    for column in draws.T:
        values = np.unique(column)
        if len(values) > 1:
            precision = np.finfo(values.dtype).eps * np.abs(values).max()
            if np.median(np.diff(values)) <= _ROUNDING * precision:
                return True
    return False


def _refuse_minibatches(model_trace: Trace) -> None:
    """Refuse densities that are estimates: their noise would pass for that of the weights."""
    for site in model_trace.sites("sample"):
        node = getattr(site.dist, "owner", None)
        frames = [frame.name for frame in site.plates if frame.is_subsampled]
        if frames or (node is not None and isinstance(node.op, MinibatchRandomVariable)):
            raise DataError(
                sentence(
                    f"diagnose: site {site.name!r} stands for more data than are present, so that "
                    "its density is an estimate",
                    fix="Diagnose a run on all of the data: pass a model without subsample_size, "
                    "total_size or pm.Minibatch to SVI, with init_params=result.params",
                )
            )
