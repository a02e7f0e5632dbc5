"""What is inside a constraint, and what users pass as one."""

from __future__ import annotations

import pickle

import numpy as np
import pytensor.tensor as pt
import pytest
from pymc.distributions import transforms
from pymc.logprob.transforms import AbsTransform

from pymc_svi import constraints as cs
from tests.constraints.evaluating import draw, evaluate


def lower(n, k=0):
    return lambda value: value[..., *np.tril_indices(n, k)]


# constraint, unconstrained event shape, free elements of a constrained event
@pytest.mark.parametrize(
    ("constraint", "value", "message"),
    [
        (cs.real, [0.0, np.nan], "must be finite; found nan at index (1,)"),
        (cs.real, "abc", "must be an array of real numbers; found dtype <U3"),
        (cs.real, 1j, "must be an array of real numbers; found dtype complex128"),
        (cs.positive, [1.0, 2.0, -1.0], "must be positive; found -1.0 at index (2,)"),
        (cs.positive, 0, "must be positive; found 0.0"),
        (cs.positive, np.inf, "must be finite; found inf"),
        (cs.softplus_positive, -1, "must be positive; found -1.0"),
        (cs.unit_interval, 1.0, "must lie strictly between 0 and 1; found 1.0"),
        (cs.interval(0, 2), 3, "must lie strictly between 0.0 and 2.0; found 3.0"),
        (cs.greater_than(1), 0.5, "must be greater than 1.0; found 0.5"),
        (cs.less_than(1), [[2.0]], "must be less than 1.0; found 2.0 at index (0, 0)"),
        (cs.greater_than([0.0, 1.0]), 2.0, "must have the shape of its bounds, (2,); found ()"),
        (cs.simplex, [0.5, 0.4], "must sum to 1; found the sum 0.9"),
        (cs.simplex, [[0.5, 0.5], [1.5, -0.5]], "must be positive everywhere; found -0.5"),
        (cs.simplex, 0.3, "must have at least 1 dimension(s); found shape ()"),
        (cs.ordered_vector, [0.0, 2.0, 1.0], "must increase strictly along the last axis; found"),
        (cs.positive_ordered_vector, [-1.0, 2.0], "must be positive; found -1.0 at index (0,)"),
        (cs.positive_ordered_vector, [1.0, 1.0], "must increase strictly"),
        (cs.lower_cholesky, np.ones((2, 3)), "must be a square matrix in its last two axes"),
        (cs.lower_cholesky, np.ones(3), "must have at least 2 dimension(s); found shape (3,)"),
        (cs.lower_cholesky, np.ones((2, 2)), "zero above the diagonal; found 1.0 at index (0, 1)"),
        (cs.lower_cholesky, -np.eye(2), "a positive diagonal; found -1.0 at index (0, 0)"),
        (cs.unit_lower_cholesky, np.diag([1.0, 2.0]), "ones on the diagonal; found 2.0"),
        (cs.scaled_unit_lower_cholesky, np.zeros((2, 2)), "must have a positive diagonal"),
        (cs.corr_cholesky, 2 * np.eye(2), "must have rows of norm 1; found the norm 2.0"),
    ],
)
def test_violation_says_what_is_wrong(constraint, value, message):
    assert message in constraint.violation(value)
    assert not constraint.check(value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cs.interval(1, 0), "lower_bound must be less than upper_bound"),
        (lambda: cs.interval(0, np.nan), "upper_bound must be finite"),
        (lambda: cs.greater_than(-np.inf), "lower_bound must be finite"),
        (lambda: cs.less_than(np.inf), "upper_bound must be finite"),
        (lambda: cs.lower_cholesky.constrain_value(np.zeros(5)), "5 unconstrained numbers"),
        (lambda: cs.corr_cholesky.constrain(pt.tensor(shape=(5,))), "strict lower triangle"),
        (lambda: cs.simplex.unconstrained_shape((2, 0)), "at least one entry"),
    ],
)
def test_impossible_constraints_and_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_symbolic_bounds_are_refused():
    with pytest.raises(TypeError, match="must be a number or an array of numbers"):
        cs.interval(0, pt.scalar("b"))


