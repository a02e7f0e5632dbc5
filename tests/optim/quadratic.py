"""A quadratic loss that optimizers take steps on, and the same steps in numpy."""

from __future__ import annotations

import numpy as np
import pytensor

# A quadratic in two parameters: loss = 0.5 * sum(curvature * (p - target)^2).
START = {"loc": np.array([1.0, -2.0, 0.5]), "scale": np.array(0.3)}
TARGET = {"loc": np.array([0.0, 1.0, 0.5]), "scale": np.array(-1.0)}
CURVATURE = {"loc": np.array([1.0, 30.0, 2.0]), "scale": np.array(4.0)}


def parameters(dtype="float64"):
    return [pytensor.shared(value.astype(dtype), name=name) for name, value in START.items()]


def gradients(params):
    return [
        np.asarray(CURVATURE[p.name], p.dtype) * (p - np.asarray(TARGET[p.name], p.dtype))
        for p in params
    ]


def run(rule, steps=5, dtype="float64", as_loss=False):
    """Values of both parameters after each step."""
    params = parameters(dtype)
    grads = gradients(params)
    loss = sum((0.5 * CURVATURE[p.name] * (p - TARGET[p.name]) ** 2).sum() for p in params)
    updates = rule(loss if as_loss else grads, params)
    step = pytensor.function([], [], updates=updates, mode="FAST_COMPILE")
    history = []
    for _ in range(steps):
        step()
        history.append(np.concatenate([np.ravel(p.get_value()) for p in params]))
    return np.array(history)


def reference(step, steps=5):
    """The same with ``step(name, t, p, g, state) -> p`` in plain numpy, t from 0."""
    p = {name: value.copy() for name, value in START.items()}
    state = {name: {} for name in p}
    history = []
    for t in range(steps):
        for name, value in p.items():
            g = CURVATURE[name] * (value - TARGET[name])
            p[name] = step(name, t, value, g, state[name])
        history.append(np.concatenate([np.ravel(value) for value in p.values()]))
    return np.array(history)
