"""The generalised Gauss-Newton matrix of a model that returns a distribution.

With eta_n the parameters of the distribution that the model returns for row n,

    H(w) = sum_n c_n J_n^T F_n J_n,   J_n = d eta_n / d w,   F_n = d^2/d eta'^2 KL(p_eta || p_eta')

at eta' = eta: the Fisher information of the weights, positive semi-definite, and equal to the
Hessian of the negative log-likelihood where eta is linear in w and natural. F_n comes from the
closed-form divergence, so no family needs a formula of its own; c_n is `data["weight"]`, or 1.

Where the divergence has no closed form, `fisher="observed"` takes for F_n the Hessian of
-log p(y_n | eta) and of each J_n^T F_n J_n the positive part: it depends on the targets, and it
bounds the curvature from above.

Twin: `torch_ref/bayes/curvature.py`. Source: Martens, "New insights and perspectives on the natural
gradient method" (JMLR 2020), sections 8 and 9.2; Kullback, "Information Theory and Statistics"
(1959), chapter 2.6.
"""

from collections.abc import Callable
from typing import Any

import distrax
import jax
import jax.numpy as jnp

from jaxprob import distributions
from jaxprob.batches import observed
from jaxprob.bayes.parameters import vector_of, with_vector
from jaxprob.distributions import Distribution, Independent
from jaxprob.objectives.likelihood import log_likelihood_of_batch
from jaxprob.requirements import require_choice, require_rows
from jaxprob.types import Array, Batch

__all__ = ["fisher_information", "gauss_newton", "log_likelihood_and_gradient"]

Predict = Callable[[Any, Batch], Any]
"""(weights, batch) -> distribution with batch shape `[B]`."""

FISHERS = ("expected", "observed")

SMOOTH = (
    "Normal", "LogNormal", "HalfNormal", "Gamma", "InverseGamma", "Exponential", "Weibull",
    "Gumbel", "Cauchy", "Beta", "Dirichlet", "VonMises", "Poisson", "Geometric", "Binomial",
    "Bernoulli", "Categorical", "OneHotCategorical", "Multinomial", "MultivariateNormal",
    "MultivariateNormalDiag", "LowRankMultivariateNormal",
)  # fmt: skip
"""Families with a closed-form divergence that is twice differentiable in all that a model learns.

Not Laplace, whose log-density has a kink, nor NegativeBinomial, whose divergence is known for equal
total counts only.
"""


def fisher_information(distribution: distrax.Distribution, mask: Array | None = None) -> Array:
    """Returns the Fisher information of one distribution's own parameters.

    Args:
      distribution: Batch shape `[1]`; its parameters, sorted by name and flattened, are the E
        numbers that this is about.
      mask: True where an element of the event was observed, `[1, *event]`; the others tell nothing.

    Returns:
      `[E, E]`, in units of 1 / parameter^2.

    Raises:
      ValueError: A family whose divergence has no closed form with two derivatives.
    """
    inner = distribution
    while isinstance(inner, Independent):
        inner = inner.distribution
    if type(inner) not in {getattr(distributions, name) for name in SMOOTH}:
        raise ValueError(
            f"the Fisher information of {type(inner).__name__} has no closed form here. Write "
            "fisher='observed': the Hessian of -log p(y) at the targets that were seen, without "
            "its negative part."
        )

    def divergence(eta: Array) -> Array:
        other = with_vector(distribution, eta)
        if mask is None:
            return jnp.sum(distribution.kl_divergence(other))
        each = _factors(distribution).kl_divergence(_factors(other))
        return jnp.sum(jnp.where(mask, each, 0.0))

    return jax.hessian(divergence)(vector_of(distribution))


