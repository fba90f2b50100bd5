"""What heads say of options that no head can have: owner, argument, value and fix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import torch_ref.heads as twins
from jaxprob import heads
from tests.support.messages import require_message

H = jnp.ones((2, 3))

pytestmark = pytest.mark.usefixtures("as_users_see_it")

# case -> (call, words that the message must hold)
BAD = {
    "kind, data": (lambda: heads.for_target(np.zeros(3)), ("kind", "binary", "ndarray")),
    "kind, a word": (lambda: heads.for_target("counts"), ("counts", "count, over")),
    "kind, option": (lambda: heads.for_target("real", size=3), ("NormalHead takes", "features")),
    "no targets": (lambda: init(heads.NormalHead(0)), ("features", "at least 1", "0")),
    "half a target": (lambda: init(heads.BetaHead(1.5)), ("features", "whole", "1.5")),
    "no classes": (lambda: init(heads.CategoricalHead(0)), ("features", "0")),
    "no components": (lambda: init(heads.MixtureHead(0)), ("MixtureHead", "components", "0")),
    "one level": (lambda: init(heads.QuantileHead(0.5)), ("levels", "0.5", "(0.1, 0.5, 0.9)")),
    "df": (lambda: init(heads.StudentTHead(df=-1.0)), ("StudentTHead", "df", "-1")),
    "gamma's mean": (lambda: init(heads.GammaHead(target_mean=0.0)), ("target_mean", "0.0")),
    "count's mean": (lambda: init(heads.PoissonHead(target_mean=-1.0)), ("target_mean", "-1")),
    "means of others": (
        lambda: init(heads.NormalHead(2, target_mean=(1.0, 2.0, 3.0))),
        ("target_mean", "2 targets", "(3,)"),
    ),
}
for name in ("Normal", "StudentT", "Laplace", "LogNormal", "Mixture", "Quantile"):
    BAD[f"std of {name}"] = (
        lambda name=name: init(getattr(heads, f"{name}Head")(target_std=0.0)),
        (f"{name}Head", "target_std", "positive", "0.0"),
    )


def init(head):
    return head.init(jax.random.key(0), H)


@pytest.mark.parametrize("case", BAD)
def test_message(case):
    require_message(*BAD[case])


@pytest.mark.parametrize("kind", ["counts", np.zeros(3)], ids=["word", "data"])
def test_the_twin_names_the_kinds_too(kind):
    with pytest.raises(ValueError, match="for_target: kind must be one of binary, class"):
        twins.for_target(kind, 3)
