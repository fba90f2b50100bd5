"""The posterior becomes the next prior: updates on a stream of batches of data.

Laplace: with the old posterior N(m, P^{-1}) as prior, damped Gauss-Newton steps to the mode of

    log p(new | w) - (w - m)^T P (w - m) / 2,   then   P <- P + H_new(mode)

GaussianPosterior: natural-gradient steps on KL(q || old) - E_q log p(new | w),

    P_t+1 = (1 - r) P_t + r (P + E_q H_new),   m_t+1 = m_t + r P_t+1^{-1} (E_q g_new - P (m_t - m))

with g the gradient and H the Gauss-Newton matrix of the log-likelihood, expectations over draws in
pairs m +- L eps, and P_t restricted to the blocks of the covariance. Of a quadratic log-likelihood
every such pair gives the exact expectations: for linear models with known noise one step (r = 1) of
the full covariance is Bayes' rule, and a stream ends where all the data at once do. For others the
old data is remembered as one Gaussian: a network whose batches come from different parts of the
input space forgets the first of them, since its features move and the Gaussian does not know how.

Twin: `torch_ref/bayes/streaming.py`. Source: Khan et al., "Fast and scalable Bayesian deep learning
by weight-perturbation in Adam" (ICML 2018), eq. 6 to 8; Ritter, Botev & Barber, "Online structured
Laplace approximations" (NeurIPS 2018), section 2.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxprob.batches import inputs_of
from jaxprob.bayes import gaussian_block
from jaxprob.bayes.curvature import (
    gauss_newton,
    log_likelihood_and_gradient,
    row_factors,
    sum_over_rows,
)
from jaxprob.bayes.gaussian_posterior import GaussianPosterior
from jaxprob.bayes.laplace import Laplace, LaplaceState
from jaxprob.bayes.precision import dot, warn_if_far
from jaxprob.nn.apply import call
from jaxprob.objectives import GaussianPrior
from jaxprob.requirements import require_count, require_in, require_rows
from jaxprob.types import Array, Batch, Key, Params

__all__ = ["prior_params", "update"]

HALVINGS = 12
"""Shortest step of the line search: 2^-12."""


def prior_params(posterior: GaussianPosterior | Laplace, params: Params | None = None) -> Any:
    """Returns the params of a posterior that has seen no data: those of the prior itself.

    Args:
      posterior: Whose prior.
      params: Params of the model, which set the dtype; with "last_layer" or `select` (and there
        they must be given) also the weights that stay as they are.

    Returns:
      What `update` starts a stream from: variational parameters, or a `LaplaceState`.

    Raises:
      ValueError: A prior with learned parts, or no params for "last_layer" or `select`.
    """
    if isinstance(posterior, Laplace):
        return _prior_state(posterior, params)
    _require_blocks("prior_params", posterior)
    if not isinstance(posterior.prior, GaussianPrior):
        raise ValueError(
            f"prior_params: the prior {posterior.prior} is not Gaussian, so no Gaussian posterior "
            "is equal to it. Write GaussianPrior(scale)."
        )
    if posterior.prior.trainable:
        raise ValueError(
            f"prior_params: the prior {posterior.prior} has parts that are learned, so there is no "
            "prior before the data. Write GaussianPrior(scale)."
        )
    if params is None and posterior.has_points:
        raise ValueError(
            "prior_params: the posterior selects some weights, and the others come from params. "
            "Write prior_params(q, params)."
        )
    shapes = jax.eval_shape(posterior.init, jax.random.key(0))["posterior"]
    dtype = None if params is None else jnp.result_type(*jax.tree.leaves(params))
    blocks = {}
    for name, block in shapes.items():
        loc = jnp.full(block["loc"].shape, posterior.prior.loc, dtype or block["loc"].dtype)
        kind = "diagonal" if "raw_scale" in block else "full"
        blocks[name] = gaussian_block.init_block(loc, kind, posterior.prior.scale)
    return {"posterior": blocks} | (
        {"point": posterior.points_of(params)} if posterior.has_points else {}
    )


def _prior_state(laplace: Laplace, params: Params | None) -> LaplaceState:
    if params is None and laplace.structure == "last_layer":
        raise ValueError(
            "prior_params: with structure='last_layer' the other layers come from params. Write "
            "prior_params(laplace, params)."
        )
    like = laplace.zeros() if params is None else params
    laplace.check_params(like)
    loc = {p: jnp.full_like(w, laplace.prior.loc) for p, w in laplace.layout.select(like).items()}
    dtype = jnp.result_type(*loc.values())
    zero = jnp.zeros((), dtype)
    scale = jnp.asarray(laplace.prior.scale, dtype)
    mean = laplace.with_leaves(like, loc)
    return LaplaceState(mean, laplace.layout.zero(dtype), zero, scale, zero)


def update(
    posterior: GaussianPosterior | Laplace,
    params: Any,
    new_data: Batch,
    *,
    key: Key | None = None,
    num_steps: int = 10,
    step_size: float = 1.0,
    num_samples: int = 4,
    start: Any = None,
    fisher: str = "expected",
    chunk_size: int = 256,
) -> Any:
    """Returns the posterior after new data, with the present one as its prior.

    The result is a pytree like `params`: save it as a checkpoint, hand it to the next call. For
    the first batch of a stream pass `prior_params(posterior)`, or a posterior fitted before. A
    network starts better from an initialisation than from the prior's mean, where its units are
    all alike: give `start`.

    Args:
      posterior: Says what the params mean.
      params: Variational parameters, or a `LaplaceState`: the posterior so far.
      new_data: Rows, N each, that were not seen before: inputs and "y", and where they apply
        "weight", "mask", "censored".
      key: For a `GaussianPosterior`: key of its draws.
      num_steps: Steps; 1 is enough for a linear model with known noise.
      step_size: r in (0, 1], of a `GaussianPosterior`; less than 1 averages over the noise of the
        draws and damps the steps of deep networks.
      num_samples: Pairs of draws a step, of a `GaussianPosterior`.
      start: Where the steps begin, if not at the old posterior: variational parameters, or params
        of the model for `Laplace`.
      fisher: "expected" or "observed", of a `GaussianPosterior`; `Laplace` has its own.
      chunk_size: Rows at a time, likewise.

    Raises:
      ValueError: No key where draws are needed, or numbers out of their range.
    """
    require_count("update", num_steps=num_steps, num_samples=num_samples, chunk_size=chunk_size)
    require_in("update", "(0, 1]", "1 is a full Newton step.", step_size=step_size)
    given = isinstance(new_data, Mapping)
    data = {n: v for n, v in new_data.items() if v is not None} if given else new_data
    require_rows("new_data", data)
    data = jax.tree.map(jnp.asarray, data)
    if isinstance(posterior, Laplace):
        start = params.mean if start is None else start
        posterior.check_params(start)
        state, distance = _to_mode(posterior, num_steps, params, start, data)
        warn_if_far("bayes.update", distance, f"Raise num_steps, now {num_steps}.")
        return state
    _require_blocks("update", posterior)
    if key is None:
        raise ValueError("update: a GaussianPosterior is updated with draws. Write key=....")
    options = (num_steps, num_samples, fisher, chunk_size)
    begin = (params if start is None else start)["posterior"]
    blocks = _natural_steps(posterior, options, params, begin, data, key, step_size)
    return {**params, "posterior": blocks}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _to_mode(
    laplace: Laplace, num_steps: int, old: LaplaceState, start: Params, data: Batch
) -> tuple[LaplaceState, Array]:
    """Newton steps with Gauss-Newton curvature, halved until the log-joint rises."""
    layout, tau = laplace.layout, old.prior_scale**-2
    centre = layout.select(old.mean)

    def gap(w: dict) -> dict:
        return {path: w[path] - centre[path] for path in w}

    def pull(w: dict) -> dict:
        return layout.multiply(old.curvature, tau, gap(w))

    def log_joint(w: dict) -> Array:
        likelihood, _ = log_likelihood_and_gradient(
            lambda v, rows: laplace.predict(laplace.with_leaves(old.mean, v), rows),
            w,
            data,
            laplace.chunk_size,
        )
        return likelihood - 0.5 * dot(gap(w), pull(w))

    def expand(w: dict) -> tuple:
        likelihood, slope, curvature, count = laplace.expand(laplace.with_leaves(old.mean, w), data)
        total = layout.add(old.curvature, old.num_data, curvature, count)
        back = pull(w)
        gradient = {path: slope[path] - back[path] for path in w}
        return likelihood, gradient, total, count

    def newton(w: dict, _) -> tuple[dict, None]:
        likelihood, gradient, total, _ = expand(w)
        value = likelihood - 0.5 * dot(gap(w), pull(w))
        direction = layout.solve(total, tau, gradient)
        slope = dot(gradient, direction)
        rounding = 64.0 * jnp.finfo(value.dtype).eps * jnp.abs(value)

        def moved(length: Array) -> dict:
            return _in_dtypes_of(w, {path: w[path] + length * direction[path] for path in w})

        def too_long(carry: tuple) -> Array:
            count, reached = carry
            wanted = value + 1e-4 * 0.5**count * slope - rounding
            return ~(reached >= wanted) & (count < HALVINGS)

        def halve(carry: tuple) -> tuple:
            count = carry[0] + 1.0
            return count, log_joint(moved(0.5**count))

        zero = jnp.zeros((), value.dtype)
        count, reached = jax.lax.while_loop(too_long, halve, (zero, log_joint(moved(0.5**zero))))
        length = jnp.where(reached >= value - rounding, 0.5**count, 0.0)
        return moved(length), None

    mode, _ = jax.lax.scan(newton, layout.select(start), None, length=num_steps)
    likelihood, gradient, total, count = expand(mode)
    # The old data's log-likelihood at the new mode, from the old posterior as it was remembered.
    prior_gaps = [{p: v[p] - laplace.prior.loc for p in v} for v in (centre, mode)]
    at_centre, at_mode = (-0.5 * tau * dot(gaps, gaps) for gaps in prior_gaps)
    remembered = old.log_likelihood + at_centre - at_mode - 0.5 * dot(gap(mode), pull(mode))
    state = LaplaceState(
        laplace.with_leaves(old.mean, mode),
        total,
        remembered + likelihood,
        old.prior_scale,
        old.num_data + count,
    )
    step = layout.solve(total, tau, gradient)
    return state, jnp.sqrt(dot(gradient, step) / layout.size)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _natural_steps(
    q: GaussianPosterior,
    options: tuple[int, int, str, int],
    params: Params,
    begin: dict,
    data: Batch,
    key: Key,
    step_size: Array | float,
) -> dict:
    """The blocks of q after natural-gradient steps from `begin`, with `params` as prior."""
    num_steps, num_samples, fisher, chunk_size = options
    old, point = params["posterior"], params.get("point", {})
    diagonal = q.covariance == "diagonal"
    names = sorted(old)
    centre = {name: old[name]["loc"] for name in names}
    prior = {name: _precision(old[name]) for name in names}

    def predict(w: dict, rows: Batch) -> Any:
        weights = q.weights_at(w, point)
        return call(q.model, {"params": weights}, inputs_of(q.model, rows))[0]

    def expectations(loc: dict, precision: dict, key: Key) -> tuple[dict, dict, dict]:
        """E_q of gradient and curvature, and the draws."""
        sizes = [loc[name].shape[0] for name in names]
        eps = jax.random.normal(key, (num_samples, sum(sizes)), loc[names[0]].dtype)
        noise = _cut(eps, names, sizes)
        offsets = {n: jax.vmap(functools.partial(_root, precision[n]))(noise[n]) for n in names}
        draws = {n: loc[n][None] + jnp.concatenate([o, -o]) for n, o in offsets.items()}

        def of_draw(w: dict) -> tuple[dict, dict]:
            _, gradient = log_likelihood_and_gradient(predict, w, data, chunk_size)
            return gradient, gauss_newton(predict, w, data, fisher, chunk_size, diagonal)

        means = jax.tree.map(lambda v: jnp.mean(v, axis=0), jax.lax.map(of_draw, draws))
        return (*means, draws)

    def quadratic(draws: dict, direction: dict) -> Array:
        """E_q d^T H d with H over all weights, across the blocks too."""

        def of_row(w: dict, row: Batch) -> Array:
            factors = row_factors(predict, w, row, fisher)
            return jnp.sum(sum(factors[n] @ direction[n] for n in names) ** 2)

        def of_draw(w: dict) -> Array:
            return sum_over_rows(
                lambda rows: jnp.sum(jax.vmap(lambda row: of_row(w, row))(rows)), data, chunk_size
            )

        return jnp.mean(jax.lax.map(of_draw, draws))

    def step(carry: tuple[dict, dict], key: Key) -> tuple[tuple[dict, dict], None]:
        loc, precision = carry
        gradient, curvature, draws = expectations(loc, precision, key)
        target = {n: prior[n] + curvature[n] for n in names}
        precision = {n: precision[n] + step_size * (target[n] - precision[n]) for n in names}
        gaps = {n: loc[n] - centre[n] for n in names}
        slope = {n: gradient[n] - _times(prior[n], gaps[n]) for n in names}
        direction = {n: _solve(precision[n], slope[n]) for n in names}
        length = step_size
        if diagonal or len(names) > 1:
            # Blocks that do not see each other overshoot together; the best length along the
            # direction, for the quadratic that they are blocks of.
            bend = quadratic(draws, direction)
            bend = bend + dot({n: _times(prior[n], direction[n]) for n in names}, direction)
            ratio = dot(slope, direction) / jnp.where(bend > 0.0, bend, 1.0)
            length = step_size * jnp.where(bend > 0.0, jnp.minimum(ratio, 1.0), 1.0)
        loc = {n: loc[n] + length * direction[n] for n in names}
        return _in_dtypes_of(carry, (loc, precision)), None

    first = ({n: begin[n]["loc"] for n in names}, {n: _precision(begin[n]) for n in names})
    (loc, precision), _ = jax.lax.scan(step, first, jax.random.split(key, num_steps))
    return {name: _pack(loc[name], precision[name]) for name in names}


def _in_dtypes_of(old: Any, new: Any) -> Any:
    """Float64 data move float32 weights; they stay float32."""
    return jax.tree.map(lambda a, b: b.astype(a.dtype), old, new)


def _precision(block: dict[str, Array]) -> Array:
    """P of a block: `[P]` where it is diagonal, else `[P, P]`."""
    if "raw_scale" in block:
        return (jax.nn.softplus(block["raw_scale"]) + gaussian_block.SCALE_FLOOR) ** -2
    factor = gaussian_block.scale_tril(block)
    inverse = jax.scipy.linalg.solve_triangular(
        factor, jnp.eye(len(factor), dtype=factor.dtype), lower=True
    )
    return inverse.T @ inverse


def _times(precision: Array, vector: Array) -> Array:
    return precision * vector if precision.ndim == 1 else precision @ vector


def _solve(precision: Array, vector: Array) -> Array:
    if precision.ndim == 1:
        return vector / precision
    return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(precision), True), vector)


def _upper(precision: Array) -> Array:
    """U^T with U upper triangular and P = U U^T, so that L = U^{-T} is lower and P^{-1} = L L^T."""
    return jnp.linalg.cholesky(precision[::-1, ::-1])[::-1, ::-1].T


def _root(precision: Array, eps: Array) -> Array:
    """L eps, with the L that `_pack` keeps."""
    if precision.ndim == 1:
        return eps / jnp.sqrt(precision)
    return jax.scipy.linalg.solve_triangular(_upper(precision), eps, lower=True)


def _pack(loc: Array, precision: Array) -> dict[str, Array]:
    """The variational parameters of N(loc, P^{-1}); the inverse of `gaussian_block.scale_tril`."""
    if precision.ndim == 1:
        return {"loc": loc, "raw_scale": _raw(precision**-0.5)}
    size = loc.shape[0]
    identity = jnp.eye(size, dtype=precision.dtype)
    factor = jax.scipy.linalg.solve_triangular(_upper(precision), identity, lower=True)
    scale = jnp.diagonal(factor)
    raw = jnp.tril(factor / scale[:, None], -1) + jnp.diag(_raw(scale))
    return {"loc": loc, "raw_tril": gaussian_block._pack(raw)}


def _raw(scale: Array) -> Array:
    """The inverse of softplus(raw) + floor; a scale at the floor stays just above it."""
    above = jnp.maximum(scale - gaussian_block.SCALE_FLOOR, 0.01 * gaussian_block.SCALE_FLOOR)
    return above + jnp.log(-jnp.expm1(-above))


def _cut(noise: Array, names: list[str], sizes: list[int]) -> dict[str, Array]:
    pieces, start = {}, 0
    for name, size in zip(names, sizes, strict=True):
        pieces[name] = noise[:, start : start + size]
        start += size
    return pieces


def _require_blocks(owner: str, posterior: GaussianPosterior) -> None:
    """Refuses what the natural-gradient steps do not keep: a low rank, and a model's state."""
    if posterior.covariance == "low_rank":
        raise ValueError(
            f"{owner}: the precision of covariance='low_rank' does not keep its rank under an "
            "update. Use 'diagonal', 'layer' or 'full'."
        )
    if posterior.collections:
        raise ValueError(
            f"{owner}: the model has the collections {', '.join(posterior.collections)}, which a "
            "posterior over its params does not update. Use a model without batch statistics."
        )
