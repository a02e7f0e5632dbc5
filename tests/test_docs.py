"""The documentation holds: its programs run, its names and links exist, its tables are complete."""

import inspect
import re
from pathlib import Path

import numpy as np
import pymc as pm
import pytensor
import pytest
from pytensor_ml.layers import Linear, Sequential

import pymc_svi
from pymc_svi import guides, handlers, objectives

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    "choosing.md",
    "discrete_sites.md",
    "handlers.md",
    "migrating.md",
    "objectives.md",
    "training.md",
]


def programs(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def test_programs_of_the_readme_run_and_print_what_it_says(capsys):
    first, built, network, diagnosis = programs(ROOT / "README.md")
    namespace = {"__name__": "README.md"}
    _run([first, diagnosis], namespace, "README.md")
    # The digits are those of one processor.
    numbers, text = r"\d[\d,]*(\.\d+)?", (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.sub(numbers, "#", capsys.readouterr().out.strip()) in re.sub(numbers, "#", text)
    _run([built], namespace, "README.md")

    def model(x):
        z = pm.Normal("z", 0.0, 1.0, shape=x.shape)
        pm.Normal("x", z, 0.5, observed=x)

    rows = np.random.default_rng(0).normal(0.0, np.sqrt(1.25), size=(400, 1))
    namespace |= {"model": model, "train": rows[:300], "test": rows[300:]}
    namespace["encoder"] = Sequential(Linear("in", n_in=1, n_out=1))
    _run([network.replace("epochs=100", "epochs=2_000")], namespace, "README.md")
    posterior = namespace["result"].sample_posterior(500, x=rows[300:], random_seed=0).posterior
    means = posterior["z"].mean(("chain", "draw")).values.ravel()
    slope, intercept = np.polyfit(rows[300:].ravel(), means, 1)
    assert abs(slope - 1 / 1.25) < 0.02 and abs(intercept) < 0.02


@pytest.mark.parametrize("page", PAGES)
def test_programs_of_a_page_run_and_their_checks_hold(page):
    blocks = programs(DOCS / page)
    assert any("assert " in block for block in blocks)
    namespace = {"__name__": page}
    with pytensor.config.change_flags(mode="FAST_COMPILE"):  # sooner ready than the default
        _run(blocks, namespace, page)


def _run(blocks, namespace, page):
    for block in blocks:
        exec(compile(block, f"{page}: {block[:40]!r}", "exec"), namespace)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p}" for p in PAGES)])
def test_links_and_paths_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [to for to in re.findall(r"\]\(([^)#]+)\)", text) if not to.startswith("http")]
    missing = [to for to in links if not (ROOT / page).parent.joinpath(to).exists()]
    paths = re.findall(r"`([\w./]+/[\w./]*|[\w/]+\.(?:py|md|sh))`", text)
    around = (ROOT, ROOT / "pymc_svi")
    missing += [path for path in paths if not any((place / path).exists() for place in around)]
    assert not missing


def test_the_readme_names_everything_that_a_user_imports():
    names = set(pymc_svi.__all__) | {n for n in guides.__all__ if n.startswith("Auto")}
    names |= {n for n in handlers.__all__ if is_a(getattr(handlers, n), handlers.Handler)}
    names |= {n for n in objectives.__all__ if is_a(getattr(objectives, n), pymc_svi.ELBO)}
    names -= {"AutoContinuous", "LossFunction", "MultiSample", "SteinGradient"}  # bases, parts
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


def is_a(item, base):
    return inspect.isclass(item) and issubclass(item, base)
