"""``fit``: one line, in the manner of ``pm.fit``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pymc_svi.data import DataLoader
from pymc_svi.errors import did_you_mean, quoted, sentence
from pymc_svi.handlers.core import Program
from pymc_svi.optim import AdamNC, cosine_decay
from pymc_svi.results import SVIRunResult
from pymc_svi.svi import SVI
from pymc_svi.trainer import ADVI, ASVGD, SVGD, FullRankADVI, Inference, Trainer
from pymc_svi.trainer.inference import SVIMethod, context_model, steps_of, with_model

__all__ = ["fit"]

# The first step size, and the last as a fraction of it.
_STEP_SIZE, _LAST = 0.05, 0.01

# What others take here, and where it belongs.
_OF_LOADER = "It is the loader's: dataloader=DataLoader(data, batch_size=128, shuffle=True)"
_ELSEWHERE = {
    "batch_size": _OF_LOADER,
    "shuffle": _OF_LOADER,
    "data": _OF_LOADER,
    "resume": "Write Trainer(method, loader, callbacks).fit(n=10_000, resume=True)",
}

_METHODS: dict[str, Callable[..., Inference]] = {
    "advi": ADVI,
    "fullrank_advi": FullRankADVI,
    "svgd": SVGD,
    "asvgd": ASVGD,
}


def fit(
    model: Program | None = None,
    method: str | SVI | Inference = "advi",
    n: int | None = None,
    *,
    epochs: int | None = None,
    optim: Any = None,
    loss: Any = None,
    dataloader: Any = None,
    callbacks: Iterable[Any] = (),
    random_seed: Any = None,
    progressbar: bool = True,
    on_nonfinite: Any = "raise",
    **options,
) -> SVIRunResult:
    """Fit a model by a named method, in the manner of ``pm.fit``.

    Parameters
    ----------
    model : callable or pymc.Model, optional
        The model; the one of the ``with`` block if not given.
    method : {"advi", "fullrank_advi", "svgd", "asvgd"} or SVI or Inference, default "advi"
        The method: by name, with an automatic guide, or an object such as ``SVI(model, guide)``.
    n : int, optional
        Number of steps; 10,000 if neither it nor ``epochs`` is given.
    epochs : int, optional
        How many times to go through the data of the loader, instead of ``n``.
    optim, loss : optional
        Optimizer and objective, as for :class:`~pymc_svi.SVI`. If none is given, the optimizer of
        ADVI is ``AdamNC(cosine_decay(0.05, n, 0.01))``: its steps begin large, since the posterior
        may be far from the start, whose gradients it soon forgets, and end small, so that the
        result does not depend on the last draws.
    dataloader : DataLoader, optional
        Data in batches; without it, each step takes the model's own data.
    callbacks : iterable of callable
        See :mod:`pymc_svi.callbacks`.
    random_seed : int, optional
        Seed of starting values, draws and the order of the data.
    progressbar : bool, default True
        Whether to show progress.
    on_nonfinite : {"raise", "skip", "rollback"}, default "raise"
        What to do about a step that is not finite; see :class:`~pymc_svi.Trainer`.
    **options
        Options of the method: of the guide for ADVI, such as ``init_scale=0.1``, or those of
        :class:`~pymc_svi.SVGD`, such as ``num_particles=50``.

    Returns
    -------
    SVIRunResult
        Params, losses, and draws from the fitted guide.

    Raises
    ------
    TypeError
        If there is no model, or an option is given that the method does not take.
    ValueError
        If there is no method of that name.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_svi as ps
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     y = pm.Normal("y", x, 1.0, observed=2.0)
    >>> result = ps.fit(model, "advi", 2_000, random_seed=1, progressbar=False)
    >>> abs(float(result.params["x_auto_loc"]) - 1.0) < 0.1
    True
    """
    if dataloader is not None and not isinstance(dataloader, DataLoader):
        dataloader = DataLoader(dataloader)
    num_steps = steps_of(n, epochs, dataloader)
    if isinstance(method, str):
        if method not in _METHODS:
            raise ValueError(
                sentence(
                    f"fit: there is no method {method!r}", expected=f"one of {quoted(_METHODS)}"
                )
                + did_you_mean(method, _METHODS)
            )
        model = context_model(model, "fit")
        if optim is None and method in ("advi", "fullrank_advi"):
            optim = AdamNC(cosine_decay(_STEP_SIZE, num_steps, _LAST))
        if loss is not None:
            if method in ("svgd", "asvgd"):
                raise TypeError(
                    sentence(f"fit: {method!r} has its own objective", fix="Leave loss out")
                )
            options["loss"] = loss
        method = _made(method, model, optim, options)
    else:
        if isinstance(method, type) or not isinstance(method, SVI | Inference):
            raise TypeError(
                sentence(
                    "fit: the second argument is the method",
                    found=repr(method),
                    expected=f"one of {quoted(_METHODS)}, or an object such as SVI(model, guide)",
                    fix="Data go by name: fit(model, dataloader=loader)",
                )
            )
        given = {"optim": optim, "loss": loss, **options}
        if ignored := [name for name, value in given.items() if value is not None]:
            raise TypeError(
                sentence(
                    f"fit: {quoted(ignored)} would not be used",
                    found=f"a method that is made already, {method!r}",
                    fix="Give them to the method",
                )
            )
        method = with_model(method, model, "fit")
    trainer = Trainer(
        method,
        dataloader,
        callbacks,
        on_nonfinite=on_nonfinite,
        progressbar=progressbar,
        model=model,
    )
    return trainer.fit(n=num_steps, random_seed=random_seed)


def _made(name: str, model: Program, optim: Any, options: Mapping[str, Any]) -> Inference:
    """Return a method by its name, for its model; its options are those of ``fit`` that are left."""
    method = _METHODS[name](model, optim=optim, **options)
    try:
        if isinstance(method, SVIMethod):
            method.as_svi()
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None or unknown[1] not in options:
            raise
        guide = type(method).guide if isinstance(method, ADVI) else type(method)
        known = {*inspect.signature(fit).parameters, *inspect.signature(guide).parameters}
        raise TypeError(
            sentence(
                f"fit: {name!r} has no option {unknown[1]!r}",
                found=str(error),
                fix=_ELSEWHERE.get(unknown[1], ""),
            )
            + did_you_mean(unknown[1], known)
        ) from error
    return method
