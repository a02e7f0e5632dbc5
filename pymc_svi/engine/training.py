"""The training step, and many of them in one compiled call.

A step is the loss, its gradient, the optimizer's updates and the advance of the random
generators. It is the body of a PyTensor ``scan`` whose number of steps is an input: one call
runs as many steps as it is asked for, entirely in compiled code, and returns their losses.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import collect_default_updates, rewrite_pregrad
from pytensor.compile.mode import Mode, get_mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.engine.compiling import compiled_at_first_call, uncollected
from pymc_svi.engine.graph import own_generators, own_nodes, share_large_constants
from pymc_svi.engine.inplace import with_large_arrays_in_place
from pymc_svi.engine.linker import with_flat_loops
from pymc_svi.engine.params import ParamStore
from pymc_svi.engine.seeds import (
    generator_from_array,
    generator_to_array,
    spawn_generators,
)
from pymc_svi.engine.simpler_ops import with_simpler_ops
from pymc_svi.engine.state import SVIState
from pymc_svi.engine.storage import storage_for
from pymc_svi.engine.vector_math import with_vector_math
from pymc_svi.engine.zeros import with_gradients_at_zero, with_plain_logarithms
from pymc_svi.errors import (
    InitializationError,
    PairingError,
    StateError,
    did_you_mean,
    quoted,
    sentence,
)
from pymc_svi.evaluation import evaluation_mode
from pymc_svi.gradients.differentiated import differentiated
from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.gradients.narrow import narrowed
from pymc_svi.gradients.rewritten import rewritten
from pymc_svi.objectives import Loss
from pymc_svi.optim import name_state
from pymc_svi.primitives import seeded_inits
from pymc_svi.stack_traces import UNTRACED_CONSTANTS

__all__ = ["Feed", "Training", "training_mode"]


# Linkers whose loops need a constant length and which copy random generators when compiling, so
# that neither the length of a chunk nor a seed could be chosen afterwards.
_NO_LOOP = {"jax", "pytorch", "mlx"}


def training_mode(mode: Any = None) -> Mode:
    """Return a PyTensor mode with the rewrites that PyMC compiles its models with.

    Parameter checks become ``-inf`` log-densities instead of exceptions, as in ``pm.compile``.
    """
    mode = get_mode(mode)
    linker = type(mode.linker).__name__.removesuffix("Linker").lower()
    if linker in _NO_LOOP:
        raise ValueError(
            sentence(
                f"PyTensor's {linker} backend cannot run a fit",
                found="a backend that fixes the length of loops and the random seed when it compiles",
                fix='Use backend="numba" (the default) or backend="c"',
            )
        )
    optimizer = mode.provided_optimizer.including(
        "random_make_inplace", "local_check_parameter_to_ninf_switch", UNTRACED_CONSTANTS
    )
    mode = Mode(linker=mode.linker, optimizer=optimizer)
    mode = with_large_arrays_in_place(with_plain_logarithms(mode))
    return with_flat_loops(with_simpler_ops(with_vector_math(mode)))


class Feed(Protocol):
    """Data that change from step to step.

    Which data a step sees follows from its number alone, so that going back to a state, or
    resuming from it, goes back to its data.

    Attributes
    ----------
    counter : SharedVariable
        The number of the present step, which the expressions of the data depend on.
    """

    counter: SharedVariable

    def prepare(self, step: int, n_steps: int) -> int:
        """Load data for the steps from ``step`` on; return how many of ``n_steps`` they cover."""

    def batch_at(self, step: int) -> Mapping[str, np.ndarray]:
        """Return the arrays of a step."""


class Training:
    """A loss with its params, ready to be trained.

    Parameters
    ----------
    loss : Loss
        The loss and its terms.
    params : ParamStore
        The params of model and guide.
    rule : callable
        ``rule(gradients, params) -> updates``.
    mode : Mode
        How to compile.
    feed : Feed, optional
        Data that change from step to step, on which the loss depends.
    """

    def __init__(
        self,
        loss: Loss,
        params: ParamStore,
        rule: Callable,
        mode: Mode,
        feed: Feed | None = None,
    ):
        self.feed = feed
        self.params = params
        self.rule = rule
        self.mode = mode
        self.variables = params.variables
        same = loss.surrogate is loss.value
        names = list(loss.terms)
        updates = {**loss.updates, **params.statistics}
        outputs = [loss.value, *([] if same else [loss.surrogate]), *updates.values()]
        outputs += loss.terms.values()
        # All at once: what is rewritten or copied by itself would have draws of its own.
        outputs = rewritten(narrowed(without_named_dims(outputs)))
        outputs = own_nodes(share_large_constants(outputs))
        outputs, self.generators = own_generators(outputs)
        self.value = outputs[0]
        self.surrogate = outputs[0] if same else outputs[1]
        self.terms = dict(zip(names, outputs[len(outputs) - len(names) :], strict=True))
        carried = outputs[1 if same else 2 : len(outputs) - len(names)]
        # What the objective carries from step to step, saved with the optimizer's state, and the
        # statistics of networks, saved with the params.
        self.carried = dict(zip(updates, carried, strict=True))
        self._check_params_are_used()
        self.learned = {n: self.variables[n] for n in self.used}
        self.storage = storage_for(self.learned, rule)

    def _check_params_are_used(self) -> None:
        below = set(ancestors([self.surrogate]))
        learnable = {n: v for n, v in self.variables.items() if v not in self.params.statistics}
        self.used = [name for name, var in learnable.items() if var in below]
        unused = [name for name in learnable if name not in self.used]
        if learnable and not self.used:
            raise PairingError(
                sentence(
                    "There is nothing to learn: the loss depends on none of the params",
                    found=f"the params {quoted(unused)}",
                    fix="Use them in the guide's distributions",
                )
            )
        if unused:
            warnings.warn(
                f"The loss does not depend on {quoted(unused)}, which will not be learned. "
                "Use it in the guide or model, or remove it.",
                UserWarning,
                stacklevel=6,
            )

    # --- graphs -----------------------------------------------------------------------------

    @functools.cached_property
    def gradients(self) -> list[Variable]:
        """Gradient of the loss for each param that it depends on, in unconstrained space."""
        surrogate = with_gradients_at_zero(rewrite_pregrad(self.surrogate))
        return self.storage.live(differentiated(surrogate, list(self.learned.values()), self.terms))

    @functools.cached_property
    def optimizer_updates(self) -> dict[Variable, Variable]:
        """The optimizer's updates of params and of its own state."""
        storage = self.storage
        updates = {}
        if storage.moved:
            updates = dict(self.rule(storage.gradients(self.gradients), storage.moved))
        name_state(updates, storage.moved)
        updates.update(zip(self.carried, storage.live(list(self.carried.values())), strict=True))
        return {variable: _in_type_of(variable, new) for variable, new in updates.items()}

    @functools.cached_property
    def optimizer_state(self) -> dict[str, SharedVariable]:
        """The optimizer's own variables by name."""
        params = {*self.storage.moved, *self.params.statistics}
        return {var.name: var for var in self.optimizer_updates if var not in params}

    @functools.cached_property
    def optimizer_start(self) -> dict[str, np.ndarray]:
        """The optimizer's state before the first step."""
        return {name: np.array(var.get_value()) for name, var in self.optimizer_state.items()}

    def step(self, stable: bool) -> tuple[Variable, dict[Variable, Variable]]:
        """Return loss and updates of one step."""
        updates = dict(self.optimizer_updates)
        [value] = self.storage.live([self.value])
        if stable:
            finite = pt.isfinite(value)
            for gradient in self.gradients:
                finite = finite & pt.isfinite(gradient).all()
            updates = {var: pt.switch(finite, new, var) for var, new in updates.items()}
            value = pt.switch(finite, value, np.nan)
        if self.feed is not None:  # also after a step that was left out
            updates[self.feed.counter] = self.feed.counter + 1
        with warnings.catch_warnings():
            # Of two draws by one generator PyMC warns, and advances it no more.
            warnings.filterwarnings("error", "RNG Variable .* has multiple distinct clients")
            advanced = collect_default_updates(outputs=[value, *updates.values()])
        updates.update({rng: new for rng, new in advanced.items() if rng in set(self.generators)})
        return value, updates

    # --- compiled functions -----------------------------------------------------------------

    @functools.cached_property
    def _chunks(self) -> dict[bool, Callable]:
        return {}

    def chunk(self, stable: bool = False) -> Callable[[int], np.ndarray]:
        """Return the compiled function that takes ``n`` steps and returns their losses."""
        if stable not in self._chunks:
            n_steps = pt.lscalar("n_steps")
            with uncollected(), warnings.catch_warnings():
                # Updates of shared variables are carried through the loop without being
                # recorded at every step, which the announced new interface of scan does not
                # offer for tensors.
                warnings.filterwarnings("ignore", "Scan return signature will change")
                losses, updates = pytensor.scan(lambda: self.step(stable), n_steps=n_steps)
                function = pytensor.function([n_steps], losses, updates=updates, mode=self.mode)
            self._chunks[stable] = compiled_at_first_call(function)
        return self._chunks[stable]

    @functools.cached_property
    def evaluate(self) -> Callable[[], np.ndarray]:
        """The compiled loss without an update of the params."""
        return pytensor.function([], self.storage.live([self.value])[0], mode=self.mode)

    @functools.cached_property
    def inspect(self) -> Callable[[], list[np.ndarray]]:
        """The terms of the loss and the gradients, to find which one is not finite."""
        terms = self.storage.live(list(self.terms.values()))
        return pytensor.function(
            [], [*terms, *self.gradients], mode=training_mode(evaluation_mode())
        )

    def odd_data(self) -> list[str]:
        """Describe the data below the loss that hold NaN, or are arguments with infinite values."""
        own = {*self.variables.values(), *self.generators}
        found = []
        for variable in ancestors([self.value]):
            if isinstance(variable, Constant):  # infinite ones are bounds and impossible values
                values, infinite = variable.data, False
            elif isinstance(variable, SharedVariable) and variable not in own:
                values, infinite = variable.get_value(borrow=True), True
            else:
                continue
            if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or not values.ndim:
                continue
            if not np.isfinite(values.sum()):  # without a second array as large as the data
                odd = np.argwhere(~np.isfinite(values) if infinite else np.isnan(values))
                if len(odd):
                    first = tuple(map(int, odd[0]))
                    found.append(
                        f"data of shape {values.shape} of which {len(odd)} cannot be computed with, "
                        f"the first {values[first]} at {list(first)}"
                    )
        return found

    # --- state ------------------------------------------------------------------------------

    def start(self, seed: np.random.SeedSequence) -> SVIState:
        """Return the state before the first step."""
        init_seed, *_ = seed.spawn(1)
        params = {}
        with seeded_inits(int(init_seed.generate_state(1)[0])), self.params.holding():
            for name, site in self.params.sites.items():
                params[name] = site.make_start()
                site.unconstrained.set_value(params[name])  # the next may be bounded by it
        generators = spawn_generators(seed, len(self.generators))
        rng_state = np.array([generator_to_array(g) for g in generators], dtype=np.uint64)
        return SVIState(
            params=params,
            optim_state={name: np.array(v) for name, v in self.optimizer_start.items()},
            rng_state=rng_state.reshape(len(generators), 6),
            step=0,
        )

    def with_params(self, state: SVIState, values: Mapping[str, Any]) -> SVIState:
        """Return a state with some params at given constrained values."""
        if not isinstance(values, Mapping):
            raise TypeError(
                sentence(
                    "init_params is a dict of constrained values by name",
                    found=f"{values!r} of type {type(values).__name__}",
                    fix="Write init_params={'loc': 1.0}",
                )
            )
        for name in values:
            if name not in state.params:
                raise InitializationError(
                    sentence(
                        f"init_params: there is no param {name!r}",
                        found=f"the params {quoted(state.params)}",
                    )
                    + did_you_mean(name, state.params)
                )
        with self.params.holding(state.params):
            return self._with_params(state, values)

    def _with_params(self, state: SVIState, values: Mapping[str, Any]) -> SVIState:
        params = dict(state.params)
        # In the order of the programs: the bounds of a param come before it.
        for name, value in ((n, values[n]) for n in self.params.sites if n in values):
            constraint = self.params.sites[name].constraint
            try:
                array = np.asarray(value, dtype=pytensor.config.floatX)
            except (TypeError, ValueError) as error:
                raise InitializationError(
                    sentence(f"init_params: {name!r} is not numeric", found=f"{value!r}")
                ) from error
            if not constraint.check(array):
                raise InitializationError(
                    sentence(
                        f"init_params: {name!r} is outside its constraint {constraint!r}",
                        found=constraint.violation(array),
                    )
                )
            unconstrained = np.asarray(constraint.unconstrain(array))
            if unconstrained.shape != params[name].shape:
                expected = np.shape(constraint.constrain_value(params[name]))
                raise InitializationError(
                    sentence(
                        f"init_params: {name!r} has the wrong shape",
                        found=str(array.shape),
                        expected=str(expected),
                    )
                )
            params[name] = unconstrained
            self.params.sites[name].unconstrained.set_value(unconstrained)
        return replace(state, params=params)

    def load(self, state: SVIState) -> None:
        """Put a state into the variables of the compiled functions."""
        self.check(state)
        self.storage.load(state.params)
        for name in self.variables.keys() - self.learned.keys():
            self.variables[name].set_value(np.array(state.params[name]))
        for name, variable in self.optimizer_state.items():
            variable.set_value(np.array(state.optim_state[name]))
        for variable, words in zip(self.generators, state.rng_state, strict=True):
            variable.set_value(generator_from_array(words))
        if self.feed is not None:
            self.feed.counter.set_value(np.array(state.step))

    def save(self, step: int) -> SVIState:
        """Return the state that the variables hold."""
        others = self.variables.keys() - self.learned.keys()
        params = self.storage.save()
        params |= {name: np.array(self.variables[name].get_value()) for name in others}
        return SVIState(
            params={name: params[name] for name in self.variables},
            optim_state={
                name: np.array(var.get_value()) for name, var in self.optimizer_state.items()
            },
            rng_state=np.array(
                [generator_to_array(var.get_value(borrow=True)) for var in self.generators],
                dtype=np.uint64,
            ).reshape(len(self.generators), 6),
            step=step,
        )

    def check(self, state: SVIState) -> None:
        """Check that a state belongs to this model, guide and optimizer."""
        if not isinstance(state, SVIState):
            raise TypeError(
                sentence(
                    "The state is not an SVIState",
                    found=type(state).__name__,
                    fix="Use result.state of an earlier run, or svi.init(...)",
                )
            )
        for what, mine, theirs in (
            (
                "params have",
                {n: v.get_value() for n, v in self.variables.items()},
                state.params,
            ),
            (
                "optimizer state has",
                {n: v.get_value() for n, v in self.optimizer_state.items()},
                state.optim_state,
            ),
        ):
            if set(mine) != set(theirs):
                raise StateError(
                    sentence(
                        f"The state belongs to another fit: its {what} other names",
                        found=quoted(sorted(set(theirs) - set(mine))),
                        expected=quoted(sorted(set(mine) - set(theirs))),
                        fix="Resume with the model, guide and optimizer that made the state",
                    )
                )
            for name, own in mine.items():
                given = np.asarray(theirs[name])
                if given.shape != np.shape(own):
                    raise StateError(
                        sentence(
                            f"The state belongs to another fit: {name!r} has another shape",
                            found=str(given.shape),
                            expected=str(np.shape(own)),
                        )
                    )
                if not np.can_cast(given.dtype, np.asarray(own).dtype):
                    raise StateError(
                        sentence(
                            f"The state belongs to a fit of another precision: {name!r} has another dtype",
                            found=str(given.dtype),
                            expected=str(np.asarray(own).dtype),
                            fix='Resume with pytensor.config.floatX = "float64", or begin a fit with its '
                            "params: run(..., init_params=result.params)",
                        )
                    )
        if len(state.rng_state) != len(self.generators):
            raise StateError(
                sentence(
                    "The state belongs to another fit: it has another number of random generators",
                    found=str(len(state.rng_state)),
                    expected=str(len(self.generators)),
                )
            )


def _in_type_of(variable: Variable, new: Variable) -> Variable:
    """Return an update in the dtype of the variable it updates."""
    new = pt.as_tensor(new)
    return new if new.type.dtype == variable.type.dtype else new.astype(variable.type.dtype)
