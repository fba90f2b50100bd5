"""Every transform: the way back, the Jacobian, dtypes, one row as many."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprob import flows
from jaxprob.flows.couplings import alternating_mask
from tests.flows.cases import CONDITION, TRANSFORMS, B, D, Z, compiled, drawn

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}

# The others, and short floats, are longer proofs.
QUICK = (
    "AffineCoupling, condition alone",
    "SplineCoupling",
    "MAF",
    "Planar, condition",
    "Permutation",
    "LULinear",
    "Rescale",
)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(
            name, dtype, marks=[] if name in QUICK and dtype == "float64" else [pytest.mark.slow]
        )
        for dtype in TOLERANCE
        for name in TRANSFORMS
    ],
)
def test_round_trip_and_jacobian(name, dtype):
    transform, conditional = TRANSFORMS[name]
    condition = CONDITION.astype(dtype) if conditional else None
    z = Z.astype(dtype)
    variables = drawn(transform, z, condition, method="forward", size=0.35, dtype=dtype)
    assert jax.tree.all(jax.tree.map(np.any, variables))

    def one(method):
        def run(z, condition):
            return transform.apply(variables, z, condition, method=method)

        return run

    @compiled
    def measure(z, condition):
        axes = (0, None if condition is None else 0)
        x, log_det = one("forward")(z, condition)
        back, log_det_back = one("inverse")(x, condition)
        rows, _ = jax.vmap(one("forward"), axes)(z, condition)
        jacobian = jax.vmap(jax.jacfwd(lambda *a: one("forward")(*a)[0]), axes)(z, condition)
        inverse = jax.vmap(jax.jacrev(lambda *a: one("inverse")(*a)[0]), axes)(x, condition)
        slogdet = jnp.linalg.slogdet(jacobian)
        return x, log_det, back, log_det_back, rows, slogdet, jacobian @ inverse

    x, log_det, back, log_det_back, rows, slogdet, product = measure(z, condition)
    assert x.dtype == log_det.dtype == back.dtype == dtype
    assert log_det.shape == log_det_back.shape == (B,)
    tolerance = TOLERANCE[dtype]
    close = {"rtol": tolerance, "atol": tolerance}
    assert np.abs(x - z).max() > 0.1
    np.testing.assert_allclose(back, z, **close)
    np.testing.assert_allclose(log_det_back, -log_det, **close)
    np.testing.assert_allclose(log_det, slogdet[1], **close)
    np.testing.assert_allclose(rows, x, **close)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(D), product.shape), **close)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_autoregressive_jacobian_is_triangular_in_the_order(order):
    transform = flows.MaskedAffineAutoregressive(D, (7, 6, 5), order)
    variables = drawn(transform, Z, method="inverse")
    run = compiled(jax.jacfwd(lambda x: transform.apply(variables, x, method="inverse")[0]))
    jacobian = np.asarray(run(Z[0]))[np.ix_(order, order)]
    assert (np.triu(jacobian, 1) == 0.0).all()
    assert (np.tril(jacobian) != 0.0)[np.tril_indices(D)].all()


def test_masks_alternate():
    assert alternating_mask(3, 0) == (True, False, True)
    assert alternating_mask(3, 1) == (False, True, False)
    assert alternating_mask(1, 0) == alternating_mask(1, 1) == (False,)


def test_permutations():
    assert flows.Permutation.reverse(3).order == (2, 1, 0)
    drawn_order = flows.Permutation.random(jax.random.key(3), 6).order
    assert drawn_order == tuple(np.asarray(jax.random.permutation(jax.random.key(3), 6)).tolist())


def test_log_scales_are_bounded():
    """However large the network's outputs, one layer stretches by no more than its bound."""
    coupling = flows.AffineCoupling((True, False), (4,), scale_bound=2.0)
    maf = flows.MaskedAffineAutoregressive(2, (4,), scale_bound=2.0)
    linear = flows.LULinear(2, scale_bound=2.0)
    for transform, most in ((coupling, 2.0), (maf, 4.0), (linear, 4.0)):
        variables = drawn(transform, Z[:, :2], method="inverse", size=1e3)
        variables = jax.tree.map(np.abs, variables)
        run = compiled(functools.partial(transform.apply, variables, method="inverse"))
        assert np.abs(run(np.abs(Z[:, :2]))[1]).max() == pytest.approx(most, abs=1e-6)


