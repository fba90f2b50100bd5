"""Proper scores of predictions; lower is better for all of them.

    NLL    = -log p(y)
    CRPS   = integral (F(x) - 1[y <= x])^2 dx = E|X - y| - E|X - X'| / 2
    Brier  = sum_k (p_k - 1[y = k])^2

For normals, with A(m, s) = 2 s phi(m / s) + m (2 Phi(m / s) - 1) = E|Z| for Z ~ N(m, s^2):

    CRPS(sum_k w_k N(m_k, s_k^2), y) = sum_k w_k A(y - m_k, s_k)
                                       - sum_kl w_k w_l A(m_k - m_l, sqrt(s_k^2 + s_l^2)) / 2

Twin: `torch_ref/metrics/scores.py`. Source: Gneiting & Raftery, "Strictly Proper Scoring Rules,
Prediction, and Estimation" (2007), eqs. 20-21; Grimit et al. (2006), eq. 4-5 for the mixture.
"""

import math

import distrax
import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from jaxprob.distributions import Distribution, MixtureSameFamily, Normal, constraints
from jaxprob.distributions.circular import nearest_turn
from jaxprob.distributions.validation import as_array, check_values
from jaxprob.types import Array, ArrayLike

__all__ = ["brier", "crps", "nll"]

PROBABILITY = constraints.Constraint(
    "a probability (0 to 1)",
    lambda value, xp: (value >= 0) & (value <= 1 + 1e-5),  # float32 softmax overshoots 1
    "Turn logits into probabilities: jax.nn.softmax(logits), or jax.nn.sigmoid for two classes.",
)


def check_targets(metric: str, predictive: distrax.Distribution, y: ArrayLike) -> Array:
    """Returns `y` as array, refusing NaN and any shape but that of the prediction.

    Angles are turned to within pi of the predicted direction, where intervals and cdf are stated.
    """
    if not isinstance(predictive, distrax.Distribution):
        raise ValueError(
            f"{metric}: predictive must be a distribution; got {type(predictive).__name__}. Pass "
            "what bayes.predict or model.apply returns."
        )
    y = as_array(y)
    expected = predictive.batch_shape + predictive.event_shape
    if y.shape != expected:
        hint = " Write y[:, None]." if y.shape == expected[:-1] else ""
        raise ValueError(
            f"{metric}: y has shape {y.shape}, but the predictions have shape {expected}.{hint}"
        )
    if y.size == 0:
        raise ValueError(f"{metric}: y has shape {y.shape}, no rows; expected at least one.")
    check_values(metric, "y", y, constraints.real)
    if getattr(predictive, "periodic", False):
        return nearest_turn(y, predictive.mean())
    return y


def nll(predictive: distrax.Distribution, y: ArrayLike, per_row: bool = False) -> Array:
    """Returns the negative log-likelihood in nats a row (lower is better).

    Args:
      predictive: Predictions, batch shape `[B]`.
      y: Targets `[B, *event]`.
      per_row: True for one number per row `[B]`, False for their mean.

    Raises:
      ValueError: Targets of another shape.
    """
    y = check_targets("nll", predictive, y)
    rows = -jnp.asarray(predictive.log_prob(y))
    return rows if per_row else jnp.mean(rows)


def crps(
    predictive: distrax.Distribution | ArrayLike, y: ArrayLike, per_row: bool = False
) -> Array:
    """Returns the continuous ranked probability score, in the units of y (lower is better).

    Args:
      predictive: Normal, or a mixture of normals such as a `Predictive` (closed form, each marginal
        for itself); or an array of samples with leading axis S, shape `[S, *y.shape]`.
      y: Targets.
      per_row: True for one score per element of y, False for their mean.

    Raises:
      ValueError: Targets of another shape.
      NotImplementedError: A distribution without a closed form; pass samples of it.
    """
    if not isinstance(predictive, distrax.Distribution):
        rows = _crps_of_samples(jnp.asarray(predictive), jnp.asarray(y))
    else:
        y = check_targets("crps", predictive, y)
        marginal = predictive.marginal() if isinstance(predictive, Distribution) else predictive
        if isinstance(marginal, Normal):
            rows = _mean_absolute(y - marginal.loc, marginal.scale) - marginal.scale / math.sqrt(
                math.pi
            )
        elif isinstance(marginal, MixtureSameFamily) and isinstance(
            marginal.components_distribution, Normal
        ):
            rows = _crps_of_normal_mixture(marginal, y)
        else:
            raise NotImplementedError(
                f"crps has no closed form for {predictive.name}; pass samples instead: "
                "crps(predictive.sample(seed=key, sample_shape=1000), y)."
            )
    return rows if per_row else jnp.mean(rows)


