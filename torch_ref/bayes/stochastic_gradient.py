"""SGLD and SGHMC, chain by chain and step by eager step.

Twin of `jaxprob/bayes/stochastic_gradient.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import torch_ref.random as jrandom
from torch_ref.batches import inputs_of
from torch_ref.bayes.step_sizes import CyclicalStepSize
from torch_ref.bayes.swag import canonical
from torch_ref.nn.apply import call
from torch_ref.objectives.likelihood import log_likelihood_of_batch

__all__ = ["SGHMC", "SGLD", "minibatch_log_joint"]

Batch = Mapping[str, Tensor]


def minibatch_log_joint(
    model: nn.Module, prior: Any, num_data: int, inputs: Sequence[str] = ("x",)
) -> Callable[[Batch], Tensor]:
    """Returns N/B log p(batch | w) + log p(w) as a function of a batch, at the module's w."""

    def log_density(batch: Batch) -> Tensor:
        of_rows = log_likelihood_of_batch(call(model, inputs_of(model, batch, inputs)), batch)
        weight = batch.get("weight")
        likelihood = (of_rows if weight is None else weight * of_rows).mean()
        return num_data * likelihood + prior.log_prob(list(model.parameters()))

    return log_density


class SGLD:
    """Langevin dynamics with the gradients of minibatches.

    Args:
      module: Holds the weights that move.
      log_density: batch -> log-posterior in nats at the weights of `module`.
      step_size: epsilon, a number or a function of the number of steps taken.
      temperature: T.
    """

    def __init__(
        self,
        module: nn.Module,
        log_density: Callable[[Batch], Tensor],
        step_size: float | Callable[[int], float],
        temperature: float = 1.0,
    ):
        self.module, self.log_density = module, log_density
        self.step_size, self.temperature = step_size, temperature

    def run(
        self,
        key: Tensor,
        init: Mapping[str, Tensor],
        data: Batch,
        num_steps: int,
        batch_size: int | None = None,
        *,
        num_warmup: int = 0,
        thin: int = 1,
        rows: str = "shuffled",
    ) -> dict[str, Tensor]:
        """Returns named parameters `[C, S, ...]`; `init` leads with the chains C."""
        keys = jrandom.split(key, next(iter(init.values())).shape[0])
        chains = []
        for chain, chain_key in enumerate(keys):
            self.module.load_state_dict({n: w[chain] for n, w in init.items()}, strict=False)
            batch_key, noise_key = jrandom.split(chain_key)
            batches = _batches(batch_key, data, batch_size, rows)
            self.momentum = {n: torch.zeros_like(w) for n, w in self.module.named_parameters()}
            states = []
            for step in range(num_steps):
                samples = self._step(step, next(batches), jrandom.fold_in(noise_key, step))
                if step >= num_warmup and samples:
                    states.append({n: w.clone() for n, w in self.module.state_dict().items()})
            chains.append(states[thin - 1 :: thin])
        return {n: torch.stack([torch.stack([s[n] for s in c]) for c in chains]) for n in init}

    def _step(self, step: int, batch: Batch, key: Tensor) -> bool:
        """Moves the weights once; returns whether this step belongs to the sampling."""
        schedule = self.step_size
        epsilon = schedule(step) if callable(schedule) else schedule
        noisy = not isinstance(schedule, CyclicalStepSize) or schedule.samples(step)
        names = canonical(self.module)
        weights = [self.module.get_parameter(name) for name, _ in names]
        slopes = torch.autograd.grad(self.log_density(batch), weights)
        with torch.no_grad():
            for i, ((name, transposed), w, g) in enumerate(
                zip(names, weights, slopes, strict=True)
            ):
                shape = w.T.shape if transposed else w.shape
                n = jrandom.normal(jrandom.fold_in(key, i), tuple(shape), dtype=w.dtype)
                n = (n.T if transposed else n) * float(noisy)
                w += self._increment(name, g, n, epsilon)
        return noisy

    def _increment(self, name: str, slope: Tensor, noise: Tensor, epsilon: float) -> Tensor:
        return epsilon / 2 * slope + (epsilon * self.temperature) ** 0.5 * noise


class SGHMC(SGLD):
    """Hamiltonian dynamics with friction and the gradients of minibatches.

    Args:
      module: Holds the weights that move.
      log_density: batch -> log-posterior in nats at the weights of `module`.
      step_size: epsilon, a number or a function of the number of steps taken.
      temperature: T.
      friction: alpha.
      gradient_noise: beta, at the first step size; the variance of the noise of the gradients
        times half the step size.
    """

    def __init__(
        self,
        module: nn.Module,
        log_density: Callable[[Batch], Tensor],
        step_size: float | Callable[[int], float],
        temperature: float = 1.0,
        friction: float = 0.1,
        gradient_noise: float = 0.0,
    ):
        super().__init__(module, log_density, step_size, temperature)
        self.friction, self.gradient_noise = friction, gradient_noise

    def _increment(self, name: str, slope: Tensor, noise: Tensor, epsilon: float) -> Tensor:
        first = self.step_size(0) if callable(self.step_size) else self.step_size
        # 2 alpha epsilon T in all, of which the gradients bring epsilon^2 times their variance
        brought = 2 * self.gradient_noise / first * epsilon**2
        spread = (2 * self.friction * self.temperature * epsilon - brought) ** 0.5
        v = self.momentum[name]
        self.momentum[name] = v - self.friction * v + epsilon * slope + spread * noise
        return self.momentum[name]


def _batches(key: Tensor, data: Batch, size: int | None, rows: str) -> Iterator[Batch]:
    """Yields batches without end."""
    count = 0 if size is None else next(iter(data.values())).shape[0]
    number = 0
    while True:
        number_key = jrandom.fold_in(key, number)
        number += 1
        if size is None:
            yield data
        elif rows == "random":
            chosen = jrandom.randint(number_key, (size,), 0, count, torch.int32).long()
            yield {name: value[chosen] for name, value in data.items()}
        else:
            order = jrandom.permutation(number_key, count)
            for part in order[: count // size * size].split(size):
                yield {name: value[part] for name, value in data.items()}
