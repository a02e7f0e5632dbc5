"""Optimizers made of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytensor_ml import optim as pml

from pymc_svi.errors import sentence
from pymc_svi.optim.accepted import Foreign, checked_rule
from pymc_svi.optim.rules import CheckedRule, Rule, name_state, with_stable_dtypes

__all__ = [
    "chain",
]


@dataclass(frozen=True, repr=False)
class _Chain(CheckedRule):
    rules: tuple[Any, ...]

    @property
    def treats_elements_alike(self) -> bool:
        return all(getattr(rule, "treats_elements_alike", False) for rule in self.rules)

    @property
    def step_size(self) -> Any:
        """That of the optimizer at the end; None if a transform behind it changes its steps."""
        return getattr(self.rules[-1], "step_size", None)

    def __call__(self, loss_or_grads, params):
        params = list(params)
        updates = loss_or_grads
        for rule in self.rules:
            updates = self._apply(rule, updates, params)
        updates = with_stable_dtypes(updates)
        name_state(updates, params)
        return updates

    @staticmethod
    def _apply(rule, updates, params):
        if not (isinstance(updates, pml.Gradients) and isinstance(rule, Foreign)):
            return rule(updates, params)
        if rule.reads_updates:
            return rule(updates, params)
        # Other people's rules know losses and gradients, not the updates of the transform before
        # them. What such a rule returns are steps unless it says otherwise.
        result = rule(pml.steps_of(updates, params), params)
        kind = type(result) if isinstance(result, pml.Updates) else pml.Steps
        state = {k: v for k, v in updates.items() if k not in set(params)}
        return kind({**state, **result})

    def __repr__(self):
        return f"chain({', '.join(map(repr, self.rules))})"


def chain(*rules: Rule) -> Rule:
    """Apply transforms one after the other, each to what the one before it returned.

    What stands before the optimizer acts on the gradients, what stands after it on its steps.

    Parameters
    ----------
    *rules : Rule
        Optimizers, :func:`clip_by_global_norm`, :func:`clip_by_value`, and transforms of
        ``pytensor_ml.optim`` (``trace``, ``scale``, ``add_weight_decay``, ``skip_if``...).

    Returns
    -------
    Rule
        The optimizer.

    Raises
    ------
    TypeError
        If one of them isn't a rule; see :func:`as_rule`.
    ValueError
        If there are none.

    Examples
    --------
    >>> from pymc_svi import optim
    >>> optim.chain(optim.clip_by_value(1.0), optim.Adam(0.01, b1=0.8))
    chain(clip_by_value(1.0, -1.0), Adam(step_size=0.01, b1=0.8, b2=0.999, eps=1e-08))
    """
    if not rules:
        raise ValueError(sentence("chain: at least one rule is needed"))
    flat: list[Any] = []
    for rule in map(checked_rule, rules):
        flat.extend(rule.rules if isinstance(rule, _Chain) else [rule])
    return _Chain(tuple(flat))
