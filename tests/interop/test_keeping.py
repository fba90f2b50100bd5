"""Posteriors kept in files: the same predictions in a new process, and no other model's."""

import json
import os
import pathlib
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors import safe_open

from jaxprob import bayes, interop
from tests.interop import kept_posteriors as kept

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow(90)
def test_a_new_process_predicts_the_same_bits(tmp_path):
    wanted = {}
    for name, make in kept.KINDS.items():
        kind = make()
        state = kind.make()
        interop.save(tmp_path / name, state, model=kind.owner)
        wanted[name] = kept.predicted(kind, state)
        with pytest.raises(ValueError, match="belongs to another model"):
            interop.load(tmp_path / name, model=kept.network(5))
    subprocess.run(
        [sys.executable, "-m", "tests.interop.kept_posteriors", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    for name, before in wanted.items():
        after = np.load(tmp_path / f"{name}-again.npy")
        assert after.tobytes() == before.tobytes(), name


def test_states_come_back_without_an_example(tmp_path):
    state = bayes.SWAG(2).collect(optax.adam(1e-2)).init({"w": jnp.ones(3)})
    chains = bayes.mcmc.Chains({"w": jnp.ones((2, 4, 3))}, log_density=jnp.zeros((2, 4)))
    for tree in (state, chains):
        interop.save(tmp_path / "s", tree)
        again = interop.load(tmp_path / "s")
        assert jax.tree.structure(again) == jax.tree.structure(tree)
        jax.tree.map(np.testing.assert_array_equal, again, tree)
        interop.load(tmp_path / "s", jax.eval_shape(lambda: tree))  # noqa: B023
    with safe_open(tmp_path / "s", framework="numpy") as file:
        manifest = json.loads(file.metadata()["jaxprob"])
    assert {"jaxprob", "jax", "optax"} <= set(manifest["versions"])


def test_a_class_that_is_not_there_is_refused_by_name(tmp_path, monkeypatch):
    interop.save(tmp_path / "s", bayes.mcmc.Chains({"w": jnp.ones((2, 4))}))
    monkeypatch.delattr("jaxprob.bayes.mcmc.Chains")
    with pytest.raises(ValueError, match=r"jaxprob.bayes.mcmc.Chains of the fields by_chain.*jax"):
        interop.load(tmp_path / "s")


def test_another_model_is_refused_by_its_difference(tmp_path):
    params = {"w": jnp.ones(2)}
    model = kept.network(3)
    interop.save(tmp_path / "m", params, model=model)
    interop.load(tmp_path / "m")
    interop.load(tmp_path / "m", model=kept.network(3))
    with pytest.raises(ValueError, match=r"(?s)file has: features = 3\n.*here: features = 4"):
        interop.load(tmp_path / "m", model=kept.network(4))
    q = bayes.GaussianPosterior(model, kept.X, covariance="full", prior=kept.PRIOR)
    other = bayes.GaussianPosterior(model, kept.X, covariance="diagonal", prior=kept.PRIOR)
    interop.save(tmp_path / "q", params, model=q)
    with pytest.raises(ValueError, match="covariance='full'"):
        interop.load(tmp_path / "q", model=other)
    interop.save(tmp_path / "n", params)
    with pytest.raises(ValueError, match="saved without model="):
        interop.load(tmp_path / "n", model=model)


def groups(monkeypatch):
    arviz = types.ModuleType("arviz")
    setattr(arviz, "from_dict", lambda data: data)  # noqa: B010
    monkeypatch.setitem(sys.modules, "arviz", arviz)


def test_every_kind_of_draws_becomes_a_tree_of_arviz(monkeypatch):
    groups(monkeypatch)
    draws = {"dense": {"kernel": jnp.arange(10.0).reshape(5, 2)}}
    tree = interop.to_arviz(draws)
    np.testing.assert_array_equal(
        tree["posterior"]["dense/kernel"], np.arange(10.0).reshape(1, 5, 2)
    )
    chains = bayes.mcmc.Chains({"w": jnp.ones((2, 4))}, diverging=jnp.zeros((2, 4), bool))
    tree = interop.to_arviz(chains)
    assert tree["posterior"]["w"].shape == tree["sample_stats"]["diverging"].shape == (2, 4)
    keys = jax.random.split(jax.random.key(0), 6)
    lazy = bayes.LazyDraws(lambda p, key: {"w": p + jax.random.normal(key)}, jnp.ones(3), keys)
    assert interop.to_arviz(lazy)["posterior"]["w"].shape == (1, 6, 3)
    state = bayes.SWAG(2).collect(optax.adam(1e-2)).init({"w": jnp.ones(3)})
    with pytest.raises(ValueError, match="a SWAGState is the state of a posterior.*sample"):
        interop.to_arviz(state)
    with pytest.raises(ValueError, match="all lead with the same axis S"):
        interop.to_arviz({"a": jnp.ones(3), "b": jnp.ones(2)})


@pytest.mark.parametrize("draws", [{"w": np.ones(3)}, bayes.mcmc.Chains({"w": jnp.ones((2, 4))})])
def test_arviz_missing_names_the_extra(draws, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxprob\[arviz\]'"):
        interop.to_arviz(draws)
