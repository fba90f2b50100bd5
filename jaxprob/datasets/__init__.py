"""Small data sets: bundled measurements with their source, and generators."""

from jaxprob.datasets.letters import letters
from jaxprob.datasets.plane import two_moons, two_moons_log_prob
from jaxprob.datasets.regression import Dataset, diabetes, earthquakes, motorcycle, quintic

__all__ = [
    "Dataset",
    "diabetes",
    "earthquakes",
    "letters",
    "motorcycle",
    "quintic",
    "two_moons",
    "two_moons_log_prob",
]
