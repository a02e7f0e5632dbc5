"""Each optimizer beside its formula in plain numpy."""

from __future__ import annotations

import numpy as np

from pymc_svi import optim


def adam_step(lr, b1=0.9, b2=0.999, eps=1e-8, clip=None, decay=0.0, nesterov=False):
    def step(name, t, p, g, s):
        if clip is not None:
            g = np.clip(g, -clip, clip)
        s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
        s["v"] = b2 * s.get("v", 0) + (1 - b2) * g**2
        m = b1 * s["m"] + (1 - b1) * g if nesterov else s["m"]
        direction = m / (1 - b1 ** (t + 1)) / (np.sqrt(s["v"] / (1 - b2 ** (t + 1))) + eps)
        rate = lr(t, name) if callable(lr) else lr
        return p - rate * (direction + decay * p)

    return step


def adam_nc_step(lr, b1=0.9, power=0.6, eps=1e-8):
    def step(name, t, p, g, s):
        b2 = 1 - (t + 1) ** -power
        s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
        s["v"] = b2 * s.get("v", 0) + (1 - b2) * g**2
        return p - lr * s["m"] / (1 - b1 ** (t + 1)) / (np.sqrt(s["v"]) + eps)

    return step


def sgd_step(lr):
    return lambda name, t, p, g, s: p - (lr(t, name) if callable(lr) else lr) * g


def momentum_step(lr, mass, nesterov=False):
    def step(name, t, p, g, s):
        s["v"] = mass * s.get("v", 0) + g
        return p - lr * (mass * s["v"] + g if nesterov else s["v"])

    return step


def rmsprop_step(lr, gamma=0.9, eps=1e-8, momentum=0.0, centered=False):
    def step(name, t, p, g, s):
        s["m2"] = gamma * s.get("m2", 0) + (1 - gamma) * g**2
        s["m1"] = gamma * s.get("m1", 0) + (1 - gamma) * g
        variance = s["m2"] - s["m1"] ** 2 if centered else s["m2"]
        s["v"] = momentum * s.get("v", 0) + lr * g / np.sqrt(variance + eps)
        return p - s["v"]

    return step


def adagrad_step(lr, momentum):
    def step(name, t, p, g, s):
        s["g2"] = s.get("g2", 0) + g**2
        with np.errstate(divide="ignore"):
            inverse = np.where(s["g2"] > 0, 1 / np.sqrt(s["g2"]), 0.0)
        s["m"] = (1 - momentum) * g * inverse + momentum * s.get("m", 0)
        return p - lr * s["m"]

    return step


def adagrad_window_step(lr, eps, n_win):
    def step(name, t, p, g, s):
        s.setdefault("window", []).append(g**2)
        return p - lr * g / np.sqrt(sum(s["window"][-n_win:]) + eps)

    return step


def adadelta_step(lr, rho, eps):
    def step(name, t, p, g, s):
        s["g2"] = rho * s.get("g2", 0) + (1 - rho) * g**2
        x = np.sqrt(s.get("x2", 0) + eps) / np.sqrt(s["g2"] + eps) * g
        s["x2"] = rho * s.get("x2", 0) + (1 - rho) * x**2
        return p - lr * x

    return step


def adamax_step(lr, b1=0.9, b2=0.999, eps=1e-8):
    def step(name, t, p, g, s):
        s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
        s["u"] = np.maximum(b2 * s.get("u", 0), abs(g) + eps)
        return p - lr / (1 - b1 ** (t + 1)) * s["m"] / s["u"]

    return step


OPTIMIZERS = {
    "SGD": (optim.SGD(0.02), sgd_step(0.02)),
    "Momentum": (optim.Momentum(0.02, mass=0.8), momentum_step(0.02, 0.8)),
    "Nesterov": (optim.Nesterov(0.02, mass=0.8), momentum_step(0.02, 0.8, nesterov=True)),
    "Adam": (optim.Adam(0.1, b1=0.8, b2=0.99, eps=1e-3), adam_step(0.1, 0.8, 0.99, 1e-3)),
    "AdamNC": (optim.AdamNC(0.1, b1=0.8, power=0.7, eps=1e-3), adam_nc_step(0.1, 0.8, 0.7, 1e-3)),
    "AdamW": (optim.AdamW(0.1, weight_decay=0.3), adam_step(0.1, decay=0.3)),
    "AdamW without decay": (optim.AdamW(0.1, weight_decay=0), adam_step(0.1)),
    "Nadam": (optim.Nadam(0.1), adam_step(0.1, nesterov=True)),
    "Adamax": (optim.Adamax(0.1), adamax_step(0.1)),
    "ClippedAdam": (optim.ClippedAdam(0.1), adam_step(0.1, clip=10.0)),
    "ClippedAdam decaying": (
        optim.ClippedAdam(0.1, clip_norm=2.0, lrd=0.5),
        adam_step(lambda t, name: 0.1 * 0.5 ** (t + 1), clip=2.0),
    ),
    "RMSProp": (optim.RMSProp(0.1, gamma=0.8, eps=1e-4), rmsprop_step(0.1, 0.8, 1e-4)),
    "RMSProp centered": (optim.RMSProp(0.1, centered=True), rmsprop_step(0.1, centered=True)),
    "RMSPropMomentum": (optim.RMSPropMomentum(0.1), rmsprop_step(0.1, momentum=0.9)),
    "Adagrad": (optim.Adagrad(0.1), adagrad_step(0.1, 0.9)),
    "Adagrad plain": (optim.Adagrad(0.1, momentum=0.0), adagrad_step(0.1, 0.0)),
    "AdagradWindow": (
        optim.AdagradWindow(0.1, eps=0.05, n_win=3),
        adagrad_window_step(0.1, 0.05, 3),
    ),
    "Adadelta": (optim.Adadelta(0.5, rho=0.8, eps=1e-3), adadelta_step(0.5, 0.8, 1e-3)),
}
