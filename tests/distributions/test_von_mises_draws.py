"""Von Mises draws against SciPy, their slopes against mpmath."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats

from jaxprob.distributions.von_mises_draws import angle_slope, von_mises_draws
from tests.distributions.draws import KEY, require_laws, require_neighbours_stay


def exact_slope(k: float, angle: float) -> float:
    """-(dF / dk) / f, integrated from 0 in 30 digits."""
    with mpmath.workdps(30):
        k, angle = mpmath.mpf(k), mpmath.mpf(angle)
        mean = mpmath.besseli(1, k) / mpmath.besseli(0, k)

        def integrand(t):
            return (mpmath.cos(t) - mean) * mpmath.exp(k * (mpmath.cos(t) - mpmath.cos(angle)))

        return float(-mpmath.quad(integrand, mpmath.linspace(0, angle, 9)))


@pytest.mark.parametrize(
    ("dtype", "bound"), [pytest.param("float32", 3e-6, marks=pytest.mark.slow), ("float64", 1e-12)]
)
def test_slope_is_exact(dtype, bound):
    k = [1e-3, 0.1, 0.7, 2.0, 10.0, 300.0, 1e4]
    spread = [0.01, 0.5, 1.2, 2.0, 4.0]
    rows = [(a, b / np.sqrt(a)) for a in k for b in spread if b / np.sqrt(a) < 3.1]
    rows += [(a, b) for a in k[:4] for b in (0.02, 1.5, 1.6, 3.0)]
    k, angle = np.array(rows).astype(dtype).T
    expected = np.array([exact_slope(float(a), float(b)) for a, b in zip(k, angle, strict=True)])
    found = jax.jit(angle_slope)(jnp.asarray(k), jnp.asarray(angle))
    assert found.dtype == dtype
    assert np.max(np.abs(found / expected - 1.0)) < bound
    other_side = angle_slope(jnp.asarray(k), -jnp.asarray(angle))
    np.testing.assert_allclose(other_side, -found, rtol=bound)


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
def test_draws_follow_the_distribution(dtype):
    k = np.array([0.0, 1e-3, 0.3, 1.0, 5.0, 400.0, 1e6])
    found = von_mises_draws(KEY, jnp.broadcast_to(jnp.asarray(k, dtype), (20_000, 7)))
    laws = [scipy.stats.vonmises(concentration) for concentration in k[1:-1]]
    uniform, normal = scipy.stats.uniform(-np.pi, 2 * np.pi), scipy.stats.norm(0.0, k[-1] ** -0.5)
    require_laws(found, [uniform, *laws, normal])  # SciPy's own turns normal for large k


@pytest.mark.slow  # the mechanism is the gamma's, whose proof is a quick one
def test_an_element_does_not_move_its_neighbours():
    k = jnp.where(jnp.arange(3000) % 3 == 0, 0.4, 90.0)
    require_neighbours_stay(von_mises_draws, k, 2.0, rtol=1e-13)


def test_what_is_no_concentration_gives_no_number_and_ends():
    found = von_mises_draws(KEY, jnp.asarray([jnp.nan, -0.5, 0.0, 2.0, 1e300, jnp.inf]))
    assert np.isnan(found[:2]).all()
    assert (np.abs(found[2:4]) <= np.pi).all()
    assert 0.0 < np.abs(found[4]) < 1e-148
    assert found[5] == 0.0
