"""Gamma draws against SciPy, their slopes against mpmath."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxprob.distributions import gamma_draws as module
from jaxprob.distributions import rejection
from jaxprob.distributions.gamma_draws import gamma_draws, log_gamma_draws, log_slope
from tests.distributions.draws import KEY, require_laws, require_neighbours_stay
from tests.support.compilation import to_the_bit

CONCENTRATIONS = [1e-4, 0.1, 0.5, 0.99, 1.0, 1.5, 3.0, 10.0, 100.0, 1e4, 1e8]
LEVELS = [1e-6, 0.05, 0.3, 0.5, 0.8, 1 - 1e-6]


def exact_slope(a: float, log_z: float) -> float:
    """-(dF / da) / (z f) by mpmath: a series for z < 1, else its own quadrature of a tail."""
    with mpmath.workdps(40):
        a, s = mpmath.mpf(a), mpmath.mpf(log_z)
        z, c = mpmath.exp(s), mpmath.psi(0, a) - s
        if z < 1:
            terms = ((-z) ** k / mpmath.factorial(k) * (c / (a + k) + (a + k) ** -2)
                     for k in range(40))  # fmt: skip
            return float(mpmath.exp(z) * sum(terms))
        sign = 1 if z > a else -1

        def integrand(t):
            return (t - sign * c) * mpmath.exp(z - z * mpmath.exp(sign * t) + sign * a * t)

        last = 7 if sign > 0 else 7 + 200 / a
        ends = [x / mpmath.sqrt(max(a, z)) for x in (0, 1, 2, 4, 8, 16, 32)]
        return float(mpmath.quad(integrand, [*(x for x in ends if x < last), last]))


@pytest.fixture(scope="module")
def slopes():
    """Concentrations, logarithms of quantiles and exact slopes, all in one row each."""
    rows = []
    for a in CONCENTRATIONS:
        for level in LEVELS:
            z = scipy.stats.gamma.ppf(level, a)
            # where nothing is left of z its logarithm is known: F = z^a / Gamma(a + 1)
            log_z = (
                np.log(z) if z > 1e-9 else (np.log(level) + np.log(scipy.special.gamma(a + 1))) / a
            )
            rows.append((a, log_z, exact_slope(a, log_z)))
    return np.array(rows).T


# Rounding of log z moves z itself, by |log z| ulp; near the mean of a large one that is all.
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 3e-7), ("float64", 1e-12)])
def test_slope_is_exact(slopes, dtype, bound):
    a, log_z, expected = slopes
    z = np.exp(log_z).astype(dtype)
    slope = to_the_bit(log_slope)  # float32 has its digits by fused multiply and add
    found = slope(jnp.asarray(a, dtype), jnp.asarray(z), jnp.asarray(log_z, dtype))
    assert found.dtype == dtype
    conditioning = 1.0 + np.sqrt(a) * (a > 100)
    assert np.max(np.abs(found / expected - 1.0) / conditioning) < bound


@pytest.mark.parametrize("draws", [gamma_draws, lambda k, a: jnp.exp(log_gamma_draws(k, a))])
def test_draws_follow_the_distribution(draws):
    a = [0.05, 0.5, 1.0, 1.2, 4.0, 300.0]
    found = jax.jit(draws)(KEY, jnp.broadcast_to(jnp.asarray(a), (20_000, 6)))
    require_laws(found, [scipy.stats.gamma(concentration) for concentration in a])


def test_an_element_does_not_move_its_neighbours(monkeypatch):
    a = jnp.where(jnp.arange(2000) % 3 == 0, 0.4, 1.1)
    require_neighbours_stay(gamma_draws, a, 50.0, rtol=1e-13)
    expected = gamma_draws(KEY, a)
    # With room for a few of the rejected at a time the loop goes round again; without packing there
    # is one loop over all. (Other shapes, since this one is compiled already.)
    monkeypatch.setattr(module, "REJECTED", 1e-3)
    again = gamma_draws(KEY, a.reshape(40, 50))
    np.testing.assert_allclose(again.reshape(-1), expected, rtol=1e-13)
    monkeypatch.setattr(rejection, "SHORT", 2000)
    again = gamma_draws(KEY, a.reshape(50, 40))
    np.testing.assert_allclose(again.reshape(-1), expected, rtol=1e-13)


@pytest.mark.slow
def test_slopes_of_draws_that_underflow():
    a = jnp.full(50, 1e-3)
    logs, slope = jax.value_and_grad(lambda a: jnp.sum(log_gamma_draws(KEY, a)))(a)
    each = log_gamma_draws(KEY, a)
    exact = (scipy.special.digamma(1 + 1e-3) - each) / 1e-3  # of F = z^a / Gamma(a + 1), small z
    assert np.sum(each < -100.0) > 30
    np.testing.assert_allclose(slope[each < -20.0], exact[each < -20.0], rtol=1e-6)
    assert np.isfinite(logs)
    assert np.isfinite(jax.grad(lambda a: jnp.sum(gamma_draws(KEY, a)))(a)).all()


def test_no_draws():
    assert gamma_draws(KEY, jnp.ones((3, 0))).shape == (3, 0)


def test_what_is_no_concentration_gives_no_number_and_ends():
    a = jnp.asarray([jnp.nan, -0.5, -3.0, 0.0, 2.0, jnp.inf])
    found = gamma_draws(KEY, a)
    assert np.isnan(found[:3]).all()
    assert found[3] == 0.0
    assert np.isfinite(found[4])
    assert found[5] == np.inf
