"""The maps of constraints, their inverses and their volume changes."""

from __future__ import annotations

import pickle

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pymc_svi import constraints as cs
from tests.constraints.evaluating import draw, evaluate


def lower(n, k=0):
    return lambda value: value[..., *np.tril_indices(n, k)]


# constraint, unconstrained event shape, free elements of a constrained event
CASES = {
    "real": (cs.real, (), lambda v: v),
    "positive": (cs.positive, (), lambda v: v),
    "softplus_positive": (cs.softplus_positive, (), lambda v: v),
    "unit_interval": (cs.unit_interval, (), lambda v: v),
    "interval": (cs.interval(-2, 3), (), lambda v: v),
    "interval_of_arrays": (cs.interval([-2.0, 0.0, 1.0], 3), (3,), lambda v: v),
    "greater_than": (cs.greater_than(1.5), (), lambda v: v),
    "less_than": (cs.less_than(-1.5), (), lambda v: v),
    "simplex": (cs.simplex, (3,), lambda v: v[..., :-1]),
    "simplex_of_one": (cs.simplex, (0,), lambda v: v[..., :-1]),
    "ordered_vector": (cs.ordered_vector, (4,), lambda v: v),
    "positive_ordered_vector": (cs.positive_ordered_vector, (4,), lambda v: v),
    "lower_cholesky": (cs.lower_cholesky, (6,), lower(3)),
    "lower_cholesky_1x1": (cs.lower_cholesky, (1,), lower(1)),
    "unit_lower_cholesky": (cs.unit_lower_cholesky, (6,), lower(4, -1)),
    "scaled_unit_lower_cholesky": (cs.scaled_unit_lower_cholesky, (10,), lower(4)),
    "corr_cholesky": (cs.corr_cholesky, (6,), lower(4, -1)),
    "corr_cholesky_1x1": (cs.corr_cholesky, (0,), lower(1, -1)),
    "corr_cholesky_2x2": (cs.corr_cholesky, (1,), lower(2, -1)),
}
every_constraint = pytest.mark.parametrize(
    ("constraint", "event", "free"), CASES.values(), ids=CASES.keys()
)


@every_constraint
def test_round_trip_returns_the_value(constraint, event, free):
    value = constraint.constrain_value(draw(event, (2, 5)))
    u = constraint.unconstrain(value)
    assert u.dtype == pytensor.config.floatX
    np.testing.assert_allclose(u, draw(event, (2, 5)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(constraint.constrain_value(u), value, rtol=1e-12, atol=1e-12)


@every_constraint
def test_constrained_values_are_inside(constraint, event, free):
    value = constraint.constrain_value(draw(event, (2, 5)))
    assert constraint.violation(value) == ""
    assert constraint.check(value) is True
    assert constraint.unconstrained_shape(value.shape) == (2, 5, *event)
    assert value.ndim >= constraint.event_dim


@every_constraint
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_symbolic_map_equals_its_numpy_twin(constraint, event, free, batch, static):
    u = draw(event, batch)
    symbolic = evaluate(constraint.constrain, u, static=static)
    numeric = constraint.constrain_value(u)
    assert symbolic.dtype == numeric.dtype == u.dtype
    assert symbolic.shape == numeric.shape
    np.testing.assert_allclose(symbolic, numeric, rtol=1e-12, atol=1e-14)


@every_constraint
def test_maps_keep_float32(constraint, event, free):
    u = draw(event, (2,)).astype("float32")
    symbolic = evaluate(constraint.constrain, u)
    assert symbolic.dtype == "float32"
    assert constraint.constrain_value(u).dtype == "float32"
    assert evaluate(constraint.log_jac_det, u).dtype == "float32"
    np.testing.assert_allclose(symbolic, constraint.constrain_value(u), rtol=1e-5, atol=1e-6)


@every_constraint
def test_log_jac_det_equals_the_numerical_jacobian(constraint, event, free):
    u = draw(event)
    flat = u.ravel()
    step = 1e-6

    def free_elements(x):
        return np.ravel(free(constraint.constrain_value(x.reshape(u.shape))))

    jacobian = np.zeros((flat.size, flat.size))
    for i in range(flat.size):
        shift = step * np.eye(flat.size)[i]
        jacobian[:, i] = (free_elements(flat + shift) - free_elements(flat - shift)) / (2 * step)
    expected = np.linalg.slogdet(jacobian)[1]
    found = evaluate(constraint.log_jac_det, u)
    if constraint.event_dim == 0:
        assert found.shape == u.shape
    else:
        assert found.shape == ()
    np.testing.assert_allclose(found.sum(), expected, atol=1e-7)


@every_constraint
def test_log_jac_det_works_batched(constraint, event, free):
    u = draw(event, (2, 3))
    batched = evaluate(constraint.log_jac_det, u, static=False)
    each = [[evaluate(constraint.log_jac_det, row) for row in block] for block in u]
    np.testing.assert_allclose(batched, each, rtol=1e-12)


@every_constraint
def test_map_is_differentiable(constraint, event, free):
    u = draw(event)

    def gradient(variable):
        weight = pt.as_tensor(np.arange(1.0, 1 + constraint.constrain_value(u).size))
        return pt.grad((constraint.constrain(variable).ravel() * weight).sum(), variable)

    found = evaluate(gradient, u)
    weight = np.arange(1.0, 1 + constraint.constrain_value(u).size)
    expected = np.zeros(u.size)
    for i, shift in enumerate(1e-6 * np.eye(u.size)):
        shift = shift.reshape(u.shape)
        difference = constraint.constrain_value(u + shift) - constraint.constrain_value(u - shift)
        expected[i] = (difference.ravel() * weight).sum() / 2e-6
    np.testing.assert_allclose(found, expected.reshape(u.shape), rtol=1e-6, atol=1e-7)


@every_constraint
def test_works_on_shared_variables_without_static_shape(constraint, event, free):
    shared = pytensor.shared(draw(event), name="u")
    found = constraint.constrain(shared).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(found, constraint.constrain_value(draw(event)), rtol=1e-12)


@every_constraint
def test_equality_hash_and_pickle(constraint, event, free):
    copy = pickle.loads(pickle.dumps(constraint))
    assert copy == constraint
    assert hash(copy) == hash(constraint)
    assert repr(copy) == repr(constraint)
    assert constraint.name in repr(constraint)


def test_all_constraints_differ():
    different = [case[0] for key, case in CASES.items() if "_of_one" not in key and "x" not in key]
    different += [cs.simplex, cs.corr_cholesky]
    assert len(set(different)) == len({repr(c) for c in different})
    assert cs.interval(0, 1) == cs.interval(0.0, 1.0)
    assert cs.interval(0, 1) != cs.interval(0, 2)
    assert cs.nonnegative == cs.positive


finite = st.floats(-8, 8, allow_nan=False, width=64)


@pytest.mark.parametrize(
    "constraint",
    [
        cs.positive,
        cs.softplus_positive,
        cs.unit_interval,
        cs.interval(-1, 4),
        cs.greater_than(2),
        cs.less_than(2),
    ],
    ids=repr,
)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_elementwise_round_trip(constraint, data):
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=4))
    u = data.draw(hnp.arrays("float64", shape, elements=finite))
    value = constraint.constrain_value(u)
    assert constraint.check(value)
    np.testing.assert_allclose(constraint.unconstrain(value), u, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "constraint",
    [cs.lower_cholesky, cs.unit_lower_cholesky, cs.scaled_unit_lower_cholesky, cs.corr_cholesky],
    ids=repr,
)
@given(n=st.integers(1, 6), batch=st.sampled_from([(), (2,), (2, 1)]), data=st.data())
@settings(max_examples=40, deadline=None)
def test_cholesky_round_trip(constraint, n, batch, data):
    shape = constraint.unconstrained_shape((*batch, n, n))
    u = data.draw(hnp.arrays("float64", shape, elements=st.floats(-4, 4, width=64)))
    value = constraint.constrain_value(u)
    assert value.shape == (*batch, n, n)
    assert constraint.violation(value) == ""
    np.testing.assert_allclose(constraint.unconstrain(value), u, rtol=1e-6, atol=1e-6)


