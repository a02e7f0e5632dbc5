"""Environments of the peers: made once under ``.envs/``, kept while what they need is the same."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ENVIRONMENTS", "Environment", "NotAvailable", "python_of"]

FOLDER = Path(__file__).parent / ".envs"
_MARKER = "installed.json"


class NotAvailable(RuntimeError):
    """An environment could not be made; the message says why."""


@dataclass(frozen=True)
class Environment:
    """What to install, and into which interpreter.

    Attributes
    ----------
    requirements : tuple of str
        As for pip. Pinned, so that figures can be compared.
    pythons : tuple of str
        Interpreters to look for on the path, before the one that runs the benchmark.
    hint : str
        What to try if the installation fails.
    """

    requirements: tuple[str, ...]
    pythons: tuple[str, ...] = ()
    hint: str = ""


# Where PyPI's torch is a CUDA build of several GB, only a CPU build will do.
_CPU = "+cpu" if (platform.system(), platform.machine()) == ("Linux", "x86_64") else ""

ENVIRONMENTS: Mapping[str, Environment] = {
    "pymc_extras": Environment(("pymc-extras==0.15.1", "pymc>=6.3,<6.4")),
    "numpyro": Environment(("numpyro==0.22.0", "jax==0.12.0.1")),
    "pyro": Environment(
        (f"torch==2.13.0{_CPU}", "pyro-ppl==1.9.2"),
        pythons=("python3.11",),
        hint="it needs a CPU build of torch: tell pip where to find one with PIP_EXTRA_INDEX_URL",
    ),
}


def python_of(name: str, *, verbose: bool = True) -> str:
    """Return the interpreter of an environment, which is made if need be.

    Parameters
    ----------
    name : str
        Name in ``ENVIRONMENTS``.
    verbose : bool
        Say so when something is installed.

    Raises
    ------
    NotAvailable
        If no interpreter on this machine can install the requirements.
    """
    environment = ENVIRONMENTS[name]
    folder = FOLDER / name
    marker = folder / _MARKER
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = list(environment.requirements)
    if marker.exists() and json.loads(marker.read_text())["requirements"] == wanted:
        return str(python)
    reasons = []
    for base in _interpreters(environment.pythons):
        if verbose:
            print(f"Installing {', '.join(wanted)} into {folder} with {base} ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _call(base, "-m", "venv", str(folder))
            _call(str(python), "-m", "pip", "install", "--quiet", *wanted)
        except NotAvailable as error:
            reasons.append(f"{Path(base).name}: {error}")
            continue
        marker.write_text(json.dumps({"requirements": wanted, "python": base}))
        return str(python)
    shutil.rmtree(folder, ignore_errors=True)
    hint = f" ({environment.hint})" if environment.hint else ""
    raise NotAvailable("; ".join(reasons) + hint)


def _interpreters(names: tuple[str, ...]) -> Iterator[str]:
    """Yield the interpreters to try: those on the path that run and can make environments."""
    for name in names:
        found = shutil.which(name)
        if found is None:
            continue
        check = subprocess.run([found, "-c", "import venv, ensurepip"], capture_output=True)
        if check.returncode == 0:
            yield found
    yield sys.executable


def _call(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=1_800)
    except subprocess.TimeoutExpired as error:
        raise NotAvailable("the installation took more than 30 minutes") from error
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        errors = [line for line in said if line.startswith("ERROR")]
        raise NotAvailable((errors or said[-1:] or ["no message"])[0]) from error
