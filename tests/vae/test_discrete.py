"""Discrete latents against sums over all their states."""

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob import heads, objectives, training, vae
from jaxprob.distributions import Bernoulli, Independent
from jaxprob.nn import MLP, as_params
from jaxprob.objectives.estimators import (
    enumerated,
    gumbel_softmax,
    rebar,
    relax,
    reweighted_wake_sleep,
    score_function,
    straight_through,
    vimco,
)
from jaxprob.vae.inputs import log_likelihood_of_inputs

B, D, L = 5, 4, 3
RNG = np.random.default_rng(0)
X = (RNG.random((B, D)) < 0.5) * 1.0
KEY = jax.random.key(0)


def model_of(num_categories=2, learn_prior=True, baseline=None):
    return vae.DiscreteVAE(
        MLP((4,), nn.tanh),
        nn.Sequential([MLP((4,), nn.tanh), heads.BernoulliHead(D)]),
        L if num_categories == 2 else 2,
        num_categories,
        learn_prior,
        baseline,
    )


def params_of(model, seed=1):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, KEY, X, KEY)["params"]
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0.0, 0.7, leaf.shape)), shapes)


BINARY = model_of()
PARAMS = params_of(BINARY)


def sigmoid(a):
    return 1.0 / (1.0 + np.exp(-a))


def dense(layer, h):
    return h @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


@pytest.fixture(scope="module")
def table():
    """For each state: log p(z), log q(z | x) [B], log p(x | z) [B]; in NumPy."""
    w = PARAMS
    logits = dense(w["to_latent"], np.tanh(dense(w["encoder"]["hidden_0"], X)))
    prior = np.asarray(w["prior_logits"])
    rows = []
    for state in itertools.product([0.0, 1.0], repeat=L):
        z = np.array(state)
        hidden = np.tanh(dense(w["decoder"]["layers_0"]["hidden_0"], z[None]))
        pixels = dense(w["decoder"]["layers_1"]["out"], hidden)
        rows.append(
            (
                np.sum(np.log(np.where(z, sigmoid(prior), sigmoid(-prior)))),
                np.sum(np.log(np.where(z, sigmoid(logits), sigmoid(-logits))), axis=1),
                np.sum(np.log(np.where(X, sigmoid(pixels), sigmoid(-pixels))), axis=1),
            )
        )
    return [np.array(column) for column in zip(*rows, strict=True)]


def test_the_exact_bound_and_the_exact_marginal(table):
    log_prior, log_q, log_likelihood = table
    elbo = np.sum(np.exp(log_q) * (log_likelihood + log_prior[:, None] - log_q), axis=0)
    marginal = np.log(np.sum(np.exp(log_likelihood + log_prior[:, None]), axis=0))
    loss_fn = vae.negative_discrete_elbo(BINARY, enumerated())
    loss, metrics = jax.jit(loss_fn)(PARAMS, {"x": X}, KEY)
    np.testing.assert_allclose(loss, -np.mean(elbo), rtol=1e-12)
    kl = np.mean(np.sum(np.exp(log_q) * (log_q - log_prior[:, None]), axis=0))
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-12)
    found = jax.jit(lambda w: vae.exact_log_marginal(BINARY, w, {"x": X}))(PARAMS)
    np.testing.assert_allclose(found, marginal, rtol=1e-12)
    assert np.all(found > elbo)


