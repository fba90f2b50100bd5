"""Priors over weights, fixed or learned.

    log p(w) = -sum_i (w_i - loc)^2 / (2 scale^2) - P log scale - P log(2 pi) / 2     Gaussian
    log p(w) = -sum_i |w_i - loc| / scale - P log(2 scale)                            Laplace

A scale may be an array without axes, traced too: evidence, bounds and densities can be
differentiated in it, and `vmap` compares many.

Twin: `torch_ref/objectives/priors.py`.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxprob.requirements import require_choice, require_count, require_positive
from jaxprob.types import Array, Params

__all__ = [
    "GaussianPrior",
    "HierarchicalGaussianPrior",
    "ImpliedPrior",
    "LaplacePrior",
    "prior_for_l1",
    "prior_for_weight_decay",
    "weight_decay_for_prior",
]


@dataclasses.dataclass(frozen=True)
class GaussianPrior:
    """Independent normal prior over every weight, fixed or learned (empirical Bayes).

    Attributes:
      scale: Standard deviation (> 0), in the units of the weights; inside of `vmap` or `jit` it may
        be an array.
      loc: Mean.
      trainable: What variational inference may learn: any of "loc" (one mean for each weight) and
        "scale" (one scale for each group of weights, i.e. for each layer). `scale` and `loc` are
        then where the learning starts.

    Raises:
      ValueError: A scale that is not positive, or an unknown name in `trainable`.
    """

    scale: float | Array = 1.0
    loc: float | Array = 0.0
    trainable: tuple[str, ...] = ()

    def __post_init__(self):
        require_positive("GaussianPrior", "It is a standard deviation.", scale=self.scale)
        if isinstance(self.trainable, str) or set(self.trainable) - {"loc", "scale"}:
            raise ValueError(
                f"GaussianPrior: trainable must be a tuple of 'loc' and 'scale'; got "
                f"{self.trainable!r}. Write trainable=('loc',)."
            )

    def log_prob(self, params: Params) -> Array:
        """Returns log p(w), summed over a pytree of weights, in nats (fixed prior)."""
        leaves = jax.tree.leaves(params)
        size = sum(leaf.size for leaf in leaves)
        squares = sum(jnp.sum(((leaf - self.loc) / self.scale) ** 2) for leaf in leaves)
        return -0.5 * squares - size * (log_number(self.scale) + 0.5 * math.log(2 * math.pi))

    def init(self, num_weights: int, dtype=jnp.float32) -> dict[str, Array]:
        """Returns the learned parameters for a group of P weights: some of the two below."""
        params = {}
        if "loc" in self.trainable:
            params["loc"] = jnp.full((num_weights,), self.loc, dtype)
        if "scale" in self.trainable:
            params["log_scale"] = jnp.full((), log_number(self.scale), dtype)
        return params

    def loc_and_scale(self, params: dict[str, Array]) -> tuple[Array | float, Array | float]:
        """Returns mean (`[P]` or scalar) and scale (scalar) of a group, given `init`'s params."""
        scale = jnp.exp(params["log_scale"]) if "log_scale" in params else self.scale
        return params.get("loc", self.loc), scale

    def moments(
        self, params: dict[str, Array]
    ) -> tuple[Array | float, Array | float, Array | float]:
        """Returns of a group its mean, 1 / scale^2 and log scale: all that a Gaussian KL needs."""
        loc, scale = self.loc_and_scale(params)
        log_scale = params["log_scale"] if "log_scale" in params else log_number(self.scale)
        return loc, scale**-2, log_scale

    def own_kl(self, params: dict[str, Array]) -> Array | float:
        """Returns the KL of what is learned about the prior itself: a point estimate has none."""
        del params
        return 0.0


