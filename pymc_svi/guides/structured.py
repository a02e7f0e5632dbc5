"""``AutoStructured``: a law for each site, shifted by the draws of the sites it depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace

from pymc_svi.constraints import positive, scaled_unit_lower_cholesky
from pymc_svi.errors import SiteError, did_you_mean, quoted, sentence
from pymc_svi.guides.continuous import AutoContinuous, standard_normal
from pymc_svi.guides.deviations import Delta, FullRank, Given, Law, Normal
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.multivariate_normal import matrix_vector
from pymc_svi.guides.normal import check_init_scale
from pymc_svi.guides.prototype import Latent, Prototype
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import zero
from pymc_svi.primitives import param

__all__ = ["AutoStructured"]

Conditional = str | Callable[[tuple[int, ...]], Variable]
Dependency = str | Callable[[Variable], Variable]

_CONDITIONALS = ("delta", "normal", "mvn")


class AutoStructured(AutoContinuous):
    """Guide with a law of its own for each site, and dependencies of one's choice between them.

    In unconstrained space a site is its location plus a deviation. The deviation is a draw of the
    site's conditional, plus a function of the deviations of each site that it depends on. With
    the defaults the guide is a full-rank Normal; leaving out dependencies that the posterior
    does not have leaves out their params.

    For a site ``x`` the params are ``x_auto_loc``, ``x_auto_scale`` (``"normal"``) or
    ``x_auto_scale_tril`` (``"mvn"``), and ``x_auto_weight_y`` for a linear dependency on ``y``: a
    matrix with a row for each element of ``x`` and a column for each of ``y``.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    conditionals : {"mvn", "normal", "delta"}, callable or dict, default "mvn"
        The law of the deviation: Normal with a full covariance or with independent elements, or
        zero. A callable takes the shape in unconstrained space and returns an unnamed
        distribution of that shape, which may use ``param``, such as
        ``lambda shape: pm.StudentT.dist(4, sigma=param("sd", 0.1, constraint=positive), shape=shape)``.
        A dict has one of these for each site; others get ``"mvn"``.
    dependencies : {"linear"} or dict, default "linear"
        ``"linear"`` lets each site depend linearly on all before it. A dict has, for a site, a
        dict of the sites that it depends on, in any order of the model: ``"linear"``, or a
        callable that takes the deviation of the other site and returns the shift of this one.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the locations start; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start, in unconstrained space.

    Raises
    ------
    SiteError
        When it is run: if a name is not that of a latent site, or dependencies form a circle.
    ValueError
        If a conditional or a dependency is none of those above.

    References
    ----------
    Hoffman and Blei (2015), Structured Stochastic Variational Inference.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoStructured
    >>> def model():
    ...     mu = pm.Normal("mu")
    ...     sigma = pm.HalfNormal("sigma")
    ...     pm.Normal("y", mu, sigma, shape=3, observed=[0.0, 1.0, 2.0])
    >>> guide = AutoStructured(
    ...     model,
    ...     conditionals={"mu": "normal", "sigma": "normal"},
    ...     dependencies={"mu": {"sigma": "linear"}},
    ... )
    >>> tr = handlers.trace(guide).get_trace()
    >>> [name for name in tr if tr[name].type == "param"]
    ['sigma_auto_loc', 'sigma_auto_scale', 'mu_auto_loc', 'mu_auto_scale', 'mu_auto_weight_sigma']
    """

    step_up = "a full covariance, AutoMultivariateNormal, or a flow, AutoIAFNormal"

    def __init__(
        self,
        model: Program,
        *,
        conditionals: Conditional | Mapping[str, Conditional] = "mvn",
        dependencies: str | Mapping[str, Mapping[str, Dependency]] = "linear",
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        self.init_scale = check_init_scale(type(self).__name__, init_scale)
        self.conditionals = conditionals
        self.dependencies = dependencies
        if isinstance(conditionals, Mapping):
            for name, conditional in conditionals.items():
                _check_conditional(f" for site {name!r}", conditional)
        else:
            _check_conditional("", conditionals)
        _check_dependencies(dependencies)

    def draw_joint(self, prototype: Prototype) -> tuple[Variable, ...]:
        """Declare the params; draw the deviation of each site after those it depends on."""
        latents = prototype.latents
        structure = self._structure(latents)
        conditionals = {name: self._conditional(name) for name in latents}
        normal = [name for name in latents if conditionals[name] in ("normal", "mvn")]
        noise = self._noise([latents[name] for name in normal])

        locs, laws, shifts = {}, {}, {}
        deviations: dict[str, Variable] = {}
        log_density = zero()
        for name in _in_order(structure):
            latent, stem = latents[name], f"{name}_{self.prefix}"
            locs[name] = param(f"{stem}_loc", self.start_of(prototype, name), dims=latent.dims)
            law = laws[name] = self._law(latent, stem, conditionals[name])
            shifts[name] = self._shifts(latent, stem, structure[name], latents)
            drawn, density = law.draw(noise.get(name))
            deviations[name] = _shifted(drawn, shifts[name], deviations)
            log_density = log_density + density

        def log_density_at(value: Variable) -> Variable:
            parts = self.split(value, latents)
            there = {name: parts[name] - locs[name] for name in latents}
            terms = [
                laws[name].log_density(_shifted(there[name], shifts[name], there, sign=-1))
                for name in latents
            ]
            return pt.add(*terms, zero())

        joint = pt.concatenate([(locs[name] + deviations[name]).ravel() for name in latents])
        return joint, log_density, log_density_at

    # --- the structure ----------------------------------------------------------------------

    def _conditional(self, name: str) -> Conditional:
        if isinstance(self.conditionals, Mapping):
            return self.conditionals.get(name, "mvn")
        return self.conditionals

    def _structure(self, latents: Mapping[str, Latent]) -> dict[str, dict[str, Dependency]]:
        """Return for each site what it depends on."""
        if isinstance(self.conditionals, Mapping):
            self._check_names("conditionals", self.conditionals, latents)
        if not isinstance(self.dependencies, Mapping):
            # A site that has no deviation shifts nothing, and stays where it is.
            moving = [name for name in latents if self._conditional(name) != "delta"]
            before = {name: moving[: moving.index(name)] for name in moving}
            return {name: dict.fromkeys(before.get(name, []), "linear") for name in latents}
        self._check_names("dependencies", self.dependencies, latents)
        for name, upstream in self.dependencies.items():
            self._check_names(f"dependencies of {name!r}", upstream, latents)
        return {name: dict(self.dependencies.get(name, {})) for name in latents}

    def _check_names(self, what: str, names, latents: Mapping[str, Latent]) -> None:
        for name in names:
            if name not in latents:
                raise SiteError(
                    sentence(
                        f"{type(self).__name__}: {what}: {name!r} is not a latent site of the "
                        "model",
                        expected=f"names among {quoted(latents)}",
                    )
                    + did_you_mean(name, latents)
                )

    # --- the parts --------------------------------------------------------------------------

    def _noise(self, latents: list[Latent]) -> dict[str, Variable]:
        """Draw standard Normal noise for several sites at once."""
        if not latents:
            return {}
        return self.split(
            standard_normal(sum(latent.size for latent in latents)),
            {latent.name: latent for latent in latents},
        )

    def _law(self, latent: Latent, stem: str, conditional: Conditional) -> Law:
        """Declare the params of a site's conditional."""
        if conditional == "delta":
            return Delta(latent.shape)
        if conditional == "normal":
            start = np.full(latent.shape, self.init_scale)
            return Normal(param(f"{stem}_scale", start, constraint=positive, dims=latent.dims))
        if isinstance(conditional, str):
            tril = param(
                f"{stem}_scale_tril",
                self.init_scale * np.eye(latent.size),
                constraint=scaled_unit_lower_cholesky,
            )
            return FullRank(tril)
        dist = conditional(latent.shape)
        shape = getattr(getattr(dist, "type", None), "shape", None)
        if shape != latent.shape:
            raise SiteError(
                sentence(
                    f"{type(self).__name__}: the conditional of site {latent.name!r} returned "
                    "something else than it was asked for",
                    found=f"{dist!r}" if shape is None else f"shape {shape}",
                    expected=f"a distribution of shape {latent.shape}, such as "
                    "pm.Normal.dist(0, 1, shape=shape)",
                )
            )
        return Given(dist)

    def _shifts(
        self,
        latent: Latent,
        stem: str,
        upstream: Mapping[str, Dependency],
        latents: Mapping[str, Latent],
    ) -> dict[str, Callable[[Variable], Variable]]:
        """Declare the weights of a site's dependencies; return a function for each."""
        shifts: dict[str, Callable[[Variable], Variable]] = {}
        for other, dependency in upstream.items():
            if callable(dependency):
                shifts[other] = _function(dependency, latents[other].shape)
                continue
            weight = param(f"{stem}_weight_{other}", np.zeros((latent.size, latents[other].size)))
            shifts[other] = _linear(weight, latent.shape)
        return shifts

    # --- once it is fitted ------------------------------------------------------------------

    def marginals(self, params, latents):
        """Return mean and standard deviation of each unconstrained element, if all are Normal."""
        factor = self._factor(params, latents)
        if factor is None:
            return None
        sd = self.split(np.sqrt((factor**2).sum(axis=1)), latents)
        return {
            name: (np.asarray(params[f"{name}_{self.prefix}_loc"]), sd[name]) for name in latents
        }

    def get_posterior(self, params, *args, **kwargs):
        """Return the fitted multivariate Normal, in unconstrained space.

        Only if all conditionals are Normal and all dependencies are linear.
        """
        return pm.MvNormal.dist(*self._normal(params, *args, **kwargs))

    def noise_map(self, params, *args, **kwargs):
        """Return the map of noise to the fitted vector, where there is a matrix that does it."""
        loc, cov = self._normal(params, *args, **kwargs)
        chol = np.linalg.cholesky(cov)
        log_det = pt.constant(np.log(np.diagonal(chol)).sum())
        return lambda noise: (loc + matrix_vector(pt.constant(chol), noise), log_det)

    def _normal(self, params, *args, **kwargs) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance of the vector, if it has a multivariate Normal density."""
        latents = self.at(params, *args, **kwargs).prototype().latents
        factor = self._factor(params, latents)
        others = [n for n in latents if self._conditional(n) not in ("normal", "mvn")]
        if factor is None or others:
            raise NotImplementedError(
                sentence(
                    f"{type(self).__name__} is no Normal with a density in unconstrained space",
                    found=f"other conditionals of {quoted(others)}"
                    if others
                    else "dependencies that are functions",
                    fix="Use its draws: sample_posterior(params)",
                )
            )
        loc = [np.ravel(params[f"{name}_{self.prefix}_loc"]) for name in latents]
        return np.concatenate(loc), factor @ factor.T

    def _factor(self, params, latents: Mapping[str, Latent]) -> np.ndarray | None:
        """Return the matrix that maps noise to deviations; None if the map is no matrix."""
        structure = self._structure(latents)
        named = all(isinstance(self._conditional(name), str) for name in latents)
        linear = not any(callable(d) for deps in structure.values() for d in deps.values())
        if not (named and linear):
            return None
        ends = np.cumsum([latent.size for latent in latents.values()])
        rows = {n: slice(e - latents[n].size, e) for n, e in zip(latents, ends, strict=True)}
        factor = np.zeros((ends[-1], ends[-1]))
        for name in _in_order(structure):
            row, stem = rows[name], f"{name}_{self.prefix}"
            if self._conditional(name) == "normal":
                factor[row, row] = np.diag(np.ravel(params[f"{stem}_scale"]))
            elif self._conditional(name) == "mvn":
                factor[row, row] = params[f"{stem}_scale_tril"]
            for other in structure[name]:
                factor[row] += np.asarray(params[f"{stem}_weight_{other}"]) @ factor[rows[other]]
        return factor


# --- dependencies -------------------------------------------------------------------------------


def _linear(weight: Variable, shape: tuple[int, ...]) -> Callable[[Variable], Variable]:
    return lambda deviation: matrix_vector(weight, deviation.ravel()).reshape(shape)


def _function(
    dependency: Callable[[Variable], Variable], shape: tuple[int, ...]
) -> Callable[[Variable], Variable]:
    """Call a function of the user's once, inside the guide, for the params that it declares."""
    placeholder = pt.tensor("deviation", dtype=config.floatX, shape=shape)
    shift = pt.as_tensor(dependency(placeholder))
    return lambda deviation: graph_replace(
        [shift], {placeholder: deviation.astype(config.floatX)}, strict=False
    )[0]


