"""The Laplace approximation with dense matrices.

Twin of `jaxprob/bayes/laplace.py`.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

import torch_ref.random as jrandom
from torch_ref.bayes.curvature import gauss_newton, log_likelihood_and_gradient
from torch_ref.bayes.kronecker import factored_gauss_newton
from torch_ref.bayes.linearized import LinearizedModel, closed_form
from torch_ref.bayes.precision import Curvature, Layout, only_diagonal, without
from torch_ref.bayes.summary import summary
from torch_ref.objectives import GaussianPrior

__all__ = ["Laplace", "LaplaceState"]


class LaplaceState(NamedTuple):
    """A Gaussian posterior over the parameters of a module.

    Attributes:
      mean: Parameters by name.
      curvature: Curvature H of minus the log-likelihood.
      log_likelihood: In nats, at the mean.
      prior_scale: Standard deviation of the prior.
      num_data: Number of rows.
    """

    mean: dict[str, Tensor]
    curvature: Curvature
    log_likelihood: Tensor
    prior_scale: Tensor
    num_data: Tensor

    def __repr__(self) -> str:
        return summary("LaplaceState", **self._asdict())


class Laplace:
    """Laplace approximation over the parameters of a module.

    Args:
      model: Module that returns a distribution.
      structure: "diagonal", "kron", "full" or "last_layer".
      prior: Gaussian prior.
    """

    def __init__(
        self, model: nn.Module, structure: str = "kron", prior: GaussianPrior | None = None
    ):
        self.model, self.structure = model, structure
        self.prior = GaussianPrior() if prior is None else prior
        prefix = ""
        if structure == "last_layer":
            prefix = list(dict(model.named_children()))[-1] + "."
        self.layout = Layout(model, prefix, structure in ("full", "last_layer"))

    def expand(
        self, weights: Mapping[str, Tensor], data: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Curvature, Tensor]:
        """Returns log-likelihood, its gradient `[P]`, its curvature and the number of rows."""
        value, gradient = log_likelihood_and_gradient(self.model, weights, data)
        layout = self.layout
        matrix = gauss_newton(self.model, weights, data, layout.names, layout.kernels)
        factors = {}
        if not layout.full:
            matrix = only_diagonal(matrix)
        if self.structure == "kron":
            factors = factored_gauss_newton(self.model, weights, data)
            inside = [
                layout.positions(f"{n}.{leaf}") for n in factors for leaf in ("weight", "bias")
            ]
            matrix = without(matrix, inside)
        count = data["weight"].sum() if "weight" in data else value.new_tensor(len(data["x"]))
        return value, layout.to_vector(gradient), Curvature(matrix, factors), count

    def fit(self, data: Mapping[str, Tensor]) -> LaplaceState:
        """Returns the Gaussian around the module's present parameters."""
        weights = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        value, _, curvature, count = self.expand(weights, data)
        return LaplaceState(weights, curvature, value, value.new_tensor(self.prior.scale), count)

    def precision(self, state: LaplaceState, prior_scale: Tensor | None = None) -> Tensor:
        """Returns P = H + I / scale^2."""
        scale = state.prior_scale if prior_scale is None else prior_scale
        dense = self.layout.dense(state.curvature)
        return dense + torch.eye(len(dense), dtype=dense.dtype) / scale**2

    def sample(self, state: LaplaceState, key: Tensor, num_draws: int = 1) -> dict[str, Tensor]:
        """Returns the named parameters with leading axis S."""
        centre = self.layout.to_vector(state.mean)
        noise = jrandom.normal(key, (num_draws, self.layout.size), dtype=centre.dtype)
        moved = self.layout.to_weights(centre + self.layout.root(self.precision(state), noise))
        everything = {n: w.expand(num_draws, *w.shape) for n, w in state.mean.items()}
        return {**everything, **moved}

    def log_marginal_likelihood(
        self, state: LaplaceState, prior_scale: Tensor | None = None
    ) -> Tensor:
        """Returns log p(D | w*) + log p(w*) + P/2 log 2 pi - 1/2 log det P."""
        scale = state.prior_scale if prior_scale is None else prior_scale
        weights = self.layout.to_vector(state.mean)
        prior = torch.distributions.Normal(self.prior.loc, scale).log_prob(weights).sum()
        determinant = torch.linalg.slogdet(self.precision(state, scale))[1]
        constant = 0.5 * len(weights) * math.log(2 * math.pi)
        return state.log_likelihood + prior + constant - 0.5 * determinant

    def tune_prior(self, state: LaplaceState) -> LaplaceState:
        """Returns the state with the prior scale of largest evidence, by the sign of its slope."""
        values = torch.linalg.eigvalsh(self.layout.dense(state.curvature)).clamp(min=0.0)
        squares = (self.layout.to_vector(state.mean) - self.prior.loc).square().sum()
        grid = torch.linspace(-12.0, 12.0, 97, dtype=values.dtype)
        evidence = torch.stack([self.log_marginal_likelihood(state, s.exp()) for s in grid])
        best = grid[evidence.argmax()].item()
        low, high = best - 0.25, best + 0.25
        for _ in range(60):
            middle = 0.5 * (low + high)
            tau = math.exp(-2 * middle)
            rises = (squares * tau).item() > (values / (values + tau)).sum().item()
            low, high = (middle, high) if rises else (low, middle)
        scale = values.new_tensor(math.exp(0.5 * (low + high)))
        return state._replace(prior_scale=scale)

    def linearized(self, state: LaplaceState) -> LinearizedModel:
        """Returns the model as a linear function of its weights."""
        return LinearizedModel(self.model, state.mean)

    def predict_glm(self, state: LaplaceState, x: Tensor, classes: str = "log_probs"):
        """Returns the predictive of the linearised model in closed form."""
        covariance = torch.linalg.inv(self.precision(state))
        return closed_form(self.model, state.mean, self.layout, covariance, x, classes)