@dataclasses.dataclass(frozen=True)
class HierarchicalGaussianPrior:
    """Normal prior whose scale is unknown: one log-normal scale for each group of weights.

        log s ~ N(log scale, spread^2),   w_i | s ~ N(loc, s^2)

    Variational inference gives log s a normal posterior N(m, v^2) of its own, and all
    expectations are exact:

        E[1 / s^2] = exp(-2 m + 2 v^2),   E[log s] = m

    Unlike the point estimate of `GaussianPrior(trainable=("scale",))` it pays for what it learns
    about the scale and cannot collapse.

    Source: Gelman, "Prior distributions for variance parameters in hierarchical models" (2006),
    for the model; Blei, Kucukelbir & McAuliffe, "Variational inference: a review" (2017), section
    2, for the factors.

    Attributes:
      scale: Median of the scale a priori (> 0), in the units of the weights.
      spread: Standard deviation of the logarithm of the scale (> 0); 1 allows factors of 1/7 to 7.
      loc: Mean of the weights.

    Raises:
      ValueError: A scale or spread that is not positive.
    """

    scale: float | Array = 1.0
    spread: float | Array = 1.0
    loc: float | Array = 0.0
    trainable: tuple[str, ...] = dataclasses.field(default=("scale",), init=False, repr=False)

    def __post_init__(self):
        require_positive("HierarchicalGaussianPrior", scale=self.scale, spread=self.spread)

    def init(self, num_weights: int, dtype=jnp.float32) -> dict[str, Array]:
        """Returns the parameters of q(log s) for a group: mean, and log of the deviation."""
        del num_weights
        return {
            "log_scale": jnp.full((), log_number(self.scale), dtype),
            "log_deviation": jnp.full((), log_number(self.spread) - 1.0, dtype),
        }

    def moments(
        self, params: dict[str, Array]
    ) -> tuple[Array | float, Array | float, Array | float]:
        """Returns of a group its mean, E[1 / s^2] and E[log s]."""
        mean, variance = params["log_scale"], jnp.exp(2.0 * params["log_deviation"])
        return self.loc, jnp.exp(2.0 * (variance - mean)), mean

    def own_kl(self, params: dict[str, Array]) -> Array | float:
        """Returns KL(q(log s) || p(log s)) in nats."""
        offset = (params["log_scale"] - log_number(self.scale)) / self.spread
        log_ratio = params["log_deviation"] - log_number(self.spread)
        return 0.5 * (jnp.exp(2.0 * log_ratio) + offset**2 - 1.0) - log_ratio


@dataclasses.dataclass(frozen=True)
class LaplacePrior:
    """Independent Laplace prior over every weight: the L1 penalty |w| / scale.

    A gradient step leaves weights small, never zero; `optim.proximal_l1` makes them exactly zero.

    Attributes:
      scale: Mean of |w - loc| (> 0), in the units of the weights.
      loc: Centre.

    Raises:
      ValueError: A scale that is not positive.
    """

    scale: float | Array = 1.0
    loc: float | Array = 0.0

    def __post_init__(self):
        require_positive("LaplacePrior", scale=self.scale)

    def log_prob(self, params: Params) -> Array:
        """Returns log p(w), summed over a pytree of weights, in nats."""
        leaves = jax.tree.leaves(params)
        size = sum(leaf.size for leaf in leaves)
        distance = sum(jnp.sum(jnp.abs(leaf - self.loc)) for leaf in leaves)
        return -distance / self.scale - size * log_number(2.0 * self.scale)


@dataclasses.dataclass(frozen=True)
class ImpliedPrior(GaussianPrior):
    """The prior that a weight decay is; printed, it says so in words.

    Attributes:
      sentence: Coefficient, number of rows and prior.
    """

    sentence: str = ""

    def __str__(self) -> str:
        return self.sentence


PENALTIES = {"coefficient / 2 |w|^2": 1.0, "coefficient |w|^2": 2.0}


