"""Steps of a method of one's own, one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import pymc as pm

from pymc_svi.engine import SVIState
from pymc_svi.engine.attributes import is_generator
from pymc_svi.engine.loop import short
from pymc_svi.errors import NonFiniteError, StateError, quoted, sentence
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.trainer.inference import Inference, learned, offered

__all__ = ["begin", "go_on_from", "state_of", "take_step", "tried_in_vain"]

# How often in a row a step is tried with other random numbers before the fit gives up.
_ATTEMPTS = 20


def begin(method: Inference, model: Program | None, batch: Any, random_seed: Any) -> None:
    """Call the ``init`` of a method with what it takes."""
    if model is None:
        model = pm.Model.get_context(error_if_none=False)
    takes = inspect.signature(method.init).parameters.get("model")
    what = type(method).__name__
    if model is None and takes is not None and takes.default is takes.empty:
        raise TypeError(
            sentence(
                f"{what} has no model",
                fix="Call fit inside `with model:`, or pass it: Trainer(..., model=model)",
            )
        )
    values = {"model": model, "batch": batch, "random_seed": random_seed}
    _check_takes(method, "init", values)
    _check_takes(method, "step", ("batch",), by_place=True)
    built = None if model is None else built_model(model)
    given = {name: values[name] for name in offered(method, values)}
    with nullcontext() if built is None else built:
        _without_stops(method, "init", lambda: method.init(**given))


def _without_stops(method: Inference, where: str, call: Callable[[], Any]) -> Any:
    """Call a method; its ``StopIteration`` is an error, unlike that of a callback."""
    try:
        return call()
    except StopIteration as error:
        raise RuntimeError(
            sentence(
                f"{type(method).__name__}.{where} raised StopIteration",
                found=repr(error),
                fix="An iterator in it came to its end: next(iterator, None) gives None there. To end a "
                "fit, raise StopIteration in a callback",
            )
        ) from error


def _check_takes(
    method: Inference, name: str, given: Iterable[str], *, by_place: bool = False
) -> None:
    """Check that a method needs no more than it is given."""
    what = f"{type(method).__name__}.{name}"
    signature = inspect.signature(getattr(method, name))
    try:
        if by_place:
            signature.bind(*given)
        else:
            signature.bind(**{n: None for n in given if n in offered(method, given)})
    except TypeError as error:
        raise TypeError(
            sentence(
                f"{what} does not take what it is given",
                found=f"{what}{signature}: {error}",
                expected="step(self, batch) -> loss" if by_place else f"any of {quoted(given)}",
            )
        ) from error


def _as_number(loss: Any, method: Inference) -> float:
    """Return a loss as a number."""
    try:
        return float(loss)
    except (TypeError, ValueError) as error:
        raise TypeError(
            sentence(
                f"{type(method).__name__}.step does not return one number, the loss",
                found=f"{loss!r} of type {type(loss).__name__}",
                fix="If there is no loss, return 0.0",
            )
        ) from error


def state_of(method: Inference, step: int) -> SVIState:
    """Return the state of a method in the form in which fits are saved."""
    state = {name: np.asarray(value) for name, value in method.state.items()}
    for name, value in state.items():
        if value.dtype.kind not in "biuf":
            raise StateError(
                sentence(
                    f"The state of {type(method).__name__} is not numeric",
                    found=f"{name!r} of dtype {value.dtype}",
                    expected="arrays by name",
                )
            )
    return SVIState(learned(method), state, np.zeros((0, 6), np.uint64), step)


def go_on_from(method: Inference, saved: SVIState) -> None:
    """Give a method that has begun a state that was saved."""
    missing = [name for name in method.state if name not in saved.optim_state]
    if missing:
        raise StateError(
            sentence(
                f"The checkpoint belongs to another fit: {type(method).__name__} has more state",
                found=quoted(saved.optim_state),
                expected=quoted(method.state),
                fix="Resume with the model and the method that wrote it, or use another folder",
            )
        )
    method.state = saved.optim_state


def take_step(
    method: Inference, batch: Any, step: int, losses: list[float], on_nonfinite: str
) -> float:
    """Take a step; one after which loss or params are not finite is taken back.

    What becomes of it then is the same as for ``SVI``: the fit ends, the step is left out, or it
    is tried again; random generators stay where they are for that.
    """
    before = {name: np.asarray(value) for name, value in method.state.items()}
    params, what = learned(method), ""
    for _ in range(_ATTEMPTS if on_nonfinite == "rollback" else 1):
        try:
            loss = _without_stops(method, f"step, at step {step},", lambda: method.step(batch))
            loss = _as_number(loss, method)
        except KeyboardInterrupt:  # half-way through
            method.state = before
            raise
        what = _broken(method, params, loss)
        if not what:
            return loss
        if on_nonfinite != "raise":
            method.state = {name: v for name, v in before.items() if not is_generator(name)}
    if on_nonfinite == "skip":
        return np.nan
    method.state = before
    message = sentence(
        f"The fit broke at step {step}: {what}",
        found=short(params),
        fix="The state before it is in the error's `state`. Try a smaller step size, or "
        'Trainer(..., on_nonfinite="skip"), which leaves such steps out',
    )
    raise NonFiniteError(
        tried_in_vain(message, _ATTEMPTS) if on_nonfinite == "rollback" else message,
        step=step,
        state=before,
        losses=np.array(losses),
    )


def tried_in_vain(message: object, n_attempts: int) -> str:
    """Return the message of a step that broke again with other random numbers."""
    return (
        f"{message} It broke in each of {n_attempts} attempts with other random numbers, so that "
        "these are not the reason."
    )


def _broken(method: Inference, params: Mapping[str, np.ndarray], loss: float) -> str:
    """Say what a step broke: the loss, or a param that was finite before it."""
    if not np.isfinite(loss):
        return f"the loss is {loss}"
    for name, value in learned(method).items():
        was_finite = np.isfinite(params.get(name, 0.0)).all()
        if was_finite and not np.isfinite(value).all():
            return f"{name!r} is not finite after it"
    return ""