def _shifted(
    value: Variable,
    shifts: Mapping[str, Callable[[Variable], Variable]],
    deviations: Mapping[str, Variable],
    sign: int = 1,
) -> Variable:
    """Add what each dependency makes of the other site's deviation, or take it away."""
    for other, shift in shifts.items():
        value = value + sign * shift(deviations[other])
    return value


def _in_order(structure: Mapping[str, Mapping[str, Dependency]]) -> list[str]:
    """Return the sites in an order in which each comes after those it depends on."""
    try:
        return list(TopologicalSorter(structure).static_order())
    except CycleError as error:
        raise SiteError(
            sentence(
                "AutoStructured: the dependencies form a circle",
                found=" -> ".join(map(repr, reversed(error.args[1]))),
                fix="Leave one of them out",
            )
        ) from None


# --- checks -------------------------------------------------------------------------------------


def _check_conditional(of: str, conditional: Any) -> None:
    if not callable(conditional) and conditional not in _CONDITIONALS:
        raise ValueError(
            sentence(
                f"AutoStructured: no such conditional{of}",
                found=repr(conditional),
                expected=f"{quoted(_CONDITIONALS)}, or a function of a shape",
            )
        )


def _check_dependencies(dependencies: Any) -> None:
    if isinstance(dependencies, str):
        wrong = [] if dependencies == "linear" else [dependencies]
    elif isinstance(dependencies, Mapping):
        each = dependencies.values()
        wrong = [upstream for upstream in each if not isinstance(upstream, Mapping)]
        wrong = wrong or [
            kind for up in each for kind in up.values() if not callable(kind) and kind != "linear"
        ]
    else:
        wrong = [dependencies]
    if wrong:
        raise ValueError(
            sentence(
                "AutoStructured: no such dependency",
                found=repr(wrong[0]),
                expected="'linear', or for each site a dict of the sites it depends on, such as "
                "{'x': {'y': 'linear'}}",
            )
        )
