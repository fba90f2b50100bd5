"""Maximum a posteriori: the likelihood loss and a prior on the weights.

    loss(w) = -1/B sum_b weight_b log p(y_b | x_b, w) - 1/N log p(w)

N times the loss is the negative log-posterior of the data in which a row stands `weight` times, or
of a batch its estimate without bias.

Twin: `torch_ref/objectives/maximum_a_posteriori.py`. Source: Bishop, "Pattern Recognition and
Machine Learning", 5.5 and 5.7.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax

from jaxprob.batches import mean_over_rows
from jaxprob.nn.apply import as_variables
from jaxprob.objectives import likelihood
from jaxprob.objectives.priors import HierarchicalGaussianPrior
from jaxprob.requirements import require_count, require_in, require_positive
from jaxprob.types import Array, Batch, Key, Loss, LossFn, Metrics, Params

__all__ = ["dropout_precision", "map_loss"]


@runtime_checkable
class Prior(Protocol):
    """Anything with a log-density over a pytree of weights."""

    def log_prob(self, params: Params) -> Array:
        """Returns log p(w), summed over the pytree, in nats."""
        ...


def fixed_prior(owner: str, prior: Prior | HierarchicalGaussianPrior) -> Prior:
    """Returns the prior if all its numbers are given; a point or a sampler cannot learn them.

    Raises:
      ValueError: A prior with parts that are learned, or without a density.
    """
    if not (isinstance(prior, HierarchicalGaussianPrior) or hasattr(prior, "log_prob")):
        raise ValueError(
            f"{owner}: the prior must have a method log_prob(params); got {prior!r}. Write "
            "objectives.GaussianPrior(scale)."
        )
    if getattr(prior, "trainable", ()) or isinstance(prior, HierarchicalGaussianPrior):
        raise ValueError(
            f"{owner}: {prior} has parts that are learned, and only variational inference can "
            "learn them. Write GaussianPrior(scale), or learn them with "
            "bayes.GaussianPosterior(prior=...) first."
        )
    return prior


def map_loss(
    model: nn.Module,
    prior: Prior | HierarchicalGaussianPrior,
    num_data: int,
    inputs: Sequence[str] = ("x",),
    select: Callable[[str], bool] | None = None,
) -> Loss:
    """Returns the negative log-posterior of the weights, per row.

    Args:
      model: Linen module, `apply({"params": params}, x)` -> distribution with batch shape `[B]`.
      prior: A prior of this package, or anything with `log_prob(params)`.
      num_data: Number of rows N of the whole training set, `len(x)` whatever their weights: the
        prior counts once, not once a batch.
      inputs: Entries of the batch that the model takes, in order.
      select: Which weights the prior is over, by their path, e.g.
        `lambda path: path.endswith("kernel")` to leave the biases free. Default: all.

    Returns:
      `loss_fn(params, batch, key) -> (loss, {"nll": ..., "log_prior": ...})`, in nats, with
      `loss_fn.evaluate` for validation, as `negative_log_likelihood` has it. A row counts
      `batch["weight"]` times, and "nll" is the mean over all B rows of weight times -log p, those
      of weight 0 among them.

    Raises:
      ValueError: A number of rows that is not positive, a learned prior (that is what
        `bayes.negative_elbo` is for), or (from the loss) a selection without any weight.
    """
    require_count("map_loss", num_data=num_data)
    # Maximised over its own parameters too, the density at the weights would have no bound.
    fixed = fixed_prior("map_loss", prior)

    def in_mode(train: bool) -> LossFn:
        of_rows = likelihood.in_mode(model, inputs, train, mean_over_rows)

        def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
            nll, metrics = of_rows(params, batch, key)
            weights = as_variables(params)["params"]
            log_prior = fixed.log_prob(_chosen(weights, select))
            return nll - log_prior / num_data, {**metrics, "log_prior": log_prior}

        return loss_fn

    return Loss.in_modes(in_mode, average="rows", check=likelihood.check_of(model, inputs))


def _chosen(params: Params, select: Callable[[str], bool] | None) -> Any:
    if select is None:
        return params
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    return [named[name] for name in selected("map_loss", named, select)]


def selected(owner: str, names: Iterable[str], select: Callable[[str], bool]) -> list[str]:
    """Returns those of the paths that `select` takes.

    Raises:
      ValueError: It takes none.
    """
    names = list(names)
    chosen = [name for name in names if select(name)]
    if not chosen:
        raise ValueError(f"{owner}: select takes none of the weights {', '.join(names)}.")
    return chosen


def dropout_precision(
    rate: float, weight_decay: float, num_data: int, prior_scale: float = 1.0
) -> float:
    """Returns the noise precision that dropout with weight decay assumes, as Bernoulli inference.

    A network trained with dropout and the penalty c |w|^2 is the variational posterior
    w = m diag(z), z ~ Bernoulli(1 - rate), for a prior N(0, prior_scale^2) and a likelihood of
    precision

        tau = (1 - rate) / (2 N c prior_scale^2)

    where the loss is half the mean squared error. So rate, decay and noise are not three free
    choices: state two, and this is the third.

    Args:
      rate: Probability that a unit is dropped, in [0, 1).
      weight_decay: Coefficient c of c |w|^2 (> 0).
      num_data: Number of rows N.
      prior_scale: Standard deviation of the prior, the inverse of the paper's length-scale.

    Returns:
      Precision tau, the inverse variance of the noise, in units of y^-2.

    Raises:
      ValueError: Numbers outside these bounds.

    Source: Gal & Ghahramani, "Dropout as a Bayesian approximation" (ICML 2016), eq. 7.
    """
    require_count("dropout_precision", num_data=num_data)
    require_in("dropout_precision", "[0, 1)", rate=rate)
    require_positive("dropout_precision", weight_decay=weight_decay, prior_scale=prior_scale)
    return (1.0 - rate) / (2.0 * num_data * weight_decay * prior_scale**2)