def _mean_absolute(m: Array, s: Array) -> Array:
    """E|Z| for Z ~ N(m, s^2)."""
    z = m / s
    density = jnp.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return 2 * s * density + m * (2 * ndtr(z) - 1)


@jax.jit
def _crps_of_normal_mixture(mixture: MixtureSameFamily, y: Array) -> Array:
    weights = mixture.mixture_distribution.probs  # [*B, K]
    loc, scale = mixture.components_distribution.loc, mixture.components_distribution.scale
    to_target = jnp.sum(weights * _mean_absolute(y[..., None] - loc, scale), axis=-1)

    def to_component(k: Array) -> Array:  # one component against all: memory [*B, K], not K^2
        gap, spread = loc - loc[..., k, None], jnp.hypot(scale, scale[..., k, None])
        return weights[..., k] * jnp.sum(weights * _mean_absolute(gap, spread), axis=-1)

    between = jnp.sum(jax.lax.map(to_component, jnp.arange(loc.shape[-1])), axis=0)
    return to_target - 0.5 * between


@jax.jit
def _crps_of_samples(samples: Array, y: Array) -> Array:
    if samples.shape[1:] != y.shape:
        raise ValueError(
            f"crps: samples have shape {samples.shape} and y {y.shape}; expected samples of shape "
            f"[S, *y.shape] = (S, {', '.join(map(str, y.shape))})."
        )
    # Pairwise distances one sample at a time: no sort, which is slow under XLA on CPU.
    distance = jax.lax.map(lambda x: jnp.mean(jnp.abs(samples - x[None]), axis=0), samples)
    return jnp.mean(jnp.abs(samples - y[None]), axis=0) - 0.5 * jnp.mean(distance, axis=0)


def brier(probs: ArrayLike, labels: ArrayLike, per_row: bool = False) -> Array:
    """Returns the Brier score of class probabilities, between 0 and 2 (lower is better).

    Args:
      probs: `[B, K]`, rows summing to 1; or `[B]`, the probability of class 1 of two, for which
        the score is the squared error of that one probability (0 to 1).
      labels: Integer classes `[B]`.
      per_row: True for one score per row, False for their mean.

    Raises:
      ValueError: Shapes that do not fit, or values that are no probabilities or no classes.
    """
    probs, labels = check_classes("brier", probs, labels)
    if probs.ndim == 1:
        rows = (probs - labels) ** 2
    else:
        observed = jax.nn.one_hot(labels, probs.shape[-1], dtype=probs.dtype)
        rows = jnp.sum((probs - observed) ** 2, axis=-1)
    return rows if per_row else jnp.mean(rows)


def check_classes(metric: str, probs: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Returns probabilities `[B, K]` or `[B]` and labels `[B]` as arrays, checked."""
    probs, labels = jnp.asarray(probs), jnp.asarray(labels)
    if probs.ndim not in (1, 2) or labels.shape != probs.shape[:1]:
        raise ValueError(
            f"{metric}: probs has shape {probs.shape} and labels {labels.shape}; expected [B, K] "
            "(or [B] for two classes) and [B]."
        )
    if jnp.issubdtype(labels.dtype, jnp.inexact):
        raise ValueError(
            f"{metric}: labels must be integer classes; got dtype {labels.dtype}. Write "
            "labels.astype(int)."
        )
    classes = probs.shape[1] if probs.ndim == 2 else 2
    label = constraints.Constraint(
        f"a class from 0 to {classes - 1}",
        lambda value, xp: (value >= 0) & (value < classes),
        "Number the classes from 0, in the order of the columns of probs.",
    )
    check_values(metric, "probs", probs, PROBABILITY)
    check_values(metric, "labels", labels, label)
    return probs, labels
