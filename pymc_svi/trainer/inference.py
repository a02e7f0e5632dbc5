"""Methods: objects with an ``init`` and a ``step``."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

import numpy as np
import pymc as pm

from pymc_svi.engine.attributes import as_array, is_generator, read_state, write_state
from pymc_svi.errors import sentence
from pymc_svi.guides import AutoMultivariateNormal, AutoNormal
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.results import SVIRunResult
from pymc_svi.svi import SVI

__all__ = [
    "ADVI",
    "FullRankADVI",
    "Inference",
    "SVIMethod",
    "check_steps",
    "context_model",
    "learned",
    "offered",
    "steps_of",
    "with_model",
]

# How many steps a fit takes if nothing is said.
_STEPS = 10_000


def check_steps(name: str, value: Any) -> None:
    """Check a number of steps, or of epochs."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        fix = ""
        if hasattr(value, "__iter__") and not isinstance(value, str):
            fix = "Data go to the trainer: Trainer(method, dataloader=loader).fit(n=10_000)"
        raise TypeError(sentence(f"fit: {name} is a whole number", found=repr(value), fix=fix))
    if value < 1:
        raise ValueError(sentence(f"fit: {name} must be at least 1", found=repr(value)))


def steps_of(n: int | None, epochs: int | None, dataloader: Any) -> int:
    """Return how many steps a fit takes: n, or as many as the batches of some epochs."""
    if n is not None and epochs is not None:
        raise ValueError(sentence("fit takes n or epochs, not both", fix="Leave one out"))
    if epochs is None:
        n = _STEPS if n is None else n
        check_steps("n", n)
        return int(n)
    check_steps("epochs", epochs)
    return int(epochs) * (1 if dataloader is None else len(dataloader))


def context_model(model: Program | None, what: str) -> Program:
    """Return a model, or that of the context."""
    model = model if model is not None else pm.Model.get_context(error_if_none=False)
    if model is None:
        raise TypeError(
            sentence(f"{what} has no model", fix="Call fit inside `with model:`, or pass the model")
        )
    return model


def with_model(method: SVI | Inference, model: Program | None, what: str) -> SVI | Inference:
    """Return a method for a model; without one, it has its own or takes that of the context."""
    own = getattr(method, "model", None)
    if model is None or own is model:
        return method
    if not isinstance(method, SVI | SVIMethod) and own is None:
        # A built model is the context of ``init`` too; a function has to be an argument of it.
        if built_model(model) is not None or "model" in offered(method, ("model",)):
            return method
    if own is not None or not isinstance(method, SVIMethod):
        name = type(method).__name__
        raise TypeError(
            sentence(
                f"{what}: the method cannot take the model",
                found=f"{name} has another one"
                if own is not None
                else f"{name}.init takes no `model`",
                fix="Leave it out, or give the model to the method",
            )
        )
    method = copy(method)
    method.model = model
    return method


def offered(method: Inference, names: Iterable[str]) -> list[str]:
    """Return which of the names the ``init`` of a method takes."""
    if type(method).init is Inference.init:
        return []
    takes = inspect.signature(method.init).parameters.values()
    variadic = any(p.kind is p.VAR_KEYWORD for p in takes)
    return [name for name in names if variadic or name in {p.name for p in takes}]


class Inference:
    """Base class for methods of your own: an algorithm that learns from one batch at a time.

    A subclass defines ``step(batch) -> loss`` and, if it has something to prepare, ``init``, which
    may take any of ``model`` (that of the trainer or of the ``with`` block), ``batch`` (the first
    one) and ``random_seed``. A batch is a dict of arrays, or None without a data loader.

    Its ``state`` is what a checkpoint saves, and what is restored after a step that breaks: the
    attributes that are numbers, arrays, shared variables or random generators of NumPy, dicts and
    lists of these, and what the compiled functions among the attributes update, such as the
    moments of an optimizer. Other objects are not looked into: if they change, override
    ``state``. The state is read at each step, so do not keep the data in attributes.

    ``params``, if it is set, is what a result reports: a dict of arrays or shared variables, or a
    list of these. Otherwise the whole state is reported. A method that has
    ``evaluate(batch) -> loss`` works with :class:`~pymc_svi.callbacks.HeldOutELBO`, one with an
    ``optimizer`` works with :class:`~pymc_svi.callbacks.LearningRateMonitor`.

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
            A subclass names those of ``model``, ``batch`` and ``random_seed`` that it takes.
        """

    def step(self, batch: Any) -> float:
        """Learn from one batch and return the loss.

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
        """What changes from step to step, as arrays by name."""
        return read_state(self)

    @state.setter
    def state(self, values: Mapping[str, np.ndarray]) -> None:
        write_state(self, values)


def learned(method: Inference) -> dict[str, np.ndarray]:
    """Return what a method reports: its ``params``, or its state without random generators."""
    params = getattr(method, "params", None)
    if params is None:
        return {name: value for name, value in method.state.items() if not is_generator(name)}
    arrays = {name: as_array(value) for name, value in _by_name(params).items()}
    return {name: array for name, array in arrays.items() if array is not None}


def _by_name(values: Any) -> dict[str, Any]:
    """Return params as a dict; a list of variables by their names."""
    if isinstance(values, Mapping):
        return dict(values)
    if isinstance(values, list | tuple):
        return {getattr(v, "name", None) or str(i): v for i, v in enumerate(values)}
    raise TypeError(
        sentence(
            "params are arrays or shared variables by name, or a list of shared variables",
            found=f"{values!r} of type {type(values).__name__}",
            fix='Write self.params = {"loc": loc}',
        )
    )


class SVIMethod(Inference):
    """Base class of the methods that are an ``SVI`` with a guide made for the model.

    A subclass defines :meth:`make`. Its steps are taken inside compiled code.

    Parameters
    ----------
    model : callable or pymc.Model, optional
        The model; the one of the ``with`` block if not given.
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

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The constrained params."""
        return self.as_svi().get_params(self._svi_state)


class ADVI(SVIMethod):
    """Mean-field automatic differentiation variational inference, as in ``pm.fit``.

    Parameters
    ----------
    model : callable or pymc.Model, optional
        The model; the one of the ``with`` block if not given.
    optim : optional
        The optimizer, as for :class:`~pymc_svi.SVI`.
    loss : optional
        The objective, as for :class:`~pymc_svi.SVI`.
    **guide_kwargs
        Options of the guide, :class:`~pymc_svi.guides.AutoNormal`, such as ``init_scale=0.1``.

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
    """ADVI with a multivariate Normal, which learns posterior correlations too.

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
