"""Slopes that are stated in closed form have slopes of their own: Hessians for Laplace and Newton.

The oracle is the central difference of the first derivatives, which have theirs in `test_oracle`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import distributions as jd

STEP = 1e-5

# name -> (distribution of parameters, value, points [P, N], the second with a concentration of 1)
CASES = {
    "Gamma": (jd.Gamma, 0.7, [[2.5, 1.3], [1.0, 0.6], [0.2, 3.0]]),
    "InverseGamma": (jd.InverseGamma, 0.7, [[2.5, 1.3], [1.0, 0.6]]),
    "Beta": (jd.Beta, 0.3, [[2.5, 1.3], [1.0, 1.0], [40.0, 0.3]]),
    "StudentT": (jd.StudentT, 0.7, [[3.0, 0.1, 1.4], [1.0, 0.7, 0.5], [0.4, -30.0, 1.0]]),
    "Laplace": (jd.Laplace, 0.7, [[0.1, 1.4], [1.0, 0.5]]),
    "Cauchy": (jd.Cauchy, 0.7, [[0.1, 1.4], [30.0, 0.5]]),
    "Logistic": (jd.Logistic, 0.7, [[0.1, 1.4], [1.0, 0.5]]),
    "Gumbel": (jd.Gumbel, 0.7, [[0.1, 1.4], [1.0, 0.5]]),
    "Exponential": (jd.Exponential, 0.7, [[0.3], [1.0]]),
    "HalfNormal": (jd.HalfNormal, 0.7, [[0.3], [1.0]]),
    "Poisson": (jd.Poisson, 3.0, [[0.3], [4.0]]),
    "Geometric": (lambda p: jd.Geometric(probs=p), 3.0, [[0.3], [0.8]]),
    "Geometric of logits": (lambda o: jd.Geometric(logits=o), 3.0, [[0.3], [-2.0]]),
    "Bernoulli": (lambda p: jd.Bernoulli(probs=p), 1.0, [[0.3], [0.8]]),
    "Bernoulli of logits": (lambda o: jd.Bernoulli(logits=o), 0.0, [[0.3], [-2.0]]),
    "Binomial": (lambda p: jd.Binomial(9.0, probs=p), 3.0, [[0.3], [0.8]]),
    "Binomial of logits": (lambda o: jd.Binomial(9.0, logits=o), 9.0, [[0.3], [-2.0]]),
    "NegativeBinomial": (
        lambda n, o: jd.NegativeBinomial(n, logits=o), 3.0, [[0.3, -0.2], [1.0, 0.8]]
    ),
    "Dirichlet": (
        jd.Dirichlet, [0.2, 0.5, 0.3], [[[2.5, 1.3, 0.4]], [[1.0, 1.0, 1.0]], [[30.0, 1.0, 7.0]]]
    ),
}  # fmt: skip
QUICK = ("Gamma", "StudentT", "Binomial of logits")


class Tilted(jd.Exponential):
    """Another density of somebody's own, whose slopes are not those of its parent."""

    def _log_density(self, x, rate):
        return super()._log_density(x, rate) - 3.0 * x * rate


def test_a_new_density_does_not_inherit_slopes():
    slope = jax.grad(lambda rate: Tilted(rate).log_prob(0.5))(2.0)
    np.testing.assert_allclose(slope, 1 / 2.0 - 4 * 0.5, rtol=1e-12)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in CASES]
)
def test_hessian_is_the_difference_of_slopes(name):
    make, value, points = CASES[name]
    moves = not make(*map(jnp.asarray, points[0])).support.discrete and np.ndim(value) == 0
    value = np.asarray(value, float)
    sizes = [np.size(p) for p in points[0]]

    def log_prob(flat):
        ends = np.cumsum([*sizes, value.size])
        *parameters, x = (
            flat[end - size :][:size].reshape(shape)
            for end, size, shape in zip(
                ends, [*sizes, value.size], [*map(np.shape, points[0]), value.shape], strict=True
            )
        )
        return make(*parameters).log_prob(x if moves else value)

    slopes, hessian = jax.jit(jax.grad(log_prob)), jax.jit(jax.hessian(log_prob))
    for point in points:
        flat = np.concatenate([np.ravel(p) for p in [*point, value]]).astype(float)
        steps = STEP * np.maximum(1e-2, np.abs(flat))
        expected = [
            (slopes(flat + step * unit) - slopes(flat - step * unit)) / (2 * step)
            for step, unit in zip(steps, np.eye(len(flat)), strict=True)
        ]
        found = np.asarray(hessian(flat))
        scale = np.max(np.abs(expected)) + 1.0
        np.testing.assert_allclose(found, expected, atol=1e-7 * scale, err_msg=f"{point}")
