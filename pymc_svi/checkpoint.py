"""Checkpoints: the state of a fit in one file that is never torn.

The file has the safetensors format: the length of a JSON header, the header, and the bytes of the
arrays. What is not an array is JSON inside the header. Nothing in it is ever executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pymc_svi.engine import SVIState
from pymc_svi.errors import StateError, sentence

__all__ = ["FILE_NAME", "VERSION", "SavedFit", "load_arrays", "load_fit", "save_arrays", "save_fit"]

FILE_NAME = "checkpoint.safetensors"
VERSION = 1

_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
_NAMES = {code: name for name, code in _DTYPES.items()}


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays to a safetensors file; it is complete or it is not there.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from pymc_svi.checkpoint import load_arrays, save_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "a.safetensors")
    ...     save_arrays(path, {"x": np.arange(3)}, {"about": "three numbers"})
    ...     load_arrays(path)
    ({'x': array([0, 1, 2])}, {'about': 'three numbers'})
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    parts, end = [], 0
    for name, array in arrays.items():
        array = np.asarray(array)
        data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
        header[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [end, end + len(data)],
        }
        parts.append(data)
        end += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for data in parts:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the new name survives a power cut
    finally:
        os.close(folder)


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a safetensors file: its arrays and its metadata."""
    data = path.read_bytes()
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        metadata = header.pop("__metadata__", {})
        arrays = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            dtype = np.dtype(_NAMES[entry["dtype"]]).newbyteorder("<")
            part = data[start + begin : start + end]
            arrays[name] = np.frombuffer(part, dtype=dtype).reshape(entry["shape"]).copy()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(
            sentence(
                f"{path} is not a checkpoint",
                found=f"{len(data)} bytes that are not in the safetensors format",
            )
        ) from error
    return arrays, metadata


@dataclass(frozen=True)
class SavedFit:
    """What a checkpoint holds.

    Attributes
    ----------
    state : SVIState
        The state.
    losses : numpy.ndarray
        The loss of each step so far.
    about : dict
        What the fit is: ``seed`` of the data, ``constraints`` by name, ``data`` sizes.
    callbacks : dict of str to numpy.ndarray
        What the callbacks remember.
    """

    state: SVIState
    losses: np.ndarray
    about: Mapping[str, Any]
    callbacks: Mapping[str, np.ndarray] = field(default_factory=dict)


def save_fit(path: Path, fit: SavedFit) -> None:
    """Write a checkpoint."""
    state = fit.state
    arrays = {f"params/{name}": value for name, value in state.params.items()}
    arrays |= {f"optim/{name}": value for name, value in state.optim_state.items()}
    arrays |= {f"callbacks/{name}": value for name, value in fit.callbacks.items()}
    arrays |= {"rng_state": state.rng_state, "losses": fit.losses}
    about = {"version": VERSION, "step": state.step, **fit.about}
    save_arrays(path, arrays, {"pymc_svi": json.dumps(about)})


def load_fit(path: Path) -> SavedFit:
    """Read a checkpoint.

    Raises
    ------
    StateError
        If it is not one, or was written by a later version.
    """
    arrays, metadata = load_arrays(path)
    if "pymc_svi" not in metadata:
        raise StateError(
            sentence(f"{path} is not a checkpoint of a fit", found="a safetensors file without one")
        )

    def part(prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}

    try:
        about = json.loads(metadata["pymc_svi"])
        if about["version"] > VERSION:
            raise StateError(
                sentence(
                    f"{path} was written by a later version of pymc_svi",
                    found=f"format {about['version']}",
                    expected=f"format {VERSION} or earlier",
                    fix="Upgrade pymc_svi",
                )
            )
        state = SVIState(part("params/"), part("optim/"), arrays["rng_state"], about["step"])
        return SavedFit(state, arrays["losses"], about, part("callbacks/"))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise StateError(
            sentence(
                f"{path} is not a complete checkpoint of a fit",
                found=f"without {error}" if isinstance(error, KeyError) else str(error),
            )
        ) from error


def check_same(about: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a checkpoint belongs to the fit that wants to go on from it."""
    for key, what in (
        ("method", "another method"),
        ("laws", "another model"),
        ("constraints", "other constraints of params"),
        ("data", "other data"),
    ):
        before, present = (json.loads(json.dumps(each.get(key))) for each in (about, now))
        if isinstance(before, dict) and isinstance(present, dict):
            # Only what differs; of what is known of data, what an earlier version knew to write.
            names = before.keys() & present.keys() if key == "data" else before.keys() | present
            differ = [name for name in names if before.get(name) != present.get(name)]
            before, present = (
                {n: each[n] for n in sorted(differ) if n in each} for each in (before, present)
            )
        if key in about and before != present:
            raise StateError(
                sentence(
                    f"The checkpoint belongs to another fit: it has {what}",
                    found=str(before),
                    expected=str(present),
                    fix="Resume with the model, guide and data that wrote it, or use another "
                    "folder; resume=result.state goes on with another model or other data",
                )
            )
