"""Small data sets: bundled measurements with their source, and generators."""

from jaxprob.datasets.regression import Dataset, diabetes, motorcycle, quintic

__all__ = ["Dataset", "diabetes", "motorcycle", "quintic"]
