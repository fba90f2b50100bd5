"""Variational autoencoders with binary or categorical latents, trained by any gradient estimator.

    z_l ~ Bernoulli or one of K classes,  l = 1, ..., L;   q(z | x) = prod_l q(z_l | x)
    log p(x) >= E_q[log p(x | z)] - sum_l KL(q(z_l | x) || p(z_l))

The KL is a sum over classes; the expectation is what the estimators of `objectives.estimators` are
for. With `vimco` the bound is that of several draws, E log (1/S) sum_s p(x, z_s) / q(z_s | x).

Twin: `torch_ref/vae/discrete.py`. Source: Mnih & Gregor, "Neural variational inference and
learning in belief networks" (2014); Jang, Gu & Poole, "Categorical reparameterization with
Gumbel-softmax" (2017); Mnih & Rezende (2016) for the bound of several draws.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxprob.batches import Inputs, accepted, weighted_mean
from jaxprob.distributions import Bernoulli, Distribution, Independent, OneHotCategorical
from jaxprob.nn.apply import as_params, as_variables, call, mode_options
from jaxprob.objectives.annealing import Schedule, follows_step, weight_at
from jaxprob.objectives.estimators import Estimator, score_function, states
from jaxprob.objectives.estimators.contract import as_draws, draws
from jaxprob.objectives.targets import support_check
from jaxprob.requirements import require_count, require_non_negative
from jaxprob.types import AnyArray, Array, Batch, Key, Loss, LossFn, Metrics, Params, summary
from jaxprob.vae.average import mean_or_mode
from jaxprob.vae.inputs import hand_on, log_likelihood_of_inputs, read

__all__ = [
    "DiscreteVAE",
    "DiscreteVAEOutput",
    "exact_log_marginal",
    "negative_discrete_elbo",
    "with_estimator_state",
]

STATE = "estimator"
"""Collection of the moving averages of an estimator."""


class DiscreteVAEOutput(NamedTuple):
    """One pass: q(z | x), a draw z, and p(x | z)."""

    q: Distribution
    z: Array
    p: Distribution

    def __repr__(self) -> str:
        return summary("DiscreteVAEOutput", **self._asdict())


class DiscreteVAE(nn.Module):
    """Encoder, discrete latents, decoder.

    With `batches.takes(model, "lengths")` encoder and decoder get the lengths, whichever of them
    has an argument for it, and losses leave padding out.

    Attributes:
      encoder: Module x `[B, ...]` -> features `[B, H]`.
      decoder: Module latents `[B, L]` (or `[B, L K]`) -> distribution over x, batch shape `[B]`:
        any backbone and head.
      latent_dim: Number of latent variables L.
      num_categories: 2 for Bernoulli latents, else their number of classes K, one-hot.
      learn_prior: Whether the logits of the prior are learned; else it is uniform.
      baseline: Module x -> `[B, 1]`, for `score_function("learned")` (NVIL).
      control: Module of x and relaxed latents side by side, `[B, D + L]` (or `[B, D + L K]`) ->
        `[B, 1]`, for `relax`.
    """

    encoder: nn.Module
    decoder: nn.Module
    latent_dim: int
    num_categories: int = 2
    learn_prior: bool = False
    baseline: nn.Module | None = None
    control: nn.Module | None = None

    loss_name = "negative_discrete_elbo"  # no annotation: Linen would make it a field
    hands_on_to = ("encoder", "decoder")

    def setup(self) -> None:
        """Makes the layer of the latents' logits and the prior's."""
        require_count("DiscreteVAE", latent_dim=self.latent_dim)
        require_count("DiscreteVAE", least=2, num_categories=self.num_categories)
        shape = self._logits_shape()
        self.to_latent = nn.Dense(self.latent_dim * (shape[-1] if len(shape) == 2 else 1))
        if self.learn_prior:
            self.prior_logits = self.param("prior_logits", nn.initializers.zeros, shape)

    def __call__(
        self, x: AnyArray, key: Key, train: bool = False, **given: AnyArray
    ) -> DiscreteVAEOutput:
        """Encodes, draws and decodes; `key` is the noise of the draw."""
        if self.baseline is not None and self.is_initializing():
            self.predict_reward(x, train)
        q = self.encode(x, train, **given)
        z = as_draws(q, q.sample(seed=key))
        if self.control is not None and self.is_initializing():
            self.predict_control(x, z, train)
        return DiscreteVAEOutput(q, z, self.decode(z, train, **given))

    def encode(self, x: AnyArray, train: bool = False, **given: AnyArray) -> Distribution:
        """Returns q(z | x): events `[L]`, or one-hot `[L, K]`."""
        logits = self.to_latent(hand_on(self.encoder, x, train, given))
        return self._latents(logits.reshape(*logits.shape[:-1], *self._logits_shape()))

    def decode(self, z: AnyArray, train: bool = False, **given: AnyArray) -> Distribution:
        """Returns p(x | z) of latents `[B, L]`, or `[B, L, K]`, relaxed ones too."""
        z = z.reshape(*z.shape[: z.ndim - len(self._logits_shape())], -1)
        return hand_on(self.decoder, z, train, given)

    def prior(self, dtype: Any = None) -> Distribution:
        """Returns p(z), batch shape `()`; `dtype` is that of a uniform one."""
        if self.learn_prior:
            return self._latents(self.prior_logits)
        return self._latents(jnp.zeros(self._logits_shape(), dtype or jnp.result_type(float)))

    def code(self, x: AnyArray, **given: AnyArray) -> Array:
        """Returns the most probable latents of each row, `[B, L]` or one-hot `[B, L, K]`."""
        q = self.encode(x, **given)
        return as_draws(q, q.mode())

    def sample_prior(self, key: Key, num: int, **given: AnyArray) -> Array:
        """Returns `num` draws of p(z), `[num, L]` or one-hot `[num, L, K]`."""
        p = self.prior(jax.tree.leaves(self.variables)[0].dtype)
        return as_draws(p, p.sample(seed=key, sample_shape=(num,)))

    def generate(self, z: AnyArray, key: Key, mean: bool = False, **given: AnyArray) -> Array:
        """Returns a draw of p(x | z), or its mean (of classes the mode), `[N, *event]`."""
        p = self.decode(z, **given)
        return mean_or_mode(type(self).__name__, p) if mean else p.sample(seed=key)

    def predict_reward(self, x: AnyArray, train: bool = False) -> Array | None:
        """Returns the baseline's b(x) `[B]`, or None."""
        if self.baseline is None:
            return None
        return jnp.squeeze(self.baseline(x, **mode_options(self.baseline, train)), axis=-1)

    def predict_control(self, x: AnyArray, z: AnyArray, train: bool = False) -> Array:
        """Returns the learned part r(x, z) `[B]` of the control variate, z relaxed or not."""
        if self.control is None:
            raise ValueError(
                "DiscreteVAE: the estimator learns a control variate and the model has none. Give "
                "it control=nn.Sequential([MLP((64,)), nn.Dense(1)])."
            )
        rows = [jnp.asarray(a).reshape(len(x), -1) for a in (x, z)]
        inputs, mode = jnp.concatenate(rows, axis=-1), mode_options(self.control, train)
        return jnp.squeeze(self.control(inputs, **mode), axis=-1)

    def _logits_shape(self) -> tuple[int, ...]:
        classes = () if self.num_categories == 2 else (self.num_categories,)
        return (self.latent_dim, *classes)

    def _latents(self, logits: Array) -> Distribution:
        family = Bernoulli if self.num_categories == 2 else OneHotCategorical
        return Independent(family(logits=logits), 1)


