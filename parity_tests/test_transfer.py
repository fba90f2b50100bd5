"""Random networks carry their weights both ways: equal outputs, equal bits.

One recurrent detail: PyTorch has two biases where Linen has their sum, so a network that starts in
PyTorch returns with the sum in one place. That direction is checked by its outputs, and its bits
where one of the two biases is zero, as they are after a transfer from Flax.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from jaxprob import interop
from parity_tests import tolerances
from parity_tests.engine import relative_error, torch_dtype
from parity_tests.networks import Description, FlaxNet, TorchNet, descriptions, example_input

KEY = jax.random.key(0)


def check(description: Description) -> None:
    rng = np.random.default_rng(0)
    x = example_input(description, rng)
    with torch_dtype("float64"):
        module = TorchNet(description).eval()
        x_torch = torch.tensor(x)
    model = FlaxNet(description)
    shapes = jax.eval_shape(model.init, KEY, jnp.asarray(x))
    if not jax.tree.leaves(shapes):
        return
    example = cast(shapes)
    options = {"transpose_kernel": transposed(description)}

    # PyTorch -> Flax: running statistics and all biases away from their trivial starts
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.tensor(rng.uniform(0.5, 1.5, tensor.shape)))
                if "running_var" not in name:
                    tensor.mul_(torch.tensor(rng.choice([-1.0, 1.0], tensor.shape)))
        expected = module(x_torch)
    variables = interop.from_torch(module, example, **options)
    assert relative_error(model.apply(variables, x), expected) <= tolerances.TRANSFER["output"]

    # Flax -> PyTorch
    params = jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.5, 1.5, s.shape)), example)
    interop.to_torch(params, module, **options)
    with torch.no_grad():
        found = module(x_torch)
    assert relative_error(found, model.apply(params, x)) <= tolerances.TRANSFER["output"]

    # the same bits, Flax -> PyTorch -> Flax -> PyTorch
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    back = interop.from_torch(module, example, **options)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    interop.to_torch(back, module, **options)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def cast(shapes):
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, "float64"), shapes)


def transposed(description: Description) -> dict[str, bool]:
    return {
        f"layer_{i}": s["transpose_kernel"]
        for i, (kind, s) in enumerate(description.layers)
        if kind == "conv_transpose"
    }


quick = settings(max_examples=3, deadline=None, derandomize=True, database=None)
thorough = settings(
    quick, max_examples=200, suppress_health_check=list(HealthCheck), derandomize=True
)


@given(descriptions())
@quick
def test_random_networks_transfer(description):
    check(description)


@pytest.mark.slow
@given(descriptions())
@thorough
def test_two_hundred_random_networks_transfer(description):
    check(description)


def test_an_untransposed_square_kernel_would_be_found():
    """The mutation: the right shapes, the wrong rule."""
    description = Description("vector", (2,), (("linear", {"features": 2, "bias": True}),))
    x = example_input(description, np.random.default_rng(0))
    with torch_dtype("float64"):
        module = TorchNet(description)
    model = FlaxNet(description)
    variables = interop.from_torch(module, cast(jax.eval_shape(model.init, KEY, jnp.asarray(x))))
    wrong = jax.tree.map(lambda w: w.T, variables)
    with torch.no_grad():
        expected = module(torch.tensor(x))
    assert relative_error(model.apply(wrong, x), expected) > 1e3 * tolerances.TRANSFER["output"]
