"""``Trainer``: a method, its data, and the callbacks of a fit."""

from __future__ import annotations

import inspect
import math
import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pymc_svi.callbacks import Checkpoint, Moment, ProgressBar, as_callback
from pymc_svi.callbacks.base import call_callbacks, restore_callbacks
from pymc_svi.checkpoint import FILE_NAME, SavedFit, check_same, load_fit
from pymc_svi.data import DataLoader
from pymc_svi.engine import Arguments, SVIState, seed_sequence
from pymc_svi.engine.loop import run_steps, warn_of_interrupt
from pymc_svi.engine.progress import Progress
from pymc_svi.engine.seeds import generator_to_array, spawn_generators
from pymc_svi.errors import NonFiniteError, quoted, sentence
from pymc_svi.handlers import Trace
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.results import SVIRunResult
from pymc_svi.svi import SVI
from pymc_svi.trainer.feeds import DataFeed, feed_of
from pymc_svi.trainer.inference import Inference, SVIMethod, learned, steps_of, with_model
from pymc_svi.trainer.planning import explaining_lengths
from pymc_svi.trainer.session import Session, build_session
from pymc_svi.trainer.stepping import begin, go_on_from, state_of, take_step, tried_in_vain

__all__ = ["Trainer"]

# How often in a row a fit goes back before it gives up.
_ROLLBACKS = 20
# After how many steps of a method of one's own the progress is shown.
_STEPS_A_LOOK = 50


