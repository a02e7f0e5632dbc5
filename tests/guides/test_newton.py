"""The search for a minimum by damped Newton steps."""

import numpy as np
import pytest

from pymc_svi.guides.newton import minimize


def valley(x):
    """Rosenbrock's curved valley, least at (1, 1)."""
    a, b = x
    value = (1 - a) ** 2 + 100 * (b - a**2) ** 2
    gradient = np.array([-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2)])
    hessian = np.array([[2 - 400 * (b - 3 * a**2), -400 * a], [-400 * a, 200.0]])
    return value, gradient, hessian


def in_units(function, units):
    def scaled(x):
        value, gradient, hessian = function(x * units)
        return value, gradient * units, units[:, None] * hessian * units

    return scaled


@pytest.mark.parametrize("start", [(-1.2, 1.0), (0.0, 3.0), (30.0, -40.0)])
def test_a_curved_valley_is_followed_to_its_end(start):
    """At the first two the Hessian has a negative eigenvalue, or nearly."""
    found = minimize(valley, np.array(start))
    assert found.arrived
    np.testing.assert_allclose(found.point, 1.0, atol=1e-4)


def test_units_do_not_matter():
    units = np.array([1e5, 1e-6])
    start = np.array([-1.2, 1.0])
    path, path_in_units = [], []

    def recorded(function, points, units=1.0):
        def at(x):
            points.append(x * units)
            return function(x)

        return at

    minimize(recorded(valley, path), start)
    minimize(recorded(in_units(valley, units), path_in_units, units), start / units)
    assert len(path) == len(path_in_units) > 10
    np.testing.assert_allclose(path_in_units, path, rtol=1e-6)


def test_what_has_no_value_is_gone_around():
    def walled(x):
        """-log x + x, which has no value below zero: least at 1."""
        if x[0] <= 0:
            return np.nan, np.full(1, np.nan), np.full((1, 1), np.nan)
        return float(x[0] - np.log(x[0])), 1 - 1 / x, (1 / x**2)[:, None]

    found = minimize(walled, np.array([50.0]))  # a full step ends at -2400
    assert found.arrived
    np.testing.assert_allclose(found.point, 1.0, rtol=1e-4)


def test_a_function_without_minimum_says_what_it_falls_along():
    def slope(x):
        gradient = np.array([2 * x[0], -1.0])
        return x[0] ** 2 - x[1], gradient, np.diag([2.0, 0.0])

    found = minimize(slope, np.array([1.0, 0.0]))
    assert not found.arrived
    assert found.falls[1] > 0.9 * found.falls.sum()
