"""Latent class analysis: a mixture whose components are products of categorical variables.

    log p(x) = logsumexp_k [log w_k + sum over observed d of log p_kd(x_d)]

A missing x_d drops out of its sum, which is its exact marginalisation. EM, with a pseudo-count a on
every cell (the mode under Dirichlet(1 + a) priors):

    r_nk = p(k | x_n),   w_k ~ a + sum_n r_nk,   p_kd(c) ~ a + sum_n r_nk [x_nd = c]

Where nothing is counted (a = 0, and a class without rows or a column that none of them shows) any
p_kd is as good as another, and the old one stays. A probability of exactly 0 (a logit of -inf) is
one: what needs it has log-density -inf, its class responsibility 0, and without pseudo-counts EM
leaves it where it is. A row that no class can show tells no class from another: its
responsibilities are the weights of the classes, and its gradient is 0.

Twin: `torch_ref/vae/latent_class.py`. Source: Goodman, "Exploratory latent structure analysis"
(1974); Dempster, Laird & Rubin (1977), section 4.3.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.batches import extra_inputs, observed, weighted_mean
from jaxprob.distributions import Categorical, Independent, MixtureSameFamily
from jaxprob.distributions.constraints import Constraint
from jaxprob.distributions.validation import check_values
from jaxprob.objectives import em
from jaxprob.requirements import require_count, require_non_negative
from jaxprob.types import AnyArray, Array, Batch, Key, LossFn, Metrics, Params, summary

__all__ = [
    "FittedClasses",
    "LatentClassModel",
    "em_step",
    "fit_em",
    "initial_classes",
    "negative_log_marginal",
]


class LatentClassModel(nn.Module):
    """K classes, in each of which D variables are independent.

    Attributes:
      num_classes: Number of classes K.
      num_categories: For each variable the number of its values, 2 for a binary one.
    """

    num_classes: int
    num_categories: Sequence[int]

    def setup(self) -> None:
        """Makes logits of the classes `[K]` and of the values `[K, D, C]`, C the most of all."""
        if self.num_classes < 1 or not self.num_categories or min(self.num_categories) < 1:
            raise ValueError(
                "LatentClassModel: num_classes must be at least 1 and num_categories hold a number "
                f"of at least 1 for each variable; got {self.num_classes} and "
                f"{tuple(self.num_categories)}."
            )
        shape = (self.num_classes, len(self.num_categories), max(self.num_categories))
        self.class_logits = self.param("class_logits", nn.initializers.zeros, shape[:1])
        self.item_logits = self.param("item_logits", nn.initializers.normal(1.0), shape)

    def __call__(self) -> MixtureSameFamily:
        """Returns p(x), batch shape `()`, events `[D]` of integers."""
        logits = jnp.where(self._exists(), self.item_logits, -jnp.inf)
        items = Independent(Categorical(logits=logits), 1)
        return MixtureSameFamily(Categorical(logits=self.class_logits), items)

    def log_joint(self, x: AnyArray, mask: AnyArray | None = None) -> Array:
        """Returns log p(x, class) `[B, K]`, -inf where a value does not exist.

        Args:
          x: Values `[B, D]`, from 0 to the variable's number of values - 1.
          mask: True where observed, `[B, D]`; other values may be anything.

        Raises:
          ValueError: Shapes that do not fit.
        """
        chosen, possible = self.indicators(x, mask)
        logits = jnp.where(self._exists(), self.item_logits, -jnp.inf)
        log_p = jax.nn.log_softmax(logits, axis=-1).reshape(self.num_classes, -1)
        chosen = chosen.reshape(chosen.shape[0], -1)
        none = log_p == -jnp.inf  # 0 * -inf is no number: impossible values are counted instead
        items = chosen @ jnp.where(none, 0.0, log_p).T
        possible = possible[:, None] & (chosen @ none.astype(chosen.dtype).T == 0.0)
        joint = items + jax.nn.log_softmax(self.class_logits)[None]
        return jnp.where(possible, joint, -jnp.inf)

    def log_prob(self, x: AnyArray, mask: AnyArray | None = None) -> Array:
        """Returns log p(observed x) `[B]` in nats."""
        return _log_sum_exp(self.log_joint(x, mask))

    def responsibilities(self, x: AnyArray, mask: AnyArray | None = None) -> Array:
        """Returns p(class | observed x), `[B, K]`."""
        return _shares(self.log_joint(x, mask), self.class_logits)

    def indicators(self, x: AnyArray, mask: AnyArray | None = None) -> tuple[Array, Array]:
        """Returns [x_d = c] of the observed `[B, D, C]`, and whether all are values `[B]`."""
        x, seen = _checked(self.num_categories, x, mask)
        values = jnp.arange(max(self.num_categories), dtype=x.dtype)[None, None]
        chosen = (x[..., None] == values) & seen[..., None] & jnp.asarray(self._exists())
        possible = jnp.all(jnp.any(chosen, axis=-1) | ~seen, axis=-1)
        return chosen.astype(self.class_logits.dtype), possible

    def _exists(self) -> np.ndarray:
        """Which cells of the padded table are values of their variable, `[1, D, C]`."""
        sizes = np.asarray(self.num_categories)
        return (np.arange(sizes.max()) < sizes[:, None])[None]


def negative_log_marginal(model: LatentClassModel) -> LossFn:
    """Returns the loss -mean_b log p(observed x_b), for a fit by gradient.

    Returns:
      `loss_fn(params, batch, key) -> (loss, {"nll": loss})`, in nats a row; batch holds "x"
      `[B, D]` and where they apply "x_observed" (or "mask") `[B, D]` and "weight" `[B]`. It refuses
      lengths and conditions, which the model does not read.
    """

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        extra_inputs(model, batch)  # refuses what would not be read
        seen = _counted(batch["x"], observed(batch, "x"), batch.get("weight"))
        log_p = model.apply({"params": params}, batch["x"], seen, method="log_prob")
        nll = -weighted_mean(log_p, batch)  # pyright: ignore[reportArgumentType]
        return nll, {"nll": nll}

    return loss_fn


def em_step(
    model: LatentClassModel,
    params: Params,
    x: AnyArray,
    mask: AnyArray | None = None,
    weight: AnyArray | None = None,
    pseudo_count: float = 0.0,
) -> tuple[Params, Array]:
    """Takes one step of EM.

    Args:
      model: The model.
      params: Where it stands.
      x: Values `[B, D]`.
      mask: True where observed, `[B, D]`.
      weight: How often each row counts, `[B]`; one that counts 0 times may hold anything.
      pseudo_count: a (>= 0), added to every cell.

    Returns:
      The new params, and what the step does not decrease, at the old ones: sum_n log p(x_n) + a sum
      of the logarithms of all probabilities.
    """
    counts, objective = _e_step(model, params, x, mask, weight, pseudo_count)
    return _m_step(model, counts, params, pseudo_count), objective


def _e_step(
    model: LatentClassModel,
    params: Params,
    x: AnyArray,
    mask: AnyArray | None,
    weight: AnyArray | None,
    pseudo_count: float,
) -> tuple[dict[str, Array], Array]:
    """Expected counts of the classes `[K]` and of their values `[K, D, C]`, and the objective."""
    variables, mask = {"params": params}, _counted(x, mask, weight)
    joint: Array = model.apply(variables, x, mask, method="log_joint")  # pyright: ignore[reportAssignmentType]
    chosen, _ = model.apply(variables, x, mask, method="indicators")
    ones = jnp.ones(joint.shape[:1], joint.dtype)
    count = ones if weight is None else jnp.asarray(weight, joint.dtype)
    r = _shares(joint, params["class_logits"]) * count[:, None]
    table = (r.T @ chosen.reshape(chosen.shape[0], -1)).reshape(-1, *chosen.shape[1:])
    log_w, log_p = _log_probs(model, params)
    prior = jnp.sum(log_w) + jnp.sum(jnp.where(model._exists(), log_p, 0.0))
    # no 0 * -inf where nothing is added
    penalty = pseudo_count * prior if pseudo_count > 0.0 else jnp.zeros_like(prior)
    objective = em.total(count * _log_sum_exp(joint)) + penalty
    return {"classes": jnp.sum(r, axis=0), "items": table}, objective


def _m_step(
    model: LatentClassModel, counts: dict[str, Array], params: Params, pseudo_count: float
) -> Params:
    """The shares of the counts; what was never counted keeps its old ones."""
    log_w, log_p = _log_probs(model, params)
    exists = model._exists()
    items = jnp.where(exists, counts["items"] + pseudo_count, 0.0)
    return {
        "class_logits": _log_shares(counts["classes"] + pseudo_count, log_w),
        "item_logits": jnp.where(exists, _log_shares(items, log_p), 0.0),
    }


def _log_probs(model: LatentClassModel, params: Params) -> tuple[Array, Array]:
    """Logarithms of the shares of classes `[K]` and of values `[K, D, C]`."""
    items = jnp.where(model._exists(), params["item_logits"], -jnp.inf)
    return jax.nn.log_softmax(params["class_logits"]), jax.nn.log_softmax(items, axis=-1)


class FittedClasses(NamedTuple):
    """A fit by EM.

    Attributes:
      params: Of the best restart.
      objectives: What EM climbs, before each step of that restart `[steps]`.
    """

    params: Params
    objectives: Array

    def __repr__(self) -> str:
        return summary("FittedClasses", **self._asdict())


def initial_classes(
    model: LatentClassModel,
    x: AnyArray,
    key: Key,
    mask: AnyArray | None = None,
    weight: AnyArray | None = None,
) -> Params:
    """Returns params that start each class between the margins and a row drawn at random.

    Args:
      model: The model.
      x: Values `[B, D]`.
      key: Which rows.
      mask: True where observed, `[B, D]`.
      weight: `[B]`; a row is drawn with probability proportional to it.
    """
    shapes = jax.eval_shape(model.init, key)["params"]
    dtype = jnp.result_type(float) if weight is None else jnp.result_type(weight, jnp.float32)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, dtype), shapes)
    seen = _counted(x, mask, weight)
    chosen, _ = model.apply({"params": zeros}, x, seen, method="indicators")
    count = jnp.ones(chosen.shape[0], dtype) if weight is None else jnp.asarray(weight, dtype)
    exists = model._exists()
    margins = jnp.sum(chosen * count[:, None, None], axis=0, keepdims=True) + exists
    margins = margins / jnp.sum(margins, axis=-1, keepdims=True)
    rows = jax.random.categorical(key, jnp.log(count), shape=(model.num_classes,))
    items = jnp.log(0.5 * (margins + chosen[rows]) + (~exists))
    return {"class_logits": zeros["class_logits"], "item_logits": jnp.where(exists, items, 0.0)}


def fit_em(
    model: LatentClassModel,
    x: AnyArray,
    key: Key,
    *,
    mask: AnyArray | None = None,
    weight: AnyArray | None = None,
    pseudo_count: float = 0.1,
    num_steps: int = 200,
    num_restarts: int = 1,
) -> FittedClasses:
    """Fits by EM from random starts, all steps in one compiled program.

    Args:
      model: The model.
      x: Values `[B, D]`.
      key: Of the starts: restart r has the key `split(key, R)[r]`.
      mask: True where observed, `[B, D]`.
      weight: How often each row counts, `[B]`: equal rows may be given once.
      pseudo_count: a (>= 0), added to every cell.
      num_steps: Steps of each restart.
      num_restarts: Starts R; the one with the best objective is returned.

    Returns:
      The params and their climb.

    Raises:
      ValueError: Numbers below 1, a negative pseudo-count, or data that does not fit the model.
    """
    require_count("fit_em", num_steps=num_steps, num_restarts=num_restarts)
    require_non_negative("fit_em", pseudo_count=pseudo_count)
    arrays = (jnp.asarray(x), None if mask is None else jnp.asarray(mask),
              None if weight is None else jnp.asarray(weight))  # fmt: skip
    model = model.clone(num_categories=tuple(model.num_categories))  # a list has no hash
    # here, where the values are still concrete
    _checked(model.num_categories, x, _counted(*arrays))
    return _fit_em(model, *arrays, key, float(pseudo_count), num_steps, num_restarts)


@functools.partial(jax.jit, static_argnums=(0, 5, 6, 7))
def _fit_em(model, x, mask, weight, key, pseudo_count, num_steps, num_restarts) -> FittedClasses:
    keys = jax.random.split(key, num_restarts)
    fit = em.fit_em(
        lambda params: _e_step(model, params, x, mask, weight, pseudo_count),
        lambda counts, params: _m_step(model, counts, params, pseudo_count),
        jax.vmap(lambda one: initial_classes(model, x, one, mask, weight))(keys),
        num_steps,
    )
    return FittedClasses(fit.params, fit.bounds)


def _checked(
    num_categories: Sequence[int], x: AnyArray, mask: AnyArray | None
) -> tuple[Array, Array]:
    """Values as an array and which were observed, both `[B, D]`; shapes and values are checked."""
    x, sizes = jnp.asarray(x), np.asarray(num_categories)
    if x.ndim != 2 or x.shape[1] != len(sizes):
        raise ValueError(
            f"LatentClassModel: x has shape {x.shape}; expected [B, {len(sizes)}], one column "
            "for each entry of num_categories."
        )
    if mask is not None and jnp.shape(mask) != x.shape:
        raise ValueError(
            f"LatentClassModel: mask has shape {jnp.shape(mask)}; expected that of x, {x.shape}."
        )
    seen = jnp.ones(x.shape, bool) if mask is None else jnp.asarray(mask, bool)
    check_values("LatentClassModel", "x", jnp.where(seen, x, 0), _values_below(sizes[None]))
    return x, seen


def _counted(
    x: AnyArray, mask: AnyArray | None = None, weight: AnyArray | None = None
) -> AnyArray | None:
    """The mask, with nothing observed in rows that count 0 times: 0 log 0 is no NaN then."""
    shape = jnp.shape(x)
    if weight is None or len(shape) != 2 or jnp.shape(weight) != shape[:1]:
        return mask  # what does not fit is refused where it is used
    if mask is not None and jnp.shape(mask) != shape:
        return mask
    counts = jnp.broadcast_to((jnp.asarray(weight) > 0)[:, None], shape)
    return counts if mask is None else counts & jnp.asarray(mask, bool)


def _values_below(sizes: np.ndarray) -> Constraint:
    return Constraint(
        "a value of its variable, from 0 to num_categories - 1",
        lambda value, xp: (value >= 0) & (value < sizes) & (value == xp.floor(value)),
        "Set num_categories to the number of values of each column, and mask what is missing.",
    )


def _log_shares(counts: Array, old: Array) -> Array:
    """log(counts / sum) over the last axis, or `old` where they sum to 0.

    Of a count of 0 it is the logarithm of the smallest number, or -inf where it was so before; a
    sum below that has no digits.
    """
    tiny = jnp.finfo(counts.dtype).tiny
    total = jnp.sum(counts, axis=-1, keepdims=True)
    some = total >= tiny
    shares = jnp.log(jnp.maximum(counts / jnp.where(some, total, 1.0), tiny))
    shares = jnp.where((counts == 0.0) & (old == -jnp.inf), -jnp.inf, shares)
    return jnp.where(some, shares, old)


def _log_sum_exp(joint: Array) -> Array:
    """Returns log sum_k exp `[B]`, -inf with gradient 0 where all terms are -inf."""
    some = jnp.any(joint > -jnp.inf, axis=-1)
    safe = jnp.where(some[:, None], joint, 0.0)
    return jnp.where(some, jax.nn.logsumexp(safe, axis=-1), -jnp.inf)


def _shares(joint: Array, class_logits: Array) -> Array:
    """p(class | x) `[B, K]`; where no class can show x, the weights of the classes."""
    some = jnp.any(joint > -jnp.inf, axis=-1, keepdims=True)
    return jax.nn.softmax(jnp.where(some, joint, class_logits[None]), axis=-1)
