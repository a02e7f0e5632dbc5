"""``SVI``: stochastic variational inference of a model and a guide."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pymc as pm
from pymc.pytensorf import resolve_backend_compile_kwargs
from pytensor.graph.basic import Constant

from pymc_svi.config import Level, validation
from pymc_svi.engine import (
    Arguments,
    ParamStore,
    SVIState,
    Training,
    seed_sequence,
    training_mode,
)
from pymc_svi.engine.loop import check_data, run_steps
from pymc_svi.engine.missing_places import naming_places
from pymc_svi.errors import PairingError, StateError, quoted, sentence
from pymc_svi.guides.guide_model import GuideModel, UnconstrainedGuide
from pymc_svi.handlers.calls import check_call, telling_data
from pymc_svi.handlers.core import Handler, Program, built_model
from pymc_svi.handlers.walk import constant_dim_lengths, scratch_model
from pymc_svi.objectives import ELBO, Loss, LossFunction, Trace_ELBO
from pymc_svi.optim import as_rule
from pymc_svi.results import SVIRunResult
from pymc_svi.results.sampling import draw_function

__all__ = ["SVI"]

# What Pyro's SVI has, and what it is here.
_HABITS = {
    "step": "Write result = svi.run(num_steps, *args), or state, loss = svi.update(state, *args) "
    "from state = svi.init(*args)",
    "evaluate_loss": "Write svi.evaluate(state, *args)",
    "get_param_store": "There is no global store: result.params, or svi.get_params(state)",
}


class SVI:
    """Fit a guide to a model by stochastic variational inference.

    Parameters
    ----------
    model : callable or pymc.Model
        The model: a function that creates PyMC variables, or a built model.
    guide : callable or pymc.Model
        The guide: a program with the model's latent sites, whose ``param`` are learned, or an
        automatic guide such as ``AutoNormal(model)``. One of ``pymc_extras.inference.advi`` is
        taken too; see :class:`~pymc_svi.guides.GuideModel`.
    optim : rule, default ``optim.Adam(1e-3)``
        An optimizer of :mod:`pymc_svi.optim`, a rule of ``pytensor_ml.optim``, an updater such
        as ``pm.adam(learning_rate=0.01)``, or any ``rule(loss_or_grads, params) -> updates``.
    loss : ELBO or callable, default ``Trace_ELBO()``
        The objective, or a function ``loss(model, guide, *args)`` that builds one; see
        :class:`~pymc_svi.objectives.LossFunction`.
    coords : dict, optional
        Coords for the dims that function programs use, as for ``pm.Model``.
    backend : {"numba", "c"}, optional
        What to compile with; PyTensor's default mode (numba) if not given.
    compile_kwargs : dict, optional
        ``{"mode": ...}``, a PyTensor mode, instead of ``backend``.
    validate : {"off", "warn", "error"}, optional
        What the checks of the programs and of their pairing do. By default each has its own
        level: what would make the result wrong is an error, what only looks wrong a warning.

    Raises
    ------
    TypeError
        If model, guide, optimizer or loss is not one, or ``compile_kwargs`` has other names.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import SVI, constraints, optim, param
    >>> y = np.array([1.0, 2.0, 3.0])
    >>> def model(y):
    ...     mu = pm.Normal("mu", 0.0, 10.0)
    ...     pm.Normal("y", mu, 1.0, observed=y)
    >>> def guide(y):
    ...     loc = param("loc", 0.0)
    ...     scale = param("scale", 1.0, constraint=constraints.positive)
    ...     pm.Normal("mu", loc, scale)
    >>> svi = SVI(model, guide, optim.Adam(optim.cosine_decay(0.05, decay_steps=2_000)))
    >>> result = svi.run(2_000, y, random_seed=1, progressbar=False)
    >>> abs(float(result.params["loc"]) - 2.0) < 0.1
    True
    """

    def __init__(
        self,
        model: Program,
        guide: Program,
        optim: Any = None,
        loss: ELBO | None = None,
        *,
        coords: Mapping[str, Any] | None = None,
        backend: str | None = None,
        compile_kwargs: dict[str, Any] | None = None,
        validate: Level | None = None,
    ):
        if isinstance(guide, UnconstrainedGuide):
            guide = GuideModel(model, guide)
        _check_program("model", model)
        _check_program("guide", guide)
        self.model = model
        self.guide = guide
        self.optim = as_rule(optim)
        self.loss = _as_objective(loss)
        self.coords = coords
        with validation(validate):  # refuse an unknown level here
            self.validate = validate
        options = resolve_backend_compile_kwargs(backend, compile_kwargs)
        self.mode = options.pop("mode", None)
        if options:
            raise TypeError(
                sentence("SVI: unknown compile_kwargs", found=quoted(options), expected="'mode'")
            )
        # One compiled step for each kind of arguments, with the variables that hold its data.
        self._trainings: dict[Any, tuple[Training, list[Any]]] = {}

    # --- running ------------------------------------------------------------------------------

    def run(
        self,
        num_steps: int,
        *args,
        random_seed: Any = None,
        progressbar: bool = True,
        init_state: SVIState | SVIRunResult | None = None,
        init_params: Mapping[str, Any] | None = None,
        stable_update: bool = False,
        callbacks: Iterable[Callable[[SVIState, np.ndarray], Any]] = (),
        **kwargs,
    ) -> SVIRunResult:
        """Fit the guide.

        Parameters
        ----------
        num_steps : int
            Number of steps.
        *args, **kwargs
            Arguments of model and guide. Arrays are data: calling again with other values of
            the same shape and dtype does not compile again. Everything else is fixed.
        random_seed : int, optional
            Seed of draws and starting values.
        progressbar : bool, default True
            Show progress.
        init_state : SVIState or SVIRunResult, optional
            Continue from this state, or that of this result. ``run(n)`` and then
            ``run(m, init_state=result)`` gives the numbers of ``run(n + m)``, bit for bit.
        init_params : dict of str to array_like, optional
            Starting values of params, in constrained space.
        stable_update : bool, default False
            Leave out steps whose loss or gradient is not finite; their losses are NaN. Without
            it such a step is an error.
        callbacks : iterable of callable
            Called every 100 steps and at the end with ``(state, losses)``; raise
            ``StopIteration`` to end the fit.

        Returns
        -------
        SVIRunResult
            With ``params`` (constrained), ``losses`` of shape (num_steps,) and ``state``.

        Raises
        ------
        NonFiniteError
            When the loss becomes NaN or infinite; names the step and the first bad site.
        PairingError
            When model and guide do not fit together.
        TypeError
            If ``num_steps`` or a callback is not what it should be, or the programs do not take the
            arguments.
        ValueError
            If ``num_steps`` is below 1, or both ``init_state`` and ``init_params`` are given.
        """
        _check_num_steps(num_steps)
        callbacks = _checked_callbacks(callbacks)
        if init_state is not None and init_params is not None:
            raise ValueError(
                sentence("run takes init_state or init_params, not both", fix="Leave one out")
            )
        arguments = Arguments(args, kwargs)
        with telling_data(built_model(self.model)):
            training = self.training_for(arguments)
        state = init_state.state if isinstance(init_state, SVIRunResult) else init_state
        if state is None:
            state = self._start(training, random_seed, init_params)
        else:
            training.check(state)
        if not stable_update:
            check_data(training, state)
        state, losses = run_steps(
            training,
            state,
            int(num_steps),
            stable=stable_update,
            progressbar=progressbar,
            callbacks=callbacks,
        )
        params = training.params.constrained(state.params)
        return SVIRunResult(
            params,
            state,
            losses,
            svi=self,
            arguments=arguments,
            param_sites=training.params.as_trace(),
        )

    def init(
        self,
        *args,
        random_seed: Any = None,
        init_params: Mapping[str, Any] | None = None,
        **kwargs,
    ) -> SVIState:
        """Return the state before the first step.

        Parameters
        ----------
        *args, **kwargs
            Arguments of model and guide.
        random_seed : int, optional
            Seed of draws and starting values.
        init_params : dict of str to array_like, optional
            Starting values of params, in constrained space.

        Returns
        -------
        SVIState
            The state.
        """
        training = self.training_for(Arguments(args, kwargs), to_learn=False)
        return self._start(training, random_seed, init_params)

    def update(self, state: SVIState, *args, **kwargs) -> tuple[SVIState, float]:
        """Take one step from a state; return the new state and the loss.

        For loops of your own; :meth:`run` is many times faster.

        Parameters
        ----------
        state : SVIState
            The state.
        *args, **kwargs
            Arguments of model and guide.

        Returns
        -------
        SVIState
            The state after the step.
        float
            The loss before it.
        """
        training = self.training_for(Arguments(args, kwargs))
        training.check(state)
        state, [loss] = run_steps(training, state, 1, progressbar=False)
        return state, float(loss)

    def evaluate(self, state: SVIState, *args, **kwargs) -> float:
        """Return the loss at a state without a step. The state's random numbers are used.

        A pair without params has one too: with all latent sites summed out by
        :class:`TraceEnum_ELBO` it is minus the log evidence.

        Parameters
        ----------
        state : SVIState
            The state.
        *args, **kwargs
            Arguments of model and guide.

        Returns
        -------
        float
            The loss.

        Examples
        --------
        >>> import pymc as pm
        >>> from pymc_svi import SVI, TraceEnum_ELBO
        >>> def model(y):
        ...     z = pm.Bernoulli("z", 0.5)
        ...     pm.Normal("y", 2.0 * z, 1.0, observed=y)
        >>> def guide(y):
        ...     pass
        >>> svi = SVI(model, guide, loss=TraceEnum_ELBO())
        >>> round(svi.evaluate(svi.init(1.0), 1.0), 4)  # y is 1 away from both
        1.4189
        """
        training = self.training_for(Arguments(args, kwargs), to_learn=False)
        training.load(state)
        with naming_places([training.value], "The loss"):
            return float(training.evaluate())

    def sample_gradients(
        self,
        num_draws: int,
        *args,
        params: Mapping[str, Any] | None = None,
        random_seed: Any = None,
        **kwargs,
    ) -> dict[str, np.ndarray]:
        """Draw gradients of the loss, to see how noisy they are.

        The spread of these decides how large a step can be, and is what estimators, baselines,
        particles and minibatches differ in.

        Parameters
        ----------
        num_draws : int
            Number of independent gradients.
        *args, **kwargs
            Arguments of model and guide.
        params : dict of str to array_like, optional
            Where, in constrained space; the others are at their starting values.
        random_seed : int, optional
            Seed of the draws.

        Returns
        -------
        dict of str to numpy.ndarray
            For each learned param an array of shape ``(num_draws, *shape)``: gradients for its
            unconstrained value, which is what the optimizer moves.

        Examples
        --------
        >>> import pymc as pm
        >>> from pymc_svi import SVI, param
        >>> def model():
        ...     pm.Normal("x", 0.0, 1.0)
        >>> def guide():
        ...     pm.Normal("x", param("loc", 0.0), 1.0)
        >>> svi = SVI(model, guide)
        >>> draws = svi.sample_gradients(1_000, params={"loc": 3.0}, random_seed=0)
        >>> bool(abs(draws["loc"].mean() - 3.0) < 0.1)
        True
        """
        training = self.training_for(Arguments(args, kwargs))
        seed = seed_sequence(random_seed)
        training.load(self._start(training, seed, params))
        gradients = dict(zip(training.learned, training.gradients, strict=True))
        draw = draw_function(gradients, mode=training.mode)
        return draw(num_draws, seed)

    def get_params(self, state: SVIState) -> dict[str, np.ndarray]:
        """Return the constrained params of a state.

        Parameters
        ----------
        state : SVIState
            A state that this object made.

        Returns
        -------
        dict of str to numpy.ndarray
            The values by name.

        Raises
        ------
        StateError
            If the state is of other params.
        """
        for training, _ in self._trainings.values():
            if set(training.variables) == set(state.params):
                return training.params.constrained(state.params)
        raise StateError(
            sentence(
                "get_params: the state is not of this SVI",
                found=f"params {quoted(state.params)}",
                fix="Call init, update or run of the SVI that made the state first",
            )
        )

    # --- building -----------------------------------------------------------------------------

    def _start(self, training: Training, random_seed, init_params) -> SVIState:
        state = training.start(seed_sequence(random_seed))
        return state if init_params is None else training.with_params(state, init_params)

    def training_for(self, arguments: Arguments, *, to_learn: bool = True) -> Training:
        """Return the compiled step for arguments of the programs, with their data loaded.

        Parameters
        ----------
        arguments : Arguments
            The arguments. Those of a kind that was met before have their step already.
        to_learn : bool, default True
            Refuse programs without params.

        Returns
        -------
        Training
            The step.

        Raises
        ------
        PairingError
            If there are no params, or the programs do not fit together.
        """
        key = (arguments.key, *map(_fixed_parts, (self.model, self.guide)))
        if key not in self._trainings:
            variables = arguments.variables(self.model)
            args, kwargs = arguments.split(variables)
            for program in (self.model, self.guide):
                if callable(program) and not isinstance(program, Handler):
                    check_call(program, args, kwargs, options=_options_of_run())
            loss, store = self._loss_and_params(*args, **kwargs)
            training = Training(loss, store, self.optim, training_mode(self.mode))
            self._trainings[key] = (training, variables)
        training, variables = self._trainings[key]
        if to_learn:
            _check_learns(training.params)
        arguments.load(variables)
        return training

    def with_programs(self, model: Program | None = None, guide: Program | None = None) -> Self:
        """Return the same method for other programs.

        Parameters
        ----------
        model, guide : callable or pymc.Model, optional
            The programs; this one's if not given.

        Returns
        -------
        SVI
            The method; what was compiled for the old programs stays with them.
        """
        other = copy.copy(self)
        other.model = self.model if model is None else model
        other.guide = self.guide if guide is None else guide
        other._trainings = {}
        return other

    def build_loss(self, *args, **kwargs) -> tuple[Loss, ParamStore]:
        """Build the loss of model and guide as expressions, and collect their params.

        Parameters
        ----------
        *args, **kwargs
            Arguments of model and guide.

        Returns
        -------
        Loss
            The loss.
        ParamStore
            The params.

        Raises
        ------
        PairingError
            If there are no params, or the programs do not fit together.
        """
        loss, store = self._loss_and_params(*args, **kwargs)
        _check_learns(store)
        return loss, store

    def _loss_and_params(self, *args, **kwargs) -> tuple[Loss, ParamStore]:
        with validation(self.validate), self.context(), ParamStore() as store:
            loss = self.loss.loss(self.model, self.guide, *args, **kwargs)
        return loss, store

    def context(self) -> pm.Model:
        """Return an empty model with the coords that the programs may use.

        Returns
        -------
        pymc.Model
            The model.
        """
        around = pm.Model.get_context(error_if_none=False)
        built = map(built_model, (self.model, self.guide))
        return scratch_model(*built, around, coords=self.coords)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Called for what there is not.
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in _HABITS:
                message = sentence(message, fix=_HABITS[name])
            raise AttributeError(message, name=name, obj=self)

    def __repr__(self) -> str:
        return f"SVI({self.model!r}, {self.guide!r}, {self.optim!r}, {self.loss!r})"


def _check_learns(params: ParamStore) -> None:
    if not params.sites:
        raise PairingError(
            sentence(
                "There is nothing to learn: neither guide nor model has a param",
                fix="Declare what is learned in the guide, loc = param('loc', 0.0), or use "
                "AutoNormal(model). svi.evaluate(svi.init(...), ...) computes the loss as it is",
            )
        )


def _options_of_run() -> list[str]:
    """Return the names of run's own options, of which an unknown argument may be a misspelling."""
    parameters = inspect.signature(SVI.run).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def _check_program(role: str, program: Any) -> None:
    if isinstance(program, pm.Model) or (callable(program) and not isinstance(program, type)):
        return
    ways = []
    if role == "guide":
        ways.append("Make an automatic guide from the model, AutoNormal(model)")
    if program is None:  # what a program that is called returns
        ways.append(
            f"Pass the function itself and its arguments to run: {role}(X, y) has run already"
        )
    raise TypeError(
        sentence(
            f"SVI: the {role} is not a program",
            found=type(program).__name__ if isinstance(program, Mapping) else repr(program),
            expected="a function that creates PyMC variables, or a pm.Model",
            fix=". ".join(ways),
        )
    )