@pytest.mark.slow
def test_estimated_gradients_are_those_of_the_exact_bounds_on_average(table):
    """Of all params, encoder, prior and decoder; and VIMCO's bound lies between."""
    keys = jax.random.split(KEY, 2000)

    def flat(tree):
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])

    losses = {
        "leave one out": vae.negative_discrete_elbo(BINARY),
        "exact": vae.negative_discrete_elbo(BINARY, enumerated()),
        "vimco": vae.negative_discrete_elbo(BINARY, vimco(3)),
    }

    @jax.jit
    def run(keys):
        def value(name, params, key):
            return losses[name](params, {"x": X}, key)[0]

        def both(name, key):
            found, gradient = jax.value_and_grad(partial(value, name))(PARAMS, key)
            return found, flat(gradient)

        bound = jnp.mean(jax.vmap(partial(value, "vimco", PARAMS))(keys))
        marginal = vae.exact_log_marginal(BINARY, PARAMS, {"x": X})
        return jax.vmap(partial(both, "leave one out"))(keys), both("exact", KEY), bound, marginal

    (values, gradients), (exact_value, exact), bound, marginal = run(keys)
    # the prior's gradient has no variance: its KL is exact
    error = np.abs(np.mean(gradients, 0) - exact)
    assert np.all(error <= 4.5 * np.std(gradients, 0) / np.sqrt(len(keys)) + 1e-12)
    assert abs(np.mean(values) - exact_value) < 4 * np.std(values) / np.sqrt(len(keys))
    assert -np.mean(marginal) < bound < exact_value


@pytest.mark.slow
def test_a_normalized_signal_divides_the_whole_bound_towards_q():
    """The encoder's gradient is a third of the exact one, its KL included; the others' is whole."""
    spread, keys = 3.0, jax.random.split(KEY, 4000)
    estimator = score_function("leave_one_out", 2, normalize=True)
    state = {
        "mean": jnp.asarray(0.0),
        "variance": jnp.asarray(spread**2),
        "weight": jnp.asarray(1.0),
    }
    loss_fn = vae.negative_discrete_elbo(BINARY, estimator, beta=2.5)
    exact_fn = vae.negative_discrete_elbo(BINARY, enumerated(), beta=2.5)

    def slope(loss_fn, extra, key):
        def loss(w):
            return loss_fn(as_params({"params": w, **extra}), {"x": X}, key)[0]

        gradient = jax.grad(loss)(PARAMS)
        towards_q = {name: gradient.pop(name) for name in ("encoder", "to_latent")}
        return [jax.flatten_util.ravel_pytree(part)[0] for part in (towards_q, gradient)]

    @jax.jit
    def run(keys):
        estimated = partial(slope, loss_fn, {"estimator": state})
        return jax.vmap(estimated)(keys), slope(exact_fn, {}, KEY)

    found, exact = run(keys)
    for gradients, expected in zip(found, (exact[0] / spread, exact[1]), strict=True):
        error = np.abs(np.mean(gradients, 0) - expected)
        assert np.all(error <= 4.5 * np.std(gradients, 0) / np.sqrt(len(keys)) + 1e-12)


def test_missing_inputs_add_nothing_whatever_they_hold():
    """The bound of the observed pixels, and a finite gradient."""
    mask = np.ones((B, D), bool)
    mask[:, 1] = False
    loss_fn = vae.negative_discrete_elbo(BINARY, enumerated())
    run = jax.jit(jax.value_and_grad(lambda x: loss_fn(PARAMS, {"x": x, "mask": mask}, KEY)[0]))
    loss, gradient = run(jnp.asarray(np.where(mask, X, np.nan)))
    other, _ = run(jnp.asarray(np.where(mask, X, 1.0)))
    assert loss == other
    assert np.all(np.isfinite(gradient))
    assert np.all(np.asarray(gradient)[:, 1] == 0.0)
    with pytest.raises(ValueError, match='batch\\["mask"\\] has shape'):
        loss_fn(PARAMS, {"x": X, "mask": mask[:, :2]}, KEY)


