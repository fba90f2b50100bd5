"""Gradient estimators against the gradient by enumeration, on problems of eight and nine states."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    Normal,
    OneHotCategorical,
)
from jaxprob.objectives import estimators, linear_annealing
from jaxprob.objectives.estimators import (
    enumerated,
    exact_gradient,
    gumbel_softmax,
    rebar,
    relax,
    reparameterized,
    reweighted_wake_sleep,
    score_function,
    straight_through,
    vimco,
)

B, KEYS = 2, 20_000
RNG = np.random.default_rng(3)


def binary(params):
    return Independent(Bernoulli(logits=params["logits"]), 1)


def one_hot(params):
    return Independent(OneHotCategorical(logits=params["logits"]), 1)


PROBLEMS = {
    "three binary": (binary, (3,)),
    "two of three classes": (one_hot, (2, 3)),
}


def params_of(shape):
    size = int(np.prod(shape))
    return {
        "logits": jnp.asarray(RNG.normal(0.0, 0.8, (B, *shape))),
        "w": jnp.asarray(RNG.normal(0.0, 1.0, size)),
    }


def reward(params, z):
    """Far from 0, not linear, and with a gradient of its own."""
    u = z.reshape(B, -1) @ params["w"]
    return 2.0 + jnp.sin(1.5 * u) + 0.3 * u**2


def log_weight(make_q, params, z):
    return reward(params, z) - 1.0 - make_q(params).log_prob(z)


def gradient_of(estimator, make_q, params, f=reward, **arguments):
    """key -> gradient of the surrogate, one flat array."""

    def total(params, key):
        estimate = estimator(make_q(params), partial(f, params), key, **arguments)
        return jnp.sum(estimate.value)

    return lambda key: flat(jax.grad(total)(params, key))


def flat(tree):
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


def flat_rows(z):
    return z.reshape(B, -1)[:, :3]


SLOPES = jnp.array([0.4, -1.1, 0.7])
STATE = {"mean": jnp.asarray(1.0), "variance": jnp.asarray(0.1), "weight": jnp.asarray(0.5)}
PREDICTED = jnp.array([1.5, 2.5])
UNBIASED = {
    "score": (score_function(num_samples=3), {}),
    "moving average": (score_function("moving_average", 3), {"state": STATE}),
    "leave one out": (score_function("leave_one_out", 3), {}),
    "learned": (score_function("learned", 3), {"baseline": PREDICTED}),
    "rebar": (rebar(0.5, num_samples=3), {}),
    "relax": (relax(0.5, num_samples=3), {"baseline": lambda z: jnp.sin(flat_rows(z) @ SLOPES)}),
    "black box": (relax(0.5, 0.0, 3), {"baseline": lambda z: flat_rows(z) @ SLOPES}),
    "enumerated": (enumerated(), {}),
}
TEMPERATURES = (2.0, 1.0, 0.5, 0.1)
BIASED = {
    "straight through": (straight_through(num_samples=3), {}),
    "hard Gumbel": (gumbel_softmax(0.5, 3, hard=True), {}),
}


@pytest.fixture(
    scope="module",
    params=["three binary", pytest.param("two of three classes", marks=pytest.mark.slow)],
)
def measured(request):
    """Exact gradients, and mean and variance of each estimator over many keys: one program."""
    make_q, shape = PROBLEMS[request.param]
    params = params_of(shape)

    @jax.jit
    def run(keys):
        found = {}
        for name, (estimator, arguments) in {**UNBIASED, **BIASED}.items():
            found[name] = jax.vmap(gradient_of(estimator, make_q, params, **arguments))(keys)
        # the temperature as a schedule, so that all of them are one program
        relaxed = gumbel_softmax(lambda t: t, 3)
        for_all = jax.vmap(
            lambda t: jax.vmap(gradient_of(relaxed, make_q, params, batch={"step": t}))(keys)
        )(jnp.array(TEMPERATURES))
        found |= {f"Gumbel {t}": for_all[i] for i, t in enumerate(TEMPERATURES)}
        f = partial(log_weight, make_q)
        found["vimco"] = jax.vmap(gradient_of(vimco(3), make_q, params, f))(keys)
        exact = flat(exact_gradient(make_q, reward)(params))
        of_bound = flat(exact_gradient(make_q, f, num_samples=3)(params))
        moments = {name: (jnp.mean(g, 0), jnp.var(g, 0)) for name, g in found.items()}
        return exact, of_bound, moments

    return jax.device_get(run(jax.random.split(jax.random.key(0), KEYS)))


def test_unbiased_ones_have_the_exact_gradient_on_average(measured):
    exact, of_bound, moments = measured
    for name in (*UNBIASED, "vimco"):
        mean, variance = moments[name]
        truth = of_bound if name == "vimco" else exact
        error = np.abs(mean - truth)
        assert np.all(error <= 4.0 * np.sqrt(variance / KEYS) + 1e-12), name
    assert np.max(np.abs(exact)) > 0.3  # so that "0 on average" would not pass


def test_baselines_take_variance_away(measured):
    _, _, moments = measured
    total = {name: float(np.sum(variance)) for name, (_, variance) in moments.items()}
    print({name: round(value, 4) for name, value in total.items()})
    assert total["enumerated"] < 1e-20
    for better in ("moving average", "leave one out", "learned"):
        assert total[better] < 0.6 * total["score"], better
    assert total["rebar"] < total["score"]
    assert total["relax"] < total["score"]


def test_the_bias_of_relaxed_draws_shrinks_with_the_temperature(measured):
    exact, _, moments = measured
    size = np.linalg.norm(exact)
    bias = [np.linalg.norm(moments[f"Gumbel {t}"][0] - exact) / size for t in TEMPERATURES]
    print(dict(zip(TEMPERATURES, bias, strict=True)))
    assert all(later < earlier for earlier, later in itertools.pairwise(bias))
    assert bias[-1] < 0.12
    for name in ("straight through", "hard Gumbel"):
        assert 0.02 < np.linalg.norm(moments[name][0] - exact) / size < 1.5, name


def test_straight_through_is_exact_on_average_where_f_is_linear_in_each_variable():
    params = params_of((3,))

    def product(params, z):
        return (1.0 + params["w"][0] * z[:, 0]) * (params["w"][1] - z[:, 1]) * (0.5 + z[:, 2])

    gradient = gradient_of(straight_through(num_samples=3), binary, params, product)
    drawn = jax.jit(jax.vmap(gradient))(jax.random.split(jax.random.key(1), KEYS))
    exact = flat(jax.jit(exact_gradient(binary, product))(params))
    assert np.all(np.abs(drawn.mean(0) - exact) <= 4.0 * drawn.std(0) / np.sqrt(KEYS))


def test_straight_through_identity_moves_with_the_logit():
    """Of f = z the gradient is that of the path: p (1 - p) or 1."""
    params, key = params_of((3,)), jax.random.key(0)

    def first(params, z):
        return z[:, 0]

    soft, identity = (
        gradient_of(straight_through(kind), binary, params, first)(key)[: B * 3].reshape(B, 3)
        for kind in ("soft", "identity")
    )
    p = jax.nn.sigmoid(params["logits"][:, 0])
    np.testing.assert_allclose(soft[:, 0], p * (1 - p), rtol=1e-12)
    np.testing.assert_allclose(identity[:, 0], 1.0, rtol=1e-12)


def test_straight_through_identity_of_one_hot_variables_moves_with_the_log_probability():
    """Of f = z_0 the gradient towards the logits is that of log p_0: [k = 0] - p_k."""
    params = {"logits": jnp.asarray(RNG.normal(size=(B, 1, 4))), "w": jnp.zeros(4)}
    identity = straight_through("identity")
    gradient = gradient_of(identity, one_hot, params, lambda params, z: z[:, 0, 0])
    p = np.exp(params["logits"]) / np.sum(np.exp(params["logits"]), axis=-1, keepdims=True)
    found = jax.jit(gradient)(jax.random.key(0))[: B * 4].reshape(B, 1, 4)
    np.testing.assert_allclose(found, np.eye(4)[:1] - p, rtol=1e-12)


def test_reparameterized_draws_of_a_normal():
    """E (loc + scale e)^2 = loc^2 + scale^2, so the gradients are 2 loc and 2 scale."""
    params = {"loc": jnp.array([0.5, -1.0]), "scale": jnp.array([0.7, 1.2])}

    def total(params, key):
        q = Normal(params["loc"], params["scale"])
        return jnp.sum(reparameterized(2)(q, lambda z: z**2, key).value)

    run = jax.jit(jax.vmap(jax.grad(total), (None, 0)))
    drawn = run(params, jax.random.split(jax.random.key(0), KEYS))
    for name, g in drawn.items():
        error = np.abs(np.mean(g, 0) - 2 * params[name])
        assert np.all(error < 4 * np.std(g, 0) / np.sqrt(KEYS))


def test_values_are_estimates_of_the_objective():
    """The surrogate's value is the plain average, whatever its gradient is made of."""
    params, key = params_of((3,)), jax.random.key(4)
    q, f = binary(params), partial(reward, params)

    @jax.jit
    def run(key):
        z = jax.vmap(lambda k: q.sample(seed=k))(jax.random.split(key, 3)).astype(float)
        log_w = jax.vmap(partial(log_weight, binary, params))(z)
        chosen = ("score", "leave one out", "moving average")
        plain = [UNBIASED[name][0](q, f, key, **UNBIASED[name][1]).value for name in chosen]
        plain.append(straight_through("soft", 3)(q, f, key).value)
        bound = vimco(3)(q, partial(log_weight, binary, params), key).value
        return jax.vmap(f)(z), log_w, jnp.stack(plain), bound

    values, log_w, plain, bound = run(key)
    for value in plain:
        np.testing.assert_allclose(value, np.mean(values, axis=0), rtol=1e-13)
    np.testing.assert_allclose(bound, np.log(np.mean(np.exp(log_w), axis=0)), rtol=1e-12)


