"""One row for one distribution: every quantity that both sides give, in one compiled program.

Both sides have the same constructors, so one function builds the distribution from either package.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

import jaxprob.distributions as jd
import torch_ref.distributions as td
from parity_tests.engine import FunctionCase

LEVEL = 0.8

# name -> (of ours, of the twin); a: inputs
QUANTITIES = {
    "log_prob": (lambda d, a: d.log_prob(a["x"]),) * 2,
    "cdf": (lambda d, a: d.cdf(a["x"]),) * 2,
    "log_cdf": (lambda d, a: d.log_cdf(a["x"]),) * 2,
    "survival": (lambda d, a: d.survival_function(a["x"]),) * 2,
    "quantile": (lambda d, a: d.quantile(a["q"]),) * 2,
    "lower": (lambda d, a: d.interval(LEVEL)[0],) * 2,
    "upper": (lambda d, a: d.interval(LEVEL)[1],) * 2,
    "median": (lambda d, a: d.median(),) * 2,
    "mean": (lambda d, a: d.mean(), lambda d, a: d.mean),
    "variance": (lambda d, a: d.variance(), lambda d, a: d.variance),
    "mode": (lambda d, a: d.mode(), lambda d, a: d.mode),
    "entropy": (lambda d, a: d.entropy(),) * 2,
    "covariance": (
        lambda d, a: d.covariance(),
        lambda d, a: d.covariance() if hasattr(d, "covariance") else d.covariance_matrix,
    ),
    "marginal cdf": (lambda d, a: d.marginal().cdf(a["x"]),) * 2,
    "aleatoric": (lambda d, a: d.aleatoric,) * 2,
    "epistemic": (lambda d, a: d.epistemic,) * 2,
    "mutual information": (lambda d, a: d.mutual_information,) * 2,
    "logits": (lambda d, a: d.logits,) * 2,
    "probs": (lambda d, a: d.probs,) * 2,
}

DENSITY = ("log_prob",)
TAILS = ("cdf", "log_cdf", "survival")
QUANTILES = ("quantile", "lower", "upper", "median")
MOMENTS = ("mean", "variance", "mode")
EVERYTHING = (*DENSITY, *TAILS, *QUANTILES, *MOMENTS, "entropy")
# A quantile by search is most of a row's time to compile; the others are calls of it.
SEARCHED = ("lower", "upper", "median")
DRAWS = (3,)


def distribution_row(
    name: str,
    build: Callable,
    inputs: dict[str, np.ndarray],
    quantities: Sequence[str] = EVERYTHING,
    without: Sequence[str] = (),
    kl: dict[str, Callable] | None = None,
    draw: bool = True,
    elementwise: bool = False,
    slow: bool = False,
    second: bool = False,
) -> FunctionCase:
    """Returns the row of one distribution.

    Args:
      name: Name of the row.
      build: (package, inputs) -> distribution, where package is ours or the twin.
      inputs: Parameters, "x" and "q", float64; integers have no gradient.
      quantities: What to compare.
      without: What does not exist.
      kl: name -> function like `build` for q of KL(p || q).
      draw: Whether to compare draws from one key, and their pathwise gradients. Draws by rejection
        take longest to compile: they stand in rows of their own, see `draws_row`.
      elementwise: See `FunctionCase`.
      slow: See `FunctionCase`.
      second: See `FunctionCase`.
    """
    chosen = [quantity for quantity in quantities if quantity not in without]
    divergences = kl or {}

    def ours(a, key):
        d = build(jd, a)
        outputs = {quantity: QUANTITIES[quantity][0](d, a) for quantity in chosen}
        outputs |= {f"kl to {q}": d.kl_divergence(to(jd, a)) for q, to in divergences.items()}
        return outputs | ({"draw": d.sample(seed=key, sample_shape=DRAWS)} if draw else {})

    def twins(a, key):
        d = build(td, a)
        outputs = {quantity: QUANTITIES[quantity][1](d, a) for quantity in chosen}
        for q, to in divergences.items():
            outputs[f"kl to {q}"] = torch.distributions.kl_divergence(d, to(td, a))
        return outputs | ({"draw": d.draw(key, DRAWS)} if draw else {})

    return FunctionCase(
        name, ours, twins, inputs, elementwise=elementwise, slow=slow, second=second
    )


def draws_row(name: str, build: Callable, inputs: dict[str, np.ndarray]) -> FunctionCase:
    """Returns the row, among the longer proofs, of draws that are made by rejection.

    What is rejected, and that many draws agree, is the matter of `test_draws`; here it is what a
    distribution makes of them. The density is there so that counts have something to differentiate.
    """
    return distribution_row(f"{name}, draws", build, inputs, DENSITY, slow=True)
