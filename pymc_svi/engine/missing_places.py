"""Saying which data asked for a place that does not exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.engine.training import Training
from pymc_svi.errors import LABELS, sentence

__all__ = ["missing_place", "naming_places"]

# How numpy, and the checks of compiled steps, say it.
_WORDS = re.compile(r"index\D+?(-?\d+)(?:.*with size)?\D+(\d+)")


def missing_place(error: IndexError, training: Training, step: int, n_steps: int) -> IndexError:
    """Return an error that says where a label comes from that is too large.

    Parameters
    ----------
    error : IndexError
        What a step raised.
    training : Training
        What is trained.
    step, n_steps : int
        The steps of which one raised it.

    Returns
    -------
    IndexError
    """

    def holding(place: int) -> Iterator[str]:
        if training.feed is None:
            yield from _in_data(place, [training.value])
            return
        # Whose own variables are the order of rows and the like.
        for at in range(step, step + n_steps):
            for name, array in training.feed.batch_at(at).items():
                if _has(array, place):
                    yield f": {name or 'the data'!r} in the batch of step {at}"

    return _explained(error, holding, f"One of the steps {step} to {step + n_steps - 1}")


@contextmanager
def naming_places(outputs: Iterable[Variable], what: str) -> Iterator[None]:
    """Say which data hold a label that is too large, when expressions are computed.

    Parameters
    ----------
    outputs : iterable of Variable
        The expressions.
    what : str
        What computes them, for messages.

    Raises
    ------
    IndexError
        In the place of that of NumPy or of compiled code.
    """
    try:
        yield
    except IndexError as error:
        raise _explained(error, lambda place: _in_data(place, outputs), what) from error


def _explained(error: IndexError, holding: Callable[[int], Iterator[str]], what: str) -> IndexError:
    words = _WORDS.search(str(error))
    if words is None:  # where single elements are looked up
        what = f"{what} looks up what does not exist"
        return IndexError(sentence(what, found=str(error).splitlines()[0], fix=LABELS))
    place, n = map(int, words.groups())
    where = next(holding(place), "")
    return IndexError(
        sentence(
            f"Index {place} is out of bounds for an axis with {n}{where}",
            fix=LABELS,
        )
    )


def _in_data(place: int, outputs: Iterable[Variable]) -> Iterator[str]:
    """Yield which data that expressions are computed from hold a place."""
    for variable in ancestors(outputs):
        if isinstance(variable, SharedVariable) and variable.name:
            values = variable.get_value(borrow=True)
            if isinstance(values, np.ndarray) and values.ndim and _has(values, place):
                yield f": {variable.name!r}"


def _has(array: np.ndarray, place: int) -> bool:
    return array.dtype.kind in "iu" and bool((array == place).any())
