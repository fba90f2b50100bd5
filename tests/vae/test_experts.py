"""Experts summed out exactly."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from scipy.special import logsumexp, softmax

from jaxprob import heads, objectives, training, vae
from jaxprob.nn import MLP

B, K = 5, 3
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(B, 2)), RNG.normal(size=(B, 1))
KEY = jax.random.key(0)
MODEL = vae.MixtureOfExperts([heads.NormalHead() for _ in range(K)])


def params_of(model):
    shapes = jax.eval_shape(model.init, KEY, X)["params"]
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0.0, 0.8, leaf.shape)), shapes)


def test_density_moments_and_responsibilities_by_formula():
    params = params_of(MODEL)

    @jax.jit
    def run(x):
        p = MODEL.apply({"params": params}, x)
        r = MODEL.apply({"params": params}, x, Y, method="responsibilities")
        return p.log_prob(Y), p.mean(), p.variance(), r

    log_prob, mean, variance, r = run(X)

    def dense(layer):
        return X @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])

    gate = softmax(dense(params["gate_logits"]), axis=1)
    raw = np.stack([dense(params[f"experts_{k}"]["out"]) for k in range(K)], axis=1)
    loc, scale = raw[..., 0], np.log1p(np.exp(raw[..., 1])) + heads.normal.SCALE_FLOOR
    joint = np.log(gate) + stats.norm(loc, scale).logpdf(Y)
    np.testing.assert_allclose(log_prob, logsumexp(joint, axis=1), rtol=1e-12)
    np.testing.assert_allclose(r, softmax(joint, axis=1), rtol=1e-11)
    centre = np.sum(gate * loc, axis=1)
    np.testing.assert_allclose(mean[:, 0], centre, rtol=1e-12)
    spread = np.sum(gate * (scale**2 + (loc - centre[:, None]) ** 2), axis=1)
    np.testing.assert_allclose(variance[:, 0], spread, rtol=1e-12)


class Dropping(nn.Module):
    """In training it drops all that it is given."""

    head: nn.Module | None = None

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dropout(1.0)(x, deterministic=not train)
        return x if self.head is None else self.head(x)


def test_experts_and_gate_know_that_they_are_trained():
    """With nothing of x left, the density is the mixture that the biases give."""
    model = vae.MixtureOfExperts([Dropping(heads.NormalHead()) for _ in range(2)], Dropping())
    params = params_of(model)
    loss_fn = objectives.negative_log_likelihood(model)
    loss, evaluated = jax.jit(
        lambda w: (loss_fn(w, {"x": X, "y": Y}, KEY)[0],
                   loss_fn.evaluate(w, {"x": X, "y": Y}, KEY)[0])
    )(params)  # fmt: skip
    raw = np.stack([params[f"experts_{k}"]["head"]["out"]["bias"] for k in range(2)])
    scale = np.log1p(np.exp(raw[:, 1])) + heads.normal.SCALE_FLOOR
    joint = np.log(softmax(params["gate_logits"]["bias"])) + stats.norm(raw[:, 0], scale).logpdf(Y)
    np.testing.assert_allclose(loss, -logsumexp(joint, axis=1).mean(), rtol=1e-12)
    assert abs(evaluated - loss) > 1e-3


@pytest.mark.slow
def test_experts_share_the_work():
    """|x| is two lines: two linear experts fit it, one cannot."""
    x = np.linspace(-2.0, 2.0, 80)[:, None]
    data = {"x": x, "y": np.abs(x) + 0.05 * RNG.normal(size=x.shape)}
    nll = {}
    for count in (1, 2):
        model = vae.MixtureOfExperts([heads.NormalHead() for _ in range(count)])
        params = jax.tree.map(lambda w: w.astype(float), model.init(KEY, x)["params"])
        fitted = training.fit(
            objectives.negative_log_likelihood(model), params, data,
            optimizer=optax.adam(0.02), epochs=600, batch_size=80, key=KEY, progress=False,
        )  # fmt: skip
        nll[count] = fitted.history["nll"][-1]
    assert nll[2] < nll[1] - 1.0
    r = model.apply({"params": fitted.params}, x, data["y"], method="responsibilities")
    left, right = np.asarray(r)[x[:, 0] < -0.5].mean(0), np.asarray(r)[x[:, 0] > 0.5].mean(0)
    assert np.argmax(left) != np.argmax(right)
    assert min(left.max(), right.max()) > 0.9


def test_any_head_and_a_gate():
    model = vae.MixtureOfExperts(
        [nn.Sequential([MLP((4,)), heads.CategoricalHead(3)]) for _ in range(2)], MLP((3,))
    )
    params = params_of(model)
    assert set(params) == {"experts_0", "experts_1", "gate", "gate_logits"}
    p = model.apply({"params": params}, X)
    total = sum(np.exp(p.log_prob(jnp.full(B, c))) for c in range(3))
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)


def test_bad_input():
    with pytest.raises(ValueError, match="experts is empty"):
        vae.MixtureOfExperts([]).init(KEY, X)
    mixed = vae.MixtureOfExperts([heads.NormalHead(), heads.StudentTHead()])
    with pytest.raises(ValueError, match="distributions of one kind; got"):
        mixed.init(KEY, X)
