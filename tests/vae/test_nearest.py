"""The nearest code by exact arithmetic: far away, in clusters, large, small, short and many."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxprob import heads, vae
from jaxprob.vae import nearest as module
from jaxprob.vae.nearest import nearest
from torch_ref.vae.nearest import nearest as twin

RNG = np.random.default_rng(0)


def exact(encodings, codes):
    """Indices by differences in extended precision, in units in which no square overflows."""
    e, c = (np.asarray(a, np.longdouble) for a in (encodings, codes))
    return np.argmin(np.sum((e[..., None, :] - c) ** 2, axis=-1), axis=-1)


def distances(encodings, codes, indices):
    e, c = (np.asarray(a, np.longdouble) for a in (encodings, codes))
    return np.sum((e - c[indices]) ** 2, axis=-1)


def clusters(size):
    """Codes in two far groups: their mean is near neither."""
    centre = np.where(RNG.random((size, 1)) < 0.5, -1000.0, 1000.0)
    return centre + 0.3 * RNG.normal(size=(size, 4))


CASES = {
    "around 0": lambda n: RNG.normal(size=(n, 4)),
    "around 1000": lambda n: 1000.0 + 0.3 * RNG.normal(size=(n, 4)),
    "around -1e6": lambda n: -1e6 + 2.0 * RNG.normal(size=(n, 4)),
    "two clusters": clusters,
    "1e-25": lambda n: 1e-25 * RNG.normal(size=(n, 4)),
    "1e25": lambda n: 1e25 * RNG.normal(size=(n, 4)),
    "one axis far": lambda n: RNG.normal(size=(n, 4)) + np.array([0.0, 1e4, 0.0, 0.0]),
}


@pytest.mark.parametrize("count", [5, 64], ids=["few", "many"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_nearest_in_both_packages(name, count):
    """float32: no other code is nearer by more than the rounding of one distance."""
    codes, e = (CASES[name](n).astype(np.float32) for n in (count, 300))
    e[:count] = codes  # a code itself is at distance 0
    ours = np.asarray(nearest(e, codes))
    theirs = twin(torch.tensor(e), torch.tensor(codes)).numpy()
    best = distances(e, codes, exact(e, codes))
    for found in (ours, theirs):
        assert np.all(distances(e, codes, found) <= best * (1 + 1e-6))
        np.testing.assert_array_equal(found[:count], exact(e[:count], codes))
    assert np.mean(ours == exact(e, codes)) > 0.99


def test_half_precision_is_compared_as_it_stands():
    codes = jnp.asarray(8.0 + RNG.normal(size=(40, 3)), jnp.bfloat16)
    e = jnp.asarray(8.0 + RNG.normal(size=(200, 3)), jnp.bfloat16)
    wide = [np.asarray(a, np.float64) for a in (e, codes)]
    np.testing.assert_array_equal(nearest(e, codes), exact(*wide))
    half = [torch.tensor(a).to(torch.bfloat16) for a in wide]
    np.testing.assert_array_equal(twin(*half), exact(*wide))


def test_the_first_of_equals_any_shape_and_what_is_no_number():
    codes = np.concatenate([np.full((3, 2), 5.0), RNG.normal(size=(30, 2)), np.full((9, 2), 5.0)])
    e = np.full((2, 3, 2), 5.2)
    np.testing.assert_array_equal(nearest(e, codes), 0)
    np.testing.assert_array_equal(twin(torch.tensor(e), torch.tensor(codes)), 0)
    assert nearest(e, codes).shape == (2, 3)
    broken = np.where(np.arange(2) == 0, np.nan, e)
    assert np.all((np.asarray(nearest(broken, codes)) >= 0) & (np.asarray(nearest(e, codes)) < 42))


def test_it_survives_vmap_and_has_no_gradient():
    codes = (100.0 + RNG.normal(size=(3, 20, 4))).astype(np.float32)
    e = (100.0 + RNG.normal(size=(3, 50, 4))).astype(np.float32)
    apart = [exact(a, b) for a, b in zip(e, codes, strict=True)]
    np.testing.assert_array_equal(jax.vmap(nearest)(jnp.asarray(e), jnp.asarray(codes)), apart)

    def picked(e):
        return jnp.sum(jnp.asarray(codes[0])[nearest(e, codes[0])])

    np.testing.assert_array_equal(jax.grad(picked)(jnp.asarray(e[0])), 0.0)


def test_no_array_of_all_differences_is_in_memory():
    """Rows x codes x dimensions would be 64 MiB here."""
    e, codes = (jax.ShapeDtypeStruct((n, 64), jnp.float32) for n in (4096, 64))
    memory = jax.jit(nearest).lower(e, codes).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 16 * 2**20


def test_the_product_alone_is_wrong_there():
    """Most codes at 1000 are not the nearest by it; about their mean few rows are in doubt."""
    codes, e = (CASES["around 1000"](n).astype(np.float32) for n in (64, 300))
    product = np.argmin(np.sum(codes**2, -1) - 2 * e @ codes.T, axis=-1)
    assert np.mean(product != exact(e, codes)) > 0.3
    _, doubtful = module._by_product(jnp.asarray(e), jnp.asarray(codes))
    assert np.mean(doubtful) < 0.05


class Itself(nn.Module):
    """Encodings as they are."""

    def __call__(self, x):
        return x


def test_counts_follow_the_nearest_code_far_from_the_origin():
    """Running counts and perplexity of a loss in float32, at offset 1000."""
    model = vae.VQVAE(Itself(), heads.NormalHead(4), 16, 4, 0.0)
    codes = (1000.0 + 0.3 * RNG.normal(size=(16, 4))).astype(np.float32)
    x = (1000.0 + 0.3 * RNG.normal(size=(200, 4))).astype(np.float32)
    book = {"codes": jnp.asarray(codes), "counts": jnp.ones(16, jnp.float32),
            "sums": jnp.asarray(codes)}  # fmt: skip
    head = {"out": {"kernel": jnp.zeros((4, 8), jnp.float32), "bias": jnp.zeros(8, jnp.float32)}}
    params = {"params": {"decoder": head}, "collections": {"codebook": book}}
    loss = jax.jit(lambda w: vae.vq_loss(model)(w, {"x": x}, jax.random.key(0)))
    _, metrics = loss(params)
    expected = np.bincount(exact(x, codes), minlength=16)
    np.testing.assert_array_equal(metrics["collections"]["codebook"]["counts"], expected)
    share = expected[expected > 0] / 200
    np.testing.assert_allclose(
        metrics["perplexity"], np.exp(-np.sum(share * np.log(share))), rtol=1e-5
    )
