"""What a batch says of lengths is honoured by models that take them, and refused by others."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torch_ref.random as torch_random
import torch_ref.vae as twins
from jaxprob import batches, heads, vae
from jaxprob.distributions import Independent
from jaxprob.nn import as_params
from torch_ref import heads as torch_heads
from torch_ref.distributions import Independent as TorchIndependent

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
B, T, D = 4, 5, 2
X = RNG.normal(size=(B, T, D))
LENGTHS = np.array([5, 2, 3, 1])
VALID = np.arange(T) < LENGTHS[:, None]
OTHER = np.where(VALID[..., None], X, 99.0)


class Steps(nn.Module):
    """Each step is read with the mean of the valid ones: padding would be seen in all."""

    features: int

    @nn.compact
    def __call__(self, x, lengths=None):
        valid = jnp.ones(x.shape[:2], bool) if lengths is None else (
            jnp.arange(x.shape[1])[None] < lengths[:, None]
        )  # fmt: skip
        count = jnp.sum(valid, 1).reshape(-1, 1, 1)
        mean = jnp.sum(jnp.where(valid[..., None], x, 0.0), 1, keepdims=True) / count
        return nn.Dense(self.features)(x + mean)


class EachStep(nn.Module):
    """p(x | codes), step by step."""

    @nn.compact
    def __call__(self, z):
        return Independent(heads.NormalHead(D)(z), 1)


class FromAll(nn.Module):
    """p(x | z) of one vector for all steps."""

    @nn.compact
    def __call__(self, z):
        h = nn.Dense(T * 3)(z).reshape(*z.shape[:-1], T, 3)
        return Independent(heads.NormalHead(D)(h), 1)


class Summary(nn.Module):
    """Features of the valid steps."""

    @nn.compact
    def __call__(self, x, lengths=None):
        valid = jnp.arange(x.shape[1])[None] < lengths[:, None]
        return nn.Dense(4)(jnp.sum(jnp.where(valid[..., None], x, 0.0), 1))


def vq(decay):
    return vae.VQVAE(Steps(3), EachStep(), 6, 3, decay)


def randomized(params):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.7, leaf.shape)), params)


@pytest.fixture(scope="module")
def codebook_params():
    plain = vq(0.8)
    params = as_params(jax.eval_shape(lambda: plain.init(KEY, X)))
    params = randomized(params)
    params["collections"]["codebook"]["counts"] = jnp.arange(1.0, 7.0)
    return params


def test_padding_changes_neither_loss_nor_codebook(codebook_params):
    """Each row as if it were alone, gradients and running counts included."""
    plain, model = vq(0.8), batches.takes(vq(0.8), "lengths")
    loss_fn, alone = vae.vq_loss(model, revive_below=0.5), vae.vq_loss(plain)

    def run(loss_fn, batch):
        def loss(w):
            value, metrics = loss_fn({**codebook_params, "params": w}, batch, KEY)
            return value, metrics

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(codebook_params["params"])

    (value, metrics), grad = run(loss_fn, {"x": X, "lengths": LENGTHS})
    again = run(loss_fn, {"x": OTHER, "lengths": LENGTHS})
    for a, b in zip(jax.tree.leaves(((value, metrics), grad)), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    singles = [run(alone, {"x": X[i : i + 1, :n]}) for i, n in enumerate(LENGTHS)]
    np.testing.assert_allclose(value, np.mean([s[0][0] for s in singles]), rtol=1e-12)
    commitments = [s[0][1]["commitment"] for s in singles]
    np.testing.assert_allclose(metrics["commitment"], np.mean(commitments), rtol=1e-12)
    for path in (("encoder",), ("decoder",)):
        parts = [jax.tree.leaves(s[1][path[0]]) for s in singles]
        for leaf, *others in zip(jax.tree.leaves(grad[path[0]]), *parts, strict=True):
            np.testing.assert_allclose(leaf, np.mean(others, axis=0), rtol=1e-10, atol=1e-13)
    # 0.2 of what a row adds to the counts, of all rows together
    before = 0.8 * np.asarray(codebook_params["collections"]["codebook"]["counts"])
    added = [s[0][1]["collections"]["codebook"]["counts"] - before for s in singles]
    np.testing.assert_allclose(np.sum(added), 0.2 * LENGTHS.sum(), rtol=1e-10)
    moved = before + np.sum(added, axis=0)
    revived = np.where(moved < 0.5, 0.5, moved)
    np.testing.assert_allclose(metrics["collections"]["codebook"]["counts"], revived, rtol=1e-10)


def test_codes_trained_by_gradient_see_no_padding():
    plain, model = vq(None), batches.takes(vq(None), "lengths")
    params = randomized(jax.eval_shape(lambda: plain.init(KEY, X))["params"])

    def codes(model, batch):
        loss_fn = vae.vq_loss(model)
        return jax.jit(jax.grad(lambda w: loss_fn(w, batch, KEY)[0]))(params)["codes"]

    together = codes(model, {"x": OTHER, "lengths": LENGTHS})
    apart = [codes(plain, {"x": X[i : i + 1, :n]}) for i, n in enumerate(LENGTHS)]
    np.testing.assert_allclose(together, np.mean(apart, axis=0), rtol=1e-10, atol=1e-13)


def test_a_discrete_bound_of_sequences_sees_no_padding():
    model = batches.takes(vae.DiscreteVAE(Summary(), FromAll(), 3), "lengths")
    shapes = jax.eval_shape(lambda: model.init(KEY, X, KEY, lengths=LENGTHS))["params"]
    params, loss_fn = randomized(shapes), vae.negative_discrete_elbo(model)

    @jax.jit
    def run(x):
        batch = {"x": x, "lengths": LENGTHS}
        loss = jax.value_and_grad(lambda w: loss_fn(w, batch, KEY)[0])(params)
        return loss, vae.exact_log_marginal(model, params, batch)

    for a, b in zip(jax.tree.leaves(run(X)), jax.tree.leaves(run(OTHER)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    # of the row with one step: log p of its first step alone
    row = {"x": X[3:, :1], "lengths": LENGTHS[3:]}

    class First(nn.Module):
        @nn.compact
        def __call__(self, z):
            h = nn.Dense(T * 3)(z).reshape(*z.shape[:-1], T, 3)[..., :1, :]
            return Independent(heads.NormalHead(D)(h), 1)

    short = batches.takes(vae.DiscreteVAE(Summary(), First(), 3), "lengths")
    alone = vae.exact_log_marginal(short, params, row)
    np.testing.assert_allclose(run(X)[1][3:], alone, rtol=1e-12)


class TorchSteps(torch.nn.Module):
    """Twin of `Steps`."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(D, 3)

    def forward(self, x, lengths):
        valid = (torch.arange(x.shape[1]) < lengths[:, None]).to(x)[..., None]
        return self.layer(x + (x * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True))


