"""What is given as loss, optimiser and params, and what a loss returns: trained, or refused."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from flax.core import FrozenDict

from jaxprob import objectives
from jaxprob.nn.apply import as_params, as_variables
from jaxprob.sharding import check_shares
from jaxprob.training import TrainState, fit, fit_ensemble, make_step

KEY = jax.random.key(1)
X, Y = np.ones((6, 2)), np.ones(6)
DATA = {"x": X, "y": Y}
SGD = optax.sgd(0.1)


def squares(params, batch, key):
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)


def loss_fn(params, batch, key):
    return squares(params, batch, key), {}


def run(loss_fn=loss_fn, params=None, data=DATA, train=fit, **options):
    defaults = {"optimizer": SGD, "key": KEY, "progress": False, "epochs": 1}
    params = {"w": jnp.zeros(2)} if params is None else params
    return train(loss_fn, params, data, **defaults | options)


@pytest.fixture
def user_side(monkeypatch):
    """As for a user: without the type hook of the tests, which would answer first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def reporting(**metrics):
    return lambda params, batch, key: (squares(params, batch, key), metrics)


RETURNED = {
    "loss": (reporting(loss=0.0), 'a metric named "loss", which is the name of the loss itself'),
    "validation": (reporting(validation_nll=0.0), 'named "validation_nll", which is the name of a'),
    "vector": (reporting(m=jnp.ones(3)), r'metric "m" is an array float64\[3\]; expected one num'),
    "tree": (reporting(m={"a": 1.0}), 'metric "m" is a dict; expected one number'),
    "bare": (squares, r"returned an array float64\[\]; expected a pair .*return loss, \{\}"),
    "list": (lambda p, b, k: (squares(p, b, k), [1.0]), "metrics of the loss are a list; expected"),
    "three": (lambda p, b, k: (squares(p, b, k), {}, 1), "returned a tuple of 3; expected a pair"),
    "rows": (lambda p, b, k: (b["x"] @ p["w"], {}), r"loss is an array float64\[6\]; .*jnp.mean"),
    "integer": (lambda p, b, k: (jnp.sum(b["x"] > 0), {}), "loss has dtype int64; expected a fl"),
}  # fmt: skip


@pytest.mark.usefixtures("user_side")
@pytest.mark.parametrize(("bad", "message"), RETURNED.values(), ids=list(RETURNED))
def test_what_a_loss_may_not_return(bad, message):
    with pytest.raises(ValueError, match="training: .*" + message):
        run(bad)
    with pytest.raises(ValueError, match=message):
        make_step(bad, SGD)(TrainState.create({"w": jnp.zeros(2)}, SGD), DATA, KEY)


def test_make_step_keeps_the_name_finite_for_itself():
    step = make_step(reporting(finite=1.0), SGD)
    with pytest.raises(ValueError, match='make_step: the loss reports a metric named "finite"'):
        step(TrainState.create({"w": jnp.zeros(2)}, SGD), DATA, KEY)
    assert run(reporting(finite=1.0)).history["finite"] == [1.0]


GIVEN = {
    "a rate": ({"optimizer": 0.01}, "optimizer must be .* got 0.01. .*write optax.adam.0.01"),
    "a name": ({"optimizer": "adam"}, "optimizer must be .* got 'adam'. Write optax.adam"),
    "not called": ({"optimizer": optax.adam}, "optimizer must be .* got adam. Call it with its"),
    "no batch": ({"batch_size": None}, r"batch_size must be .* got None. Write batch_size=len"),
    "no place": ({"checkpoint_dir": ""}, 'checkpoint_dir must name a directory; got ""'),
    "a model": ({"loss_fn": nn.Dense(1)}, "loss_fn must be a function .* got a model, Dense. Give"),
    "a maker": (
        {"loss_fn": objectives.negative_log_likelihood},
        "loss_fn must be .*negative_log_likelihood.* A function that makes a loss is called first",
    ),
    "a number": ({"loss_fn": 3.0}, "loss_fn must be a function .*; got a float"),
    "capitals": ({"data": {"X": X, "Y": Y}}, r'reads batch\["x"\].*hold "X", "Y". Rename .* "X"'),
    "no y": ({"data": {"x": X, "t": Y}}, r'reads batch\["y"\], which is not .*hold .*"t".*Name'),
    "a counter": (
        {"params": {"w": jnp.zeros(2), "n": {"steps": np.int32(1)}}},
        r"params\['n'\]\['steps'\] has dtype int32, which has no gradient; .*collections",
    ),
    "a switch": ({"params": {"w": jnp.zeros(2), "on": np.array(True)}}, "'on'. has dtype bool"),
    "no params": ({"params": {}}, "params holds no arrays"),
}  # fmt: skip


