"""Saying which data asked for a place that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.traversal import ancestors

from pymc_svi.engine.training import Training
from pymc_svi.errors import LABELS, sentence

__all__ = ["missing_place"]

# How numpy, and the checks of compiled steps, say it.
_WORDS = re.compile(r"index\D+?(-?\d+)\D+?(?:axis \d+ )?\D*(\d+)")


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
    words = _WORDS.search(str(error))
    if words is None:  # where single elements are looked up
        what = f"One of the steps {step} to {step + n_steps - 1} looks up what does not exist"
        return IndexError(sentence(what, found=str(error).splitlines()[0], fix=LABELS))
    place, n = map(int, words.groups())
    where = next(_holding(place, training, step, n_steps), "")
    return IndexError(
        sentence(
            f"Index {place} is out of bounds for an axis with {n}{where}",
            fix=LABELS,
        )
    )


def _holding(place: int, training: Training, step: int, n_steps: int) -> Iterator[str]:
    """Yield which whole numbers of the data are a place."""
    if training.feed is not None:  # whose own variables are the order of rows and the like
        for at in range(step, step + n_steps):
            for name, array in training.feed.batch_at(at).items():
                if array.dtype.kind in "iu" and (array == place).any():
                    yield f": {name or 'the data'!r} in the batch of step {at}"
        return
    for variable in ancestors([training.value]):
        if isinstance(variable, SharedVariable) and variable.name:
            values = variable.get_value(borrow=True)
            if isinstance(values, np.ndarray) and values.dtype.kind in "iu" and values.ndim:
                if (values == place).any():
                    yield f": {variable.name!r}"