def test_a_learned_baseline_has_its_own_loss_and_moves_nothing_else():
    params, key = params_of((3,)), jax.random.key(0)
    nvil = score_function("learned", 2)

    @jax.jit
    def parts(params, predicted):
        estimate = nvil(binary(params), partial(reward, params), key, baseline=predicted)
        return jnp.stack([jnp.sum(estimate.value), jnp.sum(estimate.baseline_loss)])

    of_params, of_baseline = jax.jit(jax.jacobian(parts, (0, 1)))(params, PREDICTED)
    assert np.all(of_params["logits"][1] == 0.0)
    assert np.all(of_params["w"][1] == 0.0)
    assert np.all(of_baseline[0] == 0.0)
    # d (f - b)^2 / db at the mean over draws
    ahead, behind = (parts(params, PREDICTED + h)[1] for h in (1e-4, -1e-4))
    np.testing.assert_allclose(jnp.sum(of_baseline[1]), (ahead - behind) / 2e-4, rtol=1e-8)


def test_moving_averages_follow_the_batches_and_the_weights():
    params, f = params_of((3,)), partial(reward, params_of((3,)))
    q, decay = binary(params), 0.8
    moving = score_function("moving_average", 1, decay, normalize=True)
    estimator = jax.jit(lambda key, **arguments: moving(q, f, key, **arguments))
    means, state = [], None
    for seed in range(3):
        estimate = estimator(jax.random.key(seed), state=state)
        means.append(float(jnp.mean(estimate.value)))
        state = estimate.state
    shares = (1 - decay) * decay ** np.arange(3)[::-1]
    np.testing.assert_allclose(state["mean"], shares @ means, rtol=1e-12)
    np.testing.assert_allclose(state["weight"], shares.sum(), rtol=1e-12)
    weighted = estimator(jax.random.key(0), batch={"weight": jnp.array([1.0, 0.0])})
    np.testing.assert_allclose(weighted.state["mean"], (1 - decay) * weighted.value[0], rtol=1e-12)


