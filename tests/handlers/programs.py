"""Random programs and handler stacks, for Hypothesis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pymc as pm
from hypothesis import strategies as st

from pymc_svi import LocScaleReparam, factor, param
from pymc_svi.handlers import (
    block,
    condition,
    do,
    equalize,
    infer_config,
    lift,
    mask,
    reparam,
    replay,
    scale,
    scope,
    seed,
    substitute,
    trace,
    uncondition,
)

KINDS = ("normal", "gamma", "vector", "observed", "deterministic", "factor", "param")


@dataclass(frozen=True)
class Statement:
    """One statement: its kind, its name and the statements it depends on."""

    kind: str
    name: str
    parents: tuple[int, ...]


@dataclass(frozen=True)
class RandomProgram:
    """A program that runs its statements."""

    statements: tuple[Statement, ...]

    def __call__(self) -> None:
        values: list = []
        for statement in self.statements:
            mean = sum((values[i].sum() for i in statement.parents), 0.3)
            values.append(self.run(statement, mean))

    @staticmethod
    def run(statement: Statement, mean):
        match statement:
            case Statement("normal", name, _):
                return pm.Normal(name, mean, 1.5)
            case Statement("gamma", name, _):
                return pm.Gamma(name, 2.0, pm.math.exp(0.1 * mean))
            case Statement("vector", name, _):
                return pm.Normal(name, mean, 1.0, shape=3)
            case Statement("observed", name, _):
                return pm.StudentT(name, nu=4, mu=mean, sigma=1.0, observed=[0.1, -0.4])
            case Statement("deterministic", name, _):
                return pm.Deterministic(name, mean * 2.0 + pm.math.constant(0.0))
            case Statement("factor", name, _):
                return factor(name, -0.1 * mean)
            case Statement("param", name, _):
                return param(name, 0.4) + mean

    def built(self) -> pm.Model:
        with pm.Model() as model:
            self()
        return model

    def names(self, *kinds: str) -> list[str]:
        return [s.name for s in self.statements if s.kind in kinds]

    def value(self, name: str, seed: float):
        """A value that the site can have; another for each seed."""
        [kind] = [s.kind for s in self.statements if s.name == name]
        if kind == "vector":
            return np.array([0.1, -0.7, 0.4]) * seed
        if kind == "observed":
            return np.array([0.5, 0.2]) * seed
        return abs(0.3 * seed) + 0.1 if kind == "gamma" else 0.3 * seed


@st.composite
def programs(draw, max_size: int = 6) -> RandomProgram:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=max_size))
    statements = []
    for i, kind in enumerate(kinds):
        parents = draw(st.sets(st.integers(0, i - 1), max_size=2)) if i else set()
        statements.append(Statement(kind, f"{kind}_{i}", tuple(sorted(parents))))
    return RandomProgram(tuple(statements))


SAMPLED = ("normal", "gamma", "vector", "observed")


@st.composite
def values_for(draw, program: RandomProgram, kinds=SAMPLED) -> dict:
    names = program.names(*kinds)
    chosen = draw(st.sets(st.sampled_from(names))) if names else set()
    seed = draw(st.floats(0.5, 2.0))
    return {name: program.value(name, seed) for name in sorted(chosen)}


@st.composite
def handlers_for(draw, program: RandomProgram):
    """A function that wraps a program in a random stack of handlers."""
    wrappers = []
    computed: set[str] = set()  # sites that a handler further in made deterministic
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(
            st.sampled_from(
                ["condition", "substitute", "replay", "block", "scale", "mask", "do", "uncondition"]
                + ["lift", "scope", "infer_config", "equalize", "reparam", "seed"]
            )
        )
        data = draw(values_for(program))
        match kind:
            case "condition":
                data = {name: value for name, value in data.items() if name not in computed}
                wrappers.append(lambda p, data=data: condition(p, data=data))
            case "substitute":
                wrappers.append(lambda p, data=data: substitute(p, data=data))
            case "replay":
                source = trace(substitute(program, data=data)).get_trace()
                source = {name: site for name, site in source.items() if name in data}
                wrappers.append(lambda p, source=source: replay(p, trace=source))
            case "block":
                wrappers.append(lambda p, data=data: block(p, hide=list(data)))
            case "scale":
                wrappers.append(lambda p: scale(p, scale=2.0))
            case "mask":
                keep = draw(st.booleans())
                wrappers.append(lambda p, keep=keep: mask(p, mask=keep))

            case "do":
                wrappers.append(lambda p, data=data: do(p, data=data))
            case "uncondition":
                seen = {n: program.value(n, 1.5) for n in program.names("observed")}
                wrappers.append(lambda p, seen=seen: substitute(uncondition(p), data=seen))
            case "lift":
                params = {n: 0.7 for n in program.names("param")}
                prior = pm.Normal.dist(0.0, 2.0)
                wrappers.append(
                    lambda p, v=params, prior=prior: substitute(lift(p, prior=prior), data=v)
                )
            case "scope":
                wrappers.append(lambda p: scope(p, prefix="s"))
            case "infer_config":
                wrappers.append(lambda p: infer_config(p, config_fn=lambda site: {"seen": 1}))
            case "equalize":
                keep = draw(st.booleans())
                computed.update(program.names("normal"))
                wrappers.append(lambda p, keep=keep: equalize(p, "normal_.*", keep_dist=keep))
            case "reparam":
                names = [name for name in data if name in program.names("normal")]
                computed.update(names)
                config = {name: LocScaleReparam(0.3) for name in names}
                base = {f"{name}_decentered": 0.4 for name in names}
                wrappers.append(
                    lambda p, c=config, b=base: substitute(reparam(p, config=c), data=b)
                )
            case "seed":
                wrappers.append(lambda p: seed(p, rng_seed=0))

    def wrapped(program):
        for wrap in wrappers:
            program = wrap(program)
        return program

    return wrapped