@pytest.mark.usefixtures("user_side")
@pytest.mark.parametrize(("options", "message"), GIVEN.values(), ids=list(GIVEN))
def test_what_may_not_be_given(options, message):
    with pytest.raises(ValueError, match="(fit|training): .*" + message):
        run(**options)


@pytest.mark.usefixtures("user_side")
def test_fit_ensemble_speaks_of_itself():
    members = {"w": jnp.zeros((2, 2))}
    for options, message in (
        ({"data": {"x": X, "y": Y[:3]}}, "fit_ensemble: the arrays of data must share"),
        ({"data": {"x": X * np.nan, "y": Y}}, r'fit_ensemble: data\["x"\] must be finite'),
        ({"data": {"x": X, "y": Y[:0]}}, r'fit_ensemble: data\["y"\] .* no rows'),
        ({"data": [DATA, (1, 2)]}, "fit_ensemble: batch 1 of epoch 0: data must be a dict"),
        ({"data": iter([DATA])}, "fit_ensemble: data is an iterator"),
        ({"data": []}, "fit_ensemble: data gave no batch"),
        ({"validation": {"x": X}, "data": 3}, "fit_ensemble: data must be a dict"),
        ({"optimizer": 0.1}, "fit_ensemble: optimizer must be"),
        ({"params": {"w": jnp.zeros((2, 2), int)}}, "fit_ensemble: params.* has dtype int64"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**{"params": members, "train": fit_ensemble} | options)


def stateful(params, batch, key):
    error = jnp.mean((batch["x"] @ params["params"]["w"] - batch["y"]) ** 2)
    return error, {"collections": {"seen": {"rows": params["collections"]["seen"]["rows"] + 1}}}


def test_a_frozen_dict_trains_as_a_dict_and_stays_frozen():
    start = {"params": {"w": jnp.zeros(2)}, "collections": {"seen": {"rows": jnp.zeros((), int)}}}
    options = {"validation": DATA, "epochs": 2, "batch_size": 3}
    plain, frozen = (run(stateful, start_of(start), **options) for start_of in (dict, FrozenDict))
    assert isinstance(frozen.params, FrozenDict)
    assert isinstance(frozen.best_params, FrozenDict)
    chex.assert_trees_all_equal(frozen.params.unfreeze(), plain.params)
    assert int(plain.params["collections"]["seen"]["rows"]) == 4
    members = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), FrozenDict(start))
    fitted = run(stateful, members, train=fit_ensemble, **options)
    # the members shuffle on their own, but the rows are all alike
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[1], fitted.params), frozen.params)


def test_a_model_is_called_with_frozen_collections():
    variables = {"params": {"w": jnp.ones(2)}, "batch_stats": {"mean": jnp.zeros(2)}}
    params = as_params(variables)
    assert as_variables(FrozenDict(params)) == as_variables(params) == variables


def test_params_whose_sum_overflows_are_finite():
    """1000 float16 numbers of 100 sum to more than 65504, and none of them is infinite."""

    def flat(params, batch, key):
        return 1e-3 * jnp.mean(params["w"].astype(jnp.float32)), {}

    params = {"w": jnp.full(1000, 100.0, jnp.float16)}
    for optimizer in (SGD, optax.trace(0.9)):
        fitted = run(flat, params, optimizer=optimizer)
        assert int(fitted.state.step) == 1
        np.testing.assert_allclose(fitted.params["w"].astype(float), 100.0, rtol=1e-2)


@pytest.mark.usefixtures("user_side")
def test_a_mesh_names_the_batch_size_that_was_given(monkeypatch):
    four = jax.sharding.AbstractMesh((4,), ("data",))
    patched = functools.partial(check_shares, four)
    monkeypatch.setattr("jaxprob.training.run.check_shares", lambda mesh, **sizes: patched(**sizes))
    with pytest.raises(
        ValueError, match="must divide batch_size 64, of which the data fill 6; got"
    ):
        run(batch_size=64)
    with pytest.raises(ValueError, match="must divide batch_size; got 5. Take 4"):
        run(batch_size=5)