def test_rows_behind_the_others_do_not_change_their_draws():
    params = params_of((3,))
    more = {**params, "logits": jnp.concatenate([params["logits"], jnp.ones((3, 3))])}

    def f(z):
        return jnp.sin(z @ params["w"])

    chosen = (score_function("leave_one_out", 3), gumbel_softmax(0.5, 2), rebar())

    @jax.jit
    def run(key):
        return [[e(binary(p), f, key).value[:B] for p in (params, more)] for e in chosen]

    for alone, padded in run(jax.random.key(0)):
        np.testing.assert_allclose(padded, alone, rtol=1e-12)


def test_a_schedule_of_temperatures():
    params = params_of((3,))
    q, f, key = binary(params), partial(reward, params), jax.random.key(0)
    annealed = gumbel_softmax(linear_annealing(10, 2.0, 0.5))

    @jax.jit
    def run(step):
        at_step = annealed(q, f, key, batch={"step": step}).value
        return at_step, gumbel_softmax(1.4)(q, f, key).value

    np.testing.assert_allclose(*run(jnp.asarray(4)), rtol=1e-12)
    with pytest.raises(ValueError, match='batch\\["step"\\] is missing'):
        annealed(q, f, key)


Q = Independent(Bernoulli(logits=jnp.zeros((B, 3))), 1)


def called(estimator, q=Q, **arguments):
    return estimator(q, lambda z: jnp.zeros(B), jax.random.key(0), **arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: score_function("best"), "baseline must be None, a number, or one of"),
        (lambda: score_function(True), "a number, or one of .*; got True"),
        (lambda: score_function("leave_one_out"), "num_samples must be at least 2; got 1"),
        (lambda: score_function(decay=1.0), "decay must lie in \\[0, 1\\); got 1.0"),
        (lambda: reweighted_wake_sleep(1), "num_samples must be at least 2; got 1"),
        (lambda: vimco(1), "num_samples must be at least 2; got 1"),
        (lambda: gumbel_softmax(0.0), "temperature must be positive and finite; got 0.0"),
        (lambda: straight_through("hard"), "backward must be"),
        (lambda: called(score_function("learned")), "learns a baseline and none was given"),
        (lambda: relax(-1.0), "temperature must be positive and finite; got -1.0"),
        (lambda: called(relax()), "its baseline must be a function of relaxed draws"),
        (
            lambda: called(score_function(), baseline=jnp.zeros(B)),
            "a baseline was given, but it uses none",
        ),
        (
            lambda: called(score_function("learned"), baseline=jnp.zeros((B, 1))),
            "baseline has shape \\(2, 1\\); expected one number for each row",
        ),
        (lambda: called(reparameterized()), "draws of Bernoulli carry no gradient"),
        (
            lambda: called(gumbel_softmax(), Categorical(logits=jnp.zeros((B, 3)))),
            "write OneHotCategorical",
        ),
        (
            lambda: estimators.states(Independent(Bernoulli(logits=jnp.zeros(13)), 1)),
            "2\\^13 = 8192 states are more than 4096",
        ),
        (lambda: estimators.states(Normal(0.0, 1.0)), "Normal is not one that is enumerated"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
