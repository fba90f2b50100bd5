"""Natural-gradient variational inference: the variational online Newton method.

For a mean-field posterior N(mu, 1 / s) the natural gradient of the bound L = -ELBO is a Newton step
for the mean and a step towards the curvature for the precision:

    d  = 2 dL/d(1 / s) = E_q[curvature of the log-posterior] - s
    s  <- s + rho d + (rho d)^2 / (2 s)
    mu <- mu - alpha dL/dmu / s

Both derivatives are those that the reparameterised gradient has anyway, as dL/d(1 / s) =
sqrt(s) dL/d(s^-1/2) / 2, so no second derivative is ever computed. The last term of the second line
keeps the precision positive whatever the noise; at the optimum d = 0 and it vanishes. Steps do not
depend on how the weights are scaled, and the learning rate is a share of a Newton step.

Under a weight beta of the KL the bound is minimised by s = curvature / beta + 1 / scale^2, whose
Newton step is that of L / beta: the gradient is divided by `kl_weight`.

Twin: `torch_ref/bayes/natural_gradient.py`. Sources: Khan et al., "Fast and scalable Bayesian deep
learning by weight-perturbation in Adam" (2018), eqs. 7-8 (variational online Newton); Lin, Schmidt
& Khan, "Handling the positive-definite constraint in the Bayesian learning rule" (2020), eq. 9, for
the correction; Shen et al., "Variational learning is effective for large deep networks" (2024).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprob.bayes.gaussian_block import SCALE_FLOOR
from jaxprob.bayes.summary import summary
from jaxprob.requirements import require_count, require_in, require_positive
from jaxprob.types import Array, Params

__all__ = ["natural_gradient"]


class NaturalGradientState(NamedTuple):
    """Running mean of the gradient towards the means, and the number of steps taken."""

    momentum: Params
    count: Array

    def __repr__(self) -> str:
        return summary("NaturalGradientState", momentum=self.momentum, count=self.count)


def natural_gradient(
    num_data: int,
    learning_rate: float = 0.1,
    precision_rate: float = 0.1,
    momentum: float = 0.9,
    kl_weight: float = 1.0,
) -> optax.GradientTransformation:
    """Returns an optax transformation for the params of a diagonal `GaussianPosterior`.

    Use it in `training.fit` with `negative_elbo(q, num_data)` in the place of Adam.

    Args:
      num_data: Rows N of the whole training set, as in the loss: that is the bound per row, the
        natural gradient is that of the whole bound.
      learning_rate: alpha in (0, 1]; 1 is a full Newton step.
      precision_rate: rho in (0, 1]; 1 forgets the precision before.
      momentum: Share of the old gradient in the running mean, in [0, 1); corrected for its start.
      kl_weight: The `kl_weight` of the loss (> 0). With another number, or a schedule in the loss
        and 1 here, a step is `kl_weight` of the loss times as long, in shares of a Newton step.

    Returns:
      The transformation. Its updates need the current params. Weights that the posterior does not
      select need an optimiser of their own: `optax.multi_transform({"q": natural_gradient(N), "w":
      optax.adam(1e-3)}, {"posterior": "q", "point": "w"})`.

    Raises:
      ValueError: Numbers outside these bounds; and from `init` another posterior than a diagonal
        one with a fixed prior.
    """
    require_in(
        "natural_gradient",
        "(0, 1]",
        "It is a share of a Newton step.",
        learning_rate=learning_rate,
        precision_rate=precision_rate,
    )
    require_in("natural_gradient", "[0, 1)", momentum=momentum)
    require_count("natural_gradient", num_data=num_data)
    require_positive("natural_gradient", kl_weight=kl_weight)
    whole = num_data / kl_weight  # from the loss to what its Newton steps are those of

    def init(params: Params) -> NaturalGradientState:
        _require_diagonal(params)
        zeros = {n: jnp.zeros_like(b["loc"]) for n, b in params["posterior"].items()}
        return NaturalGradientState(zeros, jnp.zeros((), jnp.int32))

    def update(gradient: Params, state: NaturalGradientState, params: Params | None = None):
        if params is None:
            raise ValueError("natural_gradient: update needs params: its steps depend on them.")
        count = state.count + 1
        updates, running = {}, {}
        for name, block in params["posterior"].items():
            slope = gradient["posterior"][name]
            scale = jax.nn.softplus(block["raw_scale"]) + SCALE_FLOOR
            by_scale = slope["raw_scale"] / jax.nn.sigmoid(block["raw_scale"])
            # rho d / s, as dL/ds^-1 = by_scale / 2 s^1/2
            step = precision_rate * whole * by_scale * scale
            growth = step + 0.5 * step**2  # s_new / s - 1
            mean = momentum * state.momentum[name] + (1.0 - momentum) * slope["loc"]
            corrected = mean / jnp.asarray(1.0 - momentum**count, mean.dtype)
            updates[name] = {
                "loc": -learning_rate * whole * corrected * scale**2 / (1.0 + growth),
                "raw_scale": _raw_change(block["raw_scale"], scale, growth),
            }
            running[name] = mean
        updates = {**gradient, "posterior": updates}  # beside it nothing but masked entries
        return updates, NaturalGradientState(running, count)

    return optax.GradientTransformation(init, update)


def _raw_change(raw: Array, scale: Array, growth: Array) -> Array:
    """By how much the raw scale moves where the precision is multiplied by 1 + growth.

    A step of a few per cent through softplus and back would carry a rounding of the scale at every
    step, which in float32 is the largest error of the method. The difference of two inverses,
    log(e^y' - 1) - log(e^y - 1) with y = softplus(raw), needs no such detour.
    """
    old = jax.nn.softplus(raw)
    new = jnp.maximum(scale * (1.0 + growth) ** -0.5, 2.0 * SCALE_FLOOR) - SCALE_FLOOR
    change = scale * jnp.expm1(-0.5 * jnp.log1p(growth))
    small = jnp.abs(change) < 0.5 * jnp.minimum(old, 1.0)
    near = jnp.log1p(jnp.expm1(jnp.where(small, change, 0.0)) / jax.nn.sigmoid(raw))
    return jnp.where(small & (new > SCALE_FLOOR), near, new + jnp.log(-jnp.expm1(-new)) - raw)


def _require_diagonal(params: Params) -> None:
    blocks = params.get("posterior", {}) if isinstance(params, dict) else {}
    if not blocks or any(set(block) != {"loc", "raw_scale"} for block in blocks.values()):
        raise ValueError(
            "natural_gradient: needs the params of GaussianPosterior(covariance='diagonal'); for "
            "other posteriors use optax.adam, or bayes.update."
        )
    others = {name for name, part in params.items() if not isinstance(part, optax.MaskedNode)}
    if "point" in others:
        raise ValueError(
            "natural_gradient: weights that the posterior does not select have no natural "
            'gradient. Write optax.multi_transform({"q": natural_gradient(N), "w": '
            'optax.adam(1e-3)}, {"posterior": "q", "point": "w"}).'
        )
    if "prior" in others:
        raise ValueError(
            "natural_gradient: the prior's own parameters have no natural gradient here; use a "
            "fixed prior such as GaussianPrior(scale)."
        )
