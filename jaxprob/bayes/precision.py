"""Linear algebra of a Gaussian posterior whose precision is a curvature plus a multiple of one.

    P = H + tau I,   w = mean + P^{-1/2} eps

H is a matrix ("full"), or Kronecker factors for some layers with a diagonal for the rest:

    (A (x) B + tau I)^{-1/2} vec Z = vec U ((U^T Z V) / sqrt(a b^T + tau)) V^T

with A = U diag(a) U^T and B = V diag(b) V^T: the prior is added to the eigenvalues, not to the
factors. Symmetric roots, since eigenvectors have no sign of their own.

Twin: `torch_ref/bayes/precision.py`. Source: Immer, Korzepa & Bauer, "Improving predictions of
Bayesian neural nets via local linearization" (AISTATS 2021), section 3.3 and appendix A.
"""

import math
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax.core import Tracer

from jaxprob.bayes.kronecker import Factors, Layer, Leaves
from jaxprob.bayes.summary import summary
from jaxprob.types import Array, Params

__all__ = ["Curvature", "Layout", "dot", "warn_if_far"]

FAR_FROM_MODE = 0.3
"""Distance to the mode, in posterior standard deviations a weight, from which `fit` warns."""


class Curvature(NamedTuple):
    """The curvature H of minus a log-likelihood.

    Attributes:
      matrix: `[P, P]` for a full one, else None.
      factors: `{layer: (A, B)}`.
      diagonal: `{path: diagonal}`, each of its weight's shape.
    """

    matrix: Any
    factors: Factors
    diagonal: Leaves

    def __repr__(self) -> str:
        parts = {name: part for name, part in self._asdict().items() if jax.tree.leaves(part)}
        return summary("Curvature", **parts)


