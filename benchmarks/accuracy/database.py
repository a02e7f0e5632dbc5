"""Reads posteriors of posteriordb: data, and the moments of reference draws.

Two layouts are known: that of a clone of ``stan-dev/posteriordb`` (zipped JSON below
``posterior_database``), and a folder with ``data/NAME.json`` and ``reference/POSTERIOR.npz``.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

__all__ = ["Database", "NotThere"]

NEEDS = (
    "It needs posteriordb: pass --posteriordb PATH, the path of a clone of "
    "https://github.com/stan-dev/posteriordb, or of a folder with data/NAME.json and "
    "reference/POSTERIOR.npz (an array of draws for each reported scalar, such as 'beta[1]')."
)


class NotThere(Exception):
    """What is asked for is not in the database."""


class Database:
    """A folder with posteriors."""

    def __init__(self, path: str | Path | None):
        if path is None:
            raise NotThere(NEEDS)
        self.path = Path(path)
        self.clone = self.path / "posterior_database"
        if not (self.clone / "data").is_dir() and not (self.path / "data").is_dir():
            raise NotThere(f"{self.path} has neither posterior_database/data nor data. {NEEDS}")

    def data(self, name: str) -> dict[str, np.ndarray]:
        """Return the data of a posterior as arrays."""
        zipped = self.clone / "data" / "data" / f"{name}.json.zip"
        plain = self.path / "data" / f"{name}.json"
        values = _unzipped(zipped) if zipped.exists() else json.loads(_existing(plain).read_text())
        return {key: np.asarray(value) for key, value in values.items()}

    def draws(self, posterior: str) -> dict[str, np.ndarray]:
        """Return the reference draws of each reported scalar, all chains in one."""
        draws = self.clone / "reference_posteriors" / "draws" / "draws"
        zipped = draws / f"{posterior}.json.zip"
        if zipped.exists():
            chains = _unzipped(zipped)
            return {name: np.concatenate([chain[name] for chain in chains]) for name in chains[0]}
        with np.load(_existing(self.path / "reference" / f"{posterior}.npz")) as arrays:
            return {name: np.asarray(arrays[name], dtype="float64") for name in arrays}


def stacked(draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Put scalars of names such as ``beta[2]`` together to draws of ``beta``."""
    parts: dict[str, list[np.ndarray]] = {}
    for name, values in draws.items():
        parts.setdefault(name.partition("[")[0], []).append(values)
    return {
        name: np.stack(values, axis=1) if f"{name}[1]" in draws else values[0]
        for name, values in parts.items()
    }


def _existing(path: Path) -> Path:
    if not path.exists():
        raise NotThere(f"There is no {path}.")
    return path


def _unzipped(path: Path):
    with zipfile.ZipFile(path) as archive:
        [name] = (n for n in archive.namelist() if n.endswith(".json") and "__MACOSX" not in n)
        return json.loads(archive.read(name))
