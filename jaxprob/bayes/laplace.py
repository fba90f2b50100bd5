"""The Laplace approximation: a Gaussian around a trained network.

    q(w) = N(w*, P^{-1}),   P = H(w*) + I / scale^2

    log p(D) ~ log p(D | w*) + log N(w*; loc, scale^2 I) + (P / 2) log 2 pi - log det(P) / 2

w* is a mode of the posterior that `objectives.map_loss` trained, H the Gauss-Newton matrix of all
rows. The evidence chooses the scale of the prior without a validation set. `linearized` is the
model that this Gaussian is exact for; its predictions stay near w* where those of the network
under draws of a wide posterior do not.

Twin: `torch_ref/bayes/laplace.py`. Source: MacKay, "A practical Bayesian framework for
backpropagation networks" (1992); Ritter, Botev & Barber (ICLR 2018) for Kronecker factors; Immer,
Korzepa & Bauer (AISTATS 2021) for the linearised predictive; Daxberger et al., "Laplace Redux"
(NeurIPS 2021).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxprob.batches import Inputs, inputs_of
from jaxprob.bayes.curvature import (
    FISHERS,
    gauss_newton,
    log_likelihood_and_gradient,
)
from jaxprob.bayes.kronecker import factored_gauss_newton, find_layers, last_called
from jaxprob.bayes.linearized import LinearizedModel, closed_form
from jaxprob.bayes.precision import Curvature, Layout, dot, warn_if_far
from jaxprob.bayes.summary import summary
from jaxprob.nn.apply import call, initialize
from jaxprob.objectives import GaussianPrior
from jaxprob.requirements import require_choice, require_count, require_rows
from jaxprob.types import Array, ArrayLike, Batch, Key, Params

__all__ = ["Laplace", "LaplaceState"]

STRUCTURES = ("diagonal", "kron", "full", "last_layer")


class LaplaceState(NamedTuple):
    """A Gaussian posterior over the params of a model; a plain pytree.

    Attributes:
      mean: Params of the model, w*.
      curvature: Curvature H of minus the log-likelihood at the mean.
      log_likelihood: log p(D | w*) in nats, over all rows.
      prior_scale: Standard deviation of the prior, a scalar.
      num_data: Number of rows (the sum of their weights), a scalar.
    """

    mean: Params
    curvature: Curvature
    log_likelihood: Array
    prior_scale: Array
    num_data: Array

    def __repr__(self) -> str:
        return summary("LaplaceState", **self._asdict())


class Laplace:
    """Laplace approximation of the posterior over the params of a model.

    Args:
      model: Linen module whose only collection is "params", `apply({"params": w}, x)` ->
        distribution with batch shape `[B]`, in which rows do not interact.
      example: An input of the model, e.g. `x_train[:1]`; only its shape and dtype matter. For
        several inputs a tuple, or a batch.
      structure: "diagonal", "kron" (Kronecker factors for each dense and convolutional layer),
        "full" (P x P) or "last_layer" (full over one layer, the others as they were trained).
      prior: The prior that `map_loss` was given.
      fisher: "expected", or "observed" for families without a closed-form Fisher information
        (see `jaxprob.bayes.curvature`).
      inputs: Entries of the data that the model takes, in order.
      chunk_size: Rows that are differentiated at a time.
      last_layer: Path of the layer for "last_layer", e.g. "head"; by default the submodule that is
        called last.

    Raises:
      ValueError: An unknown structure, a prior with learned parts or that is not Gaussian, a model
        with other collections, without dense layers for "kron", or without the layer asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        example: ArrayLike | tuple[ArrayLike, ...] | Batch,
        structure: str = "kron",
        prior: Any = None,
        fisher: str = "expected",
        inputs: Sequence[str] = ("x",),
        chunk_size: int = 256,
        last_layer: str | None = None,
    ):
        require_count("Laplace", chunk_size=chunk_size)
        _check_options(structure, fisher, prior)
        self.model = model
        self.structure = structure
        self.prior = GaussianPrior() if prior is None else prior
        self.fisher = fisher
        self.inputs = tuple(inputs)
        self.chunk_size = chunk_size
        given = jax.tree.map(lambda e: e[:1], inputs_of(model, example, self.inputs).on_device())
        if len(given.arrays) != len(self.inputs):
            raise ValueError(
                f"Laplace: the model takes the inputs {self.inputs}; got {len(given.arrays)} "
                "examples. Give a tuple with one for each, or a batch."
            )
        shapes = jax.eval_shape(lambda key: initialize(model, key, given), jax.random.key(0))
        if set(shapes) != {"params"}:
            raise ValueError(
                f"Laplace: the model has the collections {sorted(shapes)}; expected 'params' "
                "alone. Use a model without batch statistics or other state."
            )
        self._shapes = shapes["params"]
        self.layout = self._lay_out(given, last_layer)
        # Compiled once for each object: a new closure would be compiled at every call.
        self._fit = jax.jit(self._fitted)
        self._tune = jax.jit(self._tuned)
        self._glm = jax.jit(self._closed_form, static_argnums=2)

    def _lay_out(self, given: Inputs, last_layer: str | None) -> Layout:
        leaves = {path: leaf.shape for path, leaf in sorted(flatten_dict(self._shapes).items())}
        shapes = {"/".join(path): shape for path, shape in leaves.items()}
        if self.structure == "kron":
            row = {**dict(zip(self.inputs, given.arrays, strict=True)), **given.extra}
            layers = find_layers(self.predict, self._shapes, row)
            if not layers:
                raise ValueError(
                    f"Laplace: structure='kron' needs dense or convolutional layers; the weights "
                    f"{', '.join(shapes)} belong to none. Use structure='full' or 'diagonal'."
                )
            return Layout(shapes, layers, full=False)
        if self.structure == "last_layer":
            chosen = last_layer or last_called(self.model, self._shapes, given)
            shapes_of = {
                p: s for p, s in shapes.items() if p == chosen or p.startswith(chosen + "/")
            }
            if not shapes_of:
                raise ValueError(
                    f"Laplace: last_layer={chosen!r} owns none of the weights {', '.join(shapes)}."
                )
            return Layout(shapes_of, {}, full=True)
        return Layout(shapes, {}, full=self.structure == "full")

    @property
    def num_weights(self) -> int:
        """Number of weights that the posterior is over."""
        return self.layout.size

    def predict(self, params: Params, batch: Batch) -> Any:
        """Returns the distribution that the model predicts for a batch."""
        given = inputs_of(self.model, batch, self.inputs)
        return call(self.model, {"params": params}, given)[0]

    def fit(self, params: Params, data: Batch) -> LaplaceState:
        """Returns the Gaussian around trained params.

        Warns where a Newton step would move the weights by more than 0.3 of their posterior
        standard deviations (root mean square): the params are then not at a mode.

        Args:
          params: Params of the model, trained by `map_loss` with the same prior.
          data: Rows, N each: inputs and "y", and where they apply "weight", "mask", "censored".

        Raises:
          ValueError: Params of another shape, or data without a common leading axis.
        """
        self.check_params(params)
        require_rows("data", data)
        state, distance = self._fit(params, dict(data))
        warn_if_far(
            "Laplace.fit",
            distance,
            "Train longer with objectives.map_loss(model, prior, num_data) and this prior.",
        )
        return state

    def _fitted(self, params: Params, data: Batch) -> tuple[LaplaceState, Array]:
        log_likelihood, gradient, curvature, count = self.expand(params, data)
        dtype = log_likelihood.dtype
        scale = jnp.asarray(self.prior.scale, dtype)
        state = LaplaceState(params, curvature, log_likelihood, scale, count)
        leaves = self.layout.select(params)
        total = {p: g - (leaves[p] - self.prior.loc) / scale**2 for p, g in gradient.items()}
        step = self.layout.solve(curvature, scale**-2, total)
        return state, jnp.sqrt(dot(total, step) / self.layout.size)

    def expand(self, params: Params, data: Batch) -> tuple[Array, dict, Curvature, Array]:
        """Returns log-likelihood, its gradient, its curvature H and the number of rows."""
        layout = self.layout
        leaves = layout.select(params)
        log_likelihood, gradient = log_likelihood_and_gradient(
            lambda w, rows: self.predict(self.with_leaves(params, w), rows),
            leaves,
            data,
            self.chunk_size,
        )
        options = {"fisher": self.fisher, "chunk_size": self.chunk_size}
        if layout.full:
            matrix = gauss_newton(
                lambda v, rows: self.predict(self.with_leaves(params, layout.to_leaves(v)), rows),
                layout.to_vector(leaves),
                data,
                **options,
            )
            curvature = Curvature(matrix, {}, {})
        else:
            factors, diagonal = factored_gauss_newton(
                self.predict, params, data, layout.layers, **options
            )
            curvature = Curvature(None, factors, diagonal)
        weight = data.get("weight")
        count = len(data[self.inputs[0]]) if weight is None else jnp.sum(jnp.asarray(weight))
        return log_likelihood, gradient, curvature, jnp.asarray(count, log_likelihood.dtype)

    def sample(self, state: LaplaceState, key: Key, num_draws: int = 1) -> Params:
        """Returns params with leading axis S, drawn from the Gaussian.

        Args:
          state: A fitted state.
          key: One key; the noise is one `[S, num_weights]` normal draw from it.
          num_draws: Number of draws S.
        """
        require_count("Laplace.sample", num_draws=num_draws)
        layout = self.layout
        leaves = layout.select(state.mean)
        vector = layout.to_vector(leaves)
        noise = jax.random.normal(key, (num_draws, layout.size), vector.dtype)
        tau = state.prior_scale**-2

        def draw(eps: Array) -> dict:
            offset = layout.root(state.curvature, tau, layout.to_leaves(eps))
            return {path: leaves[path] + offset[path] for path in leaves}

        draws = jax.vmap(draw)(noise)
        everything = jax.tree.map(
            lambda w: jnp.broadcast_to(jnp.asarray(w)[None], (num_draws, *jnp.shape(w))), state.mean
        )
        return self.with_leaves(everything, draws)

    def log_marginal_likelihood(
        self, state: LaplaceState, prior_scale: ArrayLike | None = None
    ) -> Array:
        """Returns the log-evidence in nats, differentiable in `prior_scale`.

        For "last_layer" that of the last layer, given the others.

        Args:
          state: A fitted state.
          prior_scale: Another scale of the prior (> 0), at the same mean; any shape.
        """
        eigenvalues = self.layout.eigenvalues(state.curvature)
        scale = state.prior_scale if prior_scale is None else prior_scale
        log_scale = jnp.log(jnp.asarray(scale, eigenvalues.dtype))
        return jnp.vectorize(lambda s: self._evidence(state, s, eigenvalues))(log_scale)

    def tune_prior(self, state: LaplaceState) -> LaplaceState:
        """Returns the state with the prior scale that maximises the evidence at this mean.

        A search over the logarithm of the scale, then bisection of its slope
        |w* - loc|^2 / scale^2 - sum_i h_i / (h_i + 1 / scale^2), which vanishes where the scale is
        the root mean square of the well-determined weights. The mean stays: train again with the
        new prior to move it too.
        """
        return self._tune(state)

    def _tuned(self, state: LaplaceState) -> LaplaceState:
        eigenvalues = self.layout.eigenvalues(state.curvature)
        squares = self._squares(state)
        grid = jnp.linspace(-12.0, 12.0, 97, dtype=eigenvalues.dtype)
        values = jax.vmap(lambda log_scale: self._evidence(state, log_scale, eigenvalues))(grid)
        best = jnp.argmax(values)
        width = grid[1] - grid[0]

        def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = 0.5 * (low + high)
            tau = jnp.exp(-2.0 * middle)
            rises = squares * tau > jnp.sum(eigenvalues / (eigenvalues + tau))
            return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

        low, high = jax.lax.fori_loop(0, 60, halve, (grid[best] - width, grid[best] + width))
        return state._replace(prior_scale=jnp.exp(0.5 * (low + high)))

    def linearized(self, state: LaplaceState) -> LinearizedModel:
        """Returns the model as a linear function of its weights, for `bayes.predict`.

        What is linear are the unconstrained parameters of the distribution that the model returns
        (log-scale, logits, ...). Keep the object: `predict` compiles once for each.
        """
        return LinearizedModel.around(self.model, state.mean)

    def predict_glm(
        self, state: LaplaceState, x: ArrayLike | Batch, classes: str = "log_probs"
    ) -> distrax.Distribution:
        """Returns the predictive of the linearised model in closed form.

        Normal: J Sigma J^T is added to the variance of the noise, which is that at the mean.
        Bernoulli: logits over sqrt(1 + pi v / 8), v their variances. Categorical: the same of each
        class, then normalised.

        Args:
          state: A fitted state.
          x: Inputs `[B, ...]` of a model with one input, or a batch.
          classes: What is scaled of a Categorical: "log_probs", or "logits" less their mean over
            the classes; see `jaxprob.bayes.linearized`.

        Raises:
          ValueError: Another family (sample from `linearized` instead), or an unknown scaling.
        """
        return self._glm(state, inputs_of(self.model, x, self.inputs).on_device(), classes)

    def _closed_form(self, state: LaplaceState, x: Inputs, classes: str) -> distrax.Distribution:
        layout, tau = self.layout, state.prior_scale**-2
        leaves = layout.select(state.mean)

        def spread(slopes: dict) -> Array:
            transposed = jax.linear_transpose(
                lambda noise: layout.root(state.curvature, tau, noise), leaves
            )
            (noise,) = transposed(slopes)
            return dot(noise, noise)

        return closed_form(
            lambda w, rows: call(self.model, {"params": self.with_leaves(state.mean, w)}, rows)[0],
            leaves,
            x,
            spread,
            self.chunk_size,
            classes,
        )

    def _evidence(self, state: LaplaceState, log_scale: Array, eigenvalues: Array) -> Array:
        tau = jnp.exp(-2.0 * log_scale)
        # P log s of the prior and log det(H + tau) of the posterior, the scale divided out of both
        determinant = jnp.sum(jnp.log1p(eigenvalues / tau))
        return state.log_likelihood - 0.5 * self._squares(state) * tau - 0.5 * determinant

    def _squares(self, state: LaplaceState) -> Array:
        leaves = self.layout.select(state.mean)
        gaps = {path: leaf - self.prior.loc for path, leaf in leaves.items()}
        return dot(gaps, gaps)

    def with_leaves(self, params: Params, leaves: dict[str, Array]) -> Params:
        """Returns `params` with some leaves replaced, by path."""
        flat = {"/".join(path): leaf for path, leaf in flatten_dict(params).items()} | leaves
        return unflatten_dict({tuple(path.split("/")): leaf for path, leaf in flat.items()})

    def zeros(self) -> Params:
        """Returns params of the model that are all zero."""
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), self._shapes)

    def check_params(self, params: Params) -> None:
        """Raises a ValueError for params that are not those of the model."""
        expected = jax.tree.map(lambda s: s.shape, self._shapes)
        got = jax.tree.map(jnp.shape, params)
        if got != expected:
            raise ValueError(
                f"Laplace: expected params of the model, with shapes {expected}; got {got}. Pass "
                "fitted.params, without a leading axis; for an ensemble write jax.vmap(fit, (0, "
                "None))."
            )

    def __repr__(self) -> str:
        return (
            f"Laplace({type(self.model).__name__}, structure={self.structure!r}, "
            f"{self.num_weights} weights,\n  prior={self.prior})"
        )


def _check_options(structure: str, fisher: str, prior: Any) -> None:
    require_choice(
        "Laplace",
        STRUCTURES,
        "'kron' is the usual choice, 'full' that for less than a few thousand weights.",
        structure=structure,
    )
    require_choice("Laplace", FISHERS, fisher=fisher)
    if prior is not None and not isinstance(prior, GaussianPrior):
        raise ValueError(
            f"Laplace: the prior must be a GaussianPrior, whose curvature is a number; got {prior}."
        )
    if prior is not None and prior.trainable:
        raise ValueError(
            f"Laplace: the prior {prior} has parts that are learned; the mode needs numbers. "
            "Write GaussianPrior(scale) and choose the scale with Laplace.tune_prior."
        )