def test_planar_without_a_direction_is_a_translation():
    planar = flows.Planar(2)
    params = {"w": jnp.zeros(2), "u": jnp.array([1.0, -2.0]), "b": jnp.array([0.3])}
    x, log_det = planar.apply({"params": params}, Z[:, :2], method="forward")
    np.testing.assert_allclose(x - Z[:, :2], np.tanh(0.3) * np.tile([1.0, -2.0], (B, 1)))
    np.testing.assert_allclose(log_det, 0.0, atol=1e-15)


def test_planar_is_invertible_however_hard_it_pushes_back():
    """u against w: without the constraint the map would fold, and the bracket hold three roots."""
    planar = flows.Planar(2)
    params = {"w": jnp.array([2.0, 1.0]), "u": jnp.array([-3.0, 2.0]), "b": jnp.zeros(1)}
    z = np.stack([np.linspace(-2.0, 2.0, 41), np.zeros(41)], 1)

    @compiled
    def run(z):
        x, log_det = planar.apply({"params": params}, z, method="forward")
        return x, log_det, planar.apply({"params": params}, x, method="inverse")[0]

    x, log_det, back = run(z)
    assert (np.diff(x @ params["w"]) > 0).all()
    np.testing.assert_allclose(back, z, atol=1e-10)
    assert np.isfinite(log_det).all()
    assert log_det.min() < -2.0


def test_units_of_integers():
    """Counts, say: the units are no integers because the data are; SciPy's normal."""
    mean, std, counts = np.array([0.5, -1.5]), np.array([0.4, 2.5]), np.arange(6).reshape(3, 2)
    model = flows.Flow(2, (flows.Rescale(tuple(mean), tuple(std)),))
    expected = stats.norm(mean, std).logpdf(counts).sum(-1)
    np.testing.assert_allclose(model.apply({}, counts), expected, rtol=1e-12)
    x, _ = flows.Rescale(tuple(mean), tuple(std)).apply({}, counts, method="forward")
    np.testing.assert_allclose(x, mean + std * counts, rtol=1e-12)


@pytest.mark.parametrize("dtypes", [("float64", "float32"), ("float32", "float64")])
def test_autoregressive_in_d_passes_with_parameters_of_another_dtype(dtypes):
    """As the other direction, which is one pass, promotes."""
    transform = flows.MaskedAffineAutoregressive(2, (3,))
    z = Z[:, :2].astype(dtypes[0])
    variables = drawn(transform, z, method="inverse", dtype=dtypes[1])

    @compiled
    def run(z):
        x, log_det = transform.apply(variables, z, method="forward")
        return x, log_det, *transform.apply(variables, x, method="inverse")

    x, log_det, back, log_det_back = run(z)
    assert x.dtype == log_det.dtype == "float64"
    np.testing.assert_allclose(back, z, rtol=1e-12)
    np.testing.assert_allclose(log_det_back, -log_det, rtol=1e-12)


def test_planar_made_for_a_condition_refuses_to_go_without():
    planar = flows.Planar(D, (4,))
    variables = drawn(planar, Z, CONDITION, method="forward")
    for method in ("forward", "inverse"):
        with pytest.raises(ValueError, match="made for a condition and none was given"):
            planar.apply(variables, Z, method=method)


ERRORS = {
    "long mask": (
        flows.AffineCoupling((True, False, True)),
        r"AffineCoupling: events have shape \(5, 2\), but its mask has 3 entries",
    ),
    "short mask": (flows.SplineCoupling((False,)), "but its mask has 1 entries"),
    "long order": (flows.Permutation((1, 0, 2)), "but its order has 3 entries"),
    "short order": (flows.Permutation((0,)), "but its order has 1 entries"),
    "long units": (flows.Rescale((1.0, 2.0, 3.0)), "but its mean has 3 entries"),
    "nothing moves": (flows.AffineCoupling((True, True)), "mask must leave an element"),
    "nothing passes": (flows.AffineCoupling((False, False)), "lets no element pass"),
    "bins": (flows.SplineCoupling((True, False), bins=1), "bins must be at least 2"),
    "bound": (flows.SplineCoupling((True, False), bound=0.0), "bound must be positive"),
    "std": (flows.Rescale(0.0, (1.0, 0.0)), "std must be positive"),
    "order": (flows.Permutation((0, 2)), "order must list each of 0..1 once"),
    "order of a chain": (
        flows.MaskedAffineAutoregressive(2, order=(1, 1)),
        "order must list each of 0..1 once",
    ),
    "features": (flows.MaskedAffineAutoregressive(3), "expected features=3"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    transform, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        drawn(transform, Z[:, :2], method="inverse")
