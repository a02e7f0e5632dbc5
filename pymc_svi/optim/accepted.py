"""What users pass as an optimizer: one of these, or somebody else's."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor_ml import optim as pml

from pymc_svi.errors import quoted, sentence
from pymc_svi.optim.algorithms import Adam
from pymc_svi.optim.algorithms import __all__ as algorithms
from pymc_svi.optim.arguments import is_number
from pymc_svi.optim.optimizer import Optimizer
from pymc_svi.optim.rules import CheckedRule, Rule, name_state, with_stable_dtypes
from pymc_svi.optim.schedules import Schedule
from pymc_svi.optim.step_sizes import per_param

__all__ = [
    "Foreign",
    "as_rule",
    "checked_rule",
]


# What a user may have written for the name of an optimizer.
_NAMES = {name.lower(): name for name in algorithms}


@dataclass(frozen=True)
class Foreign(CheckedRule):
    """A rule from elsewhere: its result is checked and its state named."""

    rule: Callable[..., Any]

    @property
    def reads_updates(self) -> bool:
        """Whether the rule takes what a transform before it in a chain returns."""
        return str(getattr(self.rule, "__module__", "")).startswith("pytensor_ml.")

    def __call__(self, loss_or_grads, params):
        """Return the updates of the rule, if they are of the right form."""
        params = list(params)
        if isinstance(loss_or_grads, Sequence):
            # PyMC tells gradients from a loss by their being a list.
            loss_or_grads = list(loss_or_grads)
        updates = self.rule(loss_or_grads, params)
        if not isinstance(updates, Mapping):
            try:
                updates = dict(updates)
            except (TypeError, ValueError):
                raise TypeError(
                    sentence(
                        "The optimizer must return a dict from shared variables to new values",
                        found=f"{self.rule!r} returned {type(updates).__name__}",
                        fix="If it is a function that makes an optimizer, call it first",
                    )
                ) from None
        updates = updates.copy() if isinstance(updates, pml.Updates) else dict(updates)
        strangers = [key for key in updates if not isinstance(key, SharedVariable)]
        if strangers:
            raise TypeError(
                sentence(
                    "The optimizer must return a dict whose keys are shared variables",
                    found=f"{self.rule!r} returned the keys {quoted(strangers)}",
                )
            )
        for variable, value in updates.items():
            if not isinstance(value, Variable):
                updates[variable] = pt.as_tensor(value)
        updates = with_stable_dtypes(updates)
        name_state(updates, params)
        return updates

    def __repr__(self):
        return repr(self.rule)


def as_rule(optim: Any = None) -> Rule:
    """Return what a user gave as an optimizer as a rule.

    Parameters
    ----------
    optim : optional
        ``None`` for ``Adam(1e-3)``; an optimizer of this module; a transform of
        ``pytensor_ml.optim``; PyMC's (``pm.adam(learning_rate=0.01)``); or any function
        ``f(loss_or_grads, params) -> {shared variable: new value}``.

    Returns
    -------
    Rule
        Rules from elsewhere are wrapped: their state gets names (see :func:`name_state`) and their
        updates keep the dtypes of what they replace.

    Raises
    ------
    TypeError
        For anything else; the message says what to write.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import optim
    >>> optim.as_rule(None)
    Adam(step_size=0.001, b1=0.9, b2=0.999, eps=1e-08)
    >>> rule = optim.as_rule(pm.adam(learning_rate=0.01))
    >>> rule = optim.as_rule(lambda grads, params: {p: p - 0.1 * g for p, g in zip(params, grads)})
    >>> optim.as_rule(0.01)
    Traceback (most recent call last):
        ...
    TypeError: Not an optimizer. Found: the number 0.01. Write optim.Adam(0.01).
    """
    return Adam() if optim is None else checked_rule(optim)


def checked_rule(rule: Any) -> Any:
    """Return a rule of this package, or one from elsewhere wrapped; raise for anything else."""
    if isinstance(rule, CheckedRule):
        return rule
    complaint = _why_not_a_rule(rule)
    if complaint:
        found, fix = complaint
        raise TypeError(sentence("Not an optimizer", found=found, fix=fix))
    return Foreign(rule)


def _is_ours(function: Any) -> bool:
    """Whether a function is one of this package."""
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__name__", "")
    return module.startswith("pymc_svi.optim.") and (
        getattr(sys.modules.get(module), name, None) is function
    )


def _why_not_a_rule(rule: Any) -> tuple[str, str] | None:
    """Return what was found and what to write instead, or None for a callable of the right form."""
    example = "Write for example optim.Adam(0.01)"
    kind = rule if isinstance(rule, type) else type(rule)
    library = kind.__module__.partition(".")[0]
    if library in ("torch", "pyro", "numpyro", "optax", "jax", "tensorflow", "keras"):
        name = _NAMES.get(kind.__name__.lower(), "Adam")
        return (
            f"{kind.__module__}.{kind.__name__}",
            f"pymc_svi trains PyTensor variables; write optim.{name}(...) of pymc_svi.optim",
        )
    if isinstance(rule, str):
        close = get_close_matches(rule.lower(), _NAMES, n=1)
        return f"the string {rule!r}", f"Write optim.{_NAMES[close[0]]}()" if close else example
    if is_number(rule):
        return f"the number {rule}", f"Write optim.Adam({rule})"
    if isinstance(rule, Mapping):
        return f"the dict {dict(rule)!r}", example
    if isinstance(rule, type):
        if issubclass(rule, Optimizer):
            return f"the class {rule.__name__}", f"Write optim.{rule.__name__}(0.01)"
        return f"the class {rule.__name__}", f"Pass an instance. {example}"
    if isinstance(rule, Schedule | per_param):
        return f"the step size {rule!r}", "Pass it to an optimizer, as in optim.Adam(step_size)"
    if not callable(rule):
        return f"{rule!r} of type {type(rule).__name__}", example
    if _is_ours(rule):
        written = rule.__name__
        return f"the function {written}", f"Call it first, as in optim.{written}(...)"
    if any(rule is getattr(pml, name) for name in pml.__all__ if not name.endswith("_updates")):
        # Calling it with gradients would quietly take them for a learning rate.
        written = rule.__name__
        return (
            f"the function pytensor_ml.optim.{written}",
            f"Call it first, as in pytensor_ml.optim.{written}(0.01)",
        )
    try:
        inspect.signature(rule).bind(None, None)
    except TypeError:
        return (
            f"{rule!r}, which can't be called with two arguments",
            "An optimizer is called as rule(loss_or_grads, params) and returns a dict of updates",
        )
    except ValueError:
        pass  # no signature to look at
    return None