class TorchEachStep(torch.nn.Module):
    """Twin of `EachStep`."""

    def __init__(self):
        super().__init__()
        self.head = torch_heads.NormalHead(3, D)

    def forward(self, z):
        return TorchIndependent(self.head(z), 1)


def test_the_twin_reads_lengths_alike(codebook_params):
    module = twins.VQVAE(TorchSteps(), TorchEachStep(), 6, 3, 0.8).double()
    module.takes = ("lengths",)
    book, params = codebook_params["collections"]["codebook"], codebook_params["params"]
    dense, out = params["encoder"]["Dense_0"], params["decoder"]["NormalHead_0"]["out"]
    with torch.no_grad():
        for name, value in book.items():
            getattr(module.codebook, name).copy_(torch.tensor(np.asarray(value)))
        for layer, source in ((module.encoder.layer, dense), (module.decoder.head.out, out)):
            layer.weight.copy_(torch.tensor(np.asarray(source["kernel"]).T))
            layer.bias.copy_(torch.tensor(np.asarray(source["bias"])))
    batch = {"x": torch.tensor(OTHER), "lengths": torch.tensor(LENGTHS)}
    theirs, their_metrics = twins.vq_loss(module)(batch, torch_random.key(0))
    model = batches.takes(vq(0.8), "lengths")
    ours, metrics = vae.vq_loss(model)(codebook_params, {"x": X, "lengths": LENGTHS}, KEY)
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-12)
    for name in ("commitment", "perplexity"):
        np.testing.assert_allclose(metrics[name], their_metrics[name].detach(), rtol=1e-12)
    for name, value in metrics["collections"]["codebook"].items():
        np.testing.assert_allclose(value, getattr(module.codebook, name), rtol=1e-11)


class Whole(nn.Module):
    """One code for all steps."""

    @nn.compact
    def __call__(self, x, lengths=None):
        return nn.Dense(3)(x.reshape(x.shape[0], 1, -1))


class AllSteps(nn.Module):
    """All steps from one code."""

    @nn.compact
    def __call__(self, z):
        h = nn.Dense(T * 3)(z).reshape(z.shape[0], T, 3)
        return Independent(heads.NormalHead(D)(h), 1)


