"""Rows of the distributions: densities, tails, quantiles, moments, draws and divergences."""

from parity_tests.cases import (
    distributions_continuous,
    distributions_counts,
    distributions_extremes,
    distributions_vectors,
)

FUNCTIONS = [
    *distributions_continuous.FUNCTIONS,
    *distributions_counts.FUNCTIONS,
    *distributions_vectors.FUNCTIONS,
    *distributions_extremes.FUNCTIONS,
]
