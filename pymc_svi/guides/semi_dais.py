"""``AutoSemiDAIS``: annealed importance sampling for the local sites of minibatches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.constraints import positive
from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.gradients.draws import pathwise
from pymc_svi.guides.annealing import Dynamics
from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.continuous import standard_normal
from pymc_svi.guides.emit import emit_latents
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.normal import check_init_scale, normal_log_density
from pymc_svi.guides.prototype import Latent, Prototype
from pymc_svi.guides.spaces import log_jac_det, unconstrain
from pymc_svi.guides.target import Known, Target, gradient_of
from pymc_svi.handlers import Frame, Site, plate, trace
from pymc_svi.handlers.core import Program, run_program
from pymc_svi.handlers.log_prob import as_plain_tensor, zero
from pymc_svi.handlers.stack import apply_stack
from pymc_svi.handlers.walk import scratch_model
from pymc_svi.primitives import init_seed, param

__all__ = ["AutoSemiDAIS"]


class AutoSemiDAIS(AutoGuide):
    r"""Guide that anneals the sites local to a plate, and has another guide for the global ones.

    For models with latent sites in a plate that may be subsampled: a draw of the sites of each
    repetition is moved by K steps of the dynamics of :class:`AutoDAIS` towards their posterior
    given the global sites. What the repetitions need is learned for each of them, in params with
    a row for each that take part only when their repetition is in the minibatch.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    local_model : callable, optional
        Not needed: the local sites are those of the plate, and the dynamics follow the part of
        the model that depends on them. Here for programs that come from NumPyro.
    global_guide : callable, pymc.Model or AutoGuide, optional
        A guide of all other sites, called with the arguments of the model; None if there are
        none.
    local_guide : callable, pymc.Model or AutoGuide, optional
        A guide that draws the local sites the dynamics start from, called with the arguments of
        the model, such as one by an encoder network. By default Normals in unconstrained space.
    prefix : str, default "auto"
        Part of the names of the params.
    K : int, default 4
        Number of steps.
    eta_init : float, default 0.01
        Where the step sizes start.
    eta_max : float, default 0.1
        What the step sizes stay below.
    gamma_init : float, default 0.9
        Where the damping of the momentum starts.
    init_scale : float, default 0.1
        Where the standard deviations of the Normals start, in unconstrained space.
    subsample_plate : str, optional
        The plate of the local sites, where the model has several.
    use_global_dais_params : bool, default False
        Share step sizes, masses and damping between the repetitions.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the Normals start; see :mod:`pymc_svi.guides.init`.

    Raises
    ------
    SiteError
        If there is not exactly one plate with latent sites to choose, or if the global guide
        does not draw exactly the sites outside it.
    TypeError
        If a guide is not a program.

    References
    ----------
    Jankowiak and Phan (2022), Surrogate Likelihoods for Variational Annealed Importance Sampling.
    Geffner and Domke (2022), Variational Inference with Locally Enhanced Bounds for Hierarchical
    Models.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import handlers, plate, subsample
    >>> from pymc_svi.guides import AutoNormal, AutoSemiDAIS
    >>> y = np.linspace(-1.0, 2.0, 8)
    >>> def model():
    ...     theta = pm.Normal("theta")
    ...     with plate("data", 8, subsample_size=2):
    ...         z = pm.Normal("z", theta, 1.0)
    ...         pm.Normal("y", z, 0.5, observed=subsample(y))
    >>> global_guide = AutoNormal(handlers.block(model, expose=["theta"]))
    >>> guide = AutoSemiDAIS(model, global_guide=global_guide, K=2)
    >>> tr = handlers.trace(guide).get_trace()
    >>> tr["z"].shape, tr["auto_z_0_loc"].shape
    ((2,), (8, 1))
    """

    step_up = "more steps of its chain, a larger K"
    follows_model = True

    def __init__(
        self,
        model: Program,
        local_model: Program | None = None,
        global_guide: Program | None = None,
        local_guide: Program | None = None,
        *,
        prefix: str = "auto",
        K: int = 4,
        eta_init: float = 0.01,
        eta_max: float = 0.1,
        gamma_init: float = 0.9,
        init_scale: float = 0.1,
        subsample_plate: str | None = None,
        use_global_dais_params: bool = False,
        init_loc_fn: InitStrategy = init_to_initial_point,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        name = type(self).__name__
        self.dynamics = Dynamics(name, K, eta_init, eta_max, gamma_init)
        self.init_scale = check_init_scale(name, init_scale)
        for role, guide in (("global_guide", global_guide), ("local_guide", local_guide)):
            if guide is not None and not (callable(guide) or isinstance(guide, pm.Model)):
                raise TypeError(sentence(f"{name}: {role} is a guide or None", found=repr(guide)))
        self.local_model = local_model
        self.global_guide, self.local_guide = global_guide, local_guide
        self.subsample_plate = subsample_plate
        self.use_global_dais_params = bool(use_global_dais_params)

    def run(self, args: tuple, kwargs: Mapping[str, Any]) -> Mapping[str, Variable]:
        """Run the global guide, anneal the local sites; return the draws by site name."""
        model = self.visible_model()
        prototype = Prototype(model, self.init_loc_fn, args, kwargs)
        prototype.refuse_discrete(type(self).__name__)
        rows = self._local_part(prototype.latents)
        known = self._draw_globals(rows, prototype.latents, args, kwargs)
        self.latent_names = tuple(prototype.latents)
        frame = rows.frame
        # A plate of the global guide's is this one: it is not emitted twice.
        with Known(known), plate(frame.name, frame.size, frame.subsample_size) as indices:
            known[frame.name] = indices
            schedule = self.dynamics.declare(
                self.prefix, rows.width, None if self.use_global_dais_params else frame.size
            )
            normal = None if self.local_guide else self._declare_normal(rows, prototype)

        point = pt.tensor(
            "position", dtype=pytensor.config.floatX, shape=(frame.subsample_size, rows.width)
        )
        target = Target(rows.unpack(point), known)
        # The weight of the plate is that of the repetitions, not a part of each one's density.
        weight = frame.size / frame.subsample_size
        log_target = target.run(model, args, kwargs) / weight
        self._check_no_other_batches(target, frame)

        noise = standard_normal(1 + self.dynamics.K, frame.subsample_size, rows.width)
        if normal is None:
            drawn = self._draw_locals(rows, known, args, kwargs)
            start, log_density = _position_of(drawn, rows, known, model, args, kwargs)
            base = gradient_of(_density_at(drawn, target), point)
        else:
            loc, scale = normal
            start = loc + scale * noise[0]
            log_density = (normal_log_density(noise[0], 0.0, 1.0) - pt.log(scale)).sum()

            def base(z: Variable) -> Variable:
                return (loc - z) / scale**2

        position, log_ratio = schedule.anneal(
            start, noise[1:], base, gradient_of(log_target, point)
        )
        site = apply_stack(
            Site(
                "sample",
                f"_{self.prefix}_latent",
                value=position,
                log_density=log_density + log_ratio.sum(),
                scale=weight,
                infer={"is_auxiliary": True},
            )
        )
        parts = rows.unpack(site.value)
        with emit_latents(lambda site: (parts[site.name], zero(), lambda u: zero())), Known(known):
            run_program(model, *args, **kwargs)
        return {name: parts[name] if name in parts else known[name] for name in prototype.latents}

    def begin(self, prototype: Prototype):
        """Not used: the local sites are drawn once the global ones are."""
        raise NotImplementedError

    def median(self, params, *args, **kwargs):
        """Return the median of each element of each site, from 20,000 draws."""
        return self.quantiles(params, 0.5, *args, **kwargs)

    # --- the parts --------------------------------------------------------------------------

    def _local_part(self, latents: Mapping[str, Latent]) -> _Rows:
        """Find the plate and the sites in it."""
        plates = {f.name: f for latent in latents.values() for f in latent.site.plates}
        choice = {name: f for name, f in plates.items() if f.is_subsampled} or plates
        if self.subsample_plate is not None:
            choice = {n: f for n, f in plates.items() if n == self.subsample_plate}
        if len(choice) != 1:
            asked = "" if self.subsample_plate is None else f" {self.subsample_plate!r}"
            raise SiteError(
                sentence(
                    f"{type(self).__name__} needs one plate{asked} with latent sites inside",
                    found=f"latent sites in the plates {quoted(plates)}" if plates else "none",
                    fix="Choose one with subsample_plate"
                    if plates
                    else "Use AutoDAIS for models without local sites",
                )
            )
        [frame] = choice.values()
        inside = {
            name: latent
            for name, latent in latents.items()
            if any(f.name == frame.name for f in latent.site.plates)
        }
        return _Rows(frame, inside)

    def _draw_globals(self, rows: _Rows, latents: Mapping[str, Latent], args, kwargs):
        """Run the global guide; return the values of its sites and the indices of its plates."""
        expected = [name for name in latents if name not in rows.latents]
        drawn: dict[str, Any] = {}
        found = []
        if self.global_guide is not None:
            with trace() as record, scratch_model(pm.Model.get_context(error_if_none=False)):
                run_program(self.global_guide, *args, **kwargs)
            sites = record.latent.values()
            found = [site.name for site in sites if not site.infer.get("is_auxiliary")]
            drawn = {name: as_plain_tensor(record[name].value) for name in found}
            drawn |= {site.name: site.value for site in record.sites("plate")}
        if set(found) != set(expected):
            raise SiteError(
                sentence(
                    f"{type(self).__name__}: the global guide draws the latent sites outside of "
                    f"plate {rows.frame.name!r}, and no others",
                    found=f"{quoted(found)} in the guide" if found else "no sites in the guide",
                    expected=quoted(expected) if expected else "none",
                    fix="For example global_guide="
                    f"AutoNormal(handlers.block(model, expose=[{quoted(expected)}]))"
                    if expected
                    else "Leave global_guide out",
                )
            )
        return drawn

    def _draw_locals(self, rows: _Rows, known: Mapping[str, Any], args, kwargs):
        """Run the local guide; return its sites."""
        with (
            _Draw(known),
            trace() as record,
            scratch_model(pm.Model.get_context(error_if_none=False)),
        ):
            run_program(self.local_guide, *args, **kwargs)
        sites = record.latent
        if set(sites) != set(rows.latents):
            raise SiteError(
                sentence(
                    f"{type(self).__name__}: the local guide draws the latent sites of plate "
                    f"{rows.frame.name!r}, and no others",
                    found=quoted(sites) if sites else "no sites",
                    expected=quoted(rows.latents),
                )
            )
        return sites

    def _declare_normal(self, rows: _Rows, prototype: Prototype) -> tuple[Variable, Variable]:
        loc = param(
            f"{self.prefix}_z_0_loc",
            lambda: rows.full(prototype.start(init_seed())),
            event_dim=1,
        )
        scale = param(
            f"{self.prefix}_z_0_scale",
            np.full((rows.frame.size, rows.width), self.init_scale),
            constraint=positive,
            event_dim=1,
        )
        return loc, scale

    def _check_no_other_batches(self, target: Target, frame: Frame) -> None:
        for site in target.scored:
            for other in site.plates:
                if other.is_subsampled and other.name != frame.name:
                    raise SiteError(
                        sentence(
                            f"{type(self).__name__}: site {site.name!r} is in another subsampled "
                            f"plate, {other.name!r}",
                            expected=f"none but {frame.name!r}",
                            fix=f"Leave out the subsample_size of {other.name!r}",
                        )
                    )


@dataclass(frozen=True)
class _Rows:
    """The local sites as a matrix: a row for each repetition of the plate."""

    frame: Frame
    latents: Mapping[str, Latent]

    def _axis(self, latent: Latent) -> int:
        frame = next(f for f in latent.site.plates if f.name == self.frame.name)
        return len(latent.shape) - latent.event_ndim + frame.dim

    def _rest(self, latent: Latent) -> tuple[int, ...]:
        axis = self._axis(latent)
        return latent.shape[:axis] + latent.shape[axis + 1 :]

    @property
    def width(self) -> int:
        """Number of unconstrained elements of a row."""
        return sum(int(np.prod(self._rest(latent))) for latent in self.latents.values())

    def unpack(self, matrix: Variable) -> dict[str, Variable]:
        """Cut a matrix into the unconstrained values of the sites."""
        parts, end = {}, 0
        for name, latent in self.latents.items():
            rest = self._rest(latent)
            start, end = end, end + int(np.prod(rest))
            part = matrix[:, start:end].reshape((self.frame.subsample_size, *rest))
            parts[name] = pt.moveaxis(part, 0, self._axis(latent))
        return parts

    def pack(self, values: Mapping[str, Variable]) -> Variable:
        """Make a matrix of the unconstrained values of the sites."""
        n = self.frame.subsample_size
        columns = [
            pt.moveaxis(values[name], self._axis(latent), 0).reshape((n, -1))
            for name, latent in self.latents.items()
        ]
        return pt.concatenate(columns, axis=1) if len(columns) > 1 else columns[0]

    def full(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Make a matrix of starting values, with rows for all repetitions."""
        columns = [
            np.moveaxis(latent.full(values[name]), self._axis(latent), 0)
            for name, latent in self.latents.items()
        ]
        return np.concatenate([x.reshape(self.frame.size, -1) for x in columns], axis=1)