class Trainer:
    """Fit a method to data that come in batches.

    The model need not know of batches: they take the place of the ``pm.Data`` of their names, or
    are the arguments of a function program, and the terms that belong to their rows are weighted
    by total rows / rows of the batch.

    Parameters
    ----------
    method : SVI or Inference
        ``SVI(model, guide)``, ``ADVI()``, ``FullRankADVI()``, ``SVGD()`` or a method of your own.
    dataloader : DataLoader, optional
        The data; without it, each step takes the model's own.
    callbacks : iterable of callable
        See :mod:`pymc_svi.callbacks`.
    on_nonfinite : {"raise", "skip", "rollback"}, default "raise"
        What to do about a step whose loss or gradient is not finite: end the fit with an error,
        leave the step out, or take it again with other random numbers.
    progressbar : bool, default False
        Whether to show progress.
    model : callable or pymc.Model, optional
        The model, for a method that has none of its own; the one of the ``with`` block if not
        given.

    Raises
    ------
    TypeError
        If ``method`` is not a method, or a callback is not a function.
    ValueError
        If ``on_nonfinite`` is not one of the three words.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import SVI, DataLoader, Trainer, optim
    >>> from pymc_svi.guides import AutoNormal
    >>> y = np.random.default_rng(0).normal(3.0, 1.0, size=1_000)
    >>> def model(y):
    ...     mu = pm.Normal("mu", 0.0, 10.0)
    ...     pm.Normal("y", mu, 1.0, observed=y)
    >>> svi = SVI(model, AutoNormal(model), optim.Adam(0.05))
    >>> trainer = Trainer(method=svi, dataloader=DataLoader({"y": y}, batch_size=100))
    >>> result = trainer.fit(n=1_000, random_seed=1)
    >>> bool(abs(result.params["mu_auto_loc"] - y.mean()) < 0.1)
    True
    """

    def __init__(
        self,
        method: SVI | Inference,
        dataloader: DataLoader | None = None,
        callbacks: Iterable[Any] = (),
        *,
        on_nonfinite: Literal["raise", "skip", "rollback"] = "raise",
        progressbar: bool = False,
        model: Program | None = None,
    ):
        if isinstance(method, type) or not isinstance(method, SVI | Inference):
            raise TypeError(
                sentence(
                    "Trainer: method is an SVI or another method of inference",
                    found=repr(method),
                    fix=f"Make an object of it: {method.__name__}()"
                    if isinstance(method, type)
                    else "Write Trainer(method=SVI(model, guide), dataloader=...)",
                )
            )
        if dataloader is not None and not isinstance(dataloader, DataLoader):
            dataloader = DataLoader(dataloader)
        if on_nonfinite not in ("raise", "skip", "rollback"):
            raise ValueError(
                sentence(
                    "on_nonfinite is one of three words",
                    found=repr(on_nonfinite),
                    expected="'raise', 'skip' or 'rollback'",
                )
            )
        if callable(callbacks):
            callbacks = [callbacks]
        if not isinstance(callbacks, Iterable):
            raise TypeError(
                sentence(
                    "Trainer: callbacks is a list of functions or of Callback objects",
                    found=repr(callbacks),
                )
            )
        self.method = with_model(method, model, "Trainer")
        self.model = model
        self.dataloader = dataloader
        self.callbacks = [as_callback(callback) for callback in callbacks]
        self.on_nonfinite = on_nonfinite
        self.progressbar = progressbar or any(isinstance(c, ProgressBar) for c in self.callbacks)
        self._session: Session | None = None

    def fit(
        self,
        n: int | None = None,
        *,
        epochs: int | None = None,
        random_seed: Any = None,
        resume: bool | str | Path | SVIRunResult | SVIState = False,
        progressbar: bool | None = None,
    ) -> SVIRunResult:
        """Fit the method, or go on with a fit.

        Parameters
        ----------
        n : int, optional
            Number of steps, including those before a checkpoint that is resumed; 10,000 if
            neither it nor ``epochs`` is given.
        epochs : int, optional
            How many times to go through the data, instead of ``n``.
        random_seed : int, optional
            Seed of starting values, draws and the order of the data.
        resume : bool, path, SVIRunResult or SVIState, default False
            Go on from the checkpoint of the ``Checkpoint`` callback (True) or of a folder, if
            there is one, or from a result or a state. The numbers are those of a fit that was
            never interrupted, bit for bit. A state alone does not know the order of the data,
            which then follows from ``random_seed``.
        progressbar : bool, optional
            Whether to show progress, from now on; if not given, as the trainer was made.

        Returns
        -------
        SVIRunResult
            Params, losses and state, and draws from what was fitted.
        """
        if progressbar is not None:
            self.progressbar = progressbar
        num_steps = steps_of(n, epochs, self.dataloader)
        saved = self._saved(resume)
        seed = seed_sequence(random_seed)
        data_seed = int(
            np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, 0xDA7A))
            .generate_state(1, np.uint32)
            .item()
        )
        if saved is not None:
            data_seed = saved.about.get("seed", data_seed)
        for callback in self.callbacks:
            callback.start()
        if saved is not None:
            restore_callbacks(self.callbacks, saved.callbacks)
        svi = self._svi()
        if svi is None:
            return self._fit_steps(num_steps, random_seed, data_seed, saved)
        session = self._open(svi, data_seed)
        return self._fit_svi(session, num_steps, seed, data_seed, saved)

    # --- what to do ---------------------------------------------------------------------------

    def _saved(self, resume: Any) -> SavedFit | None:
        if resume is None or isinstance(resume, bool | np.bool_) and not resume:
            return None
        if isinstance(resume, SVIRunResult):
            return SavedFit(resume.state, resume.losses, resume.about)
        if isinstance(resume, SVIState):
            return SavedFit(resume, np.empty(0), {})
        if isinstance(resume, bool | np.bool_):
            folders = [c.folder for c in self.callbacks if isinstance(c, Checkpoint)]
            if not folders:
                raise ValueError(
                    sentence(
                        "resume=True resumes from the Checkpoint callback, of which there is none",
                        fix="Add callbacks=[callbacks.Checkpoint(folder)], or pass resume=folder",
                    )
                )
            path = folders[0] / FILE_NAME
        elif not isinstance(resume, str | os.PathLike):
            raise TypeError(
                sentence(
                    "fit: resume is not what a fit can go on from",
                    found=f"{resume!r} of type {type(resume).__name__}",
                    expected="True, the folder of a checkpoint, a result, or its state",
                    fix="fit(n=..., resume=True) goes on from the Checkpoint callback's folder; n counts "
                    "the steps before it",
                )
            )
        else:
            path = Path(resume)
            path = path / FILE_NAME if path.suffix != ".safetensors" else path
        return load_fit(path) if path.exists() else None

    def _have_stopped(self, saved: SavedFit | None) -> bool:
        """Whether a callback had ended the fit that is resumed."""
        return saved is not None and any(callback.has_stopped for callback in self.callbacks)

    def _svi(self) -> SVI | None:
        if isinstance(self.method, SVI):
            return self.method
        if isinstance(self.method, SVIMethod):
            return self.method.as_svi()
        return None

    # --- fits of SVI --------------------------------------------------------------------------

    def _open(self, svi: SVI, data_seed: int) -> Session:
        """Return model, guide and data as one compiled step, the last one if it fits."""
        known = self._session
        if known is not None and known.svi is svi and known.can_be_used_again(data_seed):
            return known
        if self.dataloader is None:
            _check_needs_no_data(svi.model)
            training = svi.training_for(Arguments((), {}))
            session = Session(svi, training, None, None, None, svi, Arguments((), {}))
        else:
            session = build_session(svi, self.dataloader, data_seed)
        self._session = session
        return session

    def _fit_svi(self, session: Session, num_steps: int, seed, data_seed, saved) -> SVIRunResult:
        training, feed = session.training, session.feed
        about = {
            "seed": data_seed,
            "constraints": {n: repr(s.constraint) for n, s in training.params.sites.items()},
            "data": _describe(feed),
        }
        if saved is not None or any(isinstance(c, Checkpoint) for c in self.callbacks):
            about["laws"] = session.laws
        losses = np.empty(0)
        if saved is None:
            state = training.start(seed)
        else:
            training.check(saved.state)
            check_same(saved.about, about)
            state, losses = saved.state, saved.losses
        remaining = num_steps - state.step
        _warn_of_steps_before(state.step, num_steps)
        if remaining > 0 and not self._have_stopped(saved):
            if feed is not None:
                feed.begin(state.step, remaining)
            try:
                plan, svi = session.plan, session.svi
                names, rows = ((), None) if plan is None else (plan.variables, plan.total_size)
                with explaining_lengths(svi.model, svi.guide, names, rows):
                    state, losses = self._run(session, state, losses, num_steps, about)
                self._warn_of_steps_left_out(losses[-remaining:])
            finally:
                if feed is not None:
                    feed.close()
        return session.result(*self._chosen(state, losses), about)

    def _chosen(self, state: SVIState, losses: np.ndarray) -> tuple[SVIState, np.ndarray]:
        """Return the state that a callback has chosen, or the last one, and the losses until then."""
        chosen = next((c.chosen for c in self.callbacks if c.chosen is not None), state)
        return chosen, losses[: len(losses) - (state.step - chosen.step)]

    def _warn_of_steps_left_out(self, losses: np.ndarray) -> None:
        left_out = int(np.isnan(losses).sum())
        if self.on_nonfinite == "skip" and left_out > len(losses) / 2:
            warnings.warn(
                sentence(
                    "Most steps were left out, since their losses or gradients are not finite",
                    found=f"{left_out} of {len(losses)} steps",
                    fix='Use on_nonfinite="raise" to see which site breaks',
                ),
                stacklevel=4,
            )

    def _run(self, session, state: SVIState, losses, num_steps: int, about):
        training = session.training
        every = math.gcd(*(c.every for c in self.callbacks)) if self.callbacks else 100
        before, rollbacks = losses, 0

        def call(reached: SVIState, new: np.ndarray) -> None:
            final = reached.step == num_steps
            moment = Moment(
                reached,
                np.concatenate([before, new]),
                about,
                lambda: training.params.constrained(reached.params),
                lambda batch: session.evaluate(reached, batch),
                training.rule,
                final,
                self.callbacks,
            )
            call_callbacks(moment)

        while True:
            try:
                state, new = run_steps(
                    training,
                    state,
                    num_steps - state.step,
                    stable=self.on_nonfinite == "skip",
                    progressbar=self.progressbar,
                    callbacks=[call] if self.callbacks else (),
                    every=every,
                    leaving_out='Trainer(..., on_nonfinite="skip")',
                )
                return state, np.concatenate([before, new])
            except NonFiniteError as error:
                progress = error.state.step > state.step
                rollbacks = 1 if progress else rollbacks + 1
                if self.on_nonfinite != "rollback" or rollbacks > _ROLLBACKS:
                    error.losses = np.concatenate([before, error.losses])
                    if self.on_nonfinite == "rollback":
                        error.args = (tried_in_vain(error, rollbacks),)
                    raise
                before = np.concatenate([before, error.losses])
                state = _with_other_numbers(error.state, rollbacks)

    # --- fits of other methods ----------------------------------------------------------------

    def _fit_steps(self, num_steps, random_seed, data_seed, saved) -> SVIRunResult:
        method = self.method
        assert isinstance(method, Inference)
        feed = None if self.dataloader is None else feed_of(self.dataloader, data_seed)
        begin(method, self.model, None if feed is None else feed.first, random_seed)
        about = {
            "seed": data_seed,
            "method": type(method).__name__,
            "data": _describe(feed),
            "constraints": {},
        }
        losses: list[float] = []
        step = 0
        if saved is not None:
            check_same(saved.about, about)
            go_on_from(method, saved.state)
            losses, step = list(saved.losses), saved.state.step
        before, saved_step = len(losses), step
        _warn_of_steps_before(step, num_steps)
        optim = getattr(method, "optimizer", getattr(method, "optim", None))
        evaluate = getattr(method, "evaluate", None)
        if step < num_steps and not self._have_stopped(saved):
            if feed is not None:
                feed.begin(step, num_steps - step)
            try:
                with Progress(num_steps, self.progressbar) as progress:
                    while step < num_steps:
                        batch = None if feed is None else feed.batch_at(step)
                        losses.append(take_step(method, batch, step, losses, self.on_nonfinite))
                        step += 1
                        final = step == num_steps
                        if step % _STEPS_A_LOOK == 0 or final:
                            progress.update(np.array(losses))
                        if any(c.is_due(step, final) for c in self.callbacks):
                            moment = Moment(
                                state_of(method, step),
                                np.array(losses),
                                about,
                                lambda: learned(method),
                                evaluate,
                                optim,
                                final,
                                self.callbacks,
                            )
                            try:
                                call_callbacks(moment)
                            except StopIteration:
                                break
            except KeyboardInterrupt:
                if len(losses) == before:
                    raise
                step = saved_step + len(losses) - before
                warn_of_interrupt(step, num_steps)
            finally:
                if feed is not None:
                    feed.close()
            self._warn_of_steps_left_out(np.array(losses[before:]))
        last = state_of(method, step)
        state, kept = self._chosen(last, np.array(losses))
        if state is not last:
            go_on_from(method, state)
        return SVIRunResult(
            learned(method),
            state,
            kept,
            svi=None,
            arguments=Arguments((), {}),
            param_sites=Trace(),
            about=about,
        )

    def __repr__(self) -> str:
        return f"Trainer({self.method!r}, {self.dataloader!r})"


