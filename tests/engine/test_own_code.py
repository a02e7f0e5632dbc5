"""A fit has the same numbers whatever has been compiled before, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from llvmlite.binding import Linkage
from numba.core.dispatcher import Dispatcher

from pymc_svi.engine import training_mode
from pymc_svi.engine.linker import FlatLoopLinker

_SCRIPT = """
import hashlib, sys
import numpy as np
import pymc as pm
from pymc_svi import SVI, optim
from pymc_svi.guides import AutoNormal

generator = np.random.default_rng(0)
x = generator.normal(size=(100, 2))
y = x @ [1.0, -1.0] + generator.normal(size=100)
effects = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])

def regression():
    slope = pm.Normal("slope", 0, 1, shape=2)
    pm.Normal("y", x @ slope, pm.HalfNormal("noise", 1), observed=y)

def schools():
    mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
    theta = pm.Normal("theta", 0, 1, shape=8)
    pm.Normal("effect", mu + tau * theta, 12, observed=effects)

for name in sys.argv[1:]:
    model = globals()[name]
    svi = SVI(model, AutoNormal(model), optim.Adam(0.02))
    result = svi.run(300, random_seed=3, progressbar=False)
    arrays = [result.losses, *result.state.params.values()]
    print(name, hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest())
"""


def fits(cache: Path, *names: str) -> list[tuple[str, str]]:
    """Return names of models and digests of fits to them, made one after the other in a process."""
    flags = f"{os.environ.get('PYTENSOR_FLAGS', '')},base_compiledir={cache}".lstrip(",")
    environment = {"PYTENSOR_FLAGS": flags, "NUMBA_CACHE_DIR": str(cache)}
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *names],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | environment,
    )
    assert run.returncode == 0, run.stderr
    lines = (line.split() for line in run.stdout.splitlines())
    return [(name, digest) for name, digest in lines]


@pytest.mark.slow
def test_numbers_do_not_depend_on_what_is_in_the_cache_or_was_fitted_before(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    found = [
        *fits(one, "regression"),  # nothing is in the cache
        *fits(one, "regression", "schools"),  # all is; some operations are
        *fits(other, "schools", "regression"),  # nothing is; some operations are
    ]
    assert len(found) == 5
    assert len(set(found)) == 2, found  # each model has one digest


def test_what_a_function_calls_is_known_inside_only(monkeypatch):
    made = []

    def jit_compile(self, function_and_key):
        made.append(compiled(self, function_and_key))
        return made[-1]

    compiled = FlatLoopLinker.jit_compile
    monkeypatch.setattr(FlatLoopLinker, "jit_compile", jit_compile)
    x = pt.vector("x")
    # What comes from the cache has no code to look at.
    with pytensor.config.change_flags(numba__cache=False):
        function = pytensor.function([x], x + 1, mode=training_mode("NUMBA"))
        function(np.ones(3))
    [dispatcher] = made
    assert isinstance(dispatcher, Dispatcher)
    [result] = dispatcher.overloads.values()
    own = list(result.library.get_defined_functions())
    inside = [f.name for f in own if f.linkage == Linkage.internal]
    assert inside
    # Python calls the others: the function, and what unpacks its arguments.
    outside = [f.name for f in own if f.name not in inside]
    assert len(outside) == 2 and all("train" in name for name in outside), outside
