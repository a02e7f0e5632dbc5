"""Optimizers: rules that turn gradients into updates of shared variables.

Everything here, and everything :class:`~pymc_svi.SVI` accepts as ``optim``, has one form::

    rule(loss_or_grads, params) -> {shared variable: next value}

The updates hold the next value of every parameter and of every piece of optimizer state, moments
and step counts alike. State is plain shared variables, named by what they belong to
(``"loc/adam/first_moment"``, ``"adam/step_count"``), so a checkpoint is a mapping from names to
arrays.

The arithmetic is that of :mod:`pytensor_ml.optim` wherever it has the rule; this module gives the
rules NumPyro's names, argument order and defaults, checks their arguments, and adds what NumPyro
and Pyro users expect: elementwise clipping, schedules of the step count, step sizes per parameter.
Parts of ``pytensor_ml.optim`` may be mixed in freely with :func:`chain`, and PyMC's
(``pm.adam(learning_rate=0.01)``) are accepted as they are, see :func:`as_rule`.
"""

from pymc_svi.optim.accepted import as_rule
from pymc_svi.optim.algorithms import (
    SGD,
    Adadelta,
    Adagrad,
    AdagradWindow,
    Adam,
    Adamax,
    AdamNC,
    AdamW,
    ClippedAdam,
    Momentum,
    Nadam,
    Nesterov,
    RMSProp,
    RMSPropMomentum,
)
from pymc_svi.optim.clipping import clip_by_global_norm, clip_by_value
from pymc_svi.optim.composition import chain
from pymc_svi.optim.optimizer import Optimizer
from pymc_svi.optim.rules import Rule, name_state
from pymc_svi.optim.schedules import (
    Schedule,
    constant,
    cosine_decay,
    exponential_decay,
    inverse_time_decay,
    join,
    linear_decay,
    linear_onecycle,
    piecewise_constant,
    polynomial_decay,
    step_decay,
)
from pymc_svi.optim.step_sizes import per_param

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "AdagradWindow",
    "Adam",
    "AdamNC",
    "AdamW",
    "Adamax",
    "ClippedAdam",
    "Momentum",
    "Nadam",
    "Nesterov",
    "Optimizer",
    "RMSProp",
    "RMSPropMomentum",
    "Rule",
    "Schedule",
    "as_rule",
    "chain",
    "clip_by_global_norm",
    "clip_by_value",
    "constant",
    "cosine_decay",
    "exponential_decay",
    "inverse_time_decay",
    "join",
    "linear_decay",
    "linear_onecycle",
    "name_state",
    "per_param",
    "piecewise_constant",
    "polynomial_decay",
    "step_decay",
]