def _check_num_steps(num_steps: Any) -> None:
    if isinstance(num_steps, bool) or not isinstance(num_steps, int | np.integer):
        raise TypeError(
            sentence(
                "run: the first argument is the number of steps",
                found=f"{num_steps!r} of type {type(num_steps).__name__}",
                fix="Write svi.run(5_000, *args, random_seed=0)",
            )
        )
    if num_steps < 1:
        raise ValueError(sentence("run: num_steps must be at least 1", found=str(num_steps)))


def _checked_callbacks(callbacks: Any) -> tuple[Callable, ...]:
    if callable(callbacks):
        raise TypeError(
            sentence(
                "run: callbacks is a list of functions",
                found=f"{callbacks!r}",
                fix="Write callbacks=[function]",
            )
        )
    callbacks = tuple(callbacks)
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(
                sentence(
                    "run: a callback is not a function",
                    found=f"{callback!r} of type {type(callback).__name__}",
                    fix="Write callbacks=[function]",
                )
            )
    return callbacks


def _as_objective(loss: Any) -> ELBO:
    if loss is None:
        return Trace_ELBO()
    if isinstance(loss, ELBO):
        return loss
    if callable(loss) and not isinstance(loss, type):
        return LossFunction(loss)
    fix = "Use Trace_ELBO(), another objective, or a function loss(model, guide, *args)"
    if isinstance(loss, type) and issubclass(loss, ELBO):
        fix = f"Make an object of it: {loss.__name__}()"
    raise TypeError(sentence("SVI: loss is not an objective", found=f"{loss!r}", fix=fix))


def _fixed_parts(program: Program) -> Any:
    """What of a built model is fixed when a step is compiled: its variables and their lengths.

    A model that gets another variable, or data of another length, needs another step.
    """
    model = built_model(program)
    if model is None:
        return None
    lengths = constant_dim_lengths(model).items()
    return (
        tuple(model.named_vars),
        tuple((dim, int(n.data)) for dim, n in lengths if isinstance(n, Constant)),
        tuple(data.get_value(borrow=True).shape for data in model.data_vars),
    )
