"""How a flow is fitted: to data by likelihood, to a density known up to a factor by its energy.

    negative_log_likelihood   -mean_b log q(x_b)
    reverse_kl                E_q[log q(x) - weight log p~(x)] = KL(q || p) - log Z   (weight 1)

`objectives.negative_log_likelihood` asks its model for a distribution; a flow is none, since its
density needs its parameters, hence a loss of its own with the same signature and the same weights.

Twin: `torch_ref/flows/losses.py`. Source: Rezende & Mohamed, "Variational inference with
normalizing flows" (2015), eqs. 15 and 20; Papamakarios et al., "Normalizing flows for probabilistic
modeling and inference" (2021), section 2.3.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxprob.batches import extra_inputs, weighted_mean
from jaxprob.flows.flow import Flow
from jaxprob.objectives.annealing import Schedule, follows_step, weight_at
from jaxprob.requirements import require_count
from jaxprob.types import Array, Batch, Key, Loss, LossFn, Metrics, Params

__all__ = ["negative_log_likelihood", "reverse_kl"]


def negative_log_likelihood(model: Flow, event: str = "x", condition: str | None = None) -> LossFn:
    """Returns the loss -mean_b log q(x_b), or -mean_b log q(y_b | x_b).

    Args:
      model: The flow.
      event: Entry of the batch whose density is fitted, `[B, D]`.
      condition: Entry of the batch that it is conditional on, `[B, C]`; None for "condition", if
        that is there. For p(y | x) write `event="y", condition="x"`.

    Returns:
      `loss_fn(params, batch, key) -> (loss, {"nll": loss})` in nats a row. Rows may carry "weight"
      `[B]`, as in `objectives.negative_log_likelihood`. The key is not used.

    Raises:
      ValueError: When called, events of another size, or a "mask": the elements of an event are not
        independent, so single ones cannot be left out.
    """

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        del key
        if batch.get("mask") is not None:
            raise ValueError(
                'batch["mask"] speaks of single elements of an event; those of a flow are not '
                'independent. Fill in what is missing, or weigh whole rows by batch["weight"].'
            )
        x = _events(batch, event, model.features)
        log_prob = model.apply({"params": params}, x, _condition(model, batch, condition))
        nll = -weighted_mean(jnp.asarray(log_prob), batch)
        return nll, {"nll": nll}

    return loss_fn


def reverse_kl(
    model: Flow,
    log_density: Callable[..., Array],
    num_samples: int = 256,
    condition: str | None = None,
    weight: float | Schedule = 1.0,
) -> Loss:
    """Returns the loss E_q[log q(x) - weight log p~(x)], from draws of the flow.

    It needs no data. `training.fit` wants some rows to count its steps by: with
    `{"row": jnp.arange(1000)}` and `batch_size=1` an epoch is a program of 1000 steps.

    Args:
      model: The flow q.
      log_density: x `[S, D]` -> log p~ `[S]` up to a constant, such as minus an energy; with a
        condition, (x `[S, B, D]`, condition `[B, C]`) -> `[S, B]`.
      num_samples: Draws S for each step (and each row, with a condition).
      condition: Entry of the batch that q is conditional on, `[B, C]`; None for "condition", if
        that is there. One flow then answers for every row (amortised inference), and rows may carry
        "weight".
      weight: Weight of log p~, or a schedule of it; from below 1 up to 1 keeps q from settling on
        one mode too early.

    Returns:
      `loss_fn(params, batch, key) -> (loss, metrics)`; metrics hold the means over the draws
      "log_q" and "log_density": loss = log_q - weight log_density. `loss_fn.evaluate`, for
      validation, has the weight at which a schedule ends.

    Raises:
      ValueError: No samples.
    """
    require_count("reverse_kl", num_samples=num_samples)

    def in_mode(train: bool) -> LossFn:
        def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
            value = _condition(model, batch, condition)
            given = () if value is None else (value,)
            drawn: Any = model.apply(
                {"params": params}, key, (num_samples,), *given, method="sample_and_log_prob"
            )
            x, log_q = drawn
            log_p = log_density(x, *given)
            if log_p.shape != log_q.shape:
                raise ValueError(
                    f"reverse_kl: log_density returned shape {log_p.shape}; expected one number "
                    f"for each draw, {log_q.shape}. Sum over the last axis of x only."
                )
            rows = batch if given else {}
            mean_q, mean_p = weighted_mean(log_q, rows), weighted_mean(log_p, rows)
            share = weight_at(weight, batch, "reverse_kl", train)
            loss = mean_q - share * mean_p
            return loss, {"log_q": mean_q, "log_density": mean_p}

        return loss_fn

    return Loss.in_modes(in_mode, follows_step(weight))


def _condition(model: Flow, batch: Batch, name: str | None) -> Any:
    if name is not None:
        return batch[name]
    return extra_inputs(model, batch, ()).get("condition")


def _events(batch: Batch, name: str, features: int) -> Array:
    x = jnp.asarray(batch[name])
    if x.ndim != 2 or x.shape[-1] != features:
        raise ValueError(
            f'batch["{name}"] has shape {x.shape}; expected [B, {features}], one event of the flow '
            "for each row."
        )
    return x
