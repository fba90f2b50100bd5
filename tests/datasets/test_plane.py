"""Two moons: the density that is claimed integrates to one and is that of the draws."""

import jax
import numpy as np

from jaxprob import datasets


def test_two_moons_and_their_density():
    axis = np.linspace(-3.0, 4.0, 71)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    density = np.exp(np.asarray(datasets.two_moons_log_prob(grid, 0.3, 60)))
    cell = (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(density.sum() * cell, 1.0, atol=1e-9)
    draws = datasets.two_moons(jax.random.key(1), 20_000, 0.3)
    assert draws.shape == (20_000, 2)
    assert draws.dtype == np.float32
    # means and second moments, five standard errors wide
    for statistic in (lambda x: x, lambda x: x**2, lambda x: x[:, :1] * x[:, 1:] ** 2):
        expected = (statistic(grid) * density[:, None]).sum(0) * cell
        found = statistic(draws.astype(np.float64))
        error = found.std(0) / len(draws) ** 0.5
        assert (np.abs(found.mean(0) - expected) < 5 * error).all()
