"""A check must be able to fail: each mutation breaks one side, and its row must notice.

Each mutation is one of the classical mistakes of a port. The same comparison and the same bound as
in `test_parity.py` are used; the test fails where the broken pair would have passed.
"""

from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch

from jaxprob.distributions import Normal
from parity_tests.cases.bayes import GELU, posterior_row
from parity_tests.cases.supervised import regressor_row
from parity_tests.engine import (
    SEED,
    FunctionCase,
    compare_function,
    compare_gradients,
    compare_outputs,
)
from parity_tests.tolerances import MODELS
from parity_tests.training_runs import compare_steps, compare_training

ROW = posterior_row("layer", "layer")
REGRESSOR = regressor_row("regressor", homoscedastic=False)


def _transposed_square_kernel(params):
    kernel = params["backbone"]["hidden_1"]["kernel"]
    assert kernel.shape[0] == kernel.shape[1], "the mutation must be one that no shape check sees"
    flipped = jax.tree.map(lambda leaf: leaf, params)
    flipped["backbone"]["hidden_1"]["kernel"] = kernel.T
    return flipped


def _swapped_tril(params):
    """Packs the triangle in another order: the reverse of ours."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf[::-1] if "raw_tril" in jax.tree_util.keystr(path) else leaf, params
    )


# (activation of ours, activation of the twin): the approximation that Flax takes by default
TANH_GELU = (partial(nn.gelu, approximate=True), GELU[1])
WRONG_ACTIVATION = posterior_row("gelu", "layer", (), 3, TANH_GELU, (4, 3))
TEMPERED = posterior_row("kl weight", "layer", torch_kl_weight=0.999)


VALUE_MUTATIONS = {
    "tanh GELU": WRONG_ACTIVATION,
    "KL weighted by 0.999": TEMPERED,
}


@pytest.mark.parametrize("name", VALUE_MUTATIONS)
def test_wrong_model_is_caught(name):
    errors = compare_outputs(VALUE_MUTATIONS[name], "float64")
    assert max(errors.values()) > MODELS["value"]["float64"]


def test_right_gelu_passes():
    """The row of the mutation above is right in all but the activation."""
    case = posterior_row("gelu", "layer", (), 3, GELU, (4, 3))
    assert max(compare_outputs(case, "float64").values()) <= MODELS["value"]["float64"]


@pytest.mark.parametrize(
    ("case", "mutate"),
    [(REGRESSOR, _transposed_square_kernel), (ROW, _swapped_tril)],
    ids=["transposed square kernel", "triangle packed backwards"],
)
def test_wrong_layout_is_caught(case, mutate):
    assert max(compare_gradients(case, "float64", mutate).values()) > MODELS["gradient"]["float64"]


OPTIMIZER_MUTATIONS = {
    "rmsprop, eps 1e-7": ("rmsprop", lambda p: torch.optim.RMSprop(p, 0.005, eps=1e-7)),
    "rmsprop, alpha 0.9": ("rmsprop", lambda p: torch.optim.RMSprop(p, 0.005, alpha=0.9)),
    "adam, eps 1e-7": ("adam", lambda p: torch.optim.Adam(p, 0.01, eps=1e-7)),
    "adam, weight decay 1e-6": ("adam", lambda p: torch.optim.Adam(p, 0.01, weight_decay=1e-6)),
    "adam, amsgrad": ("adam", lambda p: torch.optim.Adam(p, 0.01, amsgrad=True)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZER_MUTATIONS)
def test_wrong_optimizer_is_caught(name):
    optimizer, broken = OPTIMIZER_MUTATIONS[name]
    errors = compare_training(ROW, optimizer, "float64", torch_optimizer=broken)
    assert max(errors.values()) > MODELS["training"]["float64"]


@pytest.mark.parametrize("name", [n for n, (of, _) in OPTIMIZER_MUTATIONS.items() if of == "adam"])
def test_wrong_optimizer_is_caught_by_the_steps_of_a_row(name):
    errors = compare_steps(ROW, "float64", torch_optimizer=OPTIMIZER_MUTATIONS[name][1])
    assert max(errors.values()) > MODELS["training"]["float64"]


@pytest.mark.parametrize("compare", [partial(compare_training, optimizer="adam"), compare_steps])
def test_other_seed_is_caught(compare):
    """Another key gives other noise and another order of the rows."""
    errors = compare(ROW, dtype="float64", torch_seed=SEED + 3)
    assert max(errors.values()) > MODELS["training"]["float64"]


FUNCTION_MUTATIONS = {
    # jnp.var and torch.var disagree on the divisor
    "biased variance": (lambda x: x.var(ddof=1), lambda x: x.var(unbiased=False)),
    # F.softplus returns x itself above 20
    "softplus with a threshold": (jax.nn.softplus, torch.nn.functional.softplus),
    # one step to the side, as a wrong padding gives
    "one shifted pad": (lambda x: x, lambda x: torch.roll(x, 1)),
}


@pytest.mark.parametrize("name", FUNCTION_MUTATIONS)
def test_wrong_function_is_caught(name):
    ours, twin = FUNCTION_MUTATIONS[name]
    case = FunctionCase(
        name,
        lambda a, key: {"value": ours(a["x"])},
        lambda a, key: {"value": twin(a["x"])},
        {"x": np.linspace(-3.0, 21.0, 25)},
    )
    values, _ = compare_function(case, "float64")
    assert max(values.values()) > MODELS["value"]["float64"]


def test_wrong_gradient_alone_is_caught():
    """A value that agrees with a gradient that does not: a detached term."""
    case = FunctionCase(
        "detached scale",
        lambda a, key: {"value": Normal(0.0, a["scale"]).log_prob(a["x"])},
        lambda a, key: {
            "value": torch.distributions.Normal(0.0, a["scale"].detach()).log_prob(a["x"])
        },
        {"x": np.array([0.3, -1.0]), "scale": np.array([0.5, 2.0])},
    )
    values, gradients = compare_function(case, "float64")
    assert max(values.values()) <= MODELS["value"]["float64"]
    assert max(gradients.values()) > MODELS["gradient"]["float64"]


def test_missing_array_is_caught():
    case = FunctionCase(
        "names", lambda a, key: {"a": a["x"]}, lambda a, key: {"b": a["x"]}, {"x": np.ones(2)}
    )
    with pytest.raises(AssertionError, match="names differ"):
        compare_function(case, "float64")
