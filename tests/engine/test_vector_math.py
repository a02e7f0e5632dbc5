"""The vector functions are as accurate as the C library's, everywhere, and are put to use."""

from decimal import Context, Decimal

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi.engine import training_mode

EXACT = Context(prec=60, Emax=10**6, Emin=-(10**6))


def exact_log1p(x: Decimal) -> Decimal:
    if abs(x) < Decimal("1e-25"):  # the rest of the series is below the 60 digits of 1 + x
        return EXACT.subtract(x, EXACT.divide(EXACT.multiply(x, x), 2))
    return EXACT.ln(EXACT.add(1, x))


def exact_exp(x: Decimal) -> Decimal:
    return EXACT.exp(x)


def exact_softplus(x: Decimal) -> Decimal:
    return EXACT.add(max(x, Decimal(0)), exact_log1p(exact_exp(-abs(x))))


def exact_sigmoid(x: Decimal) -> Decimal:
    e = exact_exp(-abs(x))
    return EXACT.divide(1 if x >= 0 else e, EXACT.add(1, e))


def magnitudes(low, high, n=600):
    return np.exp(np.random.default_rng(0).uniform(low, high, n))


def spread(limit, n=600):
    rng = np.random.default_rng(1)
    return np.concatenate([rng.uniform(-limit, limit, n), rng.normal(size=n), magnitudes(-40, 0)])


# The function, its exact value, where to look in each precision, and how many units in the last
# place it may miss.
FUNCTIONS = {
    "exp": (pt.exp, exact_exp, {"float64": spread(708.0), "float32": spread(87.0)}, 1.1),
    "log": (
        pt.log,
        EXACT.ln,
        {
            "float64": np.r_[magnitudes(-744, 709), magnitudes(-0.7, 0.7)],
            "float32": np.r_[magnitudes(-103, 88), magnitudes(-0.7, 0.7)],
        },
        1.1,
    ),
    "log1p": (
        pt.log1p,
        exact_log1p,
        {
            "float64": np.r_[magnitudes(-80, 709), -magnitudes(-40, -1e-6)],
            "float32": np.r_[magnitudes(-80, 88), -magnitudes(-40, -1e-6)],
        },
        1.1,
    ),
    "softplus": (
        pt.softplus,
        exact_softplus,
        {"float64": spread(700.0), "float32": spread(85.0)},
        2.0,
    ),
    "sigmoid": (
        pt.sigmoid,
        exact_sigmoid,
        {"float64": spread(700.0), "float32": spread(85.0)},
        2.5,
    ),
}
DTYPES = ("float64", "float32")
EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, -2.0, 1.0]
SPECIAL = {
    "float64": np.array([*EDGES, 5e-324, 1e-310, 1e308, -1e308, 800, -800]),
    "float32": np.array([*EDGES, 1e-45, 1e-40, 3e38, -3e38, 100, -110], dtype="float32"),
}


@pytest.fixture(scope="module")
def compiled():
    vectors = {dtype: pt.vector("x", dtype=dtype) for dtype in DTYPES}
    return {
        (name, dtype): pytensor.function([x], function(x), mode=training_mode("NUMBA"))
        for name, (function, *_) in FUNCTIONS.items()
        for dtype, x in vectors.items()
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_as_accurate_as_the_c_librarys(name, dtype, compiled):
    _, exact, points, ulps = FUNCTIONS[name]
    given = points[dtype].astype(dtype)
    found = compiled[name, dtype](given)
    assert found.dtype == dtype
    for x, y in zip(given, found, strict=True):
        error = abs(Decimal(float(y)) - exact(Decimal(float(x))))
        assert error <= Decimal(ulps) * Decimal(float(np.spacing(abs(y)))), (x, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_infinities_nan_and_the_edges_of_the_range_are_numpys(name, dtype, compiled):
    x = pt.vector("x", dtype=dtype)
    numpys = pytensor.function([x], FUNCTIONS[name][0](x), mode="CVM")
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            compiled[name, dtype](SPECIAL[dtype]),
            numpys(SPECIAL[dtype]),
            rtol={"float64": 1e-15, "float32": 2e-7}[dtype],
        )


@pytest.mark.parametrize(
    ("dtype", "points", "smallest"),
    [
        ("float64", np.linspace(-745.0, -708.5, 50), 5e-324),
        ("float32", np.linspace(-103.9, -87.4, 50, dtype="float32"), 1.5e-45),
    ],
)
def test_results_below_the_smallest_normal_number_keep_what_bits_they_have(
    dtype, points, smallest, compiled
):
    found = compiled["exp", dtype](points)
    np.testing.assert_allclose(found, np.exp(points), rtol=0, atol=smallest)


def scalar_ops(*shape, mode, dtype="float64"):
    x = pt.tensor("x", dtype=dtype, shape=shape)
    graph = pytensor.function([x], pt.exp(x) + 1, mode=training_mode(mode)).maker.fgraph
    return "".join(str(node.op) for node in graph.apply_nodes)


def test_numba_uses_them_for_vectors_of_unknown_or_sufficient_length():
    assert "vector_exp" in scalar_ops(None, mode="NUMBA").lower()
    assert "vector_exp" in scalar_ops(5, 20, mode="NUMBA").lower()
    assert "vector_exp" in scalar_ops(None, mode="NUMBA", dtype="float32").lower()
    assert "vector_exp" not in scalar_ops(8, mode="NUMBA").lower()
    assert "vector_exp" not in scalar_ops(None, mode="CVM").lower()