DENSE = vae.DenseVAE(D, (3,), 2)
BATCH = {"x": np.zeros((B, D)), "lengths": LENGTHS}
PLAIN = vae.DiscreteVAE(nn.Dense(3), heads.BernoulliHead(D), 2)
CLASSES = vae.LatentClassModel(2, (2,) * D)
LOSSES = {
    "elbo": vae.negative_elbo(DENSE),
    "iwae": vae.negative_iwae(DENSE, 2),
    "renyi": vae.negative_renyi(DENSE, 0.5, 2),
    "ciwae": vae.negative_ciwae(DENSE, 2),
    "hierarchical": vae.negative_elbo(vae.HierarchicalVAE(D, (3,), (2, 2))),
    "flow": vae.negative_elbo(vae.FlowPosteriorVAE(D, (3,), 2), analytic_kl=False),
    "discrete": vae.negative_discrete_elbo(PLAIN),
    "vq": vae.vq_loss(vae.VQVAE(nn.Dense(3), heads.NormalHead(D), 4, 3, None)),
    "classes": vae.negative_log_marginal(CLASSES),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("entry", ["lengths", "condition"])
def test_a_loss_refuses_what_its_model_does_not_take(name, entry):
    batch = {"x": BATCH["x"], entry: LENGTHS if entry == "lengths" else np.zeros((B, 2))}
    for run in (LOSSES[name], getattr(LOSSES[name], "evaluate", LOSSES[name])):
        with pytest.raises(ValueError, match=f"takes no {entry}"):
            run({}, batch, KEY)


@pytest.mark.parametrize(
    "use",
    [
        lambda: vae.log_marginal(DENSE, {}, BATCH, KEY),
        lambda: vae.diagnostics(DENSE, {}, BATCH, KEY),
        lambda: vae.reconstruct(DENSE, {}, BATCH),
        lambda: vae.reconstruct(PLAIN, {}, BATCH),
        lambda: vae.traverse(DENSE, {}, BATCH, 0),
        lambda: vae.interpolate(DENSE, {}, BATCH["x"], BATCH["x"], given={"lengths": LENGTHS}),
        lambda: vae.impute(DENSE, {}, {**BATCH, "mask": BATCH["x"] > 0}, KEY),
        lambda: vae.exact_log_marginal(PLAIN, {}, BATCH),
    ],
)
def test_so_does_what_a_trained_model_is_for(use):
    with pytest.raises(ValueError, match="takes no lengths"):
        use()


def test_what_is_declared_must_be_read_by_somebody(codebook_params):
    short = {**BATCH, "lengths": np.minimum(LENGTHS, D)}
    dense = batches.takes(DENSE, "lengths")
    with pytest.raises(ValueError, match='DenseVAE says that it takes "lengths", but none'):
        vae.negative_elbo(dense)({}, short, KEY)
    deaf = batches.takes(vae.VQVAE(nn.Dense(3), heads.NormalHead(D), 4, 3, None), "lengths")
    with pytest.raises(ValueError, match='VQVAE says that it takes "lengths", but none'):
        vae.vq_loss(deaf)({}, short, KEY)
    one = batches.takes(vae.VQVAE(Whole(), AllSteps(), 6, 3, None), "lengths")
    batch = {"x": X, "lengths": LENGTHS}
    params = jax.eval_shape(lambda: one.init(KEY, X))["params"]
    with pytest.raises(ValueError, match="codes have shape .4, 1. and x has 5 steps; lengths need"):
        jax.eval_shape(lambda w: vae.vq_loss(one)(w, batch, KEY)[0], params)


@pytest.mark.parametrize("entry", ["lengths", "mask", "x_observed"])
def test_samples_observe_nothing(entry):
    with pytest.raises(ValueError, match=f"sample: {entry} is not read"):
        vae.sample(DENSE, {}, KEY, 2, given={entry: np.ones((B, D), bool)})


def test_classes_read_either_name_of_the_mask():
    x, mask = RNG.integers(0, 2, (B, D)), RNG.random((B, D)) < 0.5
    params = {"class_logits": jnp.zeros(2), "item_logits": jnp.asarray(RNG.normal(size=(2, D, 2)))}
    loss = vae.negative_log_marginal(CLASSES)
    hidden = loss(params, {"x": np.where(mask, x, 9), "x_observed": mask}, KEY)[0]
    np.testing.assert_allclose(hidden, loss(params, {"x": x, "mask": mask}, KEY)[0], rtol=1e-12)
    assert abs(hidden - loss(params, {"x": x}, KEY)[0]) > 1e-3