@given(
    u=hnp.arrays("float64", hnp.array_shapes(min_dims=1, max_dims=3), elements=finite),
    constraint=st.sampled_from([cs.simplex, cs.ordered_vector, cs.positive_ordered_vector]),
)
@settings(max_examples=60, deadline=None)
def test_vector_round_trip(u, constraint):
    value = constraint.constrain_value(u)
    back = constraint.constrain_value(constraint.unconstrain(value))
    np.testing.assert_allclose(back, value, rtol=1e-8)


def test_softplus_inverse_keeps_small_and_large_values():
    value = np.array([1e-300, 1e-12, 1.0, 700.0, 1e8])
    u = cs.softplus_positive.unconstrain(value)
    assert np.isfinite(u).all()
    np.testing.assert_allclose(cs.softplus_positive.constrain_value(u), value, rtol=1e-10)


def test_corr_cholesky_is_stable_near_the_boundary():
    u = np.array([18.0, -15.0, 17.0])
    value = cs.corr_cholesky.constrain_value(u)
    np.testing.assert_allclose(cs.corr_cholesky.unconstrain(value), u, rtol=1e-8)
    assert np.isfinite(evaluate(cs.corr_cholesky.log_jac_det, u * 20))
    assert np.isfinite(evaluate(cs.corr_cholesky.constrain, u * 20)).all()


def test_simplex_does_not_overflow():
    u = np.array([800.0, -800.0])
    assert np.isfinite(evaluate(cs.simplex.constrain, u)).all()
    assert np.isfinite(evaluate(cs.simplex.log_jac_det, u))


def test_cholesky_orders_are_numpyros():
    u = np.array([1.0, 2.0, 3.0, 0.0, np.log(2.0), np.log(3.0)])
    np.testing.assert_allclose(
        cs.lower_cholesky.constrain_value(u), [[1, 0, 0], [1, 2, 0], [2, 3, 3]]
    )
    one, two, three = np.log(np.expm1([1.0, 2.0, 3.0]))
    u = np.array([1.0, 2.0, 3.0, one, two, three])
    np.testing.assert_allclose(
        cs.scaled_unit_lower_cholesky.constrain_value(u), [[1, 0, 0], [2, 2, 0], [6, 9, 3]]
    )
    half = cs.corr_cholesky.constrain_value(np.arctanh([0.6]))
    np.testing.assert_allclose(half, [[1, 0], [0.6, 0.8]])