def test_a_schedule_and_a_relaxation_are_for_training_alone():
    """Validation is the bound of hard draws, and asks for no step of the temperature."""
    annealed = gumbel_softmax(objectives.linear_annealing(10, 2.0, 0.5))
    loss_fn = vae.negative_discrete_elbo(BINARY, annealed)
    plain = vae.negative_discrete_elbo(BINARY, score_function())
    assert loss_fn.uses_step
    assert not loss_fn.evaluate.uses_step

    @jax.jit
    def run(key):
        batch = {"x": X}
        soft = loss_fn(PARAMS, {**batch, "step": 3}, key)[0]
        return soft, loss_fn.evaluate(PARAMS, batch, key)[0], plain(PARAMS, batch, key)[0]

    soft, evaluated, hard = run(KEY)
    np.testing.assert_allclose(evaluated, hard, rtol=1e-13)
    assert abs(soft - hard) > 1e-6
    beta = vae.negative_discrete_elbo(BINARY, None, objectives.linear_annealing(10))
    assert beta.uses_step
    assert not beta.evaluate.uses_step
    unweighted = vae.negative_discrete_elbo(BINARY)
    ends, whole = (f.evaluate(PARAMS, {"x": X}, KEY)[0] for f in (beta, unweighted))
    np.testing.assert_allclose(ends, whole, rtol=1e-13)


def test_validation_asks_for_no_step_whichever_estimator_follows_a_schedule():
    """Hard Gumbel-softmax and REBAR too: the batches of `fit` have a step for those who ask."""
    schedule = objectives.linear_annealing(10, 2.0, 0.5)
    plain = vae.negative_discrete_elbo(BINARY, score_function())
    losses = [
        vae.negative_discrete_elbo(BINARY, estimator)
        for estimator in (gumbel_softmax(schedule, hard=True), rebar(schedule))
    ]
    evaluated, expected = jax.jit(
        lambda key: ([f.evaluate(PARAMS, {"x": X}, key)[0] for f in losses],
                     plain(PARAMS, {"x": X}, key)[0])
    )(KEY)  # fmt: skip
    np.testing.assert_allclose(evaluated, expected, rtol=1e-13)
    assert not any(f.evaluate.uses_step for f in losses)


@pytest.mark.slow
def test_training_with_learned_baseline_and_moving_averages():
    """NVIL through `training.fit`: the state moves, the marginal likelihood rises."""
    model = model_of(baseline=nn.Sequential([MLP((4,)), nn.Dense(1)]))
    estimator = score_function("learned", 2, normalize=True)
    params = vae.with_estimator_state(params_of(model), estimator)
    rows = np.repeat(np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]), 20, axis=0)
    loss_fn = vae.negative_discrete_elbo(model, estimator)
    fitted = training.fit(
        loss_fn, params, {"x": rows}, optimizer=optax.adam(0.02), epochs=60, batch_size=20,
        key=KEY, validation={"x": rows}, progress=False,
    )  # fmt: skip
    state = fitted.params["collections"]["estimator"]
    np.testing.assert_allclose(state["weight"], 1.0 - 0.9**120, rtol=1e-9)
    marginal = jax.jit(lambda w: vae.exact_log_marginal(model, w, {"x": rows}))
    before, after = (float(jnp.mean(marginal(w))) for w in (params, fitted.params))
    assert before < -2.5
    assert after > -1.2  # log 2 = 0.69 is the entropy of the rows
    last = fitted.history["validation_loss"][-1]
    assert -after - 0.1 < last < 3.0  # a bound: never better than the marginal
    moved = jax.tree.map(lambda a, b: np.any(a != b), params["params"], fitted.params["params"])
    assert all(jax.tree.leaves(moved["baseline"]))
    with pytest.raises(ValueError, match="Start from with_estimator_state"):
        jax.eval_shape(loss_fn, params["params"], {"x": rows}, KEY)


