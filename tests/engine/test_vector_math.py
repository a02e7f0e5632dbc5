"""The vector functions are as accurate as the C library's, everywhere, and are put to use."""

import mpmath
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from pymc_svi.engine import training_mode


def magnitudes(low, high, n=600):
    return np.exp(np.random.default_rng(0).uniform(low, high, n))


def spread(limit, n=600):
    rng = np.random.default_rng(1)
    return np.concatenate([rng.uniform(-limit, limit, n), rng.normal(size=n), magnitudes(-40, 0)])


def between(low, high, n=1000):
    return np.random.default_rng(2).uniform(low, high, n)


def exact_gammaln(x):
    return mpmath.log(abs(mpmath.gamma(x))) if x < 100 else mpmath.loggamma(x)


def exact_erfcx(x):
    return mpmath.exp(x * x) * mpmath.erfc(x)


# The function, its exact value, where to look in each precision, and how many units in the last
# place it may miss.
FUNCTIONS = {
    "exp": (pt.exp, mpmath.exp, {"float64": spread(708.0), "float32": spread(87.0)}, 1.1),
    "expm1": (
        pt.expm1,
        mpmath.expm1,
        {"float64": spread(708.0), "float32": spread(87.0)},
        2.0,
    ),
    "log": (
        pt.log,
        mpmath.log,
        {
            "float64": np.r_[magnitudes(-744, 709), magnitudes(-0.7, 0.7)],
            "float32": np.r_[magnitudes(-103, 88), magnitudes(-0.7, 0.7)],
        },
        1.1,
    ),
    "log1p": (
        pt.log1p,
        mpmath.log1p,
        {
            "float64": np.r_[magnitudes(-80, 709), -magnitudes(-40, -1e-6)],
            "float32": np.r_[magnitudes(-80, 88), -magnitudes(-40, -1e-6)],
        },
        1.1,
    ),
    "log1mexp": (
        pt.log1mexp,
        lambda x: mpmath.log(-mpmath.expm1(x)) if x > -1 else mpmath.log1p(-mpmath.exp(x)),
        {
            "float64": -np.r_[magnitudes(-700, 6.5), between(0, 3)],
            "float32": -np.r_[magnitudes(-85, 4.4), between(0, 3)],
        },
        3.0,
    ),
    "softplus": (
        pt.softplus,
        lambda x: mpmath.log1p(mpmath.exp(x)),
        {"float64": spread(700.0), "float32": spread(85.0)},
        2.0,
    ),
    "sigmoid": (
        pt.sigmoid,
        lambda x: 1 / (1 + mpmath.exp(-x)),
        {"float64": spread(700.0), "float32": spread(85.0)},
        2.5,
    ),
    "tanh": (pt.tanh, mpmath.tanh, {"float64": spread(30.0), "float32": spread(15.0)}, 3.0),
    "erf": (pt.erf, mpmath.erf, {"float64": spread(7.0), "float32": spread(5.0)}, 3.0),
    "erfc": (pt.erfc, mpmath.erfc, {"float64": spread(26.0), "float32": spread(9.0)}, 7.0),
    "erfcx": (
        pt.erfcx,
        exact_erfcx,
        {
            "float64": np.r_[between(-26, 60), magnitudes(-40, 10)],
            "float32": np.r_[between(-9, 60), magnitudes(-40, 10)],
        },
        7.0,
    ),
    "gammaln": (
        pt.gammaln,
        exact_gammaln,
        dict.fromkeys(("float64", "float32"), np.r_[magnitudes(-60, 60), between(-20, 20)]),
        30.0,
    ),
    "digamma": (
        pt.digamma,
        mpmath.digamma,
        dict.fromkeys(("float64", "float32"), np.r_[magnitudes(-60, 60), between(-20, 20)]),
        10.0,
    ),
}
# Sums that cancel near their zeros: as accurate there as around them.
FROM_ONE_ON = ("gammaln", "digamma")
DTYPES = ("float64", "float32")
EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, -2.0, 1.0, 2.0, -1.5]
SPECIAL = {
    "float64": np.array([*EDGES, 5e-324, 1e-310, 1e308, -1e308, 800, -800, 1e5]),
    "float32": np.array([*EDGES, 1e-45, 1e-40, 3e38, -3e38, 100, -110, 1e5], dtype="float32"),
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
    least = 1.0 if name in FROM_ONE_ON else 0.0
    with mpmath.workdps(60):
        for x, y in zip(given, found, strict=True):
            error = abs(mpmath.mpf(float(y)) - exact(mpmath.mpf(float(x))))
            assert error <= ulps * float(np.spacing(max(abs(y), y.dtype.type(least)))), (x, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_infinities_nan_and_the_edges_of_the_range_are_numpys(name, dtype, compiled):
    x = pt.vector("x", dtype=dtype)
    numpys = pytensor.function([x], FUNCTIONS[name][0](x), mode="CVM")
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            compiled[name, dtype](SPECIAL[dtype]),
            numpys(SPECIAL[dtype]),
            rtol={"float64": 2e-15, "float32": 5e-7}[dtype],
            # 30 units in the last place of 1, where the logarithm of the gamma function is zero
            atol={"float64": 7e-15, "float32": 4e-6}[dtype] if name in FROM_ONE_ON else 0,
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