@pytest.mark.parametrize(
    ("transform", "constraint"),
    [
        (transforms.log, cs.positive),
        (transforms.log_exp_m1, cs.softplus_positive),
        (transforms.logodds, cs.unit_interval),
        (transforms.simplex, cs.simplex),
        (transforms.ordered, cs.ordered_vector),
        (transforms.Ordered(positive=True), cs.positive_ordered_vector),
        (transforms.Interval(0, 2), cs.interval(0, 2)),
        (transforms.Interval(0, None), cs.greater_than(0)),
        (transforms.Interval(None, 2), cs.less_than(2)),
    ],
)
def test_pymc_transforms_become_the_constraint_with_the_same_map(transform, constraint):
    assert cs.as_constraint(transform) == constraint
    u = draw((4,), (2,))
    np.testing.assert_allclose(
        evaluate(transform.backward, u), constraint.constrain_value(u), rtol=1e-12
    )
    np.testing.assert_allclose(
        evaluate(transform.log_jac_det, u), evaluate(constraint.log_jac_det, u), rtol=1e-8
    )


FOREIGN = {
    "zero_sum": (transforms.ZeroSumTransform([-1]), (4,), (3,), 1),
    "zero_sum_2d": (transforms.ZeroSumTransform([-2, -1]), (4, 3), (3, 2), 2),
    "chain": (transforms.Chain([transforms.log, transforms.ordered]), (4,), (4,), 1),
    "descending": (transforms.Ordered(ascending=False), (4,), (4,), 1),
    "packed": (transforms.CholeskyCovPacked(3), (6,), (6,), 1),
    "covariance": (transforms.CholeskyCovTransform(3), (3, 3), (6,), 2),
    "correlation": (transforms.CholeskyCorrTransform(3), (3, 3), (3,), 2),
    "circular": (transforms.circular, (), (), 0),
}


@pytest.mark.parametrize("case", FOREIGN.values(), ids=FOREIGN.keys())
def test_any_pymc_transform_is_a_constraint(case):
    transform, event, free, event_dim = case
    constraint = cs.as_constraint(transform)
    assert constraint.event_dim == event_dim
    assert constraint.unconstrained_shape(event) == free
    u = draw(free)
    value = constraint.constrain_value(u)
    assert value.shape == event
    assert constraint.violation(value) == ""
    np.testing.assert_allclose(constraint.unconstrain(value), u, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(evaluate(constraint.constrain, u), value, rtol=1e-12)
    np.testing.assert_allclose(
        evaluate(constraint.log_jac_det, u), evaluate(transform.log_jac_det, u)
    )


def test_foreign_transforms_check_compare_and_pickle():
    zero_sum = cs.from_transform(transforms.ZeroSumTransform([-1]))
    assert zero_sum == cs.from_transform(transforms.ZeroSumTransform([-1]))
    assert zero_sum != cs.from_transform(transforms.ZeroSumTransform([-2]))
    assert hash(zero_sum) == hash(pickle.loads(pickle.dumps(zero_sum)))
    assert pickle.loads(pickle.dumps(zero_sum)) == zero_sum
    assert not zero_sum.check([1.0, 2.0])
    assert "must be inside zerosum" in zero_sum.violation([1.0, 2.0])
    covariance = cs.from_transform(transforms.CholeskyCovTransform(2))
    assert not covariance.check([[1.0, 2.0], [2.0, 1.0]])
    assert repr(zero_sum) == "from_transform(ZeroSumTransform)"


def test_interval_that_depends_on_a_distribution_is_refused():
    depends = transforms.Interval(bounds_fn=lambda rng, size, mu, sigma: (mu - 1, None))
    with pytest.raises(TypeError, match="constant bounds"):
        cs.as_constraint(depends)


def test_many_to_one_transform_is_refused():
    with pytest.raises(TypeError, match="one-to-one"):
        cs.as_constraint(AbsTransform())


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("positive", r"Pass the object: constraints\.positive"),
        ("positve", r"Pass the object: constraints\.positive"),
        ("abcdef", r"Pass an object of pymc_svi\.constraints"),
        (cs.interval, r"as in interval\(\.\.\.\)"),
        (transforms.Interval, r"the class Interval"),
        (None, "NoneType"),
        (np.exp, "scaled_unit_lower_cholesky"),
        ((0, 1), "of type tuple"),
    ],
)
def test_other_objects_are_refused_with_the_way_out(given_, message):
    with pytest.raises(TypeError, match=message):
        cs.as_constraint(given_)


def test_a_user_defined_constraint_plugs_in():
    class Negative(cs.Constraint):
        name = "negative"

        def unconstrain(self, value):
            return np.log(-np.asarray(value))

        def constrain(self, u):
            return -pt.exp(u)

        def constrain_value(self, u):
            return -np.exp(u)

        def log_jac_det(self, u):
            return u

    assert cs.as_constraint(Negative()).check(-1.0)
    assert repr(Negative()) == "negative"
