"""Small models of many structures, all of whose latent sites are discrete."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from pymc_svi import handlers, markov, plate

Y = np.array([0.3, -1.2, 2.1, 0.8])
GRID = np.array([[0.1, 1.4, -0.3], [2.2, 0.0, 0.7]])
MEANS = np.array([-1.0, 0.5, 2.0])
MOVES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]])


def labels():
    z = pm.Categorical("z", [0.2, 0.5, 0.3], shape=4)
    pm.Normal("y", pt.constant(MEANS)[z], 1.0, observed=Y)


def by_group():
    """Two data of each label: an axis of the data that is not one of the labels."""
    z = pm.Bernoulli("z", 0.3, shape=2)
    pm.Normal("y", (z * 2.0)[:, None], 1.0, observed=GRID)


def one_for_all():
    z = pm.Categorical("z", [0.2, 0.5, 0.3])
    pm.Normal("y", pt.constant(MEANS)[z], 1.0, observed=Y)


def nested():
    a = pm.Bernoulli("a", 0.4)
    z = pm.Bernoulli("z", 0.2 + 0.5 * a, shape=4)
    pm.Normal("y", a - z, 1.0, observed=Y)
    pm.Normal("x", a, 2.0, observed=0.7)


def two_levels():
    a = pm.Bernoulli("a", 0.4, shape=2)
    z = pm.Bernoulli("z", pm.math.switch(a, 0.7, 0.1)[:, None], shape=(2, 3))
    pm.Normal("y", z + a[:, None], 1.0, observed=GRID)


def plates():
    with plate("rows", 2, dim=-2):
        a = pm.Bernoulli("a", 0.4)
        with plate("columns", 3, dim=-1):
            z = pm.Bernoulli("z", 0.2 + 0.5 * a)
            pm.Normal("y", z + a, 1.0, observed=GRID)


def pair():
    z = pm.Categorical("z", [0.2, 0.5, 0.3], shape=4)
    w = pm.Bernoulli("w", pt.constant([0.1, 0.5, 0.8])[z])
    pm.Normal("y", pt.constant(MEANS)[z] + w, 1.0, observed=Y)


def chain():
    z = 0
    for t in markov(range(4)):
        z = pm.Categorical(f"z{t}", pt.constant(MOVES)[z])
        pm.Normal(f"y{t}", pt.constant(MEANS)[z], 1.0, observed=Y[t])


def second_order():
    before = z = 0
    for t in markov(range(4), history=2):
        before, z = z, pm.Bernoulli(f"z{t}", 0.1 + 0.3 * z + 0.4 * before)
        pm.Normal(f"y{t}", 1.0 * z, 1.0, observed=Y[t])


def chains_in_a_plate():
    z = pt.zeros(2, dtype="int64")
    for t in range(3):
        z = pm.Bernoulli(f"z{t}", 0.2 + 0.5 * z, shape=2)
        pm.Normal(f"y{t}", 1.0 * z, 1.0, observed=GRID[:, t])


def chain_with_a_parent():
    a = pm.Bernoulli("a", 0.4)
    z = 0
    for t in range(3):
        z = pm.Bernoulli(f"z{t}", 0.2 + 0.4 * z + 0.2 * a)
        pm.Normal(f"y{t}", 1.0 * z, 1.0, observed=Y[t])


def elements_meet():
    """A chain along the elements of one site: only the joint states can be summed over."""
    z = pm.Bernoulli("z", 0.4, shape=4)
    pm.Normal("y", z[1:] - z[:-1], 1.0, observed=Y[1:])


def elements_meet_along_one_axis():
    z = pm.Bernoulli("z", 0.4, shape=(2, 3))
    pm.Normal("y", 1.0 * z.sum(axis=1), 1.0, observed=Y[:2])
    pm.Normal("x", 1.0 * z, 1.0, observed=GRID)


def tree():
    root = pm.Bernoulli("root", 0.4)
    for side in "lr":
        z = pm.Bernoulli(side, 0.2 + 0.5 * root)
        for leaf in "ab":
            w = pm.Bernoulli(side + leaf, 0.3 + 0.4 * z)
            pm.Normal("y" + side + leaf, 1.0 * w, 1.0, observed=0.8)


def many_kinds():
    k = pm.Binomial("k", n=3, p=0.4, shape=4)
    u = pm.DiscreteUniform("u", 2, 4)
    o = pm.OrderedLogistic("o", eta=0.3, cutpoints=[-1.0, 1.0], compute_p=False)
    b = pm.BetaBinomial("b", alpha=2.0, beta=1.0, n=2)
    pm.Normal("y", k - u + o * b, 2.0, observed=Y)


def unequal_trials():
    k = pm.Binomial("k", n=np.array([1, 3, 2, 0]), p=0.4, shape=4)
    pm.Normal("y", k, 1.0, observed=Y)


def scaled():
    a = pm.Bernoulli("a", 0.4)
    with handlers.scale(scale=2.5):
        z = pm.Bernoulli("z", 0.2 + 0.5 * a, shape=4)
        pm.Normal("y", 1.0 * z, 1.0, observed=Y)


def crossing():
    """Rows and columns that meet in every cell: one of the two is summed over together."""
    a = pm.Bernoulli("a", 0.4, shape=2)
    b = pm.Bernoulli("b", 0.3, shape=3)
    pm.Normal("y", a[:, None] + 2.0 * b, 1.0, observed=GRID)


def crossing_under_cells():
    a = pm.Bernoulli("a", 0.4, shape=2)
    b = pm.Bernoulli("b", 0.3, shape=3)
    z = pm.Bernoulli("z", 0.1 + 0.3 * a[:, None] + 0.4 * b, shape=(2, 3))
    pm.Normal("y", 1.0 * z, 1.0, observed=GRID)


def crossing_in_a_plate():
    """Two sites that share one axis and have another each."""
    a = pm.Bernoulli("a", 0.4, shape=(2, 1, 2))
    b = pm.Bernoulli("b", 0.3, shape=(2, 3, 1))
    pm.Normal("y", a - 2.0 * b, 1.0, observed=np.linspace(-2.0, 2.0, 12).reshape(2, 3, 2))


def crossing_three_ways():
    a = pm.Bernoulli("a", 0.4, shape=(2, 1, 1))
    b = pm.Bernoulli("b", 0.3, shape=(3, 1))
    c = pm.Bernoulli("c", 0.6, shape=2)
    pm.Normal("y", a + b - 2.0 * c, 1.0, observed=np.linspace(-2.0, 2.0, 12).reshape(2, 3, 2))


def potential():
    z = pm.Bernoulli("z", 0.4, shape=4)
    pm.Potential("tilt", 0.7 * z)
    pm.Normal("y", 1.0 * z, 1.0, observed=Y)


MODELS = [
    labels, by_group, one_for_all, nested, two_levels, plates, pair, chain, second_order,
    chains_in_a_plate, chain_with_a_parent, elements_meet, elements_meet_along_one_axis, tree,
    many_kinds, unequal_trials, potential, crossing, crossing_under_cells, crossing_in_a_plate,
    crossing_three_ways,
]  # fmt: skip
