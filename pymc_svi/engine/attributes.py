"""The state of an object: the numbers, arrays and random generators that its attributes hold.

Everything is read as numpy arrays by name, ``"moments/first"`` for what is inside a dict, and
put back in its place. Of a compiled function, what it updates is state: the moments of an
optimizer and the random generators that only it knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pytensor.compile.executor import Function
from pytensor.compile.sharedvalue import SharedVariable

from pymc_svi.errors import StateError, quoted, sentence

__all__ = ["as_array", "is_generator", "read_state", "write_state"]

# The name of a random generator ends in this.
_GENERATOR = " (generator)"


def as_array(value: Any) -> np.ndarray | None:
    """Return a number, an array or the value of a shared variable; None for anything else."""
    if isinstance(value, SharedVariable):
        value = value.get_value()
    if not isinstance(value, int | float | np.ndarray | np.number | np.bool):
        return None
    array = np.array(value)
    return array if array.dtype.kind in "biuf" else None


def is_generator(name: str) -> bool:
    """Whether a name of a state is that of a random generator."""
    return name.endswith(_GENERATOR)


def read_state(owner: Any, attributes: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return what the attributes of an object hold.

    Parameters
    ----------
    owner : object
        The object.
    attributes : collection of str, optional
        Which of its attributes; all if not given.

    Returns
    -------
    dict of str to numpy.ndarray
        The values by name; random generators are arrays of bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from pymc_svi.engine.attributes import read_state, write_state
    >>> class Method:
    ...     def __init__(self):
    ...         self.count, self.moments = 0, {"first": np.zeros(2)}
    >>> state = read_state(Method())
    >>> state
    {'count': array(0), 'moments/first': array([0., 0.])}
    >>> method = Method()
    >>> write_state(method, {**state, "count": np.array(3)})
    >>> method.count
    3
    """
    return {name: leaf.value for name, leaf in _leaves(owner, attributes).items()}


def write_state(
    owner: Any, values: Mapping[str, np.ndarray], attributes: Collection[str] | None = None
) -> None:
    """Put values back into the attributes of an object; what is not among them stays as it is.

    Parameters
    ----------
    owner : object
        The object.
    values : dict of str to numpy.ndarray
        What :func:`read_state` gave. An attribute that is not there yet is made.
    attributes : collection of str, optional
        Which attributes; all if not given.

    Raises
    ------
    StateError
        If the object has other params, or a shared variable has another shape.
    """
    leaves = _leaves(owner, attributes)
    unknown = [name for name in values if name not in leaves]
    learned = any(name.startswith("params/") for name in unknown) and "params" in vars(owner)
    if learned:
        raise _another(owner, "", quoted(values), quoted(leaves))
    present = [name for name in leaves if name in values]
    for name in present:
        leaf = leaves[name]
        if leaf.fixed and np.shape(leaf.value) != np.shape(values[name]):
            found, expected = np.shape(values[name]), np.shape(leaf.value)
            raise _another(owner, f": {name!r} has another shape", str(found), str(expected))
    for name in present:
        leaves[name].put(values[name])
    for name in unknown:
        _make(vars(owner), name.split("/"), np.array(values[name]))


def _make(holder: Any, path: list[str], value: np.ndarray) -> None:
    """Put a value where there is none yet, into dicts and at the ends of lists."""
    key, *rest = path
    if isinstance(holder, list):
        new = int(key) == len(holder)
        if new:
            holder.append({} if rest else value)
        if rest:
            _make(holder[int(key)], rest, value)
    elif rest:
        _make(holder.setdefault(key, {}), rest, value)
    else:
        holder[key] = value


def _another(owner: Any, what: str, found: str, expected: str) -> StateError:
    return StateError(
        sentence(
            f"The state does not belong to this {type(owner).__name__}{what}",
            found=found,
            expected=expected,
            fix="Resume with the model and the method that wrote it",
        )
    )


@dataclass(frozen=True)
class _Leaf:
    """A value, what puts another one in its place, and whether that has to have its shape."""

    value: np.ndarray
    put: Callable[[Any], None]
    fixed: bool = False


def _leaves(owner: Any, names: Collection[str] | None) -> dict[str, _Leaf]:
    """Return each number, array and generator of an object, each once."""
    attributes = vars(owner)
    names = attributes if names is None else [name for name in names if name in attributes]
    seen: set[int] = set()
    found: dict[str, _Leaf] = {}
    # A variable gets the name of the attribute that holds it; params and then functions come last.
    last = {name: (isinstance(attributes[name], Function), name == "params") for name in names}
    for attribute in sorted(names, key=last.__getitem__):
        value = attributes[attribute]
        for leaf_name, leaf in _inside(attribute, value, attributes, attribute, seen):
            while leaf_name in found:  # variables of one name
                leaf_name += "'"
            found[leaf_name] = leaf
    return found


