"""Running one peer on one problem, in a process of its own that starts from a known cache.

PyTensor keeps what it compiled in ``config.base_compiledir`` (by default ``~/.pytensor``): the C
modules, and in ``numba/`` the kernels of its numba linker. Numba's other caches obey
``NUMBA_CACHE_DIR``. Both are given to each process, so that a cache is empty when it should be:

- ``first``: empty, as for the first fit ever on a machine;
- ``new``: single operations are compiled, by a primer (another model), but not this model's;
- ``same``: an earlier process has fitted the same model.

What has no cache on disk pays the same in all three.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.environments import NotAvailable, python_of
from benchmarks.peers import Peer
from benchmarks.problems import PRIMERS, Problem

__all__ = ["REGIMES", "Launcher"]

REGIMES = ("first", "new", "same")
ROOT = Path(__file__).parents[1]


@dataclass
class Launcher:
    """Runs peers; a context manager that holds their caches in a temporary folder.

    Attributes
    ----------
    steps : int
        Steps of a fit.
    threads : int
        Threads of each library; 0 leaves it to the library.
    repeats, seconds : int, float
        How many warm runs are timed, and how long each should be.
    timeout : float
        Seconds after which a process is given up.
    """

    steps: int
    threads: int = 1
    repeats: int = 5
    seconds: float = 1.0
    timeout: float = 1_200.0
    _pythons: dict = field(default_factory=dict)
    _folder: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> Launcher:
        self._folder = tempfile.TemporaryDirectory(prefix="pymc_svi_bench_")
        return self

    def __exit__(self, *exception) -> None:
        self._folder.cleanup()

    def prepare(self, peer: Peer) -> str | None:
        """Make the peer's environment; return why there is none, if so."""
        try:
            self._python(peer)
        except NotAvailable as error:
            return f"not available: {error}"
        return None

    def run(self, peer: Peer, problem: Problem, regime: str, *, warm: bool) -> dict:
        """Return what the peer's script printed, or ``{"failed": reason}``.

        Parameters
        ----------
        peer, problem
            What to run.
        regime : str
            The cache to start from, one of ``REGIMES``.
        warm : bool
            Whether to measure warm runs too.
        """
        if not peer.disk_cache:
            return self._run(peer, problem, None, warm)
        return self._run(peer, problem, self._cache(peer, problem, regime), warm)

    # --- caches -----------------------------------------------------------------------------------

    def _cache(self, peer: Peer, problem: Problem, regime: str) -> Path:
        """Return a cache folder in the state of the regime."""
        kept = self._path(peer, problem.name)
        if regime == "first":
            return _emptied(kept)
        if regime == "same":
            if not kept.exists():
                self._run(peer, problem, _emptied(kept), False)
            return kept
        primed = self._path(peer, PRIMERS[problem.guide].name)
        if not primed.exists():
            self._run(peer, PRIMERS[problem.guide], _emptied(primed), False)
        copy = self._path(peer, f"{problem.name}_new")
        shutil.rmtree(copy, ignore_errors=True)
        return Path(shutil.copytree(primed, copy))

    def _path(self, peer: Peer, name: str) -> Path:
        return Path(self._folder.name) / f"{peer.name}-{name}"

    # --- processes --------------------------------------------------------------------------------

    def _python(self, peer: Peer) -> str:
        if peer.environment is None:
            return sys.executable
        if peer.environment not in self._pythons:
            try:
                self._pythons[peer.environment] = python_of(peer.environment)
            except NotAvailable as error:
                self._pythons[peer.environment] = error
        found = self._pythons[peer.environment]
        if isinstance(found, NotAvailable):
            raise found
        return found

    def _run(self, peer: Peer, problem: Problem, cache: Path | None, warm: bool) -> dict:
        command = [self._python(peer), "-m", peer.module, *peer.arguments]
        command += ["--problem", problem.name, "--steps", str(self.steps)]
        command += ["--repeats", str(self.repeats if warm else 0), "--seconds", str(self.seconds)]
        if peer.max_steps is not None:
            command += ["--max-steps", str(peer.max_steps)]
        command += ["--launched", str(time.time())]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=self._environ(cache),
                capture_output=True,
                text=True,
                timeout=self.timeout,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {self.timeout:.0f} s"}
        printed = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 or not printed:
            said = done.stderr.strip().splitlines() or ["no message"]
            return {"failed": said[-1]}
        return json.loads(printed[-1])

    def _environ(self, cache: Path | None) -> dict[str, str]:
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        if self.threads:
            for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM"):
                environ[f"{library}_NUM_THREADS"] = str(self.threads)
        if self.threads == 1:
            flags = environ.get("XLA_FLAGS", "")
            environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        if cache is not None:
            flags = [environ["PYTENSOR_FLAGS"]] if environ.get("PYTENSOR_FLAGS") else []
            environ["PYTENSOR_FLAGS"] = ",".join([*flags, f"base_compiledir={cache}"])
            environ["NUMBA_CACHE_DIR"] = str(cache / "numba_functions")
        return environ


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