class _Draw(pathwise):
    """Draw the sites of a local guide apart from the handlers outside, which see its params."""

    def __init__(self, known: Mapping[str, Any]):
        super().__init__(None)
        self.known = Known(known)

    def process_message(self, site: Site) -> None:
        """Draw a site and hide it."""
        if site.type != "param":
            self.known.process_message(site)
            super().process_message(site)
            site.stop = True


def _position_of(
    drawn: Mapping[str, Site], rows: _Rows, known: Mapping[str, Any], model, args, kwargs
) -> tuple[Variable, Variable]:
    """Return draws of a local guide in unconstrained space, and their log-density there."""
    run = Target({}, {**known, **{name: as_plain_tensor(s.value) for name, s in drawn.items()}})
    run.run(model, args, kwargs)
    sites = {site.name: site for site in run.scored}
    points, log_density = {}, zero()
    for name, site in drawn.items():
        point = points[name] = as_plain_tensor(unconstrain(sites[name], sites[name].value))
        log_density = log_density + site.unscaled_log_prob.sum()
        jacobian = log_jac_det(sites[name], point)
        if jacobian is not None:
            log_density = log_density + jacobian.sum()
    return rows.pack(points), log_density


def _density_at(drawn: Mapping[str, Site], target: Target) -> Variable:
    """Return the log-density of a local guide at the points of a run of the model."""
    log_density = zero()
    for name, site in drawn.items():
        value = target.values[name]
        density: Callable | None = site.log_density_at
        there = site.copy(value=value, log_density=density and density(value))
        log_density = log_density + there.unscaled_log_prob.sum()
    return pt.add(log_density, *(jacobian.sum() for jacobian in target.log_jacobians.values()))
