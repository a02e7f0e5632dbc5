"""What an optimizer is, and what it returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.tensor.variable import TensorVariable

from pymc_svi.errors import sentence

__all__ = [
    "CheckedRule",
    "LossOrGrads",
    "Rule",
    "Updates",
    "name_state",
    "with_stable_dtypes",
]


type Updates = dict[SharedVariable, Variable]
type LossOrGrads = TensorVariable | Sequence[TensorVariable]


class Rule(Protocol):
    """What an optimizer is: anything that can be called like this.

    Examples
    --------
    Gradient descent, which has no state:

    >>> import pymc as pm
    >>> import pytensor
    >>> from pymc_svi import SVI, param
    >>> def descend(loss_or_grads, params):
    ...     grads = loss_or_grads
    ...     if not isinstance(grads, list | tuple):
    ...         grads = pytensor.grad(loss_or_grads, params)
    ...     return {p: p - 0.5 * g for p, g in zip(params, grads, strict=True)}
    >>> def model():
    ...     pm.Normal("x", 0.0, 1.0)
    >>> def guide():
    ...     pm.Normal("x", param("loc", 2.0), 1e-6)
    >>> svi = SVI(model, guide, descend)
    >>> state, _ = svi.update(svi.init(random_seed=0))
    >>> round(float(state.params["loc"]), 3)
    1.0
    """

    def __call__(self, loss_or_grads: LossOrGrads, params: Sequence[SharedVariable], /) -> Updates:
        """Return the next value of each parameter and of each state variable of the rule.

        Parameters
        ----------
        loss_or_grads : scalar TensorVariable or list of TensorVariable
            A loss to differentiate, or its gradients in the order of ``params``.
        params : sequence of SharedVariable
            The parameters to move, named and in unconstrained space.

        Returns
        -------
        dict of SharedVariable to Variable
            The updates.
        """
        ...


class CheckedRule:
    """Base of the rules that are known to return updates of the right form."""


def with_stable_dtypes(updates: Mapping[SharedVariable, Variable]) -> Mapping:
    """Cast new values back to the dtype of what they replace.

    A float64 constant or step count turns a float32 moment into float64, which neither a shared
    variable nor a loop over steps accepts.
    """
    for variable, value in updates.items():
        old, new = getattr(variable.type, "dtype", None), getattr(value.type, "dtype", None)
        if old == new or old is None or new is None:
            continue
        if not (old.startswith("float") and new.startswith(("float", "int", "uint"))):
            raise TypeError(
                sentence(
                    f"The optimizer changes the type of {variable.name!r}",
                    found=f"{new} for a variable of {old}",
                    fix="Cast the update to the dtype of the variable",
                )
            )
        updates[variable] = pt.cast(value, old)  # type: ignore[index]
    return updates


def name_state(
    updates: Mapping[SharedVariable, Variable], params: Sequence[SharedVariable]
) -> dict[str, SharedVariable]:
    """Give every state variable of an optimizer a unique name.

    Names that are there and unique stay; others become ``"optim/0"``, ``"optim/1"``... by their
    place among the state variables, so the same optimizer on the same parameters gets the same
    names in every session.

    Parameters
    ----------
    updates : mapping from SharedVariable to Variable
        What a rule returned. Its keys that aren't parameters are the state.
    params : sequence of SharedVariable
        The parameters that it moves.

    Returns
    -------
    dict from str to SharedVariable
        The state by name, in the order of ``updates``. The variables' ``name`` is set.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pytensor
    >>> from pymc_svi import optim
    >>> loc = pytensor.shared(np.zeros(2), name="loc")
    >>> updates = pm.adam(learning_rate=0.1)([2 * loc], [loc])
    >>> list(optim.name_state(updates, [loc]))
    ['optim/0', 'optim/1', 'optim/2']
    """
    is_param = set(params)
    state = [variable for variable in updates if variable not in is_param]
    counts = Counter(variable.name for variable in [*state, *params])
    taken = {name for name in counts if name}
    named: dict[str, SharedVariable] = {}
    for position, variable in enumerate(state):
        if variable.name is None or counts[variable.name] > 1:
            name = f"optim/{position}"
            while name in taken:
                name += "_"
            taken.add(name)
            variable.name = name
        named[variable.name] = variable
    return named