def with_estimator_state(params: Params, estimator: Estimator) -> Params:
    """Returns the params with the estimator's moving averages beside them, where it has some.

    Args:
      params: Params of the model, or `nn.as_params(variables)` of one with other collections.
      estimator: What the loss is made with.
    """
    variables = as_variables(params)
    state = estimator.init(jnp.result_type(*jax.tree.leaves(variables["params"])))
    return as_params({**variables, STATE: state}) if state else params


def negative_discrete_elbo(
    model: DiscreteVAE, estimator: Estimator | None = None, beta: float | Schedule = 1.0
) -> Loss:
    """Returns the loss -ELBO of a model with discrete latents, in nats a row.

    Args:
      model: The model.
      estimator: Of `objectives.estimators`; default `score_function("leave_one_out", 4)`.
        `score_function("learned")` wants a model with `baseline`, `relax` one with `control`; one
        with moving averages wants params from `with_estimator_state`. With `normalize=True` the KL
        is that of the draws, log q(z | x) - log p(z), as in Mnih & Gregor, and divided with the
        rest.
      beta: Weight of the KL, or a schedule; 1 for the bound. `reweighted_wake_sleep` wants 1.

    Returns:
      `loss_fn(params, batch, key) -> (loss, metrics)`; batch holds "x" `[B, ...]`, the targets too,
      and where they apply "mask" (of x's shape; True where observed), "weight" `[B]`, and what the
      model takes, which encoder and decoder get by name ("lengths" leave padding out). Metrics hold
      "nll", which is -E_q log p(x | z), and "kl"; with `vimco`, `reweighted_wake_sleep` and
      `normalize=True` "nll" is the whole bound and there is no "kl". A learned baseline or control
      adds "baseline_loss", whose gradient (not its value) is part of the loss. Modules that ask for
      it (see `jaxprob.nn.apply`) know that they are trained, and their new state is among the
      "collections". `loss_fn.evaluate` is the bound of exact draws, whatever the estimator relaxes,
      at the weight at which a schedule ends.

    Raises:
      ValueError: A negative beta, or another than 1 where only 1 is right; when called, an
        estimator that lacks its baseline or its state, or lengths or a condition that the model
        does not take.
    """
    require_non_negative("negative_discrete_elbo", beta=beta)
    training = score_function("leave_one_out", 4) if estimator is None else estimator
    if training.unit_score and (callable(beta) or beta != 1.0):
        raise ValueError(
            f"negative_discrete_elbo: {training.name} wants beta=1; got "
            f"{'a schedule' if callable(beta) else beta}. Its updates of the encoder are right for "
            "log p(x, z) - log q(z | x) alone; another weight goes with vimco or score_function."
        )

    def with_estimator(estimator: Estimator, train: bool) -> LossFn:
        def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
            variables, (x, beside) = as_variables(params), read(model, batch)
            state = variables.pop(STATE, None)
            if state is None and estimator.init(x.dtype):
                raise ValueError(
                    f"negative_discrete_elbo: {estimator.name} keeps moving averages and the "
                    "params have none. Start from with_estimator_state(params, estimator)."
                )

            def run(method: str, *values: Array) -> tuple[Any, dict[str, Any]]:
                # Linen folds a module's path into the key: what is inside shares no bits with draws
                return call(model, variables, Inputs(values, beside), key, train, method)

            q, others = run("encode", x)
            dtype = jax.tree.leaves(q)[0].dtype
            p = _prior(model, variables, beside, dtype)
            weight = weight_at(beta, batch, "negative_discrete_elbo", train)
            whole = estimator.log_mean_exp or estimator.shortened

            def integrand(z: Array) -> Array:
                log_likelihood = log_likelihood_of_inputs(run("decode", z)[0], batch)
                if not whole:
                    return log_likelihood
                log_q = q.log_prob(z)
                if estimator.shortened:  # its own slope is 0 on average: variance alone
                    log_q = jax.lax.stop_gradient(log_q)
                return log_likelihood + weight * (p.log_prob(z) - log_q)

            extra: dict[str, Any] = {"state": state}
            if estimator.learns_baseline:
                variables |= others
                extra["baseline"], others = run("predict_reward", x)
            if estimator.learns_control:
                variables |= others
                extra["baseline"] = lambda z: run("predict_control", x, z)[0]
            estimate = estimator(q, integrand, key, batch=batch, **extra)
            nll = -weighted_mean(estimate.value, batch)
            loss, metrics = nll, {"nll": nll}
            if not whole:
                metrics["kl"] = weighted_mean(q.kl_divergence(p), batch)
                loss = nll + weight * metrics["kl"]
            if estimator.learns_baseline or estimator.learns_control:
                error = weighted_mean(estimate.baseline_loss, batch)
                metrics["baseline_loss"] = error
                loss = loss + (error - jax.lax.stop_gradient(error))
            if others:
                # the state of the decoder, which none of the draws under `vmap` can hand out
                variables |= others
                _, others = run("decode", draws(q, key, 1)[0])
            if train and state is not None:
                others = {**others, STATE: estimate.state}
            if others:
                metrics["collections"] = others  # pyright: ignore[reportArgumentType]
            return loss, metrics

        return loss_fn

    # a setting that follows the step is one of the gradient, and validation has no step
    plain = training.relaxed or bool(training.schedules)
    predicting = score_function(None, training.num_samples) if plain else training
    evaluation = Loss(with_estimator(predicting, False))
    follows = follows_step(beta, *training.schedules)

    def predict(params: Params, batch: Batch) -> Any:
        variables, (x, beside) = as_variables(params), read(model, batch)
        variables.pop(STATE, None)
        given = accepted(type(model).__call__, beside)
        return model.apply(variables, x, jax.random.key(0), **given).p

    check = support_check(
        predict, lambda p, batch: log_likelihood_of_inputs(predict(p, batch), batch), "x"
    )
    return Loss(with_estimator(training, True), evaluation, follows, check=check)


def exact_log_marginal(model: DiscreteVAE, params: Params, batch: Batch) -> Array:
    """Returns log p(x) `[B]` by the sum over all states of the latents.

    Args:
      model: A model with at most `estimators.MOST_STATES` states.
      params: Its params.
      batch: "x" and perhaps "mask".

    Raises:
      ValueError: Too many states, or lengths or a condition that the model does not take.
    """
    variables, (x, beside) = as_variables(params), read(model, batch)
    variables.pop(STATE, None)
    p = _prior(model, variables, beside)
    z = as_draws(p, jnp.asarray(states(p)))

    def log_joint(one: Array) -> Array:
        rows = jnp.broadcast_to(one, (x.shape[0], *one.shape))
        decoded = call(model, variables, Inputs((rows,), beside), method="decode")[0]
        return log_likelihood_of_inputs(decoded, batch) + p.log_prob(one)

    return jax.nn.logsumexp(jax.lax.map(log_joint, z), axis=0)


def _prior(model: DiscreteVAE, variables: dict, beside: dict, *dtype: Any) -> Distribution:
    """p(z), given what a subclass takes for it."""
    given = accepted(type(model).prior, beside)
    return model.apply(variables, *dtype, **given, method="prior")  # pyright: ignore[reportReturnType]