def gauss_newton(
    predict: Predict,
    weights: Any,
    data: Batch,
    fisher: str = "expected",
    chunk_size: int = 256,
    diagonal: bool = False,
) -> Any:
    """Returns the Gauss-Newton matrix of each leaf of `weights`, with itself alone.

    One vector gives the full matrix, a dict of vectors the blocks on its diagonal. Rows are taken
    in chunks inside one scan, so that memory is that of one chunk.

    Args:
      predict: (weights, batch) -> distribution with batch shape `[B]`; rows must not interact.
      weights: Pytree of arrays, each of size P, at which the model is differentiated.
      data: Rows, N each: what `predict` reads, and where they apply "weight" `[N]` and "mask"; "y"
        and "censored" matter for `fisher="observed"` alone.
      fisher: "expected" or "observed".
      chunk_size: Rows at a time.
      diagonal: Whether to keep only the diagonals, each of its leaf's shape, instead of matrices.

    Returns:
      `[P, P]` for each leaf (or the leaf's shape), summed over rows.

    Raises:
      ValueError: An unknown `fisher`, one that this family does not have, or censored targets with
        the expected one.
    """

    def of_rows(rows: Batch) -> Any:
        factors = jax.vmap(lambda row: row_factors(predict, weights, row, fisher))(rows)
        if diagonal:
            return jax.tree.map(lambda g: jnp.sum(g**2, axis=(0, 1)), factors)
        flat = jax.tree.map(lambda g: g.reshape(g.shape[0] * g.shape[1], -1), factors)
        return jax.tree.map(lambda g: g.T @ g, flat)

    return sum_over_rows(of_rows, data, chunk_size)


def log_likelihood_and_gradient(
    predict: Predict, weights: Any, data: Batch, chunk_size: int = 256
) -> tuple[Array, Any]:
    """Returns log p(y | x, w) in nats, summed over the rows with their weights, and its gradient.

    Args:
      predict: (weights, batch) -> distribution with batch shape `[B]`.
      weights: Pytree of arrays.
      data: Rows, N each, "y" among them.
      chunk_size: Rows at a time.
    """

    def total(w: Any, rows: Batch) -> Array:
        return jnp.sum(row_weights(rows) * log_likelihood_of_batch(predict(w, rows), rows))

    return sum_over_rows(lambda r: jax.value_and_grad(total)(weights, r), data, chunk_size)


def row_factors(
    predict: Predict, weights: Any, row: Batch, fisher: str, with_extra: bool = False
) -> Any:
    """Returns G = sqrt(c) F^{1/2} J of one row, whose part of H is G^T G.

    Args:
      predict: (weights, batch) -> distribution, or (distribution, extra) if `with_extra`.
      weights: Pytree of arrays.
      row: Leaves of the data without the leading axis.
      fisher: "expected" or "observed".
      with_extra: Whether to return (G, extra) instead of G.

    Returns:
      A pytree like `weights`, each leaf `[E, *leaf]`.
    """
    require_choice("Laplace", FISHERS, fisher=fisher)
    batch = {name: value[None] for name, value in row.items()}

    def eta_of(w: Any) -> tuple[Array, Any]:
        distribution, extra = predict(w, batch) if with_extra else (predict(w, batch), None)
        return vector_of(distribution), (distribution, extra)

    eta, pullback, (distribution, extra) = jax.vjp(eta_of, weights, has_aux=True)
    weight = row_weights(batch)[0]
    if fisher == "expected":
        information = _expected(distribution, batch) * weight
        values, vectors = jnp.linalg.eigh(0.5 * (information + information.T))
        root = jnp.sqrt(jnp.maximum(values, 0.0))[:, None] * vectors.T
        (factors,) = jax.vmap(pullback)(root)
    else:
        (jacobian,) = jax.vmap(pullback)(jnp.eye(eta.size, dtype=eta.dtype))
        hessian = _observed(distribution, eta, batch) * weight
        root = _positive_root(hessian, jacobian)
        factors = jax.tree.map(lambda j: jnp.tensordot(root, j, axes=1), jacobian)
    return (factors, extra) if with_extra else factors


