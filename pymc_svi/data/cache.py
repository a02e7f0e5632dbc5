"""Tables kept on disk in the form that they are trained in, so that they are decoded once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from pymc_svi.data.checks import Batch, checked_arrays

__all__ = ["TableCache"]

_INDEX = "tables.json"


class TableCache:
    """A folder of tables, each made once.

    Parameters
    ----------
    folder : path
        Where the tables are. It is made if need be.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def tables(self, key: Any, made: Iterator[tuple[str, Batch]]) -> Iterator[tuple[str, Batch]]:
        """Yield the tables of a key, from files that are mapped into memory.

        Parameters
        ----------
        key : object
            Whatever the tables follow from; numbers, strings and lists of them.
        made : iterator of (str, dict)
            The tables and what they are called in messages, if they are not there yet.
        """
        folder = self.folder / sha256(json.dumps(key).encode()).hexdigest()[:32]
        if not folder.exists():
            self._keep(folder, made)
        for number, (where, names) in enumerate(json.loads((folder / _INDEX).read_text())):
            files = [folder / f"{number}-{column}.npy" for column in range(len(names))]
            arrays = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
            yield where, dict(zip(names, map(np.asarray, arrays), strict=True))

    def _keep(self, folder: Path, made: Iterator[tuple[str, Batch]]) -> None:
        """Write tables: all of them, or none if this is interrupted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=self.folder, prefix="unfinished-"))
        try:
            index = []
            for number, (where, table) in enumerate(made):
                checked = checked_arrays(table, where)
                for column, array in enumerate(checked.values()):
                    np.save(unfinished / f"{number}-{column}.npy", np.asarray(array))
                index.append((where, list(checked)))
            (unfinished / _INDEX).write_text(json.dumps(index))
            os.replace(unfinished, folder)
        except OSError:
            if not folder.exists():  # another process was faster
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
