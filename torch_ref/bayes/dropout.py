"""Monte Carlo dropout with masks from a key.

Twin of `jaxprob/bayes/dropout.py`.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import torch_ref.random as jrandom
from torch_ref.batches import inputs_of, mean_over_rows, weighted_mean
from torch_ref.nn import Dropout
from torch_ref.nn.apply import call
from torch_ref.objectives.likelihood import LossFn, log_likelihood_of_batch

__all__ = ["DropoutModel", "MCDropout"]


class DropoutModel(nn.Module):
    """A model under the masks of its buffer `key_data` `[2]`, which are the same for all rows.

    Args:
      model: Module with dropout layers.
      rate: Rate of all of them; None for each layer's own.
    """

    key_data: Tensor

    def __init__(self, model: nn.Module, rate: float | None = None):
        super().__init__()
        self.model, self.rate = model, rate
        self.register_buffer("key_data", jrandom.key(0))

    @property
    def takes(self) -> tuple[str, ...]:
        """What the model takes by name."""
        return getattr(self.model, "takes", ())

    def forward(self, *inputs: Tensor, **extra: Tensor) -> Any:
        """Returns what the model returns when whole units are dropped."""
        with masked(self.model, self.key_data, self.rate, by_row=False):
            return self.model(*inputs, **extra)


class MCDropout(nn.Module):
    """The posterior that dropout stands for.

    Args:
      model: Module with `torch.nn.Dropout` or `torch_ref.nn.Dropout` layers.
      rate: Rate of all of them; None for each layer's own.
    """

    def __init__(self, model: nn.Module, rate: float | None = None):
        super().__init__()
        self.model = DropoutModel(model, rate)

    def loss(
        self, prior: Any = None, num_data: int | None = None, inputs: Sequence[str] = ("x",)
    ) -> LossFn:
        """Returns the loss under masks that differ from row to row."""
        network, rate = self.model.model, self.model.rate
        average = weighted_mean if prior is None else mean_over_rows

        def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            with masked(network, key, rate, by_row=True):
                prediction = call(network, inputs_of(network, batch, inputs))
            nll = -average(log_likelihood_of_batch(prediction, batch), batch)
            if prior is None:
                return nll, {"nll": nll}
            log_prior = prior.log_prob(list(network.parameters()))
            return nll - log_prior / num_data, {"nll": nll, "log_prior": log_prior}

        return loss_fn

    def sample(self, key: Tensor, num_draws: int = 1) -> dict[str, Tensor]:
        """Returns draws for `predict(self.model, draws, x)`: weights and keys, leading axis S."""
        weights = dict(self.model.named_parameters())
        draws = {name: w.detach().expand(num_draws, *w.shape) for name, w in weights.items()}
        return {**draws, "key_data": jrandom.split(key, num_draws)}


@contextlib.contextmanager
def masked(model: nn.Module, key: Tensor, rate: float | None, by_row: bool) -> Iterator[None]:
    """Replaces the outputs of the dropout layers: the i-th one called draws from `fold_in(key, i)`.

    Args:
      model: Where the layers are looked for.
      key: Key of all masks.
      rate: Rate of all layers; None for each layer's own.
      by_row: Whether each row has its own mask.
    """
    number = 0

    def replace(layer: nn.Module, args: tuple, output: Tensor) -> Tensor:
        nonlocal number
        x = args[0]
        own = layer.p if isinstance(layer, nn.Dropout) else layer.rate
        dropped = float(own if rate is None else rate)  # type: ignore[arg-type]
        layer_key = jrandom.fold_in(key, number)
        number += 1
        shape = x.shape if by_row else (1, *x.shape[1:])
        kept = jrandom.bernoulli(layer_key, torch.tensor(1 - dropped, dtype=x.dtype), shape)
        return x * kept / (1 - dropped)

    layers = [part for part in model.modules() if isinstance(part, (nn.Dropout, Dropout))]
    handles = [layer.register_forward_hook(replace) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