def _check_needs_no_data(model: Program) -> None:
    """Check that a model can be run without arguments."""
    if built_model(model) is not None:
        return
    needed = [
        p.name
        for p in inspect.signature(model).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if needed:
        arrays = ", ".join(f'"{name}": {name}' for name in needed)
        raise TypeError(
            sentence(
                f"The model takes {quoted(needed)}, and there is no data loader to give them",
                fix=f"Write Trainer(method, dataloader=DataLoader({{{arrays}}}, batch_size=128)), or "
                f"take all rows in each step: svi.run(n, {', '.join(needed)})",
            )
        )


def _warn_of_steps_before(step: int, num_steps: int) -> None:
    """Warn if a fit that is resumed had taken more steps than are asked for."""
    if step > num_steps:
        warnings.warn(
            sentence(
                "The fit that is resumed is past the steps that are asked for, and is returned as it is",
                found=f"{step} steps taken, {num_steps} asked for",
                fix="n and epochs count the steps before the checkpoint too",
            ),
            stacklevel=4,
        )


def _with_other_numbers(state: SVIState, attempt: int) -> SVIState:
    """Return a state with random generators that follow from its own and the attempt."""
    words = [int(word) for word in np.ravel(state.rng_state)]
    seed = np.random.SeedSequence([*words, state.step, attempt])
    generators = spawn_generators(seed, len(state.rng_state))
    arrays = [generator_to_array(generator) for generator in generators]
    return replace(state, rng_state=np.array(arrays, np.uint64).reshape(len(arrays), 6))


def _describe(feed: DataFeed | None) -> dict[str, Any] | None:
    """Return what the data are and what their order follows from."""
    if feed is None:
        return None
    loader = feed.loader
    return {
        "columns": {n: [str(a.dtype), list(a.shape[1:])] for n, a in feed.first.items()},
        "sample": loader.sample(),
        "total_size": loader.total_size,
        "batch_size": loader.batch_size,
        "shuffle": loader.shuffle,
        "drop_last": loader.drop_last,
        "seed": loader.seed,
        "buffer_size": loader.buffer_size,
    }
