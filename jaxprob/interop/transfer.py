"""Strict two-way copying of weights between a params pytree and a PyTorch module.

Names correspond by path: `a/b/kernel` in Flax is `a.b.weight` in PyTorch, in the layout of the
layer at `a.b` (see `layouts`); `layers_3` of a Linen `Sequential` is `3` of a torch one; all other
parameters keep name and layout. Every name must be used exactly once on both sides, every shape and
dtype must agree, and all that does not is listed in one message. Arrays are copied, never shared.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from jaxprob.interop.correspondence import Link, Path, Tree, correspond
from jaxprob.interop.modules import describe
from jaxprob.types import Params

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch", "gradients_from_torch", "to_torch"]


def to_torch(
    params: Params,
    module: "torch.nn.Module",
    *,
    rename: Mapping[str, str] | None = None,
    transpose_kernel: bool | Mapping[str, bool] | None = None,
) -> "torch.nn.Module":
    """Copies params into a module.

    Args:
      params: Nested dict of arrays; or variables `{"params": ..., "batch_stats": ...}`, whose
        running statistics become the module's buffers.
      module: Module with the same architecture; its parameters are overwritten.
      rename: Flax path or prefix -> torch path or prefix, where they differ:
        `{"Dense_0": "fc1", "encoder/Dense_0": "encoder.fc1"}`. A layer of a stacked torch RNN is
        addressed as "rnn.l0", "rnn.l0_reverse", ...
      transpose_kernel: The argument that Linen's `ConvTranspose` layers were made with, for all or
        by path in the module. It is only needed where input and output channels are equal in
        number; otherwise the shapes tell. Default: Linen's, False.

    Returns:
      The same module.

    Raises:
      ValueError: Names, shapes or dtypes that do not correspond, all listed; nothing is written.
    """
    import torch

    tree = Tree.of(params)
    links = correspond("to_torch", tree, describe(module), rename, transpose_kernel)
    targets = module.state_dict(keep_vars=True)
    values = convert_to_torch(links, tree, {n: tuple(t.shape) for n, t in targets.items()})
    with torch.no_grad():
        for name, value in values.items():
            targets[name].copy_(as_tensor(value))
    return module


def from_torch(
    module: "torch.nn.Module",
    example: Params,
    *,
    rename: Mapping[str, str] | None = None,
    transpose_kernel: bool | Mapping[str, bool] | None = None,
) -> Params:
    """Copies a module's parameters into a params pytree.

    Args:
      module: The module.
      example: Pytree with the wanted structure, shapes and dtypes (arrays, or what
        `jax.eval_shape` returns); its values are not used. Variables `{"params": ...,
        "batch_stats": ...}` take the running statistics too.
      rename: See `to_torch`.
      transpose_kernel: See `to_torch`.

    Returns:
      A new pytree of JAX arrays.

    Raises:
      ValueError: Names, shapes or dtypes that do not correspond, all listed.
    """
    tree = Tree.of(example)
    links = correspond("from_torch", tree, describe(module), rename, transpose_kernel)
    sources = module.state_dict(keep_vars=True)
    return tree.rebuild(convert_to_flax(links, tree, lambda name: as_array(sources[name])))


def gradients_from_torch(
    module: "torch.nn.Module",
    example: Params,
    *,
    rename: Mapping[str, str] | None = None,
    transpose_kernel: bool | Mapping[str, bool] | None = None,
) -> Params:
    """Returns the `.grad` of every parameter, in the structure and layout of the params.

    It is not `from_torch` of the gradients: where PyTorch has two biases that Flax adds into one,
    the gradient of the one is not the sum of the two. A parameter without a gradient gives zeros.

    Args:
      module: The module, after `backward()`.
      example: Params, as for `from_torch`; of variables only "params" are returned.
      rename: See `to_torch`.
      transpose_kernel: See `to_torch`.
    """
    tree = Tree.of(example)
    links = correspond("gradients_from_torch", tree, describe(module), rename, transpose_kernel)
    sources = module.state_dict(keep_vars=True)

    def gradient(name: str) -> np.ndarray:
        tensor = sources[name]
        return as_array(tensor.new_zeros(tensor.shape) if tensor.grad is None else tensor.grad)

    trainable = [link for link in links if link.flax[0][0] == "params"]
    values = convert_to_flax(trainable, tree, gradient, gradients=True)
    return Tree({path: None for path in values}, bare=True).rebuild(values)


def convert_to_torch(
    links: list[Link], tree: Tree, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Returns all tensors by name, as arrays that own their memory."""
    values = {}
    for link in links:
        arrays = [np.asarray(tree.leaves[path]) for path in link.flax]
        wanted = [shapes[name] for name in link.torch]
        for name, value in zip(link.torch, link.rule.to_torch(arrays, wanted), strict=True):
            values[name] = np.array(value, order="C")
    return values


def convert_to_flax(
    links: list[Link],
    tree: Tree,
    value_of: Callable[[str], np.ndarray],
    gradients: bool = False,
) -> dict[Path, Any]:
    """Returns all leaves by path, as JAX arrays."""
    values = {}
    for link in links:
        convert = (gradients and link.rule.gradient_to_flax) or link.rule.to_flax
        wanted = [tuple(tree.leaves[path].shape) for path in link.flax]
        converted = convert([value_of(name) for name in link.torch], wanted)
        for path, value in zip(link.flax, converted, strict=True):
            values[path] = jnp.array(value)
    return values


def as_array(tensor: "torch.Tensor") -> np.ndarray:
    """A copy in NumPy; bfloat16 through its bits, which NumPy lacks."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(jnp.bfloat16).copy()
    return tensor.numpy().copy()


def as_tensor(array: np.ndarray) -> "torch.Tensor":
    """A tensor over an array that nobody else holds."""
    import torch

    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
