"""Operations that are written as lines do what PyTensor's own do."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.builders import OpFromGraph
from pytensor.graph.replace import vectorize_graph
from pytensor.tensor.basic import Alloc, AllocDiag
from pytensor.tensor.blas import BatchedDot
from pytensor.tensor.blockwise import BlockwiseWithCoreShape
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.extra_ops import CumOp
from pytensor.tensor.linalg import cholesky, solve_triangular
from pytensor.tensor.linalg.decomposition.cholesky import Cholesky
from pytensor.tensor.linalg.solvers.triangular import SolveTriangular
from pytensor.tensor.math import Dot
from pytensor.tensor.shape import Reshape
from pytensor.tensor.special import logsumexp
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedSubtensor

from pymc_svi.engine import training_mode
from pymc_svi.engine.linker import Source
from pymc_svi.evaluation import evaluation_mode

VECTOR = np.arange(1.0, 7.0)
MATRIX = np.random.default_rng(0).normal(size=(3, 3))
LOWER = np.tril(MATRIX) + 3 * np.eye(3)
WIDE = np.random.default_rng(1).normal(size=(3, 4))
CUBE = np.random.default_rng(2).normal(size=(1, 3, 4))
ROWS, COLUMNS = np.array([0, 2, 1, 2]), np.array([1, 2, 0, 2])


@pytest.fixture
def called(monkeypatch):
    """The kinds of operations that are functions of their own."""
    kinds = []
    call = Source.call

    def recorded(self, node):
        kinds.append(type(node.op))
        return call(self, node)

    monkeypatch.setattr(Source, "call", recorded)
    return kinds


def results(build, *values):
    """Return what the training mode and the evaluation mode compute for arrays of known shapes."""
    inputs = [pt.tensor(shape=value.shape, dtype=value.dtype) for value in values]
    outputs = build(*inputs)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    for mode in (training_mode(), evaluation_mode()):
        yield pytensor.function(inputs, outputs, mode=mode)(*[value.copy() for value in values])


def assert_same(build, *values):
    mine, expected = results(build, *values)
    for found, wanted in zip(mine, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13)
        assert found.dtype == wanted.dtype


@pytest.mark.parametrize(
    "order", [(1, 0), (0, "x", 1), ("x", 1, 0), (1, "x", 0, "x"), ("x", 0, 1, "x")]
)
def test_axes_are_permuted_and_added(order, called):
    assert_same(lambda x: [x.dimshuffle(order), (2 * x).dimshuffle(order)], WIDE)
    assert DimShuffle not in called


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (2, "x", 1)])
def test_axes_are_dropped(order, called):
    assert_same(lambda x: x.dimshuffle(order), CUBE)
    assert DimShuffle not in called


def test_all_axes_are_dropped_and_others_added(called):
    assert_same(lambda x: (2 * x).dimshuffle("x", "x", "x"), np.ones((1, 1)))
    assert DimShuffle not in called


def test_what_cannot_be_written_is_a_function(called):
    cube = np.random.default_rng(3).normal(size=(2, 3, 4))
    assert_same(lambda x: x.transpose(2, 0, 1), cube)
    assert DimShuffle in called


def test_known_shapes(called):
    assert_same(lambda x: [x.reshape((6,)), (x.T + 1).reshape((2, -1)), x.T.ravel()], WIDE[:, :2])
    assert Reshape not in called


@pytest.mark.parametrize(
    ("values", "index"), [(VECTOR, (ROWS,)), (MATRIX, (ROWS, COLUMNS))], ids=["vector", "matrix"]
)
def test_known_places(values, index, called):
    def build(x, y):
        return [x[index], x[index].set(y), x[index].inc(y), (2 * x)[index].inc(2 * y)]

    assert_same(build, values, np.arange(4.0))
    assert not {AdvancedSubtensor, AdvancedIncSubtensor} & set(called)


def test_places_in_several_dimensions_and_one_number_for_all(called):
    def build(x):
        return [x[ROWS[:, None], COLUMNS], x[ROWS[:, None], COLUMNS[:, None]], x[ROWS, 0].sum()]

    assert_same(build, MATRIX)
    assert_same(lambda x: [x[ROWS, COLUMNS].inc(x.sum()), x[ROWS, COLUMNS].set(2.0)], MATRIX)
    assert not {AdvancedSubtensor, AdvancedIncSubtensor} & set(called)


def test_known_places_of_each_item_of_a_batch(called):
    cube = np.random.default_rng(8).normal(size=(2, 5, 3, 3))

    def build(x, y):
        return [
            x[..., ROWS, COLUMNS],
            x[..., ROWS, COLUMNS].inc(y),
            x[..., ROWS, COLUMNS].set(y[:, :1]),
        ]

    assert_same(build, cube[0], np.random.default_rng(9).normal(size=(5, 4)))
    assert_same(lambda x: x[:, :, ROWS, COLUMNS].inc(1.5), cube)
    assert not {AdvancedSubtensor, AdvancedIncSubtensor} & set(called)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sums_and_products_along_an_axis(axis, called):
    def build(x):
        return [pt.cumsum(x, axis=axis), pt.cumprod(2 * x, axis=axis), x.sum()]

    assert_same(build, CUBE[0])
    assert CumOp not in called


def test_diagonals_of_matrices_in_a_batch():
    cube = np.random.default_rng(10).normal(size=(2, 3, 3))
    assert_same(lambda x: pt.diagonal(x, axis1=1, axis2=2), cube)
    assert_same(lambda x: pt.diagonal(x, axis1=-2, axis2=-1) * 2, cube[None])


def test_operations_on_each_item_of_a_batch(called):
    lower = np.tril(np.random.default_rng(11).normal(size=(5, 3, 3))) + 3 * np.eye(3)
    right = np.random.default_rng(12).normal(size=(5, 3))

    def build(a, b):
        covariance = a @ a.mT
        return [
            cholesky(covariance),
            cholesky(covariance[0] * (1 + b[:, :1, None] ** 2)),
            solve_triangular(a, b, b_ndim=1, lower=True),
            solve_triangular(a, b.T, b_ndim=2, lower=True),  # one right side for all
            solve_triangular(a[0], b[..., None], b_ndim=2, lower=True),  # one matrix for all
        ]

    assert_same(build, lower, right)
    assert BlockwiseWithCoreShape not in called


def test_graphs_on_each_item_of_a_batch():
    """As of several particles, of whose values a part may be the same for all."""
    row, weights = pt.vector("row", shape=(4,)), pt.vector("weights", shape=(4,))
    value = logsumexp(row + pt.log(weights), axis=0)
    outputs = [value, *pytensor.grad(value, [row, weights])]

    def build(x, y):
        return [
            *vectorize_graph(outputs, {row: x, weights: y[:1]}),
            *vectorize_graph(outputs, {row: x[0], weights: y}),
        ]

    assert_same(build, WIDE, np.abs(WIDE) + 0.1)


def test_what_follows_from_nothing_in_such_a_graph_can_be_rewritten():
    row = pt.vector("row", shape=(4,))

    def two():
        return pt.exp(pt.constant(np.log(2.0)))

    inner = OpFromGraph([row], [row * two(), (row + two()).sum()])

    def build(x):
        # The same number is outside too, and PyTensor puts one in the place of the other.
        return [*vectorize_graph(inner(row), {row: x}), x - two()]

    with pytensor.config.change_flags(on_opt_error="raise"):
        assert_same(build, WIDE)


@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 3, 2)])
def test_rows_by_their_numbers(shape, called):
    values = np.random.default_rng(4).normal(size=shape)
    numbers = np.array([3, 0, -1, 6, -7, 3])
    assert_same(lambda x, rows: [x[rows], (2 * x)[rows], x[::-1][rows + 0]], values, numbers)
    assert AdvancedSubtensor not in called


def test_more_rows_than_memory_is_asked_for_ahead(called):
    values = np.random.default_rng(5).normal(size=(1_000, 5)).astype("float32")
    numbers = np.random.default_rng(6).integers(1_000, size=100)
    for dtype in ("int64", "int32", "uint8"):
        rows = numbers.astype(dtype)
        assert_same(lambda x, rows: [x[rows], x.T[:, rows]], values, rows)
    assert AdvancedSubtensor in called  # of columns


def test_rows_of_several_known_widths_in_one_function():
    rng = np.random.default_rng(7)
    numbers = np.array([40, 0, -1, 17, 3, 17] * 5)
    arrays = [rng.normal(size=(41, *rest)) for rest in ((), (3,), (2, 4), (70,))]
    arrays += [arrays[1].astype("float32"), rng.integers(9, size=(41, 3)), arrays[1][:, ::-1]]
    shared = [pytensor.shared(array, shape=array.shape, borrow=True) for array in arrays]
    rows = pt.lvector()
    found = pytensor.function([rows], [x[rows] for x in shared], mode=training_mode())(numbers)
    for array, taken in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(taken, array[numbers])
        assert taken.dtype == array.dtype


@pytest.mark.parametrize("number", [7, -8])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_row_that_does_not_exist_is_an_error(number, reverse):
    x, rows = pytensor.shared(np.ones((7, 2))), pt.lvector()
    taken = (x[::-1] if reverse else x)[rows]
    function = pytensor.function([rows], taken, mode=training_mode())
    with pytest.raises(IndexError, match="of an axis with"):
        function(np.array([0, number]))


def test_places_that_a_loop_is_given(called):
    def build(x):
        last = pytensor.scan(
            lambda last, _, places: pt.tanh(last[places]).sum() + last,
            outputs_info=[x],
            non_sequences=[x[0] * 0, pt.constant(ROWS)],
            n_steps=3,
            return_updates=False,
        )
        return last[-1]

    assert_same(build, VECTOR)
    assert AdvancedSubtensor not in called


def test_the_array_that_is_written_to_stays_as_it_was():
    x = pytensor.shared(VECTOR.copy(), shape=(6,))
    function = pytensor.function([], x[ROWS].set(0.0 * x[:4]), mode=training_mode())
    assert function().tolist() == [0.0, 0.0, 0.0, 4.0, 5.0, 6.0]
    np.testing.assert_array_equal(x.get_value(), VECTOR)


def test_other_places_are_left_to_functions(called):
    def build(x, i):
        once = x[ROWS].inc(x[:4], ignore_duplicates=True)
        return [x[i[:, None]], x[i].inc(x[:4]), once]

    assert_same(build, VECTOR, ROWS)
    assert {AdvancedSubtensor, AdvancedIncSubtensor} <= set(called)


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("unit_diagonal", [True, False])
def test_small_triangular_systems(lower, unit_diagonal, called):
    def build(a, b):
        a = a if lower else a.T
        options = {"lower": lower, "unit_diagonal": unit_diagonal}
        return [
            solve_triangular(a, b, b_ndim=2, **options),
            solve_triangular(a, b[:, 0], b_ndim=1, **options),
            solve_triangular(a, (b * 2), b_ndim=2, **options),
        ]

    assert_same(build, LOWER, WIDE)
    assert SolveTriangular not in called


def test_a_system_without_a_solution_is_nan():
    singular = LOWER * [[1.0], [0.0], [1.0]]
    mine, _ = results(lambda a, b: solve_triangular(a, b, lower=True), singular, WIDE)
    assert np.isnan(mine[0]).all()


def test_large_triangular_systems_are_left_to_lapack(called):
    large = np.eye(40) + np.tril(np.ones((40, 40)))
    assert_same(lambda a, b: solve_triangular(a, b, lower=True), large, np.ones((40, 2)))
    assert SolveTriangular in called


@pytest.mark.parametrize("lower", [True, False])
def test_small_cholesky_factors(lower, called):
    def build(a):
        return [cholesky(a, lower=lower), cholesky(a + pt.eye(3), lower=lower)]

    one_sided = LOWER @ LOWER.T + (np.triu(MATRIX, 1) if lower else np.tril(MATRIX, -1))
    assert_same(build, LOWER @ LOWER.T)
    assert_same(build, one_sided)  # the other triangle is not looked at
    assert Cholesky not in called


@pytest.mark.parametrize("bad", [[[1.0, 2.0], [2.0, 1.0]], [[1.0, np.nan], [np.nan, 1.0]]])
def test_a_matrix_without_a_factor_is_nan(bad):
    mine, _ = results(cholesky, np.array(bad))
    assert np.isnan(mine[0]).all()


@pytest.mark.parametrize("shape", [(2, 3, 4), (5, 1, 3, 4)])
def test_arrays_are_repeated(shape, called):
    assert_same(lambda x: pt.alloc(x, *shape), CUBE[:, :, :])
    assert Alloc not in called


@pytest.mark.parametrize("offset", [0, 2, -1])
def test_diagonal_matrices(offset, called):
    assert_same(lambda x: pt.diag(x, offset), VECTOR)
    assert AllocDiag not in called


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products(dtype, called):
    def build(x, y):
        return [x @ y, x.T @ x, x @ y[:, 0], y.T @ y[:, 0], (x @ y).T @ (2 * x), x[:, :1].T @ x]

    wide = np.random.default_rng(4).normal(size=(5, 3)).astype(dtype)
    for mine, expected in zip(*results(build, wide, WIDE.astype(dtype)), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5 if dtype == "float32" else 1e-12)
        assert mine.dtype == dtype
    assert Dot not in called


def test_products_of_large_matrices_of_any_strides():
    x = np.random.default_rng(5).normal(size=(60, 50))
    wide = pytensor.shared(x)
    rows = [wide[::2, ::3], wide[:, 1:]]
    outputs = [rows[0] @ rows[0].T, rows[1] @ np.ones(49), rows[1].T @ wide[:, 0]]
    found = pytensor.function([], outputs, mode=training_mode())()
    expected = [x[::2, ::3] @ x[::2, ::3].T, x[:, 1:] @ np.ones(49), x[:, 1:].T @ x[:, 0]]
    for mine, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-12)


@pytest.mark.parametrize("shapes", [((3, 0), (0, 2)), ((3, 0), (0, 1)), ((0, 3), (3, 2))])
def test_products_of_nothing(shapes, called):
    assert_same(lambda x, y: x @ y, *map(np.ones, shapes))


def test_products_of_stacks(called):
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 3, 5))
    large = rng.normal(size=(4, 3, 100))

    def build(x, y, large):
        return [x @ y, x @ large, large.mT @ y, x[:2] @ y[:2]]

    for mine, expected in zip(*results(build, x, y, large), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-12)
    assert BatchedDot not in called


def test_gradients_of_graphs_are_written_out(called):
    def build(x):
        value = logsumexp(x, axis=1).sum()
        return [value, pt.grad(value, x)]

    assert_same(build, WIDE)
    assert not [kind for kind in called if "FromGraph" in kind.__name__]