def _expected(distribution: distrax.Distribution, batch: Batch) -> Array:
    if batch.get("censored") is not None:
        raise ValueError(
            "the expected Fisher information of censored targets depends on the censoring, which "
            "is not modelled. Write fisher='observed'."
        )
    return fisher_information(distribution, observed(batch, "y"))


def _observed(distribution: distrax.Distribution, eta: Array, batch: Batch) -> Array:
    """Hessian of -log p(y | eta) `[E, E]`."""

    def nll(parameters: Array) -> Array:
        return -jnp.sum(log_likelihood_of_batch(with_vector(distribution, parameters), batch))

    return jax.hessian(nll)(eta)


def _positive_root(hessian: Array, jacobian: Any) -> Array:
    """R `[E, E]` with (R J)^T (R J) the positive part of J^T hessian J.

    In coordinates of the range of J: a parameter that no weight moves (a fixed scale) must not
    decide which part of the curvature is negative.
    """
    rows = [j.reshape(j.shape[0], -1) for j in jax.tree.leaves(jacobian)]
    values, vectors = jnp.linalg.eigh(sum(j @ j.T for j in rows))
    cut = values.shape[0] * jnp.finfo(values.dtype).eps * jnp.max(values)
    length = jnp.sqrt(jnp.where(values > cut, values, 0.0))
    half = vectors * length[None]
    inside, turned = jnp.linalg.eigh(half.T @ hessian @ half)
    root = jnp.sqrt(jnp.maximum(inside, 0.0))[:, None] * turned.T
    inverse = jnp.where(length > 0.0, 1.0 / jnp.where(length > 0.0, length, 1.0), 0.0)
    return root @ (inverse[:, None] * vectors.T)


def _factors(distribution: distrax.Distribution) -> Distribution:
    if distribution.event_shape == () or isinstance(distribution, Independent):
        return distribution.marginal()  # pyright: ignore[reportAttributeAccessIssue]
    raise ValueError(
        f'batch["mask"] speaks of single elements of y; {distribution.name} has dependent ones.'
    )


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def row_weights(rows: Batch) -> Array:
    """Returns how often each row counts, `[B]`."""
    weight = rows.get("weight")
    if weight is None:
        return jnp.ones(len(next(iter(rows.values()))))
    return jnp.asarray(weight)


def sum_over_rows(of_rows: Callable[[Batch], Any], data: Batch, chunk_size: int) -> Any:
    """Returns the sum of `of_rows` over chunks of the rows, in one scan.

    The last chunk is filled up with copies of the last row that weigh nothing.
    """
    arrays = {name: jnp.asarray(value) for name, value in data.items()}
    num_rows = require_rows("data", arrays)
    size = min(chunk_size, num_rows)
    num_chunks = -(-num_rows // size)
    missing = num_chunks * size - num_rows
    dtype = next((a.dtype for a in arrays.values() if _is_float(a)), None)
    weight = arrays.get("weight", jnp.ones(num_rows, dtype))
    if weight.shape != (num_rows,):
        raise ValueError(
            f'data["weight"] has shape {weight.shape}; expected one weight for each row, '
            f"{(num_rows,)}."
        )
    arrays["weight"] = jnp.concatenate([weight, jnp.zeros(missing, weight.dtype)])
    for name, value in arrays.items():
        if name != "weight" and missing:
            filling = jnp.broadcast_to(value[-1:], (missing, *value.shape[1:]))
            arrays[name] = jnp.concatenate([value, filling])
    chunks = {n: a.reshape(num_chunks, size, *a.shape[1:]) for n, a in arrays.items()}
    if num_chunks == 1:
        return of_rows({name: a[0] for name, a in chunks.items()})
    zero = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype),
        jax.eval_shape(of_rows, {name: a[0] for name, a in chunks.items()}),
    )

    def step(total: Any, rows: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of_rows(rows)), None

    return jax.lax.scan(step, zero, chunks)[0]