def _inside(
    name: str, value: Any, holder: Any, key: Any, seen: set[int]
) -> Iterator[tuple[str, _Leaf]]:
    """Yield the leaves of a value, which its holder has under a key."""
    if isinstance(value, SharedVariable | np.random.Generator | np.random.RandomState):
        if id(value) not in seen:
            seen.add(id(value))
            yield from _of_variable(name, value)
    elif isinstance(value, Function):
        for number, variable in enumerate(_updated(value)):
            yield from _inside(f"{name}/{variable.name or number}", variable, None, None, seen)
    elif isinstance(value, Mapping):
        for number, (inner, part) in enumerate(value.items()):
            if isinstance(inner, SharedVariable):  # the updates of an optimizer
                yield from _inside(f"{name}/{inner.name or number}", inner, None, None, seen)
            else:
                yield from _inside(f"{name}/{inner}", part, value, inner, seen)
    elif isinstance(value, list | tuple):
        if (array := _as_one_array(value)) is not None:
            yield name, _Leaf(array, lambda new: _put(holder, key, _items(value, new)))
        else:
            parts = value if isinstance(value, list) else _Parts(value, holder, key)
            for number, part in enumerate(value):
                inner = getattr(part, "name", None) or number
                yield from _inside(f"{name}/{inner}", part, parts, number, seen)
    elif holder is not None and (array := as_array(value)) is not None:
        as_it_was = np.array if isinstance(value, np.ndarray) else _scalar(type(value))
        yield name, _Leaf(array, lambda new: _put(holder, key, as_it_was(new)))


def _of_variable(name: str, value: Any) -> Iterator[tuple[str, _Leaf]]:
    if isinstance(value, np.random.Generator | np.random.RandomState):
        yield name + _GENERATOR, _Leaf(_to_bytes(value), lambda new: _from_bytes(value, new))
        return
    held = value.get_value(borrow=True)
    if isinstance(held, np.random.Generator):

        def put_generator(new: np.ndarray) -> None:
            generator = value.get_value()  # a copy
            _from_bytes(generator, new)
            value.set_value(generator)

        yield name + _GENERATOR, _Leaf(_to_bytes(held), put_generator)
    elif (array := as_array(value)) is not None:
        dtype = array.dtype
        yield name, _Leaf(array, lambda new: value.set_value(np.array(new, dtype)), fixed=True)


class _Parts:
    """A tuple in its holder, an item of which is replaced."""

    def __init__(self, value: tuple, holder: Any, key: Any):
        self.parts, self.kind, self.holder, self.key = list(value), type(value), holder, key

    def __setitem__(self, number: int, part: Any) -> None:
        self.parts[number] = part
        self.holder[self.key] = _as_tuple(self.kind, self.parts)


def _as_tuple(kind: type, parts: list) -> Any:
    return kind(*parts) if hasattr(kind, "_fields") else tuple(parts)


def _put(holder: Any, key: Any, value: Any) -> None:
    holder[key] = value


def _scalar(kind: type) -> Callable[[Any], Any]:
    return lambda new: kind(np.asarray(new)[()])


def _as_one_array(parts: list | tuple) -> np.ndarray | None:
    """Return numbers, or arrays of one shape, as one array; None for anything else."""
    arrays = [None if isinstance(part, SharedVariable) else as_array(part) for part in parts]
    plain = [array for array in arrays if array is not None]
    if len(plain) < len(parts) or len({array.shape for array in plain}) > 1:
        return None
    return np.array(plain)


def _items(like: list | tuple, array: np.ndarray) -> Any:
    parts = np.array(array).tolist() if np.ndim(array) == 1 else list(np.array(array))
    return parts if isinstance(like, list) else _as_tuple(type(like), parts)


def _updated(function: Function) -> list[SharedVariable]:
    """Return the shared variables that a compiled function updates."""
    inputs = function.maker.expanded_inputs
    return [
        given.variable
        for given in inputs
        if given.update is not None and isinstance(given.variable, SharedVariable)
    ]


def _to_bytes(generator: np.random.Generator | np.random.RandomState) -> np.ndarray:
    if isinstance(generator, np.random.Generator):
        state = generator.bit_generator.state
    else:
        state = generator.get_state(legacy=False)
    text = json.dumps(state, default=lambda array: array.tolist())
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _from_bytes(generator: np.random.Generator | np.random.RandomState, saved: Any) -> None:
    state = json.loads(np.asarray(saved, dtype=np.uint8).tobytes())
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)