class Standardized(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        plain = {"use_scale": False, "use_bias": False, "momentum": 0.8}
        return nn.BatchNorm(use_running_average=not train, **plain)(x)


class Dropping(nn.Module):
    """In training it drops all that it is given: pixels then have the odds of the bias alone."""

    @nn.compact
    def __call__(self, z, train=False):
        z = nn.Dropout(1.0)(Standardized()(z, train), deterministic=not train)
        return heads.BernoulliHead(D)(z)


def test_modules_know_that_they_are_trained_and_their_state_moves():
    """Dropout and batch statistics, beside the moving averages of the estimator."""
    model = vae.DiscreteVAE(Standardized(), Dropping(), L)
    estimator = score_function("moving_average", 2)
    shapes = jax.eval_shape(model.init, KEY, X, KEY)["batch_stats"]
    first = jax.tree.map_with_path(  # means of 0, variances of 1
        lambda path, leaf: jnp.full(leaf.shape, float(path[-1].key == "var")), shapes
    )
    variables = {"params": params_of(model), "batch_stats": first}
    start = vae.with_estimator_state(as_params(variables), estimator)
    loss_fn = vae.negative_discrete_elbo(model, estimator)

    @jax.jit
    def run(params):
        return loss_fn(params, {"x": X}, KEY), loss_fn.evaluate(params, {"x": X}, KEY)

    bias = np.array([0.3, -1.0, 2.0, 0.1])
    start["params"]["decoder"]["BernoulliHead_0"]["out"]["bias"] = bias
    (_, metrics), (_, evaluated) = run(start)
    alone = np.mean(np.sum(np.log(np.where(X, sigmoid(bias), sigmoid(-bias))), axis=1))
    np.testing.assert_allclose(metrics["nll"], -alone, rtol=1e-6)
    assert abs(evaluated["nll"] + alone) > 1e-3
    assert "collections" not in evaluated
    moved = metrics["collections"]
    assert jax.tree.structure(moved) == jax.tree.structure(start["collections"])
    means = moved["batch_stats"]
    encoder = means["encoder"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(encoder, 0.2 * X.mean(0), rtol=1e-6)
    decoder = np.asarray(means["decoder"]["Standardized_0"]["BatchNorm_0"]["mean"])
    ones = decoder * B / 0.2  # the number of rows that drew a 1
    assert np.sum(ones) > 0.5
    np.testing.assert_allclose(ones, np.round(ones), atol=1e-5)
    assert moved["estimator"]["weight"] > 0.0


def test_categorical_latents_and_what_a_pass_returns():
    model = model_of(3, learn_prior=False)
    params = params_of(model)
    out = jax.jit(lambda w: model.apply({"params": w}, X, KEY))(params)
    assert out.q.batch_shape == (B,)
    assert out.q.event_shape == out.z.shape[1:] == (2, 3)
    np.testing.assert_array_equal(out.z.sum(-1), 1.0)
    assert out.p.log_prob(X).shape == (B,)
    prior = model.apply({"params": params}, method="prior")
    np.testing.assert_allclose(prior.log_prob(out.z), -2 * np.log(3.0), rtol=1e-12)
    loss_fn = vae.negative_discrete_elbo(model, straight_through())
    assert jax.eval_shape(loss_fn, params, {"x": X}, KEY)[0].shape == ()


def pixels_over(width):
    return Independent(Bernoulli(logits=jnp.zeros((B, width))), 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vae.negative_discrete_elbo(BINARY, beta=-1.0), "beta must not be negative"),
        (
            lambda: jax.eval_shape(
                vae.negative_discrete_elbo(BINARY, relax()), PARAMS, {"x": X}, KEY
            ),
            "learns a control variate and the model has none",
        ),
        (
            lambda: vae.negative_discrete_elbo(BINARY, score_function("learned"))(
                PARAMS, {"x": X}, KEY
            ),
            "it learns a baseline and none was given",
        ),
        (
            lambda: vae.negative_discrete_elbo(BINARY, reweighted_wake_sleep(), beta=0.5),
            "reweighted wake-sleep wants beta=1; got 0.5.*vimco",
        ),
        (
            lambda: vae.negative_discrete_elbo(
                BINARY, reweighted_wake_sleep(), objectives.linear_annealing(10)
            ),
            "reweighted wake-sleep wants beta=1; got a schedule",
        ),
        (
            lambda: log_likelihood_of_inputs(pixels_over(D), {"x": X[:, :3]}),
            r'batch\["x"\] has shape \(5, 3\), but p\(x \| z\) of the decoder is over \(5, 4\)',
        ),
        (
            lambda: vae.DiscreteVAE(MLP((2,)), MLP((2,)), 0).init(KEY, X, KEY),
            "latent_dim must be at least 1",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
