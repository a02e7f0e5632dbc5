"""Methods: objects with an ``init`` and a ``step``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
from pytensor.compile.sharedvalue import SharedVariable

from pymc_svi.errors import sentence
from pymc_svi.guides import AutoMultivariateNormal, AutoNormal
from pymc_svi.handlers.core import Program
from pymc_svi.results import SVIRunResult
from pymc_svi.svi import SVI

__all__ = ["ADVI", "FullRankADVI", "Inference", "SVIMethod", "context_model"]


def context_model(model: Program | None, what: str) -> Program:
    """Return a model, or that of the context."""
    model = model if model is not None else pm.Model.get_context(error_if_none=False)
    if model is None:
        raise TypeError(
            sentence(f"{what} has no model", fix="Call fit inside `with model:`, or pass the model")
        )
    return model


class Inference:
    """Base of methods: an algorithm that learns from one batch at a time.

    A subclass has ``step(batch) -> loss`` and, if it needs one, ``init``, which may take any of
    ``model`` (that of the context), ``batch`` (the first one) and ``random_seed``. A batch is a dict of
    arrays, None without a data loader. Attributes that are numbers, arrays or shared variables,
    and dicts of them, are its state: they are what a checkpoint saves. ``params``, if it is set,
    is what a result reports; otherwise the whole state is.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi import DataLoader, Inference, Trainer
    >>> class RunningMean(Inference):
    ...     def init(self):
    ...         self.mean = 0.0
    ...
    ...     def step(self, batch):
    ...         error = batch["y"].mean() - self.mean
    ...         self.mean += 0.1 * error
    ...         return error**2
    >>> loader = DataLoader({"y": np.full(10, 2.0)}, batch_size=5)
    >>> result = Trainer(method=RunningMean(), dataloader=loader).fit(n=200)
    >>> float(result.params["mean"]), result.losses.shape
    (2.0, (200,))
    """

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Start a fit.

        Parameters
        ----------
        *args, **kwargs
            Those of ``model``, ``batch`` and ``random_seed`` that a subclass takes, by name.
        """

    def step(self, batch: Any) -> float:
        """Learn from a batch; return the loss.

        Parameters
        ----------
        batch : dict of str to numpy.ndarray or None
            The batch.

        Returns
        -------
        float
            The loss.
        """
        raise NotImplementedError(
            sentence(f"{type(self).__name__} has no step", fix="Define step(self, batch) -> loss")
        )

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The attributes that are numbers, arrays or shared variables, and dicts of them."""
        found: dict[str, np.ndarray] = {}
        for attribute, value in vars(self).items():
            if isinstance(value, dict):
                parts = {f"{attribute}/{key}": part for key, part in value.items()}
            else:
                parts = {attribute: value}
            numbers = {name: _as_array(part) for name, part in parts.items()}
            found |= {name: array for name, array in numbers.items() if array is not None}
        return found

    @state.setter
    def state(self, values: Mapping[str, np.ndarray]) -> None:
        for name, value in values.items():
            attribute, _, key = name.partition("/")
            parts = getattr(self, attribute) if key else vars(self)
            present = parts.get(key or attribute)
            if isinstance(present, SharedVariable):
                present.set_value(np.array(value))
            elif isinstance(present, int | float):
                parts[key or attribute] = type(present)(value)
            else:
                parts[key or attribute] = np.array(value)

    @property
    def params(self) -> Any:
        """What is learned: what it was set to, or the whole state."""
        params = vars(self).get("_params")
        if params is None:
            return self._learned()
        return {name: _as_array(value) for name, value in params.items()}

    @params.setter
    def params(self, values: Mapping[str, Any]) -> None:
        self._params = dict(values)

    def _learned(self) -> dict[str, np.ndarray]:
        """Return what is reported where ``params`` is not set."""
        return self.state


def _as_array(value: Any) -> np.ndarray | None:
    """Return a number, an array or the value of a shared variable; None for anything else."""
    if isinstance(value, SharedVariable):
        value = value.get_value()
    if not isinstance(value, int | float | np.ndarray | np.number):
        return None
    array = np.array(value)
    return array if array.dtype.kind in "biuf" else None


class SVIMethod(Inference):
    """Base of the methods that are an ``SVI`` of a model with a guide made for it.

    A subclass implements :meth:`make`. ``Trainer`` takes its steps inside compiled code.

    Parameters
    ----------
    model : callable or pymc.Model, optional
        The model; that of the context if not given.
    """

    def __init__(self, model: Program | None = None):
        self.model = model
        self._svi: SVI | None = None

    def make(self, model: Program) -> SVI:
        """Return the method as an ``SVI`` of a model."""
        raise NotImplementedError(
            sentence(f"{type(self).__name__} has no make", fix="Define make(self, model) -> SVI")
        )

    def as_svi(self) -> SVI:
        """Return the method as an ``SVI`` of its model, or of that of the context."""
        model = context_model(self.model, type(self).__name__)
        if self._svi is None or self._svi.model is not model:
            self._svi = self.make(model)
        return self._svi

    def run(self, num_steps: int, *args, **kwargs) -> SVIRunResult:
        """Fit; the arguments are those of :meth:`SVI.run <pymc_svi.SVI.run>`."""
        return self.as_svi().run(num_steps, *args, **kwargs)

    def init(self, random_seed: Any = None, batch: Mapping[str, Any] | None = None) -> None:
        """Start a fit."""
        self._svi_state = self.as_svi().init(random_seed=random_seed, **(batch or {}))

    def step(self, batch: Mapping[str, Any] | None) -> float:
        """Take one step; many at once, as ``Trainer`` takes them, are much faster."""
        svi = self.as_svi()
        self._svi_state, loss = svi.update(self._svi_state, **(batch or {}))
        return loss

    def _learned(self) -> dict[str, np.ndarray]:
        """Return the constrained params."""
        return self.as_svi().get_params(self._svi_state)


class ADVI(SVIMethod):
    """Mean-field automatic differentiation variational inference.

    Parameters
    ----------
    model : callable or pymc.Model, optional
        The model; that of the context if not given.
    optim : optional
        The optimizer, as for :class:`~pymc_svi.SVI`.
    loss : optional
        The objective.
    **guide_kwargs
        Options of the guide, such as ``init_scale=0.1``.

    References
    ----------
    Kucukelbir et al. (2017), Automatic Differentiation Variational Inference.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import ADVI, fit, optim
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     y = pm.Normal("y", x, 1.0, observed=2.0)
    >>> method = ADVI(model, optim.Adam(0.02), init_scale=0.5)
    >>> result = fit(method=method, n=1_000, random_seed=1, progressbar=False)
    >>> sorted(result.params)
    ['x_auto_loc', 'x_auto_scale']
    """

    guide: type = AutoNormal

    def __init__(
        self, model: Program | None = None, optim: Any = None, loss: Any = None, **guide_kwargs
    ):
        super().__init__(model)
        self.optim, self.loss = optim, loss
        self.guide_kwargs = guide_kwargs

    def make(self, model: Program) -> SVI:
        """Return the method as an ``SVI`` of a model."""
        return SVI(model, type(self).guide(model, **self.guide_kwargs), self.optim, self.loss)


class FullRankADVI(ADVI):
    """ADVI with a multivariate Normal: posterior correlations are learned too.

    Parameters
    ----------
    model, optim, loss, **guide_kwargs
        See :class:`ADVI`; the guide is :class:`~pymc_svi.guides.AutoMultivariateNormal`.

    References
    ----------
    Kucukelbir et al. (2017), Automatic Differentiation Variational Inference.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import FullRankADVI, fit
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 0.0, 1.0, shape=2)
    ...     y = pm.Normal("y", x.sum(), 1.0, observed=2.0)
    >>> result = fit(method=FullRankADVI(model), n=100, random_seed=1, progressbar=False)
    >>> result.losses.shape
    (100,)
    """

    guide: type = AutoMultivariateNormal
