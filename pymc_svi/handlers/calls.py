"""Whether a program takes the arguments it is called with, and what they were when it fails."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable

from pymc_svi.errors import (
    DataError,
    InitializationError,
    PairingError,
    SiteError,
    did_you_mean,
    quoted,
    sentence,
)

__all__ = ["check_call", "explain_call", "explain_missing_model", "name_here", "telling_data"]

# Their messages say what to do; a list of arguments would only hide it.
_CLEAR = (SiteError, PairingError, InitializationError, DataError)
_NOTE = "The program "
# What NumPy and Python say of a PyTensor variable that they cannot compute with.
_NOT_NUMPY = re.compile(
    "TensorType does not support (iteration|Python bools)|cannot be converted to Python"
    "|setting an array element with a sequence|zero-dimensional arrays cannot be concatenated"
    "|^ufunc '|0-dimensional array given|unexpected keyword argument 'out'"
)
_SYMBOLIC = (
    "Inside a program its array arguments are symbolic: compute with pytensor.tensor, pt.switch in "
    "place of np.where and of if, pt.concatenate, pt.unique. What decides how many sites there are, or "
    "what is computed once, such as the number of groups, belongs before the program or into an "
    "argument that is a number or a list."
)
_INDEX = (
    "A symbolic index, such as the minibatch of a plate, cannot index a numpy array: "
    "write pt.as_tensor(Y)[rows], or subsample(Y)."
)

# Arguments that Pyro, NumPyro and PyMC have where draws are made, and how they are called here.
_HABITS = {
    "num_samples": "draws",
    "sample_shape": "draws",
    "rng_key": "random_seed",
    "rng_seed": "random_seed",
    "var_names": "return_sites",
}
_MODEL = (
    "A function that creates PyMC variables runs inside a model: write with handlers.seed(rng_seed=0), "
    "pm.Model(): program(), or run it by a handler around it, handlers.trace(program).get_trace()."
)


def check_call(
    program: Callable, args: tuple, kwargs: dict[str, Any], options: Iterable[str] = ()
) -> None:
    """Check that a function takes these arguments.

    Parameters
    ----------
    program : callable
        The function. One without a signature is not checked.
    args, kwargs
        The arguments.
    options : iterable of str, optional
        Other names that were possible where the arguments were given, of which one may have been
        meant.

    Raises
    ------
    TypeError
        If an argument is missing, unknown, or one too many.

    Examples
    --------
    >>> from pymc_svi.handlers.calls import check_call
    >>> def model(X, y=None): ...
    >>> check_call(model, (1.0,), {"Y": 2.0})
    Traceback (most recent call last):
    TypeError: The program model does not take these arguments: got an unexpected keyword argument 'Y'.
    Found: 1 positional argument and 'Y'. Expected: model(X, y=None). ... Did you mean 'y'?
    """
    signature = _signature(program)
    if signature is None:
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        known = signature.parameters
        found = f"{len(args)} positional argument{'' if len(args) == 1 else 's'}"
        unknown = [k for k in kwargs if k not in known]
        guesses = [name_here(k) or did_you_mean(k, [*known, *options]) for k in unknown]
        raise TypeError(
            sentence(
                f"The program {_name(program)} does not take these arguments: {error}",
                found=f"{found} and {quoted(kwargs)}" if kwargs else found,
                expected=f"{_name(program)}{signature}",
                fix="Model and guide are called with the same arguments, so both list all of them",
            )
            + "".join(guesses)
        ) from None


def name_here(name: str) -> str:
    """Say how an argument of other packages is called here.

    Parameters
    ----------
    name : str
        Its name there.

    Returns
    -------
    str
        A sentence after a space; nothing if the name is not known.
    """
    return f" What is {name} elsewhere is {_HABITS[name]} here." if name in _HABITS else ""


def explain_call(error: Exception, program: Callable, args: tuple, kwargs: dict[str, Any]) -> None:
    """Add a note to an error in a program: what its arguments were, and which look wrong.

    Parameters
    ----------
    error : Exception
        The error.
    program : callable
        The function that raised it.
    args, kwargs
        Its arguments.
    """
    hint = _hint(error)
    if hint and hint not in getattr(error, "__notes__", ()):
        error.add_note(hint)
    signature = _signature(program)
    if signature is None or isinstance(error, _CLEAR) or not (args or kwargs):
        return
    if any(note.startswith(_NOTE) for note in getattr(error, "__notes__", ())):
        return  # a program inside this one has said it
    named: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named |= {f"{name}[{i}]": item for i, item in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        else:
            named[name] = value
    if hint := _on_labels(error, named):
        error.add_note(hint)
    lines = [f"  {name}: {_kind(value)}{_advice(name, value)}" for name, value in named.items()]
    error.add_note("\n".join([f"{_NOTE}{_name(program)} was called with", *lines]))


def explain_missing_model(error: TypeError) -> None:
    """Add a note to PyMC's error about a missing model: how a program runs under handlers.

    Parameters
    ----------
    error : TypeError
        The error that passes through a handler, whether it is that one or another.
    """
    notes = getattr(error, "__notes__", ())
    if "No model on context stack" in str(error) and _MODEL not in notes:
        error.add_note(_MODEL)


def _hint(error: Exception) -> str:
    """Return what to write in place of something that works with arrays only, if it was that."""
    message = str(error)
    if isinstance(error, IndexError) and "only integers, slices" in message:
        return _INDEX
    if isinstance(error, TypeError | ValueError) and _NOT_NUMPY.search(message):
        return _SYMBOLIC
    return ""


def _on_labels(error: Exception, arguments: Mapping[str, Any]) -> str:
    """Return which arguments may be labels that are not whole numbers, if that was the error."""
    if not isinstance(error, TypeError) or "index must be integers" not in str(error):
        return ""
    found = [
        name
        for name, value in arguments.items()
        if isinstance(value, SharedVariable)
        and value.type.dtype.startswith("float")
        and not (value.get_value(borrow=True) % 1).any()
    ]
    return (
        "Labels that look something up have to be whole numbers"
        + (f", and those of {quoted(found)} are stored as floats" if found else "")
        + f". Pass {found[0] if found else 'labels'}.astype(int), or write it in the program."
    )


def _signature(program: Callable) -> inspect.Signature | None:
    try:
        return inspect.signature(program)
    except (TypeError, ValueError):
        return None


def _name(program: Callable) -> str:
    return getattr(program, "__name__", None) or type(program).__name__


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}, {value.dtype}"
    if isinstance(value, Variable) and hasattr(value.type, "shape"):
        return f"an array of shape {value.type.shape}, {value.type.dtype}"
    if isinstance(value, int | float | None):
        return repr(value)
    return f"a {type(value).__name__}"


def _advice(name: str, value: Any) -> str:
    if hasattr(value, "to_numpy") or isinstance(value, list | tuple):
        array = np.asarray(value)
        if array.dtype.kind not in "OUSTMm":
            how = f"{name}.to_numpy()" if hasattr(value, "to_numpy") else f"np.asarray({name})"
            return f". Pass {how} if the program computes with it"
        value = array
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in "OUST" and kind:
        return ". Not all of it are numbers: leave the rest out, or encode its categories"
    if kind in "Mm" and kind:
        return ". It holds dates: pass a number of days instead"
    return ""


@contextmanager
def telling_data(program: Any) -> Iterator[None]:
    """Add the shapes of a built model's data to an error about shapes.

    Parameters
    ----------
    program : callable or pymc.Model
        The program; nothing is added to the errors of functions.
    """
    try:
        yield
    except (ValueError, AssertionError) as error:
        data = getattr(program, "data_vars", ())
        # Our own errors say what is wrong, but for one that names the site of another.
        if data and not (isinstance(error, _CLEAR) and error.__cause__ is None):
            shapes = [f"{d.name} {d.get_value(borrow=True).shape}" for d in data]
            error.add_note(
                f"The data of the model are {', '.join(shapes)}. If pm.set_data changed the number "
                "of rows of one, it has to change those of all, of the observed data too: "
                "np.zeros(n) will do to predict. Observed data with dims or shape=mu.shape in the "
                "model can stay as they are to predict."
            )
        raise
