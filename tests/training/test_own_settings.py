"""Members with rows and numbers of their own: one program, and the fits of each alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob import objectives, training
from jaxprob.heads import NormalHead
from jaxprob.objectives import GaussianPrior

KEY = jax.random.key(0)
N = 12
_rng = np.random.default_rng(0)
X, Y = _rng.normal(size=(N, 2)), _rng.normal(size=(N, 1))
MODEL = NormalHead(1)
LOSS = objectives.negative_log_likelihood(MODEL)
QUIETLY = {"key": KEY, "progress": False}


def starts(count):
    shapes = jax.eval_shape(MODEL.init, KEY, X)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: 0.3 * rng.normal(size=(count, *leaf.shape)), shapes)


def resampled(count):
    rows = np.random.default_rng(2).integers(0, N, (count, N))
    return {"x": X[rows], "y": Y[rows]}


def member(tree, m):
    return jax.tree.map(lambda leaf: leaf[m], tree)


def assert_equal(tree, other, rtol):
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-14)


@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_bootstrap_members_are_single_fits(count):
    """Each with its rows and its learning rate, and the smaller last batch."""
    data, rates = resampled(count), np.geomspace(1e-3, 0.1, count)
    members, keys = starts(count), jax.random.split(KEY, count)
    together = training.fit_ensemble(
        LOSS, members, data, optimizer=optax.inject_hyperparams(optax.adam)(learning_rate=1.0),
        epochs=3, batch_size=5, per_member=("x", "y"), hyperparams={"learning_rate": rates},
        **QUIETLY,
    )  # fmt: skip
    for m in range(count):
        alone = training.fit(
            LOSS, member(members, m), member(data, m), optimizer=optax.adam(float(rates[m])),
            epochs=3, batch_size=5, key=keys[m], progress=False,
        )  # fmt: skip
        assert_equal(member(together.params, m), alone.params, 1e-12)
        np.testing.assert_allclose(together.history["loss"][:, m], alone.history["loss"], 1e-12)


def test_it_is_one_program():
    traces = itertools.count()

    def loss_fn(params, batch, key):
        next(traces)
        return LOSS(params, batch, key)

    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0)
    options = {"optimizer": optimizer, "epochs": 2, "per_member": ("x", "y"), **QUIETLY}
    for seed in range(2):
        rates = 0.01 * (1 + seed) * np.arange(1.0, 4.0)
        training.fit_ensemble(
            loss_fn, starts(3), resampled(3), hyperparams={"learning_rate": rates}, **options
        )
        first = next(traces) if seed == 0 else first
    assert next(traces) == first + 1, "the second ensemble was traced again"


@pytest.mark.slow
def test_one_entry_of_the_data_may_be_own():
    """Weights of each member over rows that all share, and its own validation rows."""
    weight = np.random.default_rng(3).uniform(0.5, 2.0, (2, N))
    options = {"optimizer": optax.sgd(0.05), "epochs": 2, "batch_size": 5}
    folds = {"x": X.reshape(2, 6, 2), "y": Y.reshape(2, 6, 1), "weight": np.ones((2, 6))}
    together = training.fit_ensemble(
        LOSS, starts(2), {"x": X, "y": Y, "weight": weight}, per_member=("weight",),
        **options, **QUIETLY,
    )  # fmt: skip
    validated = training.fit_ensemble(
        LOSS, starts(2), folds, validation=folds, per_member=("x", "y", "weight"),
        **options, **QUIETLY,
    )  # fmt: skip
    keys = jax.random.split(KEY, 2)
    for m in range(2):
        data = {"x": X, "y": Y, "weight": weight[m]}
        alone = training.fit(
            LOSS, member(starts(2), m), data, key=keys[m], progress=False, **options
        )
        assert_equal(member(together.params, m), alone.params, 1e-12)
        nll, _ = LOSS(member(validated.params, m), member(folds, m), KEY)
        np.testing.assert_allclose(validated.history["validation_loss"][-1, m], nll, rtol=1e-12)


def test_a_loss_is_made_from_a_number_of_each_member():
    scales = np.array([0.1, 3.0])

    def make(scale):
        return objectives.map_loss(MODEL, GaussianPrior(scale), N)

    options = {"optimizer": optax.sgd(0.05), "epochs": 2, "batch_size": 5}
    together = training.fit_ensemble(
        make, starts(2), {"x": X, "y": Y}, hyperparams={"scale": scales}, **options, **QUIETLY
    )
    keys = jax.random.split(KEY, 2)
    for m in range(2):
        alone = training.fit(
            make(float(scales[m])), member(starts(2), m), {"x": X, "y": Y},
            key=keys[m], progress=False, **options,
        )  # fmt: skip
        assert_equal(member(together.params, m), alone.params, 1e-12)


def test_a_stream_has_rows_of_each_member():
    data = resampled(2)
    pieces = [{name: value[:, i : i + 4] for name, value in data.items()} for i in (0, 4, 8)]
    options = {"optimizer": optax.sgd(0.05), "epochs": 2}
    together = training.fit_ensemble(
        LOSS, starts(2), pieces, per_member=("x", "y"), **options, **QUIETLY
    )
    keys = jax.random.split(KEY, 2)
    for m in range(2):
        own = [member(piece, m) for piece in pieces]
        alone = training.fit(
            LOSS, member(starts(2), m), own, key=keys[m], progress=False, **options
        )
        assert_equal(member(together.params, m), alone.params, 1e-12)


@pytest.mark.slow
def test_a_run_that_was_stopped_keeps_what_members_have_of_their_own(tmp_path):
    options = {
        "optimizer": optax.inject_hyperparams(optax.sgd)(learning_rate=1.0), "batch_size": 5,
        "per_member": ("x", "y"), "hyperparams": {"learning_rate": np.array([0.01, 0.1])},
    }  # fmt: skip
    data = resampled(2)
    whole = training.fit_ensemble(LOSS, starts(2), data, epochs=4, **options, **QUIETLY)
    for epochs in (2, 4):
        again = training.fit_ensemble(
            LOSS, starts(2), data, epochs=epochs, checkpoint_dir=tmp_path, **options, **QUIETLY
        )
    for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_failure_names_the_member_and_its_rows():
    data = resampled(2)
    data["y"][1, 3] = 1e200
    with pytest.raises(training.NonFiniteError, match="of member 1") as caught:
        training.fit_ensemble(
            LOSS, starts(2), data, optimizer=optax.sgd(0.1), epochs=2, batch_size=4,
            per_member=("x", "y"), **QUIETLY,
        )  # fmt: skip
    assert 3 in caught.value.rows


@pytest.mark.slow
def test_a_loss_made_from_a_number_may_contract_in_a_short_float():
    scales = np.array([0.1, 3.0])
    options = {"optimizer": optax.sgd(0.05), "epochs": 1, "compute_dtype": "bfloat16"}

    def make(scale):
        return objectives.map_loss(MODEL, GaussianPrior(scale), N)

    together = training.fit_ensemble(
        make, starts(2), {"x": X, "y": Y}, hyperparams={"scale": scales}, **options, **QUIETLY
    )
    alone = training.fit(
        make(3.0), member(starts(2), 1), {"x": X, "y": Y},
        key=jax.random.split(KEY, 2)[1], progress=False, **options,
    )  # fmt: skip
    assert_equal(member(together.params, 1), alone.params, 1e-12)


def test_params_that_are_called_hyperparams_are_no_hyperparams():
    """Adam keeps moments under the names of the params."""

    def loss_fn(params, batch, key):
        rate = params["hyperparams"]["learning_rate"]
        return jnp.mean((batch["x"] @ rate - batch["y"][:, 0]) ** 2), {}

    members = {"hyperparams": {"learning_rate": np.ones((2, 2))}}
    rates = np.array([0.1, 0.01])
    together = training.fit_ensemble(
        loss_fn, members, {"x": X, "y": Y}, epochs=2,
        optimizer=optax.inject_hyperparams(optax.adam)(learning_rate=1.0),
        hyperparams={"learning_rate": rates}, **QUIETLY,
    )  # fmt: skip
    alone = training.fit(
        loss_fn, member(members, 1), {"x": X, "y": Y}, epochs=2, optimizer=optax.adam(0.01),
        key=jax.random.split(KEY, 2)[1], progress=False,
    )  # fmt: skip
    assert_equal(member(together.params, 1), alone.params, 1e-12)


INJECTED = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0)
SCHEDULED = optax.inject_hyperparams(optax.sgd)(learning_rate=optax.linear_schedule(0.1, 0.0, 9))
ADAGRAD = optax.inject_hyperparams(optax.adagrad)(0.1, initial_accumulator_value=0.1)
TWO = np.array([0.1, 0.2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"per_member": ("z",)}, r'per_member names "z", so it must lead with M = 2'),
        ({"per_member": ("x",)}, "must lead with M = 2; got shape"),
        ({"hyperparams": {"learning_rate": [0.1]}}, r"has shape \(1,\); expected one number"),
        ({"hyperparams": {"beta": [0.1, 0.2]}}, "names beta, which neither the optimiser"),
        ({"optimizer": SCHEDULED, "hyperparams": {"learning_rate": TWO}}, "follows a schedule"),
        (
            {"optimizer": ADAGRAD, "hyperparams": {"initial_accumulator_value": TWO}},
            "was made from initial_accumulator_value",
        ),
        (
            {"per_member": ("w",), "validation": {"x": X, "y": Y}},
            'per_member names "w".* got no such entry',
        ),
    ],
)
def test_refuses(change, message):
    options = {"optimizer": INJECTED, "epochs": 1, **QUIETLY, **change}
    with pytest.raises(ValueError, match=message):
        training.fit_ensemble(LOSS, starts(2), {"x": X, "y": Y}, **options)


def test_a_batch_of_a_stream_of_other_members_is_refused():
    with pytest.raises(ValueError, match="must lead with M = 2; got shape"):
        training.fit_ensemble(
            LOSS, starts(2), [resampled(3)], epochs=1, optimizer=INJECTED, per_member=("x", "y"),
            **QUIETLY,
        )  # fmt: skip
