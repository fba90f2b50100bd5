"""Kronecker-factored curvature: one pair of small matrices for each dense or convolutional layer.

For a layer s = W^T a with a = (inputs, 1), applied at T positions of row n (T = 1 for vectors),

    sum_n J_n^T F_n J_n  ~  A (x) B,   A = 1/N sum_n sum_t a_nt a_nt^T
                                       B = sum_n 1/T sum_t G_nt^T G_nt

with G_nt = F_n^{1/2} d eta_n / d s_nt,
on W `[in + 1, out]` read row by row. Exact for one row of vectors; else it takes inputs and
gradients as independent. Weights that belong to no such layer (scales of norms, a free noise scale,
grouped convolutions) keep the diagonal of their curvature.

Twin: `torch_ref/bayes/kronecker.py`. Source: Martens & Grosse, "Optimizing neural networks with
Kronecker-factored approximate curvature" (ICML 2015), section 3; Grosse & Martens (2016), section 3
for convolutions; Botev, Ritter & Barber (2017) for the Gauss-Newton form.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxprob.batches import Inputs
from jaxprob.bayes.curvature import row_factors, row_weights, sum_over_rows
from jaxprob.nn import Conv, Linear
from jaxprob.nn.apply import initialize
from jaxprob.types import Array, Batch, Params

__all__ = ["Layer", "factored_gauss_newton", "find_layers", "last_called"]

Apply = Callable[[Params, Batch], Any]
"""(params, batch) -> distribution."""

HIDDEN = (
    "structure='kron' must see the inputs of every dense layer, and one of them is called inside a "
    "scan (a recurrent cell) or nn.jit. Use structure='diagonal' or 'last_layer'."
)

Factors = dict[str, tuple[Array, Array]]
Leaves = dict[str, Any]  # arrays or their shapes, by path


class Layer(NamedTuple):
    """A layer whose weights form one matrix.

    Attributes:
      weight: Path of its weight, e.g. "backbone/hidden_0/kernel".
      bias: Path of its bias, or None.
      shape: Shape of the weight.
      features_first: Whether the weight has its outputs on the first axis (PyTorch's layout).
    """

    weight: str
    bias: str | None
    shape: tuple[int, ...]
    features_first: bool

    def to_matrix(self, leaves: Leaves) -> Array:
        """Returns the weights as `[in + 1, out]` (`[in, out]` without bias)."""
        weight = leaves[self.weight]
        if self.features_first:
            matrix = weight.reshape(weight.shape[0], -1).T
        else:
            matrix = weight.reshape(-1, weight.shape[-1])
        if self.bias is None:
            return matrix
        return jnp.concatenate([matrix, leaves[self.bias][None]])

    def to_leaves(self, matrix: Array) -> Leaves:
        """The inverse of `to_matrix`."""
        leaves = {}
        if self.bias is not None:
            matrix, leaves[self.bias] = matrix[:-1], matrix[-1]
        matrix = matrix.T if self.features_first else matrix
        return {**leaves, self.weight: matrix.reshape(self.shape)}

    def columns(self, module: Any, x: Array) -> Array:
        """Returns what the weights multiply, `[T, in + 1]` over all positions.

        A convolution whose weight is the identity returns its own windows, whatever its padding,
        stride and dilation.
        """
        if len(self.shape) > 2:
            size = math.prod(self.shape[1:] if self.features_first else self.shape[:-1])
            identity = jnp.eye(size, dtype=x.dtype)
            if self.features_first:
                windows = module.clone(features=size, bias=False, parent=None, name=None)
                weights = {"weight": identity.reshape(size, *self.shape[1:])}
            else:
                windows = module.clone(features=size, use_bias=False, parent=None, name=None)
                weights = {"kernel": identity.reshape(*self.shape[:-1], size)}
            x = windows.apply({"params": weights}, x)
        x = x.reshape(-1, x.shape[-1])
        if self.bias is None:
            return x
        return jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], axis=1)


def find_layers(apply: Apply, params: Params, row: Batch) -> dict[str, Layer]:
    """Returns the layers that have Kronecker factors, by path, in the order of their calls.

    Args:
      apply: (params, batch) -> distribution.
      params: Params of the model, or their shapes.
      row: One row of data with its leading axis, or its shapes.

    Raises:
      ValueError: A layer inside a scan, whose inputs cannot be seen from outside.
    """
    leaves = _flat(params)
    found: dict[str, Layer] = {}

    def interceptor(next_fun, args, kwargs, context):
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and _is_layer(context.module):
            name = "weight" if isinstance(context.module, (Linear, Conv)) else "kernel"
            weight, bias = f"{path}/{name}", f"{path}/bias"
            if weight in leaves:
                layer = Layer(
                    weight, bias if bias in leaves else None, leaves[weight].shape, name == "weight"
                )
                found[path] = layer
        return next_fun(*args, **kwargs)

    def trace(p, r):
        with nn.intercept_methods(interceptor):
            apply(p, r)
        _, seen = _with_noise(apply, found, p, r, None)
        return jax.tree.map(lambda value: value + 0.0, seen)  # fails on what a scan let escape

    try:
        jax.eval_shape(trace, params, row)
    except jax.errors.UnexpectedTracerError as error:
        raise ValueError(HIDDEN) from error
    return found


def factored_gauss_newton(
    apply: Apply,
    params: Params,
    data: Batch,
    layers: dict[str, Layer],
    fisher: str = "expected",
    chunk_size: int = 256,
) -> tuple[Factors, Leaves]:
    """Returns the Kronecker factors of the layers, and the diagonal for all other weights.

    Args:
      apply: (params, batch) -> distribution with batch shape `[B]`; rows must not interact.
      params: Params of the model, at which it is differentiated.
      data: Rows, as for `gauss_newton`.
      layers: As `find_layers` gives them; an empty dict gives the diagonal of everything.
      fisher: "expected" or "observed".
      chunk_size: Rows at a time.

    Returns:
      `{layer: (A, B)}` with A `[in + 1, in + 1]` and B `[out, out]`, and `{path: diagonal}`, each
      of its weight's shape.
    """
    leaves = _flat(params)
    inside = {path for layer in layers.values() for path in (layer.weight, layer.bias)}
    others = {path: leaf for path, leaf in leaves.items() if path not in inside}

    def of_row(row: Batch) -> tuple[dict, Leaves]:
        batch = {name: value[None] for name, value in row.items()}
        shapes = jax.eval_shape(
            lambda p: _with_noise(apply, layers, p, batch, None)[1]["outputs"], params
        )
        silence = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def predict(weights, rows):
            noise, free = weights
            return _with_noise(apply, layers, _nested({**leaves, **free}), rows, noise)

        (gradients, free), seen = row_factors(
            predict, (silence, others), row, fisher, with_extra=True
        )
        weight = row_weights(batch)[0]
        sums = {}
        for name in layers:
            columns = jnp.concatenate(seen["columns"][name])
            slopes = jnp.concatenate(
                [g.reshape(len(g), -1, g.shape[-1]) for g in gradients[name]], axis=1
            )
            a = weight * (columns.T @ columns)
            b = jnp.einsum("eto,etp->op", slopes, slopes) / columns.shape[0]
            sums[name] = (a, b)
        return sums, jax.tree.map(lambda g: jnp.sum(g**2, axis=0), free)

    def of_rows(rows: Batch) -> Any:
        each = jax.vmap(of_row)(rows)
        return jax.tree.map(lambda s: jnp.sum(s, axis=0), each), jnp.sum(row_weights(rows))

    try:
        (sums, diagonal), count = sum_over_rows(of_rows, data, chunk_size)
    except jax.errors.UnexpectedTracerError as error:
        raise ValueError(HIDDEN) from error
    return {name: (a / count, b) for name, (a, b) in sums.items()}, diagonal


def last_called(model: nn.Module, params: Params, inputs: Inputs) -> str:
    """Returns the path of the submodule with weights that is called last.

    A submodule that owns all weights is looked into.

    Raises:
      ValueError: A model without submodules.
    """
    prefix: tuple[str, ...] = ()
    while len(params) == 1 and hasattr(next(iter(params.values())), "keys"):
        name = next(iter(params))
        inner = params[name]
        if not any(hasattr(value, "keys") for value in inner.values()):
            break
        prefix, params = (*prefix, name), inner
    calls: list[tuple[str, ...]] = []

    def interceptor(next_fun, args, kwargs, context):
        path = context.module.path
        if len(path) == len(prefix) + 1 and path[:-1] == prefix and path[-1] in params:
            calls.append(path)
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(interceptor):
        # A new function: JAX would not call one that it has traced before, and none would be seen.
        jax.eval_shape(lambda key: initialize(model, key, inputs), jax.random.key(0))
    if not calls:
        raise ValueError(
            "Laplace: structure='last_layer' found no submodule with weights. Name the layer: "
            "last_layer='head'."
        )
    return "/".join(calls[-1])


def _with_noise(
    apply: Apply, layers: dict[str, Layer], params: Params, batch: Batch, noise: Any
) -> tuple[Any, dict[str, dict[str, list]]]:
    """The model with `noise` added to what each layer returns, and what each layer saw."""
    seen: dict[str, dict[str, list]] = {
        "columns": {name: [] for name in layers},
        "outputs": {name: [] for name in layers},
    }

    def interceptor(next_fun, args, kwargs, context):
        out = next_fun(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name != "__call__" or path not in layers:
            return out
        call = len(seen["outputs"][path])
        x = args[0] if args else next(iter(kwargs.values()))
        seen["columns"][path].append(layers[path].columns(context.module, jnp.asarray(x)))
        seen["outputs"][path].append(out)
        return out if noise is None else out + noise[path][call]

    with nn.intercept_methods(interceptor):
        return apply(params, batch), seen


def _is_layer(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv):
        return module.feature_group_count == 1 and module.mask is None
    if isinstance(module, Conv):
        return module.groups == 1
    return isinstance(module, (nn.Dense, Linear))


def _flat(params: Params) -> Leaves:
    return {"/".join(path): leaf for path, leaf in flatten_dict(params).items()}


def _nested(leaves: Leaves) -> Params:
    return unflatten_dict({tuple(path.split("/")): leaf for path, leaf in leaves.items()})
