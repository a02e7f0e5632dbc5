"""Running a fit: chunks of compiled steps, with everything else between them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

import numpy as np

from pymc_svi.constraints import real
from pymc_svi.engine.missing_places import missing_place
from pymc_svi.engine.progress import Progress
from pymc_svi.engine.state import SVIState
from pymc_svi.engine.training import Training
from pymc_svi.errors import NonFiniteError, quoted, sentence

__all__ = ["check_data", "run_steps", "short", "warn_of_interrupt"]

# How long one compiled call should take: short enough for the progress bar and Ctrl-C to feel
# immediate, long enough for what happens between calls to cost nothing.
_SECONDS_A_CHUNK = 0.2
_FIRST_CHUNK = 50
# Callbacks are called at fixed steps, not whenever a chunk of that machine's speed ends: what
# they decide, such as to stop, must not depend on timing.
_STEPS_A_CALLBACK = 100
# How many params a message shows the values of.
_PARAMS_SHOWN = 5


def run_steps(
    training: Training,
    state: SVIState,
    num_steps: int,
    *,
    stable: bool = False,
    progressbar: bool = True,
    callbacks: Iterable[Callable] = (),
    every: int = _STEPS_A_CALLBACK,
    leaving_out: str = "run(..., stable_update=True)",
) -> tuple[SVIState, np.ndarray]:
    """Take ``num_steps`` steps from a state.

    Parameters
    ----------
    training : Training
        What to train.
    state : SVIState
        Where to start. It is not changed.
    num_steps : int
        Number of steps.
    stable : bool
        Leave out steps whose loss or gradient is not finite, instead of stopping.
    progressbar : bool
        Show progress.
    callbacks : iterable of callable
        Called every ``every`` steps and at the end with ``(state, losses)``: the state reached and
        all losses so far. Raising ``StopIteration`` ends the fit there.
    every : int, default 100
        How many steps lie between two calls of the callbacks.
    leaving_out : str
        How a user asks for ``stable``, for messages.

    Returns
    -------
    state : SVIState
    losses : numpy.ndarray
        Shape (steps taken,).

    Raises
    ------
    NonFiniteError
        At the first loss or gradient that is not finite, unless ``stable``.
    IndexError
        If data ask for a place that does not exist; it says which.

    Warns
    -----
    UserWarning
        If it is interrupted by Ctrl-C: the steps taken until then are returned, as by PyMC.
    """
    chunk = training.chunk(stable)
    training.load(state)
    losses = np.empty(num_steps)
    callbacks = tuple(callbacks)
    done, size = 0, _FIRST_CHUNK
    # What a chunk starts from: needed to go back to the step before a failure.
    safe = state
    with Progress(num_steps, progressbar) as progress:
        try:
            while done < num_steps:
                size = min(size, num_steps - done)
                if callbacks:
                    size = min(size, every - (state.step + done) % every)
                if training.feed is not None:
                    size = training.feed.prepare(state.step + done, size)
                began = time.perf_counter()
                try:
                    new = losses[done : done + size] = chunk(size)
                except IndexError as error:
                    raise missing_place(error, training, state.step + done, size) from error
                elapsed = time.perf_counter() - began
                if not stable and not np.isfinite(new).all():
                    first_bad = int(np.flatnonzero(~np.isfinite(new))[0])
                    _raise_non_finite(
                        training, safe, first_bad, losses[: done + first_bad], leaving_out
                    )
                reached = training.save(state.step + done + size)
                if not stable and not _is_finite(reached):
                    _raise_non_finite(training, safe, size, losses[: done + size], leaving_out)
                safe, done = reached, done + size
                size = _next_size(size, elapsed)
                progress.update(losses[:done])
                due = safe.step % every == 0 or done == num_steps
                if due and _stopped(callbacks, safe, losses[:done]):
                    break
        except KeyboardInterrupt:
            if not done:
                raise
            warn_of_interrupt(done, num_steps)
    return safe, losses[:done].copy()


def warn_of_interrupt(done: int, num_steps: int) -> None:
    """Warn that a fit ended early, by Ctrl-C."""
    warnings.warn(
        sentence(
            f"The fit was interrupted after {done:,} of {num_steps:,} steps",
            found="the result of these",
            fix="Go on from it with init_state=result in run, resume=result in Trainer.fit",
        ),
        UserWarning,
        stacklevel=3,
    )


def check_data(training: Training, state: SVIState) -> None:
    """Refuse data with NaN or infinite values that break the first step, before it is compiled.

    Where the program takes care of them, by a mask or a default, the loss is finite.

    Raises
    ------
    NonFiniteError
        Names the site that is not finite, and the data.
    """
    if not training.odd_data():
        return
    training.load(state)
    if not all(np.isfinite(value).all() for value in training.inspect()):
        _raise_non_finite(training, state, 0, np.empty(0))


def _next_size(size: int, elapsed: float) -> int:
    per_step = max(elapsed / size, 1e-9)
    return max(1, min(int(_SECONDS_A_CHUNK / per_step), 20 * size))


def _stopped(callbacks: tuple[Callable, ...], state: SVIState, losses: np.ndarray) -> bool:
    try:
        for callback in callbacks:
            callback(state, losses)
    except StopIteration:
        return True
    return False


def _raise_non_finite(
    training: Training,
    safe: SVIState,
    taken: int,
    losses: np.ndarray,
    leaving_out: str = "run(..., stable_update=True)",
) -> NoReturn:
    """Go back to the step that broke the fit, and say what broke it.

    Within ``taken`` steps from ``safe`` a param was broken, or else the step after them has a
    loss that is not finite.
    """
    step = taken
    if not _is_finite(_after(training, safe, taken)):
        # A gradient broke the params, which the losses may show only later: bisect.
        step, broken = 0, taken
        while broken - step > 1:
            middle = (step + broken) // 2
            if _is_finite(_after(training, safe, middle)):
                step = middle
            else:
                broken = middle
    before = _after(training, safe, step)
    site, what = _culprit(training)
    params = training.params.constrained(before.params)
    anywhere = [
        name
        for name, record in training.params.sites.items()
        if record.constraint is real and np.any(np.asarray(params[name]) < 0)
    ]
    scale = ""
    if anywhere and " in the guide is " in what:  # a density of the guide has no other way to break
        scale = (
            f"If {quoted(anywhere[:3])} has to be positive, say so: "
            "param(..., constraint=constraints.positive). Else try "
        )
    clean = "Remove or impute such values first. " if training.odd_data() else ""
    raise NonFiniteError(
        sentence(
            f"The fit broke at step {before.step}: {what}",
            found="; ".join([*training.odd_data(), short(params), *_batch(training, before.step)]),
            fix=f"{clean}The state before it is in the error's `state`. {scale or 'Try '}a smaller step size, "
            "optim.ClippedAdam, another starting point, or "
            f"{leaving_out} to leave such steps out",
        ),
        step=before.step,
        site=site,
        state=before,
        losses=losses[: len(losses) - (taken - step)],
    )


def short(params: Mapping[str, np.ndarray]) -> str:
    """Return the first few params for a message."""
    shown = [
        f"{name} = {np.array2string(value, precision=4, threshold=6, separator=', ')}"
        for name, value in list(params.items())[:_PARAMS_SHOWN]
    ]
    rest = len(params) - len(shown)
    return f"the params {', '.join(shown)}" + (f" and {rest} more" if rest else "")


def _batch(training: Training, step: int) -> list[str]:
    """Return the range of each array of the batch of a step, for a message."""
    if training.feed is None:
        return []
    shown = [
        f"{name or 'data'} from {array.min():.4g} to {array.max():.4g}"
        for name, array in training.feed.batch_at(step).items()
        if array.size
    ]
    rest = f" and {len(shown) - _PARAMS_SHOWN} more" if len(shown) > _PARAMS_SHOWN else ""
    return [f"the batch {', '.join(shown[:_PARAMS_SHOWN])}{rest}"]


def _after(training: Training, state: SVIState, n_steps: int) -> SVIState:
    """Return the state some steps later, and leave it loaded."""
    training.load(state)
    if n_steps == 0:
        return state
    training.chunk()(n_steps)
    return training.save(state.step + n_steps)


def _is_finite(state: SVIState) -> bool:
    return all(np.isfinite(value).all() for value in state.params.values())


def _culprit(training: Training) -> tuple[str | None, str]:
    """Name the first term or gradient that is not finite at the loaded state."""
    values = training.inspect()
    names = list(training.terms)
    broken = {
        name: value
        for name, value in zip(names, values, strict=False)
        if not np.isfinite(value).all()
    }
    if broken:
        side, site = next(iter(broken)).split(": ", 1)
        if f"guide: {site}" in broken:  # the model has the draw of the guide
            side = "guide"
        value = broken[f"{side}: {site}"]
        return site, f"the log-probability of site {site!r} in the {side} is {value}"
    learned = list(training.learned)
    for name, value in zip(learned, values[len(names) :], strict=True):
        if not np.isfinite(value).all():
            return name, f"the gradient of the loss for param {name!r} is not finite"
    return None, "the loss is not finite"