def prior_for_weight_decay(
    coefficient: float | Array,
    num_data: int,
    penalty: str = "coefficient / 2 |w|^2",
    loss_scale: float | Array = 1.0,
) -> ImpliedPrior:
    """Returns the Gaussian prior that a weight decay implies.

    The mean loss over N rows with its penalty is 1/N times the negative log-posterior:

        -1/N sum_i log p(y_i | w) + c/2 |w|^2 = -1/N [log p(y | w) + log N(w; 0, 1 / (c N))] + const

    so the prior's variance is 1 / (c N). torch.optim adds c w to the gradient of the mean, which is
    the gradient of c/2 |w|^2; who writes c |w|^2 into the loss means half that variance.

    Args:
      coefficient: Weight decay c (> 0).
      num_data: Number of rows N of the whole training set; of a loss that is averaged by weights,
        as `negative_log_likelihood` is, the sum of the weights.
      penalty: "coefficient / 2 |w|^2" (torch.optim, optax.add_decayed_weights) or
        "coefficient |w|^2" (Keras' l2 and most textbooks).
      loss_scale: The loss in units of nats a row: 1 for a mean negative log-likelihood, 2 for the
        mean squared error, which is twice that of a normal of unit scale.

    Returns:
      A `GaussianPrior` whose text is the sentence that says this.

    Raises:
      ValueError: Numbers that are not positive, or an unknown penalty.

    Adam with an L2 term and AdamW rescale the decay by their own steps: for them this is the prior
    of the loss that they are given, not of what the steps do.
    """
    require_count("prior_for_weight_decay", num_data=num_data)
    require_positive("prior_for_weight_decay", coefficient=coefficient, loss_scale=loss_scale)
    require_choice("prior_for_weight_decay", PENALTIES, penalty=penalty)
    variance = loss_scale / (PENALTIES[penalty] * coefficient * num_data)
    if not _is_known(variance):
        sentence = f"a traced weight decay on a mean loss over {num_data} rows, as a prior"
        return ImpliedPrior(scale=variance**0.5, sentence=sentence)
    scale = math.sqrt(variance)
    form = "" if penalty == "coefficient / 2 |w|^2" else f" ({penalty})"
    sentence = (
        f"weight decay {_number(coefficient)}{form} on a mean loss over {num_data:,} rows is the "
        f"prior w ~ N(0, {_number(scale)}^2)"
    )
    return ImpliedPrior(scale=scale, sentence=sentence)


def weight_decay_for_prior(
    prior: GaussianPrior,
    num_data: int,
    penalty: str = "coefficient / 2 |w|^2",
    loss_scale: float | Array = 1.0,
) -> float | Array:
    """Returns the weight decay that a Gaussian prior of mean 0 is; see `prior_for_weight_decay`."""
    require_count("weight_decay_for_prior", num_data=num_data)
    require_positive("weight_decay_for_prior", loss_scale=loss_scale)
    if (_is_known(prior.loc) and prior.loc != 0.0) or prior.trainable:
        raise ValueError(
            f"weight_decay_for_prior: weight decay pulls towards 0 with a fixed strength; got "
            f"{prior!r}. Use map_loss for this prior."
        )
    require_choice("weight_decay_for_prior", PENALTIES, penalty=penalty)
    return loss_scale / (PENALTIES[penalty] * prior.scale**2 * num_data)


def prior_for_l1(
    coefficient: float | Array, num_data: int, loss_scale: float | Array = 1.0
) -> LaplacePrior:
    """Returns the Laplace prior of the penalty c |w| on a mean loss: its scale is 1 / (c N)."""
    require_count("prior_for_l1", num_data=num_data)
    require_positive("prior_for_l1", coefficient=coefficient, loss_scale=loss_scale)
    return LaplacePrior(scale=loss_scale / (coefficient * num_data))


def _number(value: float) -> str:
    """Four digits, exponents as people write them: 1e-4, 0.5, 1."""
    text = f"{value:.4g}"
    mantissa, _, exponent = text.partition("e")
    if not exponent and 0 < abs(value) < 1e-3:
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def log_number(number: Any) -> Any:
    """Returns the logarithm, of a number in double precision whatever the dtype of the weights."""
    return jnp.log(number) if isinstance(number, jax.Array) else math.log(number)


def _is_known(*numbers: Any) -> bool:
    """Whether the numbers have values yet: inside of `jit`, `vmap` and `grad` they have none."""
    return not any(isinstance(number, jax.core.Tracer) for number in numbers)