class Layout(NamedTuple):
    """Which weights the posterior is over, and how its precision is stored.

    Attributes:
      shapes: `{path: shape}` of the weights, modules by name and leaves by name within them.
      layers: Layers with Kronecker factors.
      full: Whether the curvature is one matrix.
    """

    shapes: dict[str, tuple[int, ...]]
    layers: dict[str, Layer]
    full: bool

    @property
    def size(self) -> int:
        """Number of weights P."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def select(self, params: Params) -> Leaves:
        """Returns the weights by path."""
        leaves = {"/".join(path): jnp.asarray(leaf) for path, leaf in flatten_dict(params).items()}
        return {path: leaves[path] for path in self.shapes}

    def to_vector(self, leaves: Leaves) -> Array:
        """Returns the weights as one vector `[P]`."""
        return jnp.concatenate([leaves[path].reshape(-1) for path in self.shapes])

    def to_leaves(self, vector: Array) -> Leaves:
        """The inverse of `to_vector`."""
        leaves, start = {}, 0
        for path, shape in self.shapes.items():
            leaves[path] = vector[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)
        return leaves

    def zero(self, dtype) -> Curvature:
        """Returns the curvature of no data."""
        if self.full:
            return Curvature(jnp.zeros((self.size, self.size), dtype), {}, {})
        factors, inside = {}, set()
        for name, layer in self.layers.items():
            rows, columns = jax.eval_shape(
                layer.to_matrix,
                {p: jax.ShapeDtypeStruct(s, dtype) for p, s in self.shapes.items()},
            ).shape
            factors[name] = (jnp.zeros((rows, rows), dtype), jnp.zeros((columns, columns), dtype))
            inside |= {layer.weight, layer.bias}
        rest = {p: jnp.zeros(s, dtype) for p, s in self.shapes.items() if p not in inside}
        return Curvature(None, factors, rest)

    def add(self, first: Curvature, rows: Array, second: Curvature, more: Array) -> Curvature:
        """Returns the curvature of two data sets of `rows` and `more` rows.

        A sum of Kronecker products is none; as for one data set, A is the mean over all rows and B
        the sum.
        """
        total = jax.tree.map(jnp.add, first, second)
        if self.full:
            return total
        factors = {}
        for name, (a, b) in first.factors.items():
            a_new, b_new = second.factors[name]
            factors[name] = ((rows * a + more * a_new) / (rows + more), b + b_new)
        return total._replace(factors=factors)

    def multiply(self, curvature: Curvature, tau: Array, leaves: Leaves) -> Leaves:
        """Returns (H + tau I) v."""
        if self.full:
            vector = self.to_vector(leaves)
            return self.to_leaves(curvature.matrix @ vector + tau * vector)
        result = {p: (h + tau) * leaves[p] for p, h in curvature.diagonal.items()}
        for name, (a, b) in curvature.factors.items():
            matrix = self.layers[name].to_matrix(leaves)
            result |= self.layers[name].to_leaves(a @ matrix @ b + tau * matrix)
        return result

    def solve(self, curvature: Curvature, tau: Array, leaves: Leaves) -> Leaves:
        """Returns (H + tau I)^{-1} v."""
        if self.full:
            factor = (jnp.linalg.cholesky(self._precision(curvature, tau)), True)
            return self.to_leaves(jax.scipy.linalg.cho_solve(factor, self.to_vector(leaves)))
        return self._power(curvature, tau, leaves, -1.0)

    def root(self, curvature: Curvature, tau: Array, leaves: Leaves) -> Leaves:
        """Returns L v with L L^T = (H + tau I)^{-1}: standard normal noise to posterior noise."""
        if self.full:
            factor = jnp.linalg.cholesky(self._precision(curvature, tau))
            vector = self.to_vector(leaves)
            return self.to_leaves(
                jax.scipy.linalg.solve_triangular(factor, vector, lower=True, trans=1)
            )
        return self._power(curvature, tau, leaves, -0.5)

    def eigenvalues(self, curvature: Curvature) -> Array:
        """Returns the P eigenvalues of H, those that rounding made negative set to zero."""
        if self.full:
            return jnp.maximum(jnp.linalg.eigvalsh(curvature.matrix), 0.0)
        parts = [h.reshape(-1) for h in curvature.diagonal.values()]
        for a, b in curvature.factors.values():
            parts.append((_values(a)[:, None] * _values(b)[None, :]).reshape(-1))
        return jnp.concatenate(parts)

    def _precision(self, curvature: Curvature, tau: Array) -> Array:
        return curvature.matrix + tau * jnp.eye(self.size, dtype=curvature.matrix.dtype)

    def _power(self, curvature: Curvature, tau: Array, leaves: Leaves, power: float) -> Leaves:
        result = {p: leaves[p] * (h + tau) ** power for p, h in curvature.diagonal.items()}
        for name, (a, b) in curvature.factors.items():
            (a_values, u), (b_values, v) = _eigh(a), _eigh(b)
            scale = (a_values[:, None] * b_values[None, :] + tau) ** power
            turned = u.T @ self.layers[name].to_matrix(leaves) @ v
            result |= self.layers[name].to_leaves(u @ (turned * scale) @ v.T)
        return result


def _eigh(matrix: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    return jnp.maximum(values, 0.0), vectors


def _values(matrix: Array) -> Array:
    return _eigh(matrix)[0]


def dot(first: dict[str, Array], second: dict[str, Array]) -> Array:
    """Returns the inner product of two dicts of arrays."""
    return jnp.sum(jnp.stack([jnp.sum(first[name] * second[name]) for name in first]))


def warn_if_far(owner: str, distance: Array, fix: str) -> None:
    """Warns where the gradient says that the mode is elsewhere."""
    if isinstance(distance, Tracer):
        return
    worst = float(jnp.max(distance))
    if not worst <= FAR_FROM_MODE:
        warnings.warn(
            f"{owner}: the params are not at a mode of the posterior: a Newton step would move "
            f"the weights by {worst:.2g} of their posterior standard deviations (root mean "
            f"square; at most {FAR_FROM_MODE} is close). {fix}",
            stacklevel=3,
        )
