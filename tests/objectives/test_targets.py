"""Targets against the support, when a run begins: what is named, what is let through."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import torch_ref.objectives.targets as twin
from jaxprob import bayes, heads, objectives, vae
from jaxprob import distributions as d
from jaxprob.training import Fitted, fit, fit_ensemble

KEY = jax.random.key(1)
RNG = np.random.default_rng(2)
N = 12
X = RNG.normal(size=(N, 2))
OPTIONS = {"optimizer": optax.sgd(1e-3), "key": KEY, "progress": False, "epochs": 1}
CLASSES = np.arange(N) % 3
INSIDE = RNG.uniform(0.1, 0.9, size=(N, 1))


def changed(values, row, value):
    values = np.array(values, dtype=np.result_type(values, np.asarray(value)))
    values[row] = value
    return values


def train(head, y, **entries):
    params = head.init(KEY, X)["params"]
    loss_fn = objectives.negative_log_likelihood(head)
    return fit(loss_fn, params, {"x": X, "y": y, **entries}, **OPTIONS)


BAD = {
    "classes from 1": (heads.CategoricalHead(3), CLASSES + 1, 2, "3", "a class, one of 0, ..."),
    "a class of -1": (heads.CategoricalHead(3), changed(CLASSES, 4, -1), 4, "-1", "begin at 0"),
    "a negative count": (heads.PoissonHead(), changed(CLASSES[:, None], 5, -2), 5, "-2", "a count"),
    "half a count": (
        heads.NegativeBinomialHead(), changed(CLASSES[:, None], 5, 0.5), 5, "0.5", "Round the",
    ),
    "an answer of 2": (heads.BernoulliHead(), CLASSES[:, None], 2, "2", "0 or 1, the support of B"),
    "beta of 1": (heads.BetaHead(), changed(INSIDE, 3, 1.0), 3, "1.0", "inside of .* Clip"),
    "beta of 2": (heads.BetaHead(), changed(INSIDE, 3, 2.0), 3, "2.0", "between 0 and 1"),
    "gamma of 0": (heads.GammaHead(), changed(INSIDE, 6, 0.0), 6, "0.0", "inside of the support"),
    "negative time": (heads.LogNormalHead(), changed(INSIDE, 6, -1.0), 6, "-1.0", "non-negative"),
}  # fmt: skip


@pytest.mark.parametrize(("head", "y", "row", "value", "words"), BAD.values(), ids=list(BAD))
def test_targets_without_a_density_are_named_by_row_and_value(head, y, row, value, words):
    with pytest.raises(ValueError, match=rf'fit: data\["y"\] must be .*{words}') as caught:
        train(head, y)
    assert f"row {row} (index ({row}," in str(caught.value)
    assert f": {value}. " in str(caught.value)
    # the same row has no finite density by the twin's own account of its family
    laws = {
        "CategoricalHead": torch.distributions.Categorical(logits=torch.zeros(N, 3)),
        "PoissonHead": torch.distributions.Poisson(torch.ones(N, 1)),
        "NegativeBinomialHead": torch.distributions.NegativeBinomial(2.0, logits=torch.zeros(N, 1)),
        "BernoulliHead": torch.distributions.Bernoulli(logits=torch.zeros(N, 1)),
        "BetaHead": torch.distributions.Beta(torch.full((N, 1), 2.0), torch.full((N, 1), 2.0)),
        "GammaHead": torch.distributions.Gamma(torch.full((N, 1), 2.0), torch.ones(N, 1)),
        "LogNormalHead": torch.distributions.LogNormal(torch.zeros(N, 1), torch.ones(N, 1)),
    }
    check = twin.support_check(lambda batch: laws[type(head).__name__])
    with pytest.raises(ValueError, match=rf'data\["y"\]: row {row} lies outside'):
        check("data", {"y": torch.as_tensor(y)})


LEGAL = {
    "classes": (heads.CategoricalHead(3), CLASSES, {}),
    "yes and no": (heads.BernoulliHead(), CLASSES[:, None] > 1, {}),
    "a missing class": (
        heads.CategoricalHead(3), changed(CLASSES, 4, -1), {"y_observed": np.arange(N) != 4},
    ),
    "a missing count": (
        heads.PoissonHead(), changed(CLASSES[:, None], 4, np.nan),
        {"mask": np.arange(N)[:, None] != 4},
    ),
    "a time above 0": (
        heads.GammaHead(), changed(INSIDE, 6, 1e-3), {"censored": (np.arange(N) == 6)[:, None] * 1},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("head", "y", "entries"), LEGAL.values(), ids=list(LEGAL))
def test_what_has_a_density_or_is_not_observed_trains(head, y, entries):
    assert np.all(np.isfinite(train(head, y, **entries).history["loss"]))


@pytest.mark.parametrize(("head", "y", "entries"), LEGAL.values(), ids=list(LEGAL))
def test_what_has_a_density_or_is_not_observed_passes(head, y, entries):
    params, data = head.init(KEY, X)["params"], {"x": X, "y": y, **entries}
    objectives.negative_log_likelihood(head).check(params, data)("data", data)


class Counted(nn.Module):
    @nn.compact
    def __call__(self, x, exposure):
        return heads.PoissonHead()(x, exposure)


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x):
        return heads.PoissonHead()(nn.Dropout(0.1)(jnp.asarray(x)))


class Bounded(nn.Module):
    """A uniform law whose ends are params: only they can say what lies inside."""

    @nn.compact
    def __call__(self, x):
        high = self.param("high", nn.initializers.ones, (), x.dtype)
        return d.Uniform(jnp.zeros(x.shape[0], x.dtype), jnp.broadcast_to(high, x.shape[:1]))


class Exponential(nn.Module):
    @nn.compact
    def __call__(self, x):
        return d.Exponential(jnp.exp(nn.Dense(1, param_dtype=x.dtype)(x)[:, 0]))


def test_an_exposure_of_zero_is_named_where_something_was_counted():
    model, y = Counted(), CLASSES[:, None]
    exposure = changed(np.ones((N, 1)), 5, 0.0)
    params = model.init(KEY, X, np.ones((N, 1)))["params"]
    loss_fn = objectives.negative_log_likelihood(model, ("x", "exposure"))
    data = {"x": X, "exposure": exposure, "y": y}
    with pytest.raises(ValueError, match=r'data\["exposure"\] must be positive .* row 5 .*: 0\.0'):
        fit(loss_fn, params, data, **OPTIONS)


def test_a_support_that_depends_on_params_is_computed():
    model = Bounded()
    params, y = model.init(KEY, X)["params"], RNG.uniform(size=N)
    loss_fn = objectives.negative_log_likelihood(model)
    check = loss_fn.check(params, {"x": X, "y": y})
    check("data", {"x": X, "y": y})
    with pytest.raises(
        ValueError, match=r'data\["y"\] must be between low and high.* row 7 .*1\.5'
    ):
        check("data", {"x": X, "y": changed(y, 7, 1.5)})
    many = np.tile(y, 200)  # more rows than are computed at once
    with pytest.raises(ValueError, match="1 of 2400 rows .* row 2399 "):
        check("data", {"x": np.tile(X, (200, 1)), "y": changed(many, 2399, 1.5)})


def test_an_end_of_the_support_with_a_density_is_let_through():
    model = Exponential()
    params = model.init(KEY, X)["params"]
    data = {"x": X, "y": changed(INSIDE[:, 0], 3, 0.0)}
    fitted = fit(objectives.negative_log_likelihood(model), params, data, **OPTIONS)
    assert np.isfinite(fitted.history["loss"]).all()


def test_every_loss_over_a_likelihood_looks():
    head, y = heads.PoissonHead(), changed(CLASSES[:, None], 5, -2)
    params, data = head.init(KEY, X)["params"], {"x": X, "y": y}
    q = bayes.GaussianPosterior(head, X[:1])
    dropout = bayes.MCDropout(Dropped(), X[:1], 0.1)
    prior = objectives.GaussianPrior(1.0)
    ensemble = bayes.DeepEnsemble(head, X[:1], 2)
    losses = {
        "map": (objectives.map_loss(head, prior, N), params),
        "elbo": (bayes.negative_elbo(q, N), q.init(KEY)),
        "dropout": (dropout.loss(), dropout.init(KEY)),
        "ensemble": (ensemble.loss(adversarial=0.01, input_range=1.0), params),
    }
    for loss_fn, start in losses.values():
        with pytest.raises(ValueError, match=r'data\["y"\] must be a count.* row 5 .*: -2'):
            fit(loss_fn, start, data, **OPTIONS)
    members = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), params)
    loss_fn = objectives.negative_log_likelihood(head)
    own = {"x": X, "y": np.stack([CLASSES[:, None], y])}
    with pytest.raises(ValueError, match=r'fit_ensemble: data\["y"\] must be a count.* row 5 '):
        fit_ensemble(loss_fn, members, own, per_member=["y"], **OPTIONS)
    good = {"x": X, "y": CLASSES[:, None]}
    with pytest.raises(ValueError, match=r'fit: validation\["y"\] must be a count'):
        fit(loss_fn, params, good, validation=data, **OPTIONS)
    with pytest.raises(ValueError, match=r'batch 1 of epoch 0: data\["y"\] must be a count') as e:
        fit(loss_fn, params, [good, data], **OPTIONS)
    assert isinstance(e.value.fitted, Fitted)


def test_autoencoders_look_at_their_inputs():
    model = vae.DenseVAE(2, (3,), 2)
    pixels = (X > 0).astype(float)
    grey = np.clip(np.abs(X), 0, 1)
    params = model.init(KEY, pixels, jnp.zeros((N, 2)))["params"]
    for loss_fn in (vae.negative_elbo(model), vae.negative_iwae(model, 2)):
        with pytest.raises(ValueError, match=r'data\["x"\] must be 0 or 1, the support of Bern'):
            loss_fn.check(params, {"x": grey})("data", {"x": grey})
        seen = grey == pixels
        loss_fn.check(params, {"x": grey, "mask": seen})("data", {"x": grey, "mask": seen})
        loss_fn.check(params, {"x": pixels})("data", {"x": pixels})
    drawn = vae.negative_elbo(model, binarize=True).check(params, {"x": grey})
    drawn("data", {"x": grey})
    with pytest.raises(ValueError, match=r'data\["x"\] must be grey levels between 0 and 1.*255'):
        drawn("data", {"x": 255 * grey})


def test_targets_inside_of_the_support_compile_nothing():
    """Of most families NumPy alone compares: no program is made for the check."""
    head = heads.PoissonHead()
    params, data = head.init(KEY, X)["params"], {"x": X, "y": CLASSES[:, None]}
    check = objectives.negative_log_likelihood(head).check
    with jax.log_compiles(), pytest.MonkeyPatch().context() as patch:
        patch.setattr("jax._src.compiler.backend_compile_and_load", _no_program)
        check(params, data)("data", data)


def _no_program(*args, **kwargs):
    raise AssertionError("a program was compiled")
