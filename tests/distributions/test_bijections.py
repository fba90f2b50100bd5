"""Every constraint's bijection: its values are allowed, it inverts, and its log-determinant is
that of the Jacobian that autodiff finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import distributions as jd
from jaxprob.distributions import constraints

CONSTRAINTS = {
    name: value for name, value in vars(constraints).items()
    if isinstance(value, constraints.Constraint) and value.bijection is not None
} | {"interval": constraints.interval(-2.0, 5.0)}  # fmt: skip


def flat_coordinates(name, y):
    """As many coordinates of y as it has degrees of freedom."""
    if name.startswith("simplex"):
        return y[:-1]
    if y.ndim == 2:
        return y[np.tril_indices(y.shape[-1])]
    return y


def test_all_continuous_constraints_are_here():
    assert len(CONSTRAINTS) >= 12, sorted(CONSTRAINTS)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_values_inverse_and_log_determinant(name):
    constraint = CONSTRAINTS[name]
    forward, back = jd.to_constrained(constraint), jd.to_unconstrained(constraint)
    points = jnp.asarray(2.0 * np.random.default_rng(1).normal(size=(20, 6)))
    size = forward.event_ndims_in

    y, log_det = forward.forward_and_log_det(points)
    assert bool(jnp.all(constraint.check(y)))
    assert log_det.shape == (points.shape if size == 0 else points.shape[:1])
    x, log_det_back = back.forward_and_log_det(y)
    np.testing.assert_allclose(x, points, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(log_det_back, -log_det, rtol=1e-9, atol=1e-9)

    @jax.vmap
    def by_autodiff(x):
        jacobian = jax.jacfwd(lambda x: flat_coordinates(name, forward.forward(x)))(x)
        return jnp.linalg.slogdet(jacobian)[1]

    total = log_det.sum(-1) if size == 0 else log_det
    np.testing.assert_allclose(total, by_autodiff(points), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_float32_far_out_stays_finite_and_allowed(name):
    constraint = CONSTRAINTS[name]
    forward = jd.to_constrained(constraint)
    x = jnp.asarray([[-12.0, 10.0, 3.0, -11.0, 0.0, 7.0], [6.0] * 6], jnp.float32)
    y, log_det = jax.jit(forward.forward_and_log_det)(x)
    assert y.dtype == log_det.dtype == jnp.float32
    assert bool(jnp.all(jnp.isfinite(y)))
    assert bool(jnp.all(jnp.isfinite(log_det)))
    # In float32, steps of e^-12 beside e^10 are none, and L L^T of such factors is singular.
    if name not in ("ordered", "positive_definite"):
        assert bool(jnp.all(constraint.check(y)))


def test_a_discrete_constraint_has_no_bijection():
    with pytest.raises((TypeError, ValueError), match="no bijection"):
        jd.to_constrained(constraints.boolean)
