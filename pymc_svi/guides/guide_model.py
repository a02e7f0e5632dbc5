"""``GuideModel``: a guide that is a PyMC model of unconstrained values, as pymc_extras has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import toposort

from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.gradients import random_variables, rsample
from pymc_svi.guides.continuous import JointGuide
from pymc_svi.guides.prototype import Latent, Prototype
from pymc_svi.handlers import Site
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import zero
from pymc_svi.handlers.stack import apply_stack
from pymc_svi.handlers.values import describe_shape
from pymc_svi.primitives import param

__all__ = ["GuideModel", "UnconstrainedGuide"]


@runtime_checkable
class UnconstrainedGuide(Protocol):
    """What is asked of a guide that is a model: the form of pymc_extras' ``AutoGuideModel``."""

    model: pm.Model
    """A model with a deterministic for each latent site, its value in unconstrained space."""

    params_init_values: Mapping[Variable, np.ndarray]
    """Inputs of the model's graph, which are learned, and where they start."""

    def stochastic_logq(self, path_derivative_gradient: bool = True) -> Variable:
        """Return the log-density of the model's draw."""
        ...


class GuideModel(JointGuide):
    """Guide that is a PyMC model of unconstrained values, such as one of pymc_extras.

    ``SVI(model, guide)`` makes this of a guide of ``pymc_extras.inference.advi`` by itself: of
    ``AutoDiagonalNormal(model)`` and its like, and of an ``AutoGuideModel`` of one's own. The
    params have the names of its inputs, and the values that these have there.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    guide : AutoGuideModel
        The guide: ``guide.model`` has, under the name of each latent site, a deterministic with
        its unconstrained value; ``guide.params_init_values`` are the inputs that are learned;
        ``guide.stochastic_logq(path_derivative_gradient=False)`` is the log-density of the draw.

    Raises
    ------
    SiteError
        When it is run: if a latent site has no deterministic, or one of another shape.
    TypeError
        If ``guide`` is not made of a model.
    ValueError
        If its inputs have no names.

    References
    ----------
    Kucukelbir et al. (2017), Automatic Differentiation Variational Inference.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pytensor.tensor as pt
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import GuideModel
    >>> with pm.Model() as model:
    ...     sigma = pm.HalfNormal("sigma")
    >>> loc = pt.scalar("sigma_loc")
    >>> with pm.Model() as guide:
    ...     noise = pm.Normal("noise")
    ...     log_sigma = pm.Deterministic("sigma", loc + 0.1 * noise)
    >>> @dataclass
    ... class Mine:  # or a pymc_extras.inference.advi.autoguide.AutoGuideModel
    ...     model: pm.Model
    ...     params_init_values: dict
    ...
    ...     def stochastic_logq(self, path_derivative_gradient=True):
    ...         return pm.logp(pm.Normal.dist(loc, 0.1), self.model["sigma"])
    >>> handlers.trace(GuideModel(model, Mine(guide, {loc: np.array(0.5)}))).get_trace()
    Trace(param sigma_loc, sample _auto_latent, sample sigma)
    """

    def __init__(self, model: Program, guide: UnconstrainedGuide):
        super().__init__(model)
        if not isinstance(guide, UnconstrainedGuide):
            raise TypeError(
                sentence(
                    "GuideModel: the second argument is no guide made of a model",
                    found=repr(guide),
                    expected="an AutoGuideModel of pymc_extras, or an object with its `model`, "
                    "`params_init_values` and `stochastic_logq`",
                )
            )
        unnamed = [variable for variable in guide.params_init_values if not variable.name]
        if unnamed:
            raise ValueError(
                sentence(
                    "GuideModel: params have names",
                    found=f"{len(unnamed)} without, such as {unnamed[0].type}",
                    fix="Name them when they are made: pt.vector('loc')",
                )
            )
        self.guide = guide

    def begin(self, prototype: Prototype):
        """Emit the guide's draw as one vector; return the function that takes a site's part."""
        latents = prototype.latents
        self.check_latents(latents)
        self._check_names(latents)
        guide_model = self.guide.model
        log_density = self.guide.stochastic_logq(path_derivative_gradient=False).sum()
        values = [guide_model[name] for name in latents]
        # The density is that of one vector, if the guide draws one, or of the sites.
        whole = guide_model.named_vars.get("latent")
        drawn = self._draw([log_density, *values])
        parts = _rebuilt(values, drawn)
        for name, part in zip(latents, parts, strict=True):
            _check_shape(latents[name], part)
        pieces = parts if whole is None else _rebuilt([whole], drawn)
        joint = pt.concatenate([piece.ravel() for piece in pieces])

        def at(vector: Variable, outputs: list[Variable]) -> list[Variable]:
            split = self.split(vector, latents)
            base = {guide_model[n]: split[n] for n in latents} if whole is None else {whole: vector}
            return _rebuilt(outputs, {**drawn, **base})

        [own_density] = _rebuilt([log_density], drawn)
        [elsewhere] = at(pt.vector("elsewhere", shape=(prototype.size,)), [log_density])

        def log_density_at(vector: Variable) -> Variable:
            return own_density if vector is joint else at(vector, [log_density])[0]

        site = apply_stack(
            Site(
                "sample",
                f"_{self.prefix}_latent",
                value=joint,
                log_density=own_density,
                log_density_at=None if random_variables([elsewhere]) else log_density_at,
                infer={"is_auxiliary": True},
            )
        )
        unconstrained = {
            name: pt.specify_shape(part, latents[name].shape)
            for name, part in zip(latents, at(site.value, values), strict=True)
        }

        def draw(site: Site) -> tuple[Variable, Variable, Callable]:
            return unconstrained[site.name], zero(), lambda u: zero()

        return draw

    def _draw(self, outputs: list[Variable]) -> dict[Variable, Variable]:
        """Declare the params and draw the noise; return what stands for each."""
        drawn: dict[Variable, Variable] = {}
        for variable, start in self.guide.params_init_values.items():
            drawn[variable] = param(variable.name, start).astype(variable.type.dtype)
        for rv in random_variables(outputs):
            drawn[rv] = rsample(_rebuilt([rv], drawn)[0])
        return drawn

    def _check_names(self, latents: Mapping[str, Latent]) -> None:
        found = {variable.name for variable in self.guide.model.deterministics}
        missing = [name for name in latents if name not in found]
        if missing:
            raise SiteError(
                sentence(
                    "GuideModel: the guide has no deterministic for latent sites of the model: "
                    f"{quoted(missing)}",
                    found=f"deterministics {quoted(sorted(found))}",
                    fix="Make the guide of the same model, or add the unconstrained value: "
                    f"pm.Deterministic({missing[0]!r}, ...)",
                )
            )


def _check_shape(latent: Latent, value: Variable) -> None:
    """Refuse a value that has not the shape of the site in unconstrained space."""
    shape = value.type.shape
    fits = len(shape) == len(latent.shape) and all(
        found in (None, expected) for found, expected in zip(shape, latent.shape, strict=True)
    )
    if not fits:
        raise SiteError(
            sentence(
                f"GuideModel: the guide's value of site {latent.name!r} has another shape",
                found=describe_shape(shape),
                expected=f"{describe_shape(latent.shape)}, that of the site in unconstrained space",
            )
        )


def _rebuilt(outputs: list[Variable], values: Mapping[Variable, Variable]) -> list[Variable]:
    """Return expressions with values for some of their variables, and the shapes of these.

    The values stay the same variables: what is computed of a draw, here and elsewhere, has to be
    computed of one node.
    """
    memo = dict(values)
    for node in toposort(outputs, blockers=list(values)):
        inputs = [memo.get(variable, variable) for variable in node.inputs]
        if any(new is not old for new, old in zip(inputs, node.inputs, strict=True)):
            new_node = node.clone_with_new_inputs(inputs, strict=False)
            memo.update(zip(node.outputs, new_node.outputs, strict=True))
    return [memo.get(variable, variable) for variable in outputs]
