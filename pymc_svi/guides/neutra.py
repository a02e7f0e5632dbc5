"""``NeuTraReparam``: sample in the coordinates in which a fitted guide is standard Normal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.gradients.particles import vectorize_draws
from pymc_svi.guides.continuous import AutoContinuous
from pymc_svi.guides.spaces import constrain, log_jac_det
from pymc_svi.handlers import Handler, Site
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import as_plain_tensor, density_given, scaled_and_masked

__all__ = ["NeuTraReparam"]


class NeuTraReparam:
    r"""Reparameterize a model by a fitted guide, for MCMC.

    The new latent site ``auto_shared_latent`` is the noise :math:`\epsilon` that the guide maps to
    the unconstrained elements, :math:`u = f(\epsilon)`. Its density is that of the model,

    .. math:: \log p(x, f(\epsilon)) + \log \lvert \det J_f(\epsilon) \rvert,

    nearly that of a standard Normal where the guide fits well, which is easy to sample. The sites
    of the model are deterministics, with their names and dims.

    Parameters
    ----------
    guide : AutoContinuous
        A guide that maps noise one-to-one: full rank, diagonal, Laplace or a flow.
    params : dict of str to array_like
        Constrained values of its params, as in ``result.params``.
    *args, **kwargs
        Arguments of the fit; by default those the guide was last run with.

    Raises
    ------
    TypeError
        If the guide does not draw all elements jointly.

    References
    ----------
    Hoffman et al. (2019), NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using neural
    transport.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi.guides import AutoDiagonalNormal, NeuTraReparam
    >>> def model():
    ...     x = pm.Normal("x", 3.0, 0.1)
    >>> guide = AutoDiagonalNormal(model)
    >>> neutra = NeuTraReparam(guide, {"auto_loc": np.array([3.0]), "auto_scale": np.array([0.1])})
    >>> with pm.Model() as reparameterized:
    ...     neutra.reparam(model)()
    >>> log_density = reparameterized.compile_logp()
    >>> bool(np.isclose(log_density({"auto_shared_latent": [1.0]}), -0.5 - 0.9189385))
    True
    """

    def __init__(self, guide: AutoContinuous, params: Mapping[str, Any], *args, **kwargs):
        if not isinstance(guide, AutoContinuous):
            raise TypeError(
                sentence(
                    "NeuTraReparam takes a guide that draws all latent elements jointly",
                    found=repr(guide),
                    fix="Use AutoMultivariateNormal, AutoDiagonalNormal or a flow",
                )
            )
        self.guide = guide
        fitted = guide.at(params, *args, **kwargs)
        self._fitted = fitted
        self.latents = fitted.prototype().latents
        self.size = sum(latent.size for latent in self.latents.values())
        self.name = f"{guide.prefix}_shared_latent"
        self._map = guide.noise_map(params, *fitted.args, **fitted.kwargs)

    def reparam(self, model: Program) -> Program:
        """Return the model on the noise.

        Parameters
        ----------
        model : callable or pymc.Model
            The model of the guide, with the same latent sites.

        Returns
        -------
        callable
            The program.
        """
        return _OnNoise(model, self)

    def points(self, noise: Variable) -> tuple[Mapping[str, Variable], Variable]:
        """Return each site's unconstrained value, and the log-determinant of the map.

        Parameters
        ----------
        noise : Variable
            The noise, a vector.

        Returns
        -------
        dict of str to Variable
            The values.
        Variable
            The log-determinant.
        """
        joint, log_det = self._map(noise)
        return self.guide.split(joint, self.latents), log_det

    def transform_sample(self, noise: Any) -> dict[str, np.ndarray]:
        """Map draws of the noise, shape ``(..., D)``, to values of the model's sites.

        Parameters
        ----------
        noise : array_like
            Draws of ``auto_shared_latent``.

        Returns
        -------
        dict of str to numpy.ndarray
            By site name.
        """
        noise = np.asarray(noise, dtype=pytensor.config.floatX)
        draws = pt.tensor("draws", dtype=noise.dtype, shape=(None, self.size))
        one = pt.tensor("one", dtype=noise.dtype, shape=(self.size,))
        points, _ = self.points(one)
        values = self._fitted.placed(points).values
        plain = [as_plain_tensor(value) for value in values.values()]
        batched = vectorize_draws(plain, draws.shape[0], {one: draws})
        function = pytensor.function([draws], batched, mode=evaluation_mode())
        arrays = function(noise.reshape(-1, self.size))
        return {
            name: np.asarray(array).reshape((*noise.shape[:-1], *np.shape(array)[1:]))
            for name, array in zip(values, arrays, strict=True)
        }

    def __repr__(self) -> str:
        return f"NeuTraReparam({self.guide!r})"


class _OnNoise(Handler):
    """Let the latent sites of a model follow from a guide's noise."""

    def __init__(self, program: Program, neutra: NeuTraReparam):
        super().__init__(program)
        self.neutra = neutra

    def __enter__(self):
        super().__enter__()
        self.sites: Mapping[str, Variable] = {}
        try:
            noise = pm.Normal(self.neutra.name, 0.0, 1.0, shape=self.neutra.size)
            points, log_det = self.neutra.points(noise)
        except BaseException:
            super().__exit__(None, None, None)
            raise
        # The density of the sites comes in the place of that of the noise.
        self.terms = [log_det, 0.5 * (noise**2).sum() + 0.5 * self.neutra.size * np.log(2 * np.pi)]
        self.noise, self.sites = noise, points
        return self

    def process_message(self, site: Site) -> None:
        """Let a latent site follow from the noise, and keep its density."""
        if not site.is_latent or site.value is not None or site.name not in self.sites:
            return
        point = self.sites[site.name]
        site.value = constrain(site, point)
        log_prob = density_given(site.dist, site.value, [self.noise])
        self.terms.append(scaled_and_masked(log_prob, site.scale, site.mask).sum())
        jacobian = log_jac_det(site, point)
        if jacobian is not None:
            self.terms.append(jacobian.sum())
        site.type = "deterministic"

    def __exit__(self, exc_type, *exc_info) -> None:
        try:
            if exc_type is None:
                pm.Potential(f"{self.neutra.name}_log_density", pt.add(*self.terms))
        finally:
            super().__exit__(exc_type, *exc_info)
