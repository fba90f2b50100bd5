"""Length buckets: no row lost, little padding, the same numbers as alone, few programs."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import torch_ref.random
from jaxprob import training
from jaxprob.heads import NormalHead
from jaxprob.objectives import negative_log_likelihood
from jaxprob.training import buckets
from torch_ref.training import bucketed_epoch

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
LENGTHS = np.minimum(1 + RNG.gamma(2.0, 9.0, 300).astype(int), 90)  # as of sentences
ROWS = [RNG.normal(size=(n, 2)) for n in LENGTHS]
DATA = {"x": ROWS, "y": np.array([row.sum() for row in ROWS])[:, None]}


class Summed(nn.Module):
    """The mean of a sequence's features within its length."""

    takes = ("lengths",)

    @nn.compact
    def __call__(self, x, lengths):
        """Maps `[B, T, 2]`."""
        inside = jnp.arange(x.shape[1])[None] < lengths[:, None]
        h = jnp.where(inside[..., None], nn.tanh(nn.Dense(3)(x)), 0.0)
        return NormalHead(1)(h.sum(1) / lengths[:, None])


@pytest.mark.parametrize("batch_size", [1, 7, 16])
def test_each_row_is_once_in_an_epoch_and_little_is_padded(batch_size):
    batches = training.LengthBuckets(DATA, batch_size, KEY)
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        seen = list(batches)
        assert len(seen) == len(batches)
        steps = sum(batch["x"].shape[0] * batch["x"].shape[1] for batch in seen)
        assert steps / LENGTHS.sum() - 1 == pytest.approx(batches.padding)
        assert sum(batch["lengths"].sum() for batch in seen) == LENGTHS.sum()
        np.testing.assert_array_equal(
            np.sort(np.concatenate([batch["y"] for batch in seen]), axis=0),
            np.sort(DATA["y"], axis=0),
        )
        for batch in seen:
            inside = np.arange(batch["x"].shape[1]) < batch["lengths"][:, None]
            assert (batch["x"][~inside] == 0).all()
            np.testing.assert_allclose(batch["x"].sum((1, 2)), batch["y"][:, 0])
    assert batches.padding <= 0.25
    assert len({batch["x"].shape for batch in seen}) <= 10
    assert 90 * 300 > 3 * LENGTHS.sum()  # which is what one width would have cost


def test_order_is_that_of_key_and_epoch_and_of_the_twin():
    one, same = (training.LengthBuckets(DATA, 16, KEY) for _ in range(2))
    other = training.LengthBuckets(DATA, 16, jax.random.key(4))
    orders = []
    for batches, epoch in ((one, 1), (same, 1), (other, 1), (one, 0)):
        batches.set_epoch(epoch)
        orders.append(np.concatenate([batch["y"][:, 0] for batch in batches]))
    assert (orders[0] == orders[1]).all()
    assert (orders[0] != orders[2]).any()
    assert (orders[0] != orders[3]).any()
    twins = bucketed_epoch(
        torch.from_numpy(LENGTHS), one.widths, 16, torch_ref.random.key(3), 1, full=True
    )
    rows = np.concatenate([rows.numpy() for rows, _ in twins])
    np.testing.assert_array_equal(DATA["y"][rows, 0], orders[0])
    one.set_epoch(1)
    assert [width for _, width in twins] == [batch["x"].shape[1] for batch in one]


@pytest.mark.parametrize("seed", range(5))
def test_widths_are_the_best_of_their_number(seed):
    values = np.unique(np.random.default_rng(seed).integers(1, 30, 9))
    counts = np.random.default_rng(seed + 50).integers(1, 9, len(values))

    def steps(widths):
        return sum(
            c * min(w for w in widths if w >= v) for v, c in zip(values, counts, strict=True)
        )

    for number, widths in enumerate(buckets._best_partitions(values, counts), 1):
        others = itertools.combinations(values[:-1].tolist(), number - 1)
        assert len(widths) == number
        assert steps(widths) == min(steps((*some, values[-1])) for some in others)
    assert widths == values.tolist()


def test_few_rows_keep_smaller_batches_rather_than_much_padding():
    lengths = np.array([1, 2, 40, 41])
    batches = training.LengthBuckets({"x": np.ones((4, 50, 1))}, 32, KEY, lengths=lengths)
    assert batches.padding <= 0.25
    assert sorted(batch["x"].shape[:2] for batch in batches) == [(2, 2), (2, 41)]


def test_training_and_prediction_equal_those_of_whole_arrays():
    batches = training.LengthBuckets(DATA, 16, KEY)
    model = Summed()
    width = int(LENGTHS.max())
    whole = np.stack([np.pad(row, ((0, width - len(row)), (0, 0))) for row in ROWS])
    params = model.init(KEY, whole[:1], lengths=LENGTHS[:1])["params"]
    loss_fn, adam = negative_log_likelihood(model), optax.adam(1e-3)
    fitted = training.fit(
        loss_fn, params, batches, optimizer=adam, epochs=2, key=KEY, progress=False
    )
    step, state = training.make_step(loss_fn, adam), training.TrainState.create(params, adam)
    for epoch in range(2):
        batches.set_epoch(epoch)
        for batch in batches:  # the same rows, as wide as the longest of all
            wide = np.pad(batch["x"], ((0, 0), (0, width - batch["x"].shape[1]), (0, 0)))
            state, _ = step(state, {**batch, "x": wide}, KEY)
    for ours, theirs in zip(
        jax.tree.leaves(fitted.params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    apply = jax.jit(lambda x, n: model.apply({"params": fitted.params}, x, lengths=n).mean())
    means = np.full((300, 1), np.nan)
    for rows, batch in batches.in_order():
        means[rows] = apply(batch["x"], batch["lengths"])
    np.testing.assert_allclose(means, apply(whole, LENGTHS), rtol=1e-12)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"x": np.ones((3, 4))}, {}, 'the data have no "lengths"'),
        ({"x": np.ones((3, 4)), "lengths": [1, 2, 5]}, {}, "row 2 has length 5"),
        ({"x": np.ones((3, 4)), "lengths": [1, 0, 2]}, {}, "at least 1; got 0 in row 1"),
        ({"x": np.ones((3, 4)), "lengths": [1.0, 2, 3]}, {}, "must be integers"),
        ({"x": np.ones((3, 4)), "lengths": [1, 2]}, {}, "a row for each of the 2 lengths"),
        ({"x": [np.ones(2), np.ones(3)]}, {"lengths": [2, 2]}, "3 steps in row 1"),
        ({"y": np.ones(3), "lengths": [1, 2, 3]}, {}, "no entry has a time axis"),
        ({"x": np.ones((2, 3)), "lengths": [1, 2]}, {"sequences": ("z",)}, 'sequences names "z"'),
        ({"x": [np.ones(2)]}, {"max_padding": -1.0}, "max_padding"),
    ],
)
def test_what_is_wrong_is_said(data, options, message):
    with pytest.raises(ValueError, match=message):
        training.LengthBuckets(data, 2, KEY, **options)
